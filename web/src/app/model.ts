// The engine's life on this page: loading a model with progress, failing, and moving between tabs. chat.ts uses it.

import { batch, computed, signal } from "@preact/signals";
import { QwenEngine, type LoadProgress, type ModelInfo } from "../engine/index";
import { failure } from "./errors";
import { announcement, changeSettings, notify, settings } from "./store";
import { checkSupport, type Unsupported } from "./support";
import type { Failure, ModelChoice } from "./types";

declare const QWEN_WORKER_FILE: string; // of this build, relative to the page
declare const QWEN_WASM_FILE: string;

export type ModelState =
  | { kind: "none" } // nothing chosen, or stopped by the user
  | { kind: "unsupported"; why: Unsupported }
  | { kind: "ask-folder"; choice: ModelChoice } // the browser wants a click before it opens the folder again
  | { kind: "loading"; progress: LoadProgress | null; seen: Set<LoadProgress["phase"]> }
  | { kind: "ready"; info: ModelInfo }
  | { kind: "failed"; failure: Failure }
  | { kind: "elsewhere"; moved: boolean }; // another tab has it; moved: that tab took it from this one

export const model = signal<ModelState>({ kind: "none" });
export const info = computed(() => (model.value.kind === "ready" ? model.value.info : null));

let engine: QwenEngine | null = null;
let loading: AbortController | null = null;
let loadCount = 0; // tells a late answer of an earlier load from the current one's

export function currentEngine(): QwenEngine | null {
  return engine;
}

export function modelName(choice: ModelChoice): string {
  switch (choice.kind) {
    case "tiny":
      return "Tiny model";
    case "url":
      return decodeURIComponent(choice.url.replace(/\/+$/, "").split("/").pop() || choice.url);
    case "folder":
      return choice.handle.name;
  }
}

// start loads the model that was used last.
export async function start(): Promise<void> {
  const why = await checkSupport();
  if (why) {
    model.value = { kind: "unsupported", why };
    return;
  }
  const choice = settings.value.model;
  if (choice.kind === "folder" && (await folderPermission(choice.handle, "query")) !== "granted") {
    model.value = { kind: "ask-folder", choice };
    return;
  }
  await load(choice);
}

// folderPermission: Chromium alone has these methods; elsewhere a kept handle just works or fails at the first read.
async function folderPermission(handle: FileSystemDirectoryHandle, how: "query" | "request"): Promise<PermissionState> {
  const h = handle as FileSystemDirectoryHandle & {
    queryPermission?(): Promise<PermissionState>;
    requestPermission?(): Promise<PermissionState>;
  };
  return (await (how === "query" ? h.queryPermission?.() : h.requestPermission?.())) ?? "granted";
}

// load replaces the model. Its errors end in model's state.
export async function load(choice: ModelChoice, takeOver = false): Promise<void> {
  const mine = ++loadCount;
  loading?.abort();
  await unload();
  if (mine !== loadCount) return;
  const abort = new AbortController();
  loading = abort;
  const seen = new Set<LoadProgress["phase"]>();
  model.value = { kind: "loading", progress: null, seen };
  changeSettings({ model: choice });
  try {
    if (choice.kind === "folder" && (await folderPermission(choice.handle, "request")) !== "granted") {
      if (mine === loadCount) model.value = { kind: "ask-folder", choice };
      return;
    }
    const { contextTokens, kv, cache } = settings.value;
    const loaded = await QwenEngine.load(address(choice), {
      signal: abort.signal,
      workerURL: new URL(QWEN_WORKER_FILE, document.baseURI).href,
      wasmURL: new URL(QWEN_WASM_FILE, document.baseURI).href,
      kv,
      cache,
      takeOver,
      ...(contextTokens ? { contextTokens } : {}),
      onProgress(progress) {
        if (mine !== loadCount) return;
        // The wasm is compiled first, without figures, and the kernels last.
        if (progress.phase !== "compile" || progress.totalBytes > 0) seen.add(progress.phase);
        model.value = { kind: "loading", progress, seen };
      },
      onDeviceLost({ recovering }) {
        if (recovering) notify("The GPU was lost. It is being set up again, and the answer goes on.");
      },
      onClosed(error) {
        if (mine !== loadCount) return;
        engine = null;
        model.value = error.code === "busy" ? { kind: "elsewhere", moved: true } : { kind: "failed", failure: failure(error) };
      },
    });
    if (mine !== loadCount) {
      await loaded.close();
      return;
    }
    batch(() => {
      engine = loaded;
      model.value = { kind: "ready", info: loaded.info };
      announcement.value = `${loaded.info.name} is ready.`;
      if (choice.kind === "url") remember(choice.url);
    });
  } catch (err) {
    if (mine !== loadCount) return;
    const f = failure(err);
    if (f.code === "cancelled") model.value = { kind: "none" };
    else if (f.code === "busy") model.value = { kind: "elsewhere", moved: false };
    else model.value = { kind: "failed", failure: f };
  } finally {
    if (loading === abort) loading = null;
  }
}

export const tuning = signal(false); // kernels are being measured

// tune measures how the model's kernels run best on this GPU. Answers wait meanwhile.
export async function tune(): Promise<void> {
  const mine = engine;
  if (!mine || tuning.value) return;
  tuning.value = true;
  try {
    await mine.tune();
    if (mine !== engine) return;
    model.value = { kind: "ready", info: { ...mine.info } };
    notify("Measured. From now on this model runs as is best for this GPU.");
  } catch (err) {
    if (mine === engine) notify(`The GPU could not be measured: ${failure(err).message}`);
  } finally {
    tuning.value = false;
  }
}

function address(choice: ModelChoice): string | FileSystemDirectoryHandle {
  switch (choice.kind) {
    case "tiny":
      return "tiny";
    case "url":
      return new URL(choice.url, document.baseURI).href;
    case "folder":
      return choice.handle;
  }
}

function remember(url: string): void {
  changeSettings({ recent: [url, ...settings.value.recent.filter((u) => u !== url)].slice(0, 8) });
}

export function reload(): Promise<void> {
  return load(settings.value.model);
}

export function cancelLoad(): void {
  loading?.abort();
}

async function unload(): Promise<void> {
  const old = engine;
  engine = null;
  if (!old) return;
  try {
    await old.close();
  } catch (err) {
    console.warn("closing the engine:", err);
  }
}

// fail takes the engine away after an error that it does not survive.
export async function fail(f: Failure): Promise<void> {
  await unload();
  model.value = { kind: "failed", failure: f };
}

// takeOver brings the model to this tab; the tab that has it learns so by onClosed.
export function takeOver(): Promise<void> {
  return load(settings.value.model, true);
}
