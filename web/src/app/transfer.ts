// Export and import of conversations as JSON. An imported file is checked field by field: it may come from anywhere.

import { newId, type Conversation, type Message } from "./types";

const format = "qwen-wgpu conversations";
const version = 1;

export function exportText(conversations: Conversation[]): string {
  return JSON.stringify({ format, version, exported: new Date().toISOString(), conversations }, null, 1) + "\n";
}

// download hands a text to the browser as a file.
export function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// fileName: a title as a file's name.
export function fileName(title: string): string {
  const words = title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${words.slice(0, 48) || "conversation"}.json`;
}

// parseImport gives the conversations of an exported file, under new ids where taken has them already. It throws an Error
// that says what is wrong and where.
export function parseImport(text: string, taken: Set<string>): Conversation[] {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch (err) {
    throw new Error(`This is not a JSON file: ${err instanceof Error ? err.message : String(err)}`);
  }
  const top = object(file, "the file");
  if (top.format !== format) throw new Error(`This file was not exported from here: its "format" is not "${format}".`);
  if (top.version !== version) throw new Error(`This file has version ${String(top.version)}; this page reads version ${version}.`);
  const used = new Set(taken);
  return array(top.conversations, "conversations").map((value, i) => {
    const c = conversation(value, `conversation ${i + 1}`);
    if (used.has(c.id)) c.id = newId();
    used.add(c.id);
    return c;
  });
}

function conversation(value: unknown, where: string): Conversation {
  const c = object(value, where);
  const now = Date.now();
  return {
    id: text(c.id, `${where}: id`),
    title: text(c.title ?? "", `${where}: title`),
    system: text(c.system ?? "", `${where}: system`),
    messages: array(c.messages, `${where}: messages`).map((m, i) => message(m, `${where}, message ${i + 1}`)),
    created: number(c.created ?? now, `${where}: created`),
    updated: number(c.updated ?? now, `${where}: updated`),
  };
}

const finishes = ["stop", "length", "tool_calls", "cancelled", "error"] as const;
const usageFields = ["prompt_tokens", "completion_tokens", "total_tokens", "reused_tokens", "prefill_seconds", "decode_seconds", "context_tokens"] as const;

function message(value: unknown, where: string): Message {
  const m = object(value, where);
  if (m.role !== "user" && m.role !== "assistant" && m.role !== "tool") {
    throw new Error(`${where}: the role is ${JSON.stringify(m.role)}; it must be user, assistant or tool.`);
  }
  const out: Message = {
    id: newId(),
    role: m.role,
    content: text(m.content, `${where}: content`),
    at: number(m.at ?? Date.now(), `${where}: at`),
  };
  if (m.reasoning !== undefined) out.reasoning = text(m.reasoning, `${where}: reasoning`);
  if (m.reasoningSeconds !== undefined) out.reasoningSeconds = number(m.reasoningSeconds, `${where}: reasoningSeconds`);
  if (m.toolCallId !== undefined) out.toolCallId = text(m.toolCallId, `${where}: toolCallId`);
  if (m.model !== undefined) out.model = text(m.model, `${where}: model`);
  if (m.toolCalls !== undefined) {
    out.toolCalls = array(m.toolCalls, `${where}: toolCalls`).map((value, i) => {
      const call = object(value, `${where}, tool call ${i + 1}`);
      const fn = object(call.function, `${where}, tool call ${i + 1}: function`);
      return {
        id: text(call.id, `${where}, tool call ${i + 1}: id`),
        type: "function",
        function: {
          name: text(fn.name, `${where}, tool call ${i + 1}: name`),
          arguments: text(fn.arguments, `${where}, tool call ${i + 1}: arguments`),
        },
      };
    });
  }
  const finish = finishes.find((f) => f === m.finish);
  if (finish && finish !== "error") out.finish = finish;
  if (m.usage !== undefined) {
    const u = object(m.usage, `${where}: usage`);
    const usage = {} as NonNullable<Message["usage"]>;
    for (const f of usageFields) usage[f] = number(u[f] ?? 0, `${where}: usage.${f}`);
    out.usage = usage;
  }
  return out;
}

function object(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${where} is not an object.`);
  return value as Record<string, unknown>;
}

function array(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${where} is not a list.`);
  return value;
}

function text(value: unknown, where: string): string {
  if (typeof value !== "string") throw new Error(`${where} is not a text.`);
  return value;
}

function number(value: unknown, where: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new Error(`${where} is not a number.`);
  return value;
}
