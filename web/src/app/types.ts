// What the page keeps: conversations and settings, as they lie in IndexedDB and in exported files.

import type { ErrorCode, ToolCall, Usage } from "../engine/index";

export interface Message {
  id: string;
  role: "user" | "assistant" | "tool";
  content: string;
  reasoning?: string;
  reasoningSeconds?: number;
  toolCalls?: ToolCall[];
  toolCallId?: string; // role "tool": the call that this answers
  finish?: "stop" | "length" | "tool_calls" | "cancelled" | "error"; // absent: the tab closed in mid-answer
  error?: Failure;
  usage?: Usage;
  model?: string;
  at: number; // milliseconds since 1970
}

export interface Conversation {
  id: string;
  title: string; // empty: the first words of the first message
  system: string;
  messages: Message[];
  created: number;
  updated: number;
}

// Failure is an error as it is shown and stored.
export interface Failure {
  code: ErrorCode;
  message: string;
}

// Sampling: what the user set; an absent value is the model's own default.
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repetition_penalty?: number;
  seed?: number;
  max_tokens?: number;
  stop?: string[];
}

export interface Settings {
  sampling: Sampling;
  system: string; // of new conversations
  thinking: boolean;
  overflow: "error" | "drop-oldest";
  tools: string; // a JSON array of OpenAI tool definitions, or empty
  contextTokens?: number;
  kv: "f16" | "f32";
  cache: boolean;
  model: ModelChoice;
  recent: string[]; // model addresses, the newest first
}

export type ModelChoice =
  | { kind: "tiny" }
  | { kind: "url"; url: string }
  | { kind: "folder"; handle: FileSystemDirectoryHandle };

export const defaultSettings: Settings = {
  sampling: {},
  system: "",
  thinking: true,
  overflow: "error",
  tools: "",
  kv: "f16",
  cache: true,
  model: { kind: "tiny" },
  recent: [],
};

// newId works without crypto.randomUUID, which insecure pages lack.
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}
