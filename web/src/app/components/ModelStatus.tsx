// What the model is doing, when it is not simply ready: loading by phases, failed, elsewhere, or impossible here.

import { explain } from "../errors";
import { bytes, seconds } from "../format";
import { cancelLoad, load, model, modelName, reload, takeOver } from "../model";
import { dialog, settings } from "../store";
import { browsers, type Unsupported } from "../support";
import type { LoadProgress } from "../../engine/index";
import { Icon } from "./icons";

export function ModelStatus() {
  const state = model.value;
  const name = modelName(settings.value.model);
  switch (state.kind) {
    case "ready":
      return null;
    case "unsupported":
      return <UnsupportedView why={state.why} />;
    case "loading":
      return <Loading name={name} progress={state.progress} seen={state.seen} />;
    case "failed": {
      const { title, advice } = explain(state.failure);
      return (
        <section class="card bad" role="alert" aria-label={title} data-code={state.failure.code}>
          <h2>
            <Icon name="warning" /> {title}
          </h2>
          <p class="said">{state.failure.message}</p>
          <p class="muted">{advice}</p>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void reload()}>
              Try again
            </button>
            <ChooseButton />
            {settings.value.model.kind !== "tiny" && (
              <button type="button" class="button" onClick={() => void load({ kind: "tiny" })}>
                Use the tiny model
              </button>
            )}
          </div>
        </section>
      );
    }
    case "elsewhere":
      return (
        <section class="card" role="alert">
          <h2>{state.moved ? "The model moved to another tab" : "The model runs in another tab"}</h2>
          <p class="muted">One tab at a time holds the model, so that the GPU holds one copy of it.</p>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void takeOver()}>
              Use it here
            </button>
          </div>
        </section>
      );
    case "ask-folder":
      return (
        <section class="card">
          <h2>Open the folder “{name}” again?</h2>
          <p class="muted">The browser asks before a page may read a folder again.</p>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void load(state.choice)}>
              <Icon name="folder" /> Open “{name}”
            </button>
            <ChooseButton />
          </div>
        </section>
      );
    case "none":
      return (
        <section class="card">
          <h2>No model is loaded</h2>
          <div class="row">
            <button type="button" class="button primary" onClick={() => void reload()}>
              Load {name}
            </button>
            <ChooseButton />
          </div>
        </section>
      );
  }
}

function ChooseButton() {
  return (
    <button type="button" class="button" onClick={() => (dialog.value = "model")}>
      Choose a model
    </button>
  );
}

const phases: { phase: LoadProgress["phase"]; label: string }[] = [
  { phase: "check", label: "GPU check" },
  { phase: "download", label: "Download" },
  { phase: "upload", label: "To the GPU" },
  { phase: "compile", label: "Compile" },
];

function Loading({ name, progress: p, seen }: { name: string; progress: LoadProgress | null; seen: Set<LoadProgress["phase"]> }) {
  const downloads = settings.value.model.kind === "url" && !p?.cached;
  const isCounted = p !== null && p.totalBytes > 0; // in bytes, or while compiling in kernels
  return (
    <section class="card" aria-label={`Loading ${name}`}>
      <h2>Loading {name}</h2>
      <ol class="phases">
        {phases.map(({ phase, label }) => {
          if (phase === "download" && !downloads) return null;
          const state = phase === p?.phase ? "now" : seen.has(phase) ? "done" : "later";
          return (
            <li key={phase} class={state} aria-current={state === "now" ? "step" : undefined}>
              {state === "done" ? <Icon name="check" /> : <span class="dot" />} {label}
            </li>
          );
        })}
      </ol>
      <progress aria-label="Loaded" max={1} value={isCounted ? p.loadedBytes / p.totalBytes : undefined} />
      <p class="muted small progress-text">
        {isCounted && p.phase === "compile" ? (
          <span>
            {p.loadedBytes} of {p.totalBytes} kernels
          </span>
        ) : isCounted ? (
          <>
            <span>
              {bytes(p.loadedBytes)} of {bytes(p.totalBytes)}
            </span>
            {p.bytesPerSecond > 0 && p.loadedBytes < p.totalBytes && <span>{bytes(p.bytesPerSecond)}/s</span>}
            {p.secondsLeft !== undefined && p.loadedBytes < p.totalBytes && <span>{seconds(p.secondsLeft)} left</span>}
            {p.cached && <span>kept on this device</span>}
          </>
        ) : (
          <span>Starting …</span>
        )}
        {p?.note && <span>{p.note}</span>}
      </p>
      <div class="row">
        <button type="button" class="button" onClick={cancelLoad}>
          Cancel
        </button>
      </div>
    </section>
  );
}

function UnsupportedView({ why }: { why: Unsupported }) {
  return (
    <section class="card bad unsupported" role="alert" data-missing={why.missing}>
      <h2>
        <Icon name="warning" /> The model cannot run in this browser
      </h2>
      <p class="said">{why.reason}</p>
      <p>{why.advice}</p>
      <table>
        <caption>Browsers with WebGPU</caption>
        <tbody>
          {browsers.map((b) => (
            <tr key={b.name}>
              <th scope="row">{b.name}</th>
              <td>{b.where}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="muted small">Saved conversations can still be read, exported and deleted here. This browser calls itself: {navigator.userAgent}</p>
    </section>
  );
}
