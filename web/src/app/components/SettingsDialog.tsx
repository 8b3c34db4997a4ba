// Settings: system prompt, sampling, context, tools, appearance, data. An empty field means the model's own default.

import { useSignal } from "@preact/signals";
import { parseTools } from "../chat";
import { info, tune, tuning } from "../model";
import { change, changeSettings, current, dialog, settings } from "../store";
import { setTheme, theme, type Theme } from "../theme";
import type { Sampling } from "../types";
import { Dialog } from "./Dialog";

type NumberName = Exclude<keyof Sampling, "stop">;

interface NumberField {
  name: NumberName;
  label: string;
  help: string;
  min: number;
  max?: number;
  step: number;
  exclusive?: boolean; // min itself is not allowed
}

// The ranges are those of the engine's sampler.
const fields: NumberField[] = [
  { name: "temperature", label: "Temperature", help: "0 takes the likeliest token", min: 0, step: 0.05 },
  { name: "top_p", label: "Top p", help: "likeliest tokens up to this sum; 1 is off", min: 0, max: 1, step: 0.01, exclusive: true },
  { name: "top_k", label: "Top k", help: "this many tokens; 0 is off", min: 0, step: 1 },
  { name: "min_p", label: "Min p", help: "as likely as this part of the best; 0 is off", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", label: "Repetition penalty", help: "1 is off", min: 0, step: 0.01, exclusive: true },
  { name: "presence_penalty", label: "Presence penalty", help: "0 is off", min: -10, max: 10, step: 0.1 },
  { name: "frequency_penalty", label: "Frequency penalty", help: "0 is off", min: -10, max: 10, step: 0.1 },
  { name: "seed", label: "Seed", help: "the same seed, the same answer", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
  { name: "max_tokens", label: "Longest answer", help: "tokens", min: 1, step: 1 },
];

export function SettingsDialog() {
  const s = settings.value;
  const toolProblem = useSignal("");
  return (
    <Dialog title="Settings" onClose={() => (dialog.value = "")}>
      <section class="group" aria-label="Conversation">
        <label>
          System prompt
          <textarea
            rows={3}
            placeholder="Who the model is, and how it should answer"
            value={current.value ? current.value.system : s.system}
            onChange={(e) => {
              const system = e.currentTarget.value;
              if (current.value) change(current.value.id, { system });
              changeSettings({ system });
            }}
          />
        </label>
        <p class="muted small">{current.value ? "For the open conversation; new ones begin with it too." : "New conversations begin with it."}</p>
        <label class="check">
          <input type="checkbox" checked={s.thinking} onChange={(e) => changeSettings({ thinking: e.currentTarget.checked })} />
          Think before answering, where the model can
        </label>
        <label>
          When the context is full
          <select value={s.overflow} onChange={(e) => changeSettings({ overflow: e.currentTarget.value === "drop-oldest" ? "drop-oldest" : "error" })}>
            <option value="error">stop and say so</option>
            <option value="drop-oldest">forget the oldest messages</option>
          </select>
        </label>
      </section>

      <section class="group" aria-labelledby="sampling-title">
        <div class="row between">
          <h3 id="sampling-title">Sampling</h3>
          <button type="button" class="button quiet" disabled={Object.keys(s.sampling).length === 0} onClick={() => changeSettings({ sampling: {} })}>
            Reset to the model’s defaults
          </button>
        </div>
        <div class="grid">
          {fields.map((f) => (
            <NumberInput key={f.name} field={f} />
          ))}
        </div>
        <label>
          Stop texts, one a line
          <textarea
            rows={2}
            value={s.sampling.stop?.join("\n") ?? ""}
            onChange={(e) => {
              const stop = e.currentTarget.value.split("\n").filter((line) => line !== "");
              const { stop: _, ...rest } = s.sampling;
              changeSettings({ sampling: stop.length ? { ...rest, stop } : rest });
            }}
          />
        </label>
      </section>

      <section class="group" aria-label="Tools">
        <label>
          Tools, as a JSON list of functions
          <textarea
            rows={3}
            class="mono"
            spellcheck={false}
            placeholder={'[{"type": "function", "function": {"name": "weather", "parameters": {…}}}]'}
            value={s.tools}
            aria-invalid={toolProblem.value ? "true" : undefined}
            aria-describedby="tools-help"
            onChange={(e) => {
              try {
                parseTools(e.currentTarget.value);
                toolProblem.value = "";
                changeSettings({ tools: e.currentTarget.value });
              } catch (err) {
                toolProblem.value = `Not kept: ${err instanceof Error ? err.message : String(err)}`;
              }
            }}
          />
        </label>
        <p class={toolProblem.value ? "problem small" : "muted small"} id="tools-help">
          {toolProblem.value || "The model may call them; you are asked for the result."}
        </p>
      </section>

      <section class="group" aria-label="Speed">
        <div class="row between">
          <h3>Speed</h3>
          <button type="button" class="button quiet" disabled={!info.value || tuning.value} onClick={() => void tune()}>
            {tuning.value ? "Measuring…" : info.value?.tuned ? "Measure this GPU again" : "Measure this GPU"}
          </button>
        </div>
        <p class="muted small" aria-live="polite">
          {tuning.value
            ? "This takes up to a minute or two; answers wait meanwhile."
            : info.value?.tuned
              ? "This model runs as was measured to be best on this GPU."
              : "Finds out how a model runs best on this GPU, once a model. Answers can come considerably faster."}
        </p>
      </section>

      <section class="group" aria-label="Appearance">
        <label>
          Appearance
          <select value={theme.value} onChange={(e) => setTheme(e.currentTarget.value as Theme)}>
            <option value="system">as the system</option>
            <option value="light">light</option>
            <option value="dark">dark</option>
          </select>
        </label>
      </section>
      <p class="muted small">
        Keys: Enter sends, Shift+Enter begins a new line, Escape stops an answer, Ctrl+Shift+O begins a new conversation.
      </p>
    </Dialog>
  );
}

function NumberInput({ field: f }: { field: NumberField }) {
  const problem = useSignal("");
  const s = settings.value.sampling;
  const fallback = f.name === "max_tokens" || f.name === "seed" ? undefined : info.value?.sampling[f.name];
  const id = `sampling-${f.name}`;
  return (
    <div class="field">
      <label for={id}>{f.label}</label>
      <input
        id={id}
        type="number"
        min={f.min}
        max={f.max}
        step="any"
        placeholder={fallback !== undefined ? String(fallback) : f.name === "max_tokens" ? "as many as fit" : f.name === "seed" ? "random" : "default"}
        value={s[f.name] ?? ""}
        aria-invalid={problem.value ? "true" : undefined}
        aria-describedby={`${id}-help`}
        onChange={(e) => {
          const { [f.name]: _, ...rest } = s;
          if (e.currentTarget.value === "" && !e.currentTarget.validity.badInput) {
            problem.value = "";
            changeSettings({ sampling: rest });
            return;
          }
          problem.value = check(f, e.currentTarget.valueAsNumber);
          if (!problem.value) changeSettings({ sampling: { ...rest, [f.name]: e.currentTarget.valueAsNumber } });
        }}
      />
      <span class={problem.value ? "problem small" : "muted small"} id={`${id}-help`}>
        {problem.value || f.help}
      </span>
    </div>
  );
}

// check says what is wrong with a number, or nothing.
function check(f: NumberField, n: number): string {
  if (!Number.isFinite(n)) return "not a number";
  if (f.step === 1 && !Number.isInteger(n)) return "must be a whole number";
  if (f.exclusive ? n <= f.min : n < f.min) return `must be ${f.exclusive ? "more than" : "at least"} ${f.min}`;
  if (f.max !== undefined && n > f.max) return `must be at most ${f.max}`;
  return "";
}
