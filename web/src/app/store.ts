// The page's state: conversations, which one is open, settings, notices. Components read the signals; everything that
// changes them is a function here or in model.ts and chat.ts.

import { computed, signal } from "@preact/signals";
import * as db from "./db";
import { defaultSettings, newId, type Conversation, type Message, type Settings } from "./types";

export const conversations = signal<Conversation[]>([]); // the newest first
export const currentId = signal("");
export const settings = signal<Settings>(defaultSettings);
export const sidebarOpen = signal(false); // at phone width
export const dialog = signal<"" | "settings" | "model">("");

export const current = computed(() => conversations.value.find((c) => c.id === currentId.value));

// notice is one short message at the bottom of the page, with at most one action.
export interface Notice {
  text: string;
  action?: { label: string; run: () => void };
}
export const notice = signal<Notice | null>(null);
let noticeTimer: ReturnType<typeof setTimeout> | undefined;

export function notify(text: string, action?: Notice["action"]): void {
  notice.value = action ? { text, action } : { text };
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.value = null), action ? 10_000 : 5_000);
}

// announcement is read aloud by screen readers and not shown.
export const announcement = signal("");

// Other tabs of this page hear of saved conversations.
const tabs = new BroadcastChannel("qwen-wgpu-conversations");
tabs.onmessage = () => void reload();

async function reload(): Promise<void> {
  setConversations(await db.loadConversations());
}

function setConversations(list: Conversation[]): void {
  conversations.value = list.sort((a, b) => b.updated - a.updated);
}

export async function start(): Promise<void> {
  try {
    const saved = await db.loadSettings();
    if (saved) settings.value = { ...defaultSettings, ...saved };
    await reload();
  } catch (err) {
    notify(`Saved conversations could not be read: ${String(err)}`);
  }
  currentId.value = conversations.value[0]?.id ?? "";
}

// persist reports a failure once it happens: a full disk must not lose words silently.
async function persist(write: Promise<void>): Promise<void> {
  try {
    await write;
    tabs.postMessage("changed");
  } catch (err) {
    notify(`This could not be saved: ${err instanceof Error ? err.message : String(err)}`);
  }
}

export function changeSettings(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change };
  void db.putSettings(settings.value).catch((err: unknown) => notify(`The settings could not be saved: ${String(err)}`));
}

export function newConversation(): Conversation {
  const now = Date.now();
  const c: Conversation = { id: newId(), title: "", system: settings.value.system, messages: [], created: now, updated: now };
  return c;
}

// save puts a conversation into the list and the database.
export function save(c: Conversation): void {
  setConversations([c, ...conversations.value.filter((o) => o.id !== c.id)]);
  void persist(db.putConversations([c]));
}

// change saves a conversation with some of its fields replaced. Fields that are not messages leave its place in the list.
export function change(id: string, fields: Partial<Conversation>): void {
  const c = conversations.value.find((o) => o.id === id);
  if (c) save({ ...c, ...fields, updated: fields.messages ? Date.now() : c.updated });
}

export function remove(id: string): void {
  const c = conversations.value.find((o) => o.id === id);
  if (!c) return;
  const wasCurrent = currentId.value === id;
  setConversations(conversations.value.filter((o) => o.id !== id));
  if (wasCurrent) currentId.value = "";
  void persist(db.deleteConversation(id));
  notify(`Deleted “${titleOf(c)}”.`, {
    label: "Undo",
    run: () => {
      save(c);
      if (wasCurrent) currentId.value = id;
    },
  });
}

export function addAll(list: Conversation[]): void {
  const ids = new Set(list.map((c) => c.id));
  setConversations([...list, ...conversations.value.filter((c) => !ids.has(c.id))]);
  void persist(db.putConversations(list));
}

export function open(id: string): void {
  currentId.value = id;
  sidebarOpen.value = false;
}

export function titleOf(c: Conversation): string {
  if (c.title) return c.title;
  const words = c.messages.find((m: Message) => m.role === "user")?.content.replace(/\s+/g, " ").trim() ?? "";
  return words.length > 60 ? words.slice(0, 57).trimEnd() + "…" : words || "New conversation";
}
