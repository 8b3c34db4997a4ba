// A turn of the conversation: what is asked of the engine, the answer while it comes, and what is kept of it.

import { signal } from "@preact/signals";
import type { ChatChunk, ChatMessage, ChatRequest, ChatStream, Tool, ToolCall } from "../engine/index";
import { explain, failure } from "./errors";
import { currentEngine, fail, info } from "./model";
import { announcement, change, conversations, current, currentId, newConversation, save, settings } from "./store";
import { newId, type Conversation, type Message } from "./types";

// live is the answer that is being written, in the conversation with that id.
export const live = signal<{ conversation: string; message: Message } | null>(null);

let stream: ChatStream | null = null;
let stopped = false;
let thoughtSince = 0; // when the reasoning of the answer in progress began

// send adds what the user wrote, to a new conversation if none is open, and answers it.
export async function send(text: string): Promise<void> {
  let c = current.value;
  if (!c) {
    c = newConversation();
    currentId.value = c.id;
  }
  const message: Message = { id: newId(), role: "user", content: text, at: Date.now() };
  await answer(withMessages(c, [...c.messages, message]));
}

// edit replaces a message of the user and what came after it.
export async function edit(id: string, text: string): Promise<void> {
  const c = current.value;
  const at = c?.messages.findIndex((m) => m.id === id) ?? -1;
  if (!c || at < 0) return;
  const message: Message = { id: newId(), role: "user", content: text, at: Date.now() };
  await answer(withMessages(c, [...c.messages.slice(0, at), message]));
}

// regenerate answers anew at an assistant's message; what came after it goes.
export async function regenerate(id: string, overflow?: "drop-oldest"): Promise<void> {
  const c = current.value;
  const at = c?.messages.findIndex((m) => m.id === id) ?? -1;
  if (!c || at < 0) return;
  await answer(withMessages(c, c.messages.slice(0, at)), overflow);
}

// answerTools sends the results of a message's tool calls, in their order.
export async function answerTools(calls: ToolCall[], results: string[]): Promise<void> {
  const c = current.value;
  if (!c) return;
  const messages = calls.map((call, i): Message => {
    return { id: newId(), role: "tool", content: results[i] ?? "", toolCallId: call.id, at: Date.now() };
  });
  await answer(withMessages(c, [...c.messages, ...messages]));
}

export function stop(): void {
  stopped = true;
  stream?.cancel();
}

function withMessages(c: Conversation, messages: Message[]): Conversation {
  return { ...c, messages, updated: Date.now() };
}

// parseTools reads the settings' tools. It throws an Error that says what is wrong.
export function parseTools(text: string): Tool[] {
  if (!text.trim()) return [];
  const tools: unknown = JSON.parse(text);
  if (!Array.isArray(tools)) throw new Error("the tools must be a JSON list: [ … ]");
  for (const [i, t] of tools.entries()) {
    if (t?.type !== "function" || typeof t.function?.name !== "string") {
      throw new Error(`tool ${i + 1} must look like {"type": "function", "function": {"name": …}}`);
    }
  }
  return tools as Tool[];
}

function request(c: Conversation, overflow?: "drop-oldest"): ChatRequest & { stream: true } {
  const messages: ChatMessage[] = [];
  if (c.system.trim()) messages.push({ role: "system", content: c.system });
  for (const m of c.messages) {
    if (m.role === "assistant" && !m.content && !m.reasoning && !m.toolCalls) continue; // failed before its first word
    const out: ChatMessage = { role: m.role, content: m.content };
    if (m.reasoning) out.reasoning_content = m.reasoning;
    if (m.toolCalls) out.tool_calls = m.toolCalls;
    if (m.toolCallId) out.tool_call_id = m.toolCallId;
    messages.push(out);
  }
  const s = settings.value;
  const tools = parseTools(s.tools);
  return {
    ...s.sampling,
    messages,
    stream: true,
    overflow: overflow ?? s.overflow,
    ...(tools.length ? { tools } : {}),
    ...(info.value?.thinking ? { enable_thinking: s.thinking } : {}),
  };
}

const savePeriod = 1000; // ms between saves of an answer in progress

// answer streams one answer at the end of c.
async function answer(c: Conversation, overflow?: "drop-oldest"): Promise<void> {
  const engine = currentEngine();
  if (!engine || live.value) return;
  save(c);
  const message: Message = { id: newId(), role: "assistant", content: "", model: engine.info.name, at: Date.now() };
  live.value = { conversation: c.id, message };
  stopped = false;
  announcement.value = "Answering.";

  // The chunks of a frame are shown together, and an unfinished answer survives the tab.
  let frame = 0;
  let saved = performance.now();
  const show = (): void => {
    frame = 0;
    live.value = { conversation: c.id, message: { ...message } };
    if (performance.now() - saved > savePeriod) {
      saved = performance.now();
      commit(c.id, { ...message });
    }
  };
  try {
    stream = await engine.chat.completions.create(request(c, overflow));
    if (stopped) stream.cancel();
    for await (const chunk of stream) {
      take(message, chunk);
      // A hidden tab has no frames, and nobody to show them to.
      if (!frame) frame = document.hidden ? window.setTimeout(show, 250) : requestAnimationFrame(show);
    }
    message.finish ??= stopped ? "cancelled" : "stop";
  } catch (err) {
    const f = failure(err);
    if (f.code === "cancelled") {
      message.finish = "cancelled";
    } else {
      message.finish = "error";
      message.error = f;
      // The engine does not survive these. "busy" is another tab's: model.ts heard of it.
      if (f.code === "device_lost" || f.code === "internal") await fail(f);
    }
  } finally {
    cancelAnimationFrame(frame);
    clearTimeout(frame);
    stream = null;
    commit(c.id, message);
    live.value = null;
    announcement.value = message.error
      ? explain(message.error).title
      : `${message.finish === "cancelled" ? "Stopped." : "Answer:"} ${message.content.slice(0, 1000)}`;
  }
}

// take adds a chunk to the answer.
function take(m: Message, chunk: ChatChunk): void {
  if (chunk.usage) m.usage = chunk.usage;
  const choice = chunk.choices[0];
  if (!choice) return;
  const { delta } = choice;
  if (delta.reasoning_content) {
    if (!m.reasoning) thoughtSince = performance.now();
    m.reasoning = (m.reasoning ?? "") + delta.reasoning_content;
  }
  if (delta.content) m.content += delta.content;
  if (m.reasoning && m.reasoningSeconds === undefined && (delta.content || delta.tool_calls)) {
    m.reasoningSeconds = (performance.now() - thoughtSince) / 1000;
  }
  for (const { index: _, ...call } of delta.tool_calls ?? []) m.toolCalls = [...(m.toolCalls ?? []), call];
  if (choice.finish_reason) m.finish = choice.finish_reason;
}

// commit puts the answer into its conversation, if that is still there.
function commit(id: string, message: Message): void {
  const c = conversations.value.find((o) => o.id === id);
  if (c) change(id, { messages: [...c.messages.filter((m) => m.id !== message.id), message] });
}
