// The worker: starts the WebAssembly program and passes messages on. It owns the program's host (files, posting, progress);
// the engine is in cmd/wasm.

import "wasm_exec";
import { install } from "../../../engine/gpu/browser/glue.js";
import type { ErrorCode } from "./types";
import type { LoadRequest, Reply, Request } from "./protocol";
import { QwenError, type LoadProgress } from "./types";
import { DirectoryFiles, type FilesProgress, type ModelFiles } from "./worker/files";
import { ProgressMeter } from "./worker/progress";
import { URLFiles } from "./worker/url";

declare const Go: new () => GoProgram;

interface GoProgram {
  importObject: WebAssembly.Imports;
  exit: (code: number) => void;
  run(instance: WebAssembly.Instance): Promise<void>;
  _inst: { exports: { mem: WebAssembly.Memory } };
}

/** What cmd/wasm finds in globalThis.qwen. */
interface Host {
  /** undefined for the embedded model */
  files?: ModelFiles;
  post(json: string): void;
  progress(phase: LoadProgress["phase"], loaded: number, total: number): void;
  wasmBytes(): number;
  /** Set by the program: takes a request as JSON. */
  handle?: (json: string) => void;
}

const post = (reply: Reply): void => self.postMessage(reply);

function fail(id: number, e: unknown): void {
  const known = e instanceof QwenError || (e instanceof Error && "code" in e);
  post({ kind: "error", id, code: known ? ((e as QwenError).code as ErrorCode) : "internal", message: e instanceof Error ? e.message : String(e) });
}

async function compile(url: string): Promise<WebAssembly.Module> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (e) {
    throw new QwenError("network", `the engine (${url}) could not be downloaded: ${(e as Error).message}`);
  }
  if (!response.ok) throw new QwenError("http", `the engine (${url}): the server answered ${response.status} ${response.statusText}`.trim());
  // A server that gives it another type than application/wasm is forgiven.
  return response.headers.get("content-type")?.startsWith("application/wasm") ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

let host: Host | undefined;

async function load(request: LoadRequest): Promise<void> {
  const meter = new ProgressMeter((progress) => post({ kind: "progress", id: request.id, progress }));
  meter.phase("compile", 0, 0);
  const module = await compile(request.wasmURL);
  const go = new Go();
  install(go);
  const onFiles = (p: FilesProgress): void => meter.files(p);
  const { model, wasmURL: _, ...rest } = request;
  host = {
    post: (json) => self.postMessage(json),
    progress: (phase, loaded, total) => meter.phase(phase, loaded, total),
    wasmBytes: () => go._inst.exports.mem.buffer.byteLength,
  };
  if (typeof model === "string") host.files = new URLFiles(model, request.cache, onFiles);
  else if (!("embedded" in model)) host.files = new DirectoryFiles(model, onFiles);
  Object.assign(globalThis, { qwen: host });
  let code = 0;
  go.exit = (c) => (code = c);
  const run = go.run(await WebAssembly.instantiate(module, go.importObject));
  run.then(() => fail(-1, new QwenError("internal", `the engine ended with code ${code}; the console has more`)));
  if (!host.handle) throw new QwenError("internal", "the engine did not start");
  host.handle(JSON.stringify({ ...rest, embedded: typeof model === "object" && "embedded" in model }));
}

self.onmessage = (event: MessageEvent<Request>) => {
  const request = event.data;
  if (request.kind === "load") load(request).catch((e) => fail(request.id, e));
  else if (host?.handle) host.handle(JSON.stringify(request));
  else fail(request.id, new QwenError("internal", "no model is loaded"));
};
