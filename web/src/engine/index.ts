// The engine's client as an ES module: `import { QwenEngine } from "./engine.js"`.

export { QwenEngine } from "./client";
export { QwenError } from "./types";
export type {
  ChatChunk, ChatCompletion, ChatDelta, ChatMessage, ChatRequest, ChatStream, DeviceLostInfo, EngineStats, ErrorCode, FinishReason,
  LoadOptions, LoadProgress, ModelInfo, SamplingParams, TokenLogprob, Tool, ToolCall, Usage,
} from "./types";
