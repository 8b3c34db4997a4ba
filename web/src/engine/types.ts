// The public types of the engine's client: OpenAI-shaped chat, loading, and what can go wrong.

export type ErrorCode =
  | "unsupported" // no WebGPU, no adapter, no worker
  | "limits" // the GPU or the context is too small for the model
  | "network" // a download failed on the way
  | "http" // the server answered with an error
  | "hash" // a file is damaged
  | "truncated" // a file is shorter or longer than the manifest says
  | "quota" // storage is full where it is needed
  | "busy" // another tab has the engine
  | "context_full"
  | "cancelled"
  | "device_lost"
  | "invalid" // the request or the model directory is wrong
  | "internal";

/** Every promise of this module rejects with a QwenError. */
export class QwenError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "QwenError";
    this.code = code;
  }
}

export interface LoadProgress {
  phase: "check" | "compile" | "download" | "upload" | "ready";
  loadedBytes: number;
  totalBytes: number;
  bytesPerSecond: number;
  secondsLeft?: number;
  /** All bytes were in the browser's storage already. */
  cached: boolean;
  /** For people: for example that the model does not fit into storage and will be downloaded again next time. */
  note?: string;
}

export interface DeviceLostInfo {
  message: string;
  /** The engine is being rebuilt, and the answer goes on; otherwise it has given up. */
  recovering: boolean;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
  /** Tokens that the KV cache holds; default 4096, or the model's limit if that is less. */
  contextTokens?: number;
  /** Number format of the KV cache; default f16. */
  kv?: "f16" | "f32";
  workerURL?: string;
  wasmURL?: string;
  /** false: nothing is kept in the browser's storage; default true. */
  cache?: boolean;
  /** Take the engine away from another tab instead of failing with "busy". */
  takeOver?: boolean;
  onDeviceLost?: (info: DeviceLostInfo) => void;
  /** The engine ended by itself: another tab took over ("busy"), or the worker died. */
  onClosed?: (error: QwenError) => void;
}

export interface SamplingParams {
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  presence_penalty: number;
  frequency_penalty: number;
  repetition_penalty: number;
}

export interface ModelInfo {
  name: string;
  dtype: string;
  parameters: number;
  /** Size of all weights. */
  bytes: number;
  contextTokens: number;
  /** The largest context that the model takes. */
  maxContextTokens: number;
  adapter: string;
  features: string[];
  /** The model's defaults, from generation_config.json. */
  sampling: SamplingParams;
  /** The chat template knows enable_thinking or opens a reasoning block. */
  thinking: boolean;
  /** How this model's kernels run best on this GPU was measured: see QwenEngine.tune. */
  tuned: boolean;
}

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; /** A JSON object as text. */ arguments: string };
}

export interface Tool {
  type: "function";
  function: { name: string; description?: string; /** A JSON schema. */ parameters?: unknown };
}

export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  reasoning_content?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

export interface ChatRequest extends Partial<SamplingParams> {
  messages: ChatMessage[];
  tools?: Tool[];
  stream?: boolean;
  /** Of the answer, reasoning included; default: as many as fit. */
  max_tokens?: number;
  seed?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string[];
  logprobs?: boolean;
  /** Alternatives beside each token, 0 to 20. */
  top_logprobs?: number;
  enable_thinking?: boolean;
  /** What happens when the conversation outgrows the context; default "error". */
  overflow?: "error" | "drop-oldest";
  signal?: AbortSignal;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "cancelled";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Of the prompt, found in the KV cache. */
  reused_tokens: number;
  prefill_seconds: number;
  decode_seconds: number;
  /** In the KV cache after the answer. */
  context_tokens: number;
  /** Messages left out of the prompt by overflow "drop-oldest". */
  dropped_messages?: number;
  /** Time that Go and JavaScript took in the worker for each token of the answer. */
  cpu_ms_per_token?: number;
}

export interface TokenLogprob {
  token: string;
  logprob: number;
  bytes: number[];
  top_logprobs: { token: string; logprob: number; bytes: number[] }[];
}

export interface ChatDelta {
  role?: "assistant";
  content?: string;
  reasoning_content?: string;
  tool_calls?: (ToolCall & { index: number })[];
}

export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: [{ index: 0; delta: ChatDelta; logprobs?: { content: TokenLogprob[] }; finish_reason: FinishReason | null }];
  /** In the last chunk. */
  usage?: Usage;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: [{ index: 0; message: ChatMessage; logprobs?: { content: TokenLogprob[] }; finish_reason: FinishReason }];
  usage: Usage;
}

/** An answer as it is written. Leaving the loop early, or cancel(), stops the engine. */
export interface ChatStream extends AsyncIterable<ChatChunk> {
  cancel(): void;
}

export interface EngineStats {
  model: string;
  /** What runs the model, in one line. */
  runs: string;
  contextTokens: number;
  /** Tokens of the current conversation in the KV cache. */
  cachedTokens: number;
  /** KV cache pages that can be given out. */
  freePages: number;
  numPages: number;
  weightBytes: number;
  kvBytes: number;
  activationBytes: number;
  /** WebAssembly memory. */
  wasmBytes: number;
  /** Go's heap in use, of wasmBytes. */
  heapBytes: number;
  /** Time that Go and JavaScript took in the worker since it started. */
  cpuMilliseconds: number;
  /** How often a lost device was replaced. */
  deviceLosses: number;
}
