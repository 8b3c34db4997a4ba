// The open conversation, scrolled along while an answer comes unless the reader scrolled away; or a welcome.

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { live, send } from "../chat";
import { info, model } from "../model";
import { current, currentId } from "../store";
import { IconButton } from "./Button";
import { MessageView } from "./Message";
import { ModelStatus } from "./ModelStatus";

const near = 80; // pixels from the end that count as being there

export function Chat() {
  const scroller = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const away = useSignal(false);
  const messages = current.value?.messages ?? [];
  const answer = live.value?.conversation === currentId.value ? live.value.message : null;
  const shown = answer ? messages.filter((m) => m.id !== answer.id) : messages;

  const toEnd = (): void => {
    const s = scroller.current;
    if (s?.querySelector(".messages")) s.scrollTop = s.scrollHeight;
  };
  useLayoutEffect(() => {
    follows.current = true;
    toEnd();
  }, [currentId.value, messages.length]);
  useEffect(() => {
    // A message grows after its render too, when something unfolds: the size is what is followed.
    const s = scroller.current;
    if (!s?.firstElementChild) return;
    const observer = new ResizeObserver(() => {
      if (follows.current) toEnd();
    });
    observer.observe(s); // the composer may have grown
    observer.observe(s.firstElementChild);
    return () => observer.disconnect();
  }, []);

  return (
    <div
      class="scroller"
      ref={scroller}
      onScroll={(e) => {
        const s = e.currentTarget;
        follows.current = s.scrollHeight - s.scrollTop - s.clientHeight < near;
        away.value = !follows.current;
      }}
    >
      <div class="column">
        {shown.length === 0 && !answer ? (
          <Welcome />
        ) : (
          <div class="messages" role="log" aria-label="Conversation" aria-live="off">
            {shown.map((m, i) => (
              <MessageView key={m.id} message={m} isLast={!answer && i === shown.length - 1} />
            ))}
            {answer && <MessageView key={answer.id} message={answer} isLast streaming />}
          </div>
        )}
      </div>
      {away.value && (
        <IconButton
          icon="down"
          label="To the newest message"
          class="to-end"
          onClick={() => {
            follows.current = true;
            toEnd();
          }}
        />
      )}
    </div>
  );
}

const suggestions = ["What can you do?", "Sort these words: pear, apple, fig.", "What is seven plus five?"];

function Welcome() {
  return (
    <div class="welcome">
      {model.value.kind !== "unsupported" && (
        <>
          <h1>What is on your mind?</h1>
          <p class="muted">A language model, running on this device’s own GPU through WebGPU. What you write stays here.</p>
        </>
      )}
      <ModelStatus />
      {info.value && (
        <ul class="suggestions" aria-label="Suggestions">
          {suggestions.map((s) => (
            <li key={s}>
              <button type="button" class="button" onClick={() => void send(s)}>
                {s}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
