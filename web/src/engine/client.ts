// QwenEngine: the engine in its worker, as the page sees it. It owns the worker, the lock that keeps a second tab out, and
// the shape of OpenAI's API; the engine itself is behind protocol.ts.

import type { ChatResult, Delta, Reply, Request, Results, Tuning } from "./protocol";
import {
  type ChatChunk, type ChatCompletion, type ChatDelta, type ChatRequest, type ChatStream, type EngineStats, type FinishReason, type LoadOptions, type LoadProgress,
  type ModelInfo, QwenError, type TokenLogprob, type Usage,
} from "./types";

declare const QWEN_WORKER_FILE: string;
declare const QWEN_WASM_FILE: string;

const LOCK = "qwen-wgpu-engine";
const TUNING_KEY = "qwen-wgpu-tuning"; // in localStorage

/** Resolves a file of the site; this module lies at its root or in assets/. */
function siteURL(file: string): string {
  const here = new URL(import.meta.url);
  return new URL(here.pathname.includes("/assets/") ? `../${file}` : file, here).href;
}

interface Pending {
  resolve: (result: never) => void;
  reject: (error: QwenError) => void;
  onProgress?: (progress: LoadProgress) => void;
  onDelta?: (delta: Delta) => void;
}

/** Distributes a request over all members of a union. */
type WithoutID<T> = T extends unknown ? Omit<T, "id"> : never;

/** The worker and what it has been asked. */
class Channel {
  private readonly pending = new Map<number, Pending>();
  private lastID = 0;
  private dead?: QwenError;
  onDeviceLost?: LoadOptions["onDeviceLost"];
  onDied?: (error: QwenError) => void;

  constructor(private readonly worker: Worker) {
    worker.onmessage = (event: MessageEvent<Reply | string>) => this.receive(typeof event.data === "string" ? (JSON.parse(event.data) as Reply) : event.data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.end(new QwenError("internal", `the engine's worker failed: ${event.message || "its script could not be loaded"}`));
    };
  }

  private receive(reply: Reply): void {
    if (reply.kind === "device_lost") {
      this.onDeviceLost?.(reply.info);
      return;
    }
    const p = this.pending.get(reply.id);
    if (!p) {
      if (reply.kind === "error") this.end(new QwenError(reply.code, reply.message)); // of no request: the program ended
      return;
    }
    switch (reply.kind) {
      case "progress":
        p.onProgress?.(reply.progress);
        return;
      case "delta":
        p.onDelta?.(reply.delta);
        return;
      case "result":
        this.pending.delete(reply.id);
        p.resolve(reply.result as never);
        return;
      case "error":
        this.pending.delete(reply.id);
        p.reject(new QwenError(reply.code, reply.message));
    }
  }

  /** Sends a request; the id is there at once, for cancelling. */
  send<K extends Request["kind"]>(request: WithoutID<Extract<Request, { kind: K }>>, hooks: Pick<Pending, "onProgress" | "onDelta"> = {}): { id: number; result: Promise<Results[K]> } {
    const id = ++this.lastID;
    const result = new Promise<Results[K]>((resolve, reject) => {
      if (this.dead) return reject(this.dead);
      this.pending.set(id, { resolve: resolve as (result: never) => void, reject, ...hooks });
      this.worker.postMessage({ ...request, id });
    });
    return { id, result };
  }

  /** Ends the worker; whatever waits is rejected. */
  end(error: QwenError): void {
    if (this.dead) return;
    this.dead = error;
    this.worker.terminate();
    for (const p of this.pending.values()) p.reject(error);
    this.pending.clear();
    this.onDied?.(error);
  }
}

/** Holds the lock until release() is called; onLost tells that another tab took it. */
async function acquireLock(takeOver: boolean, onLost: () => void): Promise<() => void> {
  const locks = globalThis.navigator?.locks;
  if (!locks) return () => {};
  let release = (): void => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  await new Promise<void>((resolve, reject) => {
    locks
      .request(LOCK, takeOver ? { steal: true } : { ifAvailable: true }, (lock) => {
        if (!lock) {
          reject(new QwenError("busy", "the engine is already running in another tab or window; close it there, or take over"));
          return;
        }
        resolve();
        return held;
      })
      .catch(onLost); // only a lock that was stolen rejects
  });
  return release;
}

function abortError(): QwenError {
  return new QwenError("cancelled", "loading was cancelled");
}

export class QwenEngine {
  readonly chat: {
    completions: {
      create(request: ChatRequest & { stream: true }): Promise<ChatStream>;
      create(request: ChatRequest & { stream?: false }): Promise<ChatCompletion>;
      create(request: ChatRequest): Promise<ChatCompletion | ChatStream>;
    };
  };

  private constructor(
    private readonly channel: Channel,
    readonly info: ModelInfo,
    private readonly release: () => void,
  ) {
    this.chat = { completions: { create: ((request: ChatRequest) => this.create(request)) as QwenEngine["chat"]["completions"]["create"] } };
  }

  /**
   * Loads a model: the URL of a packed directory, a directory that the user picked, or "tiny", the model inside the wasm
   * build.
   */
  static async load(model: string | FileSystemDirectoryHandle, options: LoadOptions = {}): Promise<QwenEngine> {
    const { signal } = options;
    if (signal?.aborted) throw abortError();
    if (!globalThis.navigator?.gpu) {
      throw new QwenError("unsupported", globalThis.isSecureContext === false ? "WebGPU needs a secure address: https://, or localhost" : "this browser has no WebGPU");
    }
    options.onProgress?.({ phase: "check", loadedBytes: 0, totalBytes: 0, bytesPerSecond: 0, cached: false });
    let channel: Channel | undefined;
    let release = (): void => {};
    release = await acquireLock(options.takeOver ?? false, () => channel?.end(new QwenError("busy", "another tab took the engine over")));
    let loaded = false;
    try {
      // A worker cannot ask. Nobody waits for the answer: Firefox asks the user.
      if (options.cache !== false) navigator.storage?.persist?.().catch(() => false);
      const worker = new Worker(options.workerURL ?? siteURL(QWEN_WORKER_FILE), { type: "module", name: "qwen-wgpu" });
      channel = new Channel(worker);
      channel.onDeviceLost = options.onDeviceLost;
      channel.onDied = (error) => {
        release();
        if (loaded) options.onClosed?.(error);
      };
      const abort = (): void => channel?.end(abortError());
      signal?.addEventListener("abort", abort, { once: true });
      try {
        const { result } = channel.send<"load">(
          {
            kind: "load",
            model: typeof model !== "string" ? model : model === "tiny" ? { embedded: "tiny" } : directoryURL(model),
            wasmURL: new URL(options.wasmURL ?? siteURL(QWEN_WASM_FILE), location.href).href,
            contextTokens: options.contextTokens ?? 0,
            kv: options.kv ?? "",
            cache: options.cache ?? true,
            tuning: keptTuning(),
          },
          { onProgress: options.onProgress },
        );
        const info = await result;
        loaded = true;
        return new QwenEngine(channel, info, release);
      } finally {
        signal?.removeEventListener("abort", abort);
      }
    } catch (e) {
      const error = e instanceof QwenError ? e : new QwenError("internal", String(e));
      channel?.end(error);
      release();
      throw error;
    }
  }

  /** The ids of a text, as the model's tokenizer cuts it. */
  tokenize(text: string): Promise<number[]> {
    return this.channel.send<"tokenize">({ kind: "tokenize", text }).result;
  }

  /**
   * Measures how this model's kernels run best on this GPU, which takes seconds to minutes; answers wait meanwhile. The result is
   * used from then on, and kept in localStorage for the next load.
   */
  async tune(): Promise<void> {
    const { adapter, shapes } = await this.channel.send<"tune">({ kind: "tune" }).result;
    this.info.tuned = true;
    const kept = keptTuning();
    try {
      localStorage.setItem(TUNING_KEY, JSON.stringify({ ...kept, [adapter]: { ...kept[adapter], ...shapes } }));
    } catch {
      // No storage, or no room: it is measured again next time.
    }
  }

  stats(): Promise<EngineStats> {
    return this.channel.send<"stats">({ kind: "stats" }).result;
  }

  /** Greedy continuation of token ids, without chat template and stop tokens: for evaluations. */
  async generateIDs(ids: number[], maxTokens: number): Promise<number[]> {
    return (await this.channel.send<"generate">({ kind: "generate", ids, max_tokens: maxTokens }).result).ids;
  }

  /** Frees the GPU and ends the worker. */
  async close(): Promise<void> {
    const done = this.channel.send<"close">({ kind: "close" }).result.catch(() => null);
    await Promise.race([done, new Promise((resolve) => setTimeout(resolve, 1000))]);
    this.channel.onDied = undefined;
    this.release();
    this.channel.end(new QwenError("cancelled", "the engine was closed"));
  }

  /** For tests: destroys the GPU device as a driver reset would. */
  async loseDevice(): Promise<void> {
    await this.channel.send<"lose_device">({ kind: "lose_device" }).result;
  }

  private async create(request: ChatRequest): Promise<ChatCompletion | ChatStream> {
    const answer = new Answer(this.channel, this.info.name, request);
    return request.stream ? answer : answer.whole();
  }
}

/** What tune has kept; nothing where there is no storage, or something else in it. */
function keptTuning(): Tuning {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(TUNING_KEY) ?? "{}");
    return typeof kept === "object" && kept !== null && !Array.isArray(kept) ? (kept as Tuning) : {};
  } catch {
    return {};
  }
}

function directoryURL(model: string): string {
  const url = new URL(model, location.href);
  url.pathname = url.pathname.replace(/\/?(manifest\.json)?$/, "/");
  return url.href;
}

let numAnswers = 0;

/** One answer: a queue between the worker's deltas and the reader of the stream. */
class Answer implements ChatStream {
  private readonly head: Pick<ChatChunk, "id" | "created" | "model">;
  private readonly chunks: ChatChunk[] = [];
  private wake: () => void = () => {};
  private finished = false;
  private error?: QwenError;
  private numToolCalls = 0;
  private readonly requestID: number;

  constructor(
    private readonly channel: Channel,
    model: string,
    request: ChatRequest,
  ) {
    this.head = { id: `chatcmpl-${Date.now().toString(36)}-${++numAnswers}`, created: Math.floor(Date.now() / 1000), model };
    const { signal, stream: _, ...rest } = request;
    this.push({ role: "assistant" });
    const { id, result } = channel.send<"chat">({ kind: "chat", request: rest }, { onDelta: (d) => this.onDelta(d) });
    this.requestID = id;
    const cancel = (): void => this.cancel();
    if (signal?.aborted) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
    result
      .then(
        (r: ChatResult) => this.push({}, r.finish_reason, r.usage),
        (e: QwenError) => (this.error = e),
      )
      .finally(() => {
        signal?.removeEventListener("abort", cancel);
        this.finished = true;
        this.wake();
      });
  }

  private push(delta: ChatDelta, finish_reason: FinishReason | null = null, usage?: Usage, logprobs?: TokenLogprob[]): void {
    this.chunks.push({
      ...this.head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, ...(logprobs && { logprobs: { content: logprobs } }), finish_reason }],
      ...(usage && { usage }),
    });
    this.wake();
  }

  private onDelta({ tool_call, logprobs, ...delta }: Delta): void {
    this.push({ ...delta, ...(tool_call && { tool_calls: [{ ...tool_call, index: this.numToolCalls++ }] }) }, null, undefined, logprobs);
  }

  cancel(): void {
    if (!this.finished) this.channel.send<"cancel">({ kind: "cancel", of: this.requestID }).result.catch(() => {});
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatChunk, void, undefined> {
    try {
      for (;;) {
        const chunk = this.chunks.shift();
        if (chunk) {
          yield chunk;
        } else if (this.error) {
          throw this.error;
        } else if (this.finished) {
          return;
        } else {
          await new Promise<void>((resolve) => (this.wake = resolve));
        }
      }
    } finally {
      this.cancel();
    }
  }

  /** The whole answer. One that was cancelled before it began is an error. */
  async whole(): Promise<ChatCompletion> {
    const message: ChatCompletion["choices"][0]["message"] = { role: "assistant", content: "" };
    const logprobs: TokenLogprob[] = [];
    let finish_reason: FinishReason = "stop";
    let usage: Usage | undefined;
    for await (const chunk of this) {
      const [choice] = chunk.choices;
      const { delta } = choice;
      if (delta.content) message.content += delta.content;
      if (delta.reasoning_content) message.reasoning_content = (message.reasoning_content ?? "") + delta.reasoning_content;
      for (const { index: _, ...call } of delta.tool_calls ?? []) (message.tool_calls ??= []).push(call);
      if (choice.logprobs) logprobs.push(...choice.logprobs.content);
      if (choice.finish_reason) finish_reason = choice.finish_reason;
      usage = chunk.usage ?? usage;
    }
    if (!usage) throw new QwenError("internal", "the answer ended without its last chunk");
    return { ...this.head, object: "chat.completion", choices: [{ index: 0, message, ...(logprobs.length > 0 && { logprobs: { content: logprobs } }), finish_reason }], usage };
  }
}
