// IndexedDB: conversations and settings. A browser that refuses storage (private windows) leaves the page working, for as
// long as it is open.

import { openDB, type DBSchema, type IDBPDatabase, type IDBPObjectStore } from "idb";
import type { Conversation, Settings } from "./types";

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  settings: { key: string; value: Settings };
}

let database: Promise<IDBPDatabase<Schema> | null> | undefined;

// open gives null where the browser has no storage for this page.
function open(): Promise<IDBPDatabase<Schema> | null> {
  database ??= openDB<Schema>("qwen-wgpu", 1, {
    upgrade(db) {
      db.createObjectStore("conversations", { keyPath: "id" });
      db.createObjectStore("settings");
    },
    terminated() {
      database = undefined;
    },
  }).catch((err: unknown) => {
    console.warn("conversations are not kept:", err);
    return null;
  });
  return database;
}

export async function isPersistent(): Promise<boolean> {
  return (await open()) !== null;
}

export async function loadConversations(): Promise<Conversation[]> {
  return (await (await open())?.getAll("conversations")) ?? [];
}

export async function putConversations(conversations: Conversation[]): Promise<void> {
  await write("conversations", (store) => conversations.map((c) => store.put(c)));
}

export async function deleteConversation(id: string): Promise<void> {
  await write("conversations", (store) => [store.delete(id)]);
}

// write commits what it asks for at once: left to commit by itself, which waits for answers, it would be undone by leaving the page meanwhile.
async function write<Name extends "conversations" | "settings">(
  name: Name,
  requests: (store: IDBPObjectStore<Schema, [Name], Name, "readwrite">) => Promise<unknown>[],
): Promise<void> {
  const tx = (await open())?.transaction(name, "readwrite");
  if (!tx) return;
  const asked = requests(tx.store);
  tx.commit();
  await Promise.all([...asked, tx.done]);
}

export async function loadSettings(): Promise<Settings | undefined> {
  return (await open())?.get("settings", "settings");
}

export async function putSettings(settings: Settings): Promise<void> {
  await write("settings", (store) => [store.put(settings, "settings")]);
}
