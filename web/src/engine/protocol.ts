// The messages between client.ts and the worker. Each request has an id of its own; the answers to it carry it. Go's side
// is cmd/wasm/protocol.go: change both.

import type { ChatRequest, DeviceLostInfo, EngineStats, ErrorCode, FinishReason, LoadProgress, ModelInfo, TokenLogprob, ToolCall, Usage } from "./types";

export interface LoadRequest {
  kind: "load";
  id: number;
  /** A URL that ends in a slash, a picked directory, or the model inside the wasm build. */
  model: string | FileSystemDirectoryHandle | { embedded: "tiny" };
  wasmURL: string;
  contextTokens: number; // 0: default
  kv: "" | "f16" | "f32";
  cache: boolean;
  /** What tune gave, by adapter. */
  tuning: Tuning;
}

/** How kernels run best, by adapter: cmd/wasm knows what is in it. */
export type Tuning = Record<string, Record<string, unknown>>;

export type Request =
  | LoadRequest
  | { kind: "chat"; id: number; request: Omit<ChatRequest, "signal" | "stream"> }
  | { kind: "generate"; id: number; ids: number[]; max_tokens: number }
  | { kind: "tokenize"; id: number; text: string }
  | { kind: "stats"; id: number }
  | { kind: "tune"; id: number }
  | { kind: "cancel"; id: number; /** the request to end */ of: number }
  | { kind: "close"; id: number }
  // For tests: destroys the GPU device as if the driver had done so.
  | { kind: "lose_device"; id: number };

/** One piece of an answer. */
export interface Delta {
  content?: string;
  reasoning_content?: string;
  tool_call?: ToolCall;
  logprobs?: TokenLogprob[];
}

export interface ChatResult {
  finish_reason: FinishReason;
  usage: Usage;
}

/** What the results of requests are. */
export interface Results {
  load: ModelInfo;
  chat: ChatResult;
  generate: { ids: number[] };
  tokenize: number[];
  stats: EngineStats;
  tune: { adapter: string; /** of all models that were measured */ shapes: Record<string, unknown> };
  cancel: null;
  close: null;
  lose_device: null;
}

export type Reply =
  | { kind: "progress"; id: number; progress: LoadProgress }
  | { kind: "delta"; id: number; delta: Delta }
  | { kind: "result"; id: number; result: Results[keyof Results] }
  | { kind: "error"; id: number; code: ErrorCode; message: string }
  | { kind: "device_lost"; id: 0; info: DeviceLostInfo };
