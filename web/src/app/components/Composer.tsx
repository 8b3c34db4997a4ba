// Where the user writes: Enter sends, Shift+Enter is a new line, Escape stops an answer (main.tsx, for the whole page).

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { live, send, stop } from "../chat";
import { count } from "../format";
import { info, model } from "../model";
import { changeSettings, current, currentId, settings } from "../store";
import { IconButton } from "./Button";
import { Icon } from "./icons";
import { autoGrow } from "./textarea";

const drafts = new Map<string, string>(); // by conversation

export function Composer() {
  const ref = useRef<HTMLTextAreaElement>(null);
  const empty = useSignal(true);
  const id = currentId.value;

  useLayoutEffect(() => {
    const area = ref.current;
    if (!area) return;
    area.value = drafts.get(id) ?? "";
    empty.value = area.value.trim() === "";
    autoGrow(area);
    if (matchMedia("(pointer: fine)").matches) area.focus(); // a phone's keyboard would cover the page
  }, [id]);

  const isReady = info.value !== null;
  const submit = (): void => {
    const area = ref.current;
    const text = area?.value.trim();
    if (!area || !text || !isReady || live.value) return;
    area.value = "";
    drafts.delete(id);
    empty.value = true;
    autoGrow(area);
    void send(text);
  };

  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <div class="composer-inner">
        <div class="composer-box">
          <textarea
            id="prompt"
            ref={ref}
            rows={1}
            aria-label="Message"
            aria-describedby="prompt-hint"
            placeholder={isReady ? "Write a message" : hint()}
            enterkeyhint="send"
            onInput={(e) => {
              const area = e.currentTarget;
              drafts.set(id, area.value);
              empty.value = area.value.trim() === "";
              autoGrow(area);
            }}
            onKeyDown={(e) => {
              if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
                e.preventDefault();
                submit();
              }
            }}
          />
          <div class="composer-row">
            {info.value?.thinking && (
              <button
                type="button"
                class="toggle"
                aria-pressed={settings.value.thinking}
                title={settings.value.thinking ? "The model thinks before it answers" : "The model answers at once"}
                onClick={() => changeSettings({ thinking: !settings.value.thinking })}
              >
                <Icon name="thought" /> Think
              </button>
            )}
            <ContextMeter />
            <span class="spacer" />
            {live.value ? (
              <IconButton icon="stop" label="Stop (Escape)" class="primary" onClick={stop} />
            ) : (
              <button type="submit" class="icon-button primary" aria-label="Send" title="Send (Enter)" disabled={!isReady || empty.value}>
                <Icon name="send" />
              </button>
            )}
          </div>
        </div>
        <p class="composer-hint muted" id="prompt-hint">
          Runs on this device; nothing is sent anywhere. <span class="wide-only">Answers can be wrong. Shift+Enter for a new line.</span>
        </p>
      </div>
    </form>
  );
}

function hint(): string {
  switch (model.value.kind) {
    case "loading":
      return "The model is loading; you can write already";
    case "elsewhere":
      return "The model is in another tab";
    default:
      return "Load a model to chat";
  }
}

// ContextMeter shows how much of the context the open conversation takes, as of its last answer.
function ContextMeter() {
  const limit = info.value?.contextTokens;
  const used = current.value?.messages.findLast((m) => m.usage)?.usage?.context_tokens;
  if (!limit || !used) return null;
  const part = Math.min(1, used / limit);
  const text = `Context: ${count(used)} of ${count(limit)} tokens`;
  return (
    <span class={part > 0.9 ? "meter full" : "meter"} title={text} role="img" aria-label={text}>
      <svg viewBox="0 0 36 36" aria-hidden="true">
        <circle cx="18" cy="18" r="15" pathLength={100} />
        <circle class="used" cx="18" cy="18" r="15" pathLength={100} stroke-dasharray={`${100 * part} 100`} />
      </svg>
      {Math.round(100 * part)}%
    </span>
  );
}
