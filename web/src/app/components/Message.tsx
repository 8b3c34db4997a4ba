// One message: the user's words, or an answer with its reasoning, tool calls, error and figures.

import { useSignal } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { ToolCall } from "../../engine/index";
import { answerTools, edit, live, regenerate } from "../chat";
import { explain } from "../errors";
import { count, rate, seconds } from "../format";
import { info, reload } from "../model";
import { dialog } from "../store";
import type { Message } from "../types";
import { IconButton } from "./Button";
import { Icon } from "./icons";
import { Markdown } from "./Markdown";
import { startNew } from "./Sidebar";
import { autoGrow } from "./textarea";

interface Props {
  message: Message;
  isLast: boolean;
  streaming?: boolean;
}

export const MessageView = memo(function MessageView(props: Props) {
  switch (props.message.role) {
    case "user":
      return <UserMessage {...props} />;
    case "tool":
      return <ToolMessage {...props} />;
    default:
      return <AssistantMessage {...props} />;
  }
});

function UserMessage({ message }: Props) {
  const editing = useSignal(false);
  if (editing.value) return <EditForm message={message} onDone={() => (editing.value = false)} />;
  return (
    <article class="message user" aria-label="You">
      <div class="bubble">{message.content}</div>
      <div class="message-actions">
        <CopyButton text={message.content} what="message" />
        <IconButton
          icon="edit"
          label="Edit and send again"
          disabled={!info.value || live.value !== null}
          onClick={() => (editing.value = true)}
        />
      </div>
    </article>
  );
}

function EditForm({ message, onDone }: { message: Message; onDone: () => void }) {
  const ref = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    if (!ref.current) return;
    autoGrow(ref.current);
    ref.current.focus();
    ref.current.setSelectionRange(-1, -1);
  }, []);
  const submit = (): void => {
    const text = ref.current?.value.trim();
    if (!text) return;
    onDone();
    void edit(message.id, text);
    document.getElementById("prompt")?.focus();
  };
  return (
    <form
      class="message user edit"
      aria-label="Edit the message"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
      onKeyDown={(e) => {
        if (e.key === "Escape") {
          e.stopPropagation();
          onDone();
        } else if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
          e.preventDefault();
          submit();
        }
      }}
    >
      <textarea ref={ref} aria-label="Message" defaultValue={message.content} onInput={(e) => autoGrow(e.currentTarget)} />
      <p class="muted small">The messages after this one are replaced by the new answer.</p>
      <div class="row end">
        <button type="button" class="button" onClick={onDone}>
          Cancel
        </button>
        <button type="submit" class="button primary">
          Send
        </button>
      </div>
    </form>
  );
}

function ToolMessage({ message }: Props) {
  return (
    <article class="message tool" aria-label="Result of a tool">
      <div class="tool-call">
        <div class="tool-name">
          <Icon name="tool" /> Result
        </div>
        <pre tabIndex={0}>{message.content}</pre>
      </div>
    </article>
  );
}

function AssistantMessage({ message: m, isLast, streaming }: Props) {
  const waiting = streaming && !m.content && !m.reasoning && !m.toolCalls;
  const canAct = info.value !== null && live.value === null;
  return (
    <article class="message assistant" aria-label="Answer" aria-busy={streaming ? "true" : undefined}>
      {m.reasoning !== undefined && <Reasoning message={m} streaming={!!streaming} />}
      {waiting && (
        <div class="waiting" role="img" aria-label="Reading the conversation">
          <span />
          <span />
          <span />
        </div>
      )}
      {m.content && <Markdown text={m.content} />}
      {m.toolCalls?.map((call) => <ToolCallView key={call.id} call={call} />)}
      {isLast && !streaming && m.finish === "tool_calls" && m.toolCalls && <ToolResults calls={m.toolCalls} disabled={!canAct} />}
      {m.error && <MessageError message={m} />}
      {!streaming && (
        <div class="message-actions">
          {m.content && <CopyButton text={m.content} what="answer" />}
          <IconButton
            icon="again"
            label={isLast ? "Answer again" : "Answer again; the messages after this one go"}
            disabled={!canAct}
            onClick={() => void regenerate(m.id)}
          />
          <Figures message={m} />
        </div>
      )}
    </article>
  );
}

// Reasoning is open while the model thinks and folds when it begins to answer, unless the reader chose otherwise.
function Reasoning({ message: m, streaming }: { message: Message; streaming: boolean }) {
  const thinking = streaming && !m.content && !m.toolCalls;
  const chosen = useSignal<boolean | null>(null);
  const text = useRef<HTMLDivElement>(null);
  const isOpen = chosen.value ?? thinking;
  useEffect(() => {
    if (thinking && text.current) text.current.scrollTop = text.current.scrollHeight;
  }, [m.reasoning]);
  return (
    <details class="reasoning" open={isOpen}>
      <summary
        onClick={(e) => {
          e.preventDefault();
          chosen.value = !isOpen;
        }}
      >
        <Icon name="chevron" />
        {thinking ? "Thinking …" : m.reasoningSeconds !== undefined ? `Thought for ${seconds(m.reasoningSeconds)}` : "Thoughts"}
      </summary>
      <div class="reasoning-text" ref={text} tabIndex={isOpen ? 0 : -1}>
        {m.reasoning?.trim()}
      </div>
    </details>
  );
}

function ToolCallView({ call }: { call: ToolCall }) {
  let text = call.function.arguments;
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // incomplete while it streams; shown as it is
  }
  return (
    <div class="tool-call" role="group" aria-label={`Call of ${call.function.name}`}>
      <div class="tool-name">
        <Icon name="tool" />
        <span>
          Calls <code>{call.function.name}</code>
        </span>
      </div>
      <pre tabIndex={0}>{text}</pre>
    </div>
  );
}

// ToolResults: this page runs no tools, so the reader answers for them.
function ToolResults({ calls, disabled }: { calls: ToolCall[]; disabled: boolean }) {
  const form = useRef<HTMLFormElement>(null);
  return (
    <form
      ref={form}
      class="tool-results"
      onSubmit={(e) => {
        e.preventDefault();
        const results = [...(form.current?.querySelectorAll("textarea") ?? [])].map((t) => t.value);
        void answerTools(calls, results);
      }}
    >
      {calls.map((call) => (
        <label key={call.id}>
          <span>
            Result of <code>{call.function.name}</code>
          </span>
          <textarea rows={2} placeholder="What the tool answers, as text or JSON" />
        </label>
      ))}
      <div class="row end">
        <button type="submit" class="button primary" disabled={disabled}>
          Send {calls.length > 1 ? "results" : "result"}
        </button>
      </div>
    </form>
  );
}

function MessageError({ message: m }: { message: Message }) {
  if (!m.error) return null;
  const { title, advice } = explain(m.error);
  return (
    <div class="error" role="alert">
      <Icon name="warning" />
      <div>
        <strong>{title}</strong>
        <p>{m.error.message}</p>
        <p class="muted">{advice}</p>
        <div class="row">
          {m.error.code === "context_full" ? (
            <>
              <button type="button" class="button" disabled={!info.value} onClick={() => void regenerate(m.id, "drop-oldest")}>
                Forget the oldest messages
              </button>
              <button type="button" class="button" onClick={startNew}>
                New conversation
              </button>
            </>
          ) : m.error.code === "invalid" ? (
            <button type="button" class="button" onClick={() => (dialog.value = "settings")}>
              Settings
            </button>
          ) : (
            !info.value && (
              <button type="button" class="button" onClick={() => void reload()}>
                Load the model again
              </button>
            )
          )}
        </div>
      </div>
    </div>
  );
}

const endings: Partial<Record<NonNullable<Message["finish"]>, string>> = {
  cancelled: "stopped",
  length: "reached the longest answer allowed",
};

// Figures: how fast it was, and how it ended if not by itself.
function Figures({ message: m }: { message: Message }) {
  const ending = m.finish === undefined ? "interrupted" : endings[m.finish];
  const u = m.usage;
  return (
    <span class="figures">
      {ending && <span class="ending">{ending}</span>}
      {u && u.completion_tokens > 0 && (
        <>
          <span title={`${count(u.completion_tokens)} tokens in ${seconds(u.decode_seconds)}`}>
            {rate(u.completion_tokens, u.decode_seconds)} tokens/s
          </span>
          <span>{count(u.completion_tokens)} tokens</span>
          <span
            title={`${count(u.prompt_tokens)} tokens read, ${count(u.reused_tokens)} of them remembered from before; ${rate(u.prompt_tokens - u.reused_tokens, u.prefill_seconds)} tokens/s`}
          >
            prefill {count(u.prompt_tokens - u.reused_tokens)} in {seconds(u.prefill_seconds)}
          </span>
          {info.value && (
            <span>
              context {count(u.context_tokens)} of {count(info.value.contextTokens)}
            </span>
          )}
        </>
      )}
    </span>
  );
}

function CopyButton({ text, what }: { text: string; what: string }) {
  const done = useSignal(false);
  return (
    <IconButton
      icon={done.value ? "check" : "copy"}
      label={done.value ? "Copied" : `Copy the ${what}`}
      onClick={() => {
        void navigator.clipboard.writeText(text).then(() => {
          done.value = true;
          setTimeout(() => (done.value = false), 1500);
        });
      }}
    />
  );
}
