// Choosing a model: the tiny one in the box, what the server offers, any address of a packed directory, a folder on this
// device; and how much context it gets.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { bytes, count, parameters } from "../format";
import { info, load, modelName } from "../model";
import { changeSettings, dialog, notify, settings } from "../store";
import type { ModelChoice } from "../types";
import { Dialog } from "./Dialog";
import { Icon } from "./icons";

// Of Chromium; TypeScript does not know it.
declare function showDirectoryPicker(options: { id: string }): Promise<FileSystemDirectoryHandle>;

interface Offered {
  name: string;
  url: string;
  bytes: number;
}

// offered asks the page's own server which models it has. Most hosts have none, and say so with a 404.
async function offered(): Promise<Offered[]> {
  try {
    const index = new URL("models/index.json", document.baseURI);
    const response = await fetch(index, { cache: "no-cache" });
    if (!response.ok) return [];
    const list = (await response.json()) as { models: Offered[] };
    return list.models.map((m) => ({ ...m, url: new URL(m.url, index).href }));
  } catch {
    return [];
  }
}

export function ModelDialog() {
  const served = useSignal<Offered[]>([]);
  const usage = useSignal<StorageEstimate | null>(null);
  const url = useSignal("");
  const problem = useSignal("");
  useEffect(() => {
    void offered().then((list) => (served.value = list));
    void navigator.storage?.estimate?.().then((e) => (usage.value = e));
  }, []);

  const choose = (choice: ModelChoice): void => {
    dialog.value = "";
    void load(choice);
  };
  const useURL = (): void => {
    const text = url.value.trim();
    if (!URL.canParse(text, document.baseURI) || !text) {
      problem.value = "This is not an address. It looks like https://example.org/models/qwen3-0.6b-q8/";
      return;
    }
    const { protocol, hostname } = new URL(text, document.baseURI);
    if (protocol !== "https:" && !(protocol === "http:" && /^(localhost|127\.0\.0\.1)$/.test(hostname)) && new URL(text, document.baseURI).origin !== location.origin) {
      problem.value = "The address must begin with https:// (or be on this machine).";
      return;
    }
    choose({ kind: "url", url: text });
  };
  const pickFolder = async (): Promise<void> => {
    try {
      choose({ kind: "folder", handle: await showDirectoryPicker({ id: "model" }) });
    } catch (err) {
      if (!(err instanceof DOMException && err.name === "AbortError")) notify(String(err));
    }
  };

  const s = settings.value;
  const isCurrent = (c: ModelChoice): boolean => {
    return c.kind === s.model.kind && (c.kind !== "url" || (s.model.kind === "url" && s.model.url === c.url));
  };
  const urls = [...served.value.map((m) => m.url), ...s.recent.filter((u) => !served.value.some((m) => m.url === u))];

  return (
    <Dialog title="Model" onClose={() => (dialog.value = "")}>
      {info.value && (
        <dl class="facts">
          <dt>Loaded</dt>
          <dd>{info.value.name}</dd>
          <dt>Size</dt>
          <dd>
            {parameters(info.value.parameters)} parameters, {info.value.dtype}, {bytes(info.value.bytes)}
          </dd>
          <dt>Context</dt>
          <dd>{count(info.value.contextTokens)} tokens</dd>
          <dt>GPU</dt>
          <dd>{info.value.adapter || "unnamed"}</dd>
        </dl>
      )}
      <ul class="choices">
        <Choice label="Tiny model" detail="comes with the page; for trying out" selected={isCurrent({ kind: "tiny" })} onChoose={() => choose({ kind: "tiny" })} />
        {urls.map((u) => {
          const m = served.value.find((o) => o.url === u);
          const choice: ModelChoice = { kind: "url", url: u };
          return (
            <Choice
              key={u}
              label={m?.name ?? modelName(choice)}
              detail={m ? `${bytes(m.bytes)}, from this server` : u}
              selected={isCurrent(choice)}
              onChoose={() => choose(choice)}
              {...(m ? {} : { onForget: () => changeSettings({ recent: s.recent.filter((r) => r !== u) }) })}
            />
          );
        })}
        {s.model.kind === "folder" && <Choice label={s.model.handle.name} detail="a folder on this device" selected onChoose={() => choose(s.model)} />}
      </ul>

      <form
        class="field"
        onSubmit={(e) => {
          e.preventDefault();
          useURL();
        }}
      >
        <label for="model-url">Address of a packed model</label>
        <div class="row">
          <input
            id="model-url"
            type="text"
            inputMode="url"
            autocomplete="off"
            spellcheck={false}
            placeholder="https://…/qwen3-0.6b-q8/"
            value={url.value}
            aria-invalid={problem.value ? "true" : undefined}
            aria-describedby="model-url-problem"
            onInput={(e) => {
              url.value = e.currentTarget.value;
              problem.value = "";
            }}
          />
          <button type="submit" class="button">
            Load
          </button>
        </div>
        <p class={problem.value ? "problem small" : "muted small"} id="model-url-problem">
          {problem.value || "A directory that the converter wrote, on a server that lets this page read it."}
        </p>
      </form>

      {"showDirectoryPicker" in window ? (
        <button type="button" class="button" onClick={() => void pickFolder()}>
          <Icon name="folder" /> Open a folder on this device
        </button>
      ) : (
        <p class="muted small">This browser lets no page open a folder. Chrome and Edge do.</p>
      )}

      <details class="advanced">
        <summary>
          <Icon name="chevron" /> Memory
        </summary>
        <div class="grid">
          <label>
            Context, tokens
            <input
              type="number"
              min={16}
              step={1}
              placeholder="as the model and GPU allow"
              value={s.contextTokens ?? ""}
              onChange={(e) => {
                const n = e.currentTarget.valueAsNumber;
                const { contextTokens: _, ...rest } = s;
                settings.value = rest;
                changeSettings(n >= 16 ? { contextTokens: Math.floor(n) } : {});
              }}
            />
          </label>
          <label>
            Cache of keys and values
            <select value={s.kv} onChange={(e) => changeSettings({ kv: e.currentTarget.value === "f32" ? "f32" : "f16" })}>
              <option value="f16">16 bits</option>
              <option value="f32">32 bits, twice the memory</option>
            </select>
          </label>
        </div>
        <label class="check">
          <input type="checkbox" checked={s.cache} onChange={(e) => changeSettings({ cache: e.currentTarget.checked })} />
          Keep a copy on this device, so that the next visit downloads nothing
        </label>
        <p class="muted small">
          These apply when a model is loaded.
          {usage.value?.usage !== undefined && usage.value.quota !== undefined && (
            <>
              {" "}
              This page keeps {bytes(usage.value.usage)} here; the browser allows {bytes(usage.value.quota)}.
            </>
          )}
        </p>
      </details>
    </Dialog>
  );
}

interface ChoiceProps {
  label: string;
  detail: string;
  selected: boolean;
  onChoose: () => void;
  onForget?: () => void;
}

function Choice({ label, detail, selected, onChoose, onForget }: ChoiceProps) {
  return (
    <li class={selected ? "choice selected" : "choice"}>
      <button type="button" class="choice-main" aria-current={selected ? "true" : undefined} onClick={onChoose}>
        <strong>{label}</strong>
        <span class="muted small">{detail}</span>
      </button>
      {onForget && (
        <button type="button" class="icon-button" aria-label={`Forget ${label}`} title="Forget this address" onClick={onForget}>
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}
