// The list of conversations: open, rename, export, delete; import and export of all.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { live } from "../chat";
import { addAll, change, conversations, currentId, dialog, notify, open, remove, sidebarOpen, titleOf } from "../store";
import { download, exportText, fileName, parseImport } from "../transfer";
import type { Conversation } from "../types";
import { IconButton } from "./Button";
import { Icon } from "./icons";

export function startNew(): void {
  currentId.value = "";
  sidebarOpen.value = false;
  setTimeout(() => document.getElementById("prompt")?.focus()); // once a dialog or the list is closed
}

export function Sidebar() {
  const list = conversations.value;
  const drawer = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    // At phone width the list lies over the page and takes the focus with it.
    if (!sidebarOpen.value) return;
    const opener = document.activeElement;
    drawer.current?.querySelector("button")?.focus();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, [sidebarOpen.value]);
  return (
    <>
      <div ref={drawer} class={sidebarOpen.value ? "sidebar open" : "sidebar"}>
        <div class="sidebar-top">
          <button type="button" class="button wide" onClick={startNew}>
            <Icon name="plus" /> New conversation
          </button>
          <IconButton icon="close" label="Close the list" class="phone-only" onClick={() => (sidebarOpen.value = false)} />
        </div>
        <nav aria-label="Conversations">
          {list.length === 0 && <p class="muted small">Conversations are kept in this browser and nowhere else.</p>}
          <ul>
            {list.map((c) => (
              <Item key={c.id} conversation={c} />
            ))}
          </ul>
        </nav>
        <div class="sidebar-bottom">
          <ImportButton />
          <button
            type="button"
            class="button quiet"
            disabled={list.length === 0}
            onClick={() => download("conversations.json", exportText(list))}
          >
            <Icon name="download" /> Export all
          </button>
          <button type="button" class="button quiet" onClick={() => (dialog.value = "settings")}>
            <Icon name="settings" /> Settings
          </button>
        </div>
      </div>
      {sidebarOpen.value && <div class="scrim" onClick={() => (sidebarOpen.value = false)} />}
    </>
  );
}

function Item({ conversation: c }: { conversation: Conversation }) {
  const editing = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  const title = titleOf(c);
  useLayoutEffect(() => {
    if (!editing.value) return;
    input.current?.focus();
    input.current?.select();
  }, [editing.value]);

  if (editing.value) {
    const done = (): void => {
      if (!editing.value) return;
      editing.value = false;
      change(c.id, { title: input.current?.value.trim() ?? "" });
    };
    return (
      <li class="conversation current">
        <input
          ref={input}
          aria-label="Title of the conversation"
          defaultValue={title}
          maxLength={120}
          onBlur={done}
          onKeyDown={(e) => {
            if (e.key === "Enter") done();
            if (e.key === "Escape") {
              e.stopPropagation();
              editing.value = false;
            }
          }}
        />
      </li>
    );
  }
  const isCurrent = currentId.value === c.id;
  return (
    <li class={isCurrent ? "conversation current" : "conversation"}>
      <button
        type="button"
        class="conversation-title"
        aria-current={isCurrent ? "true" : undefined}
        onClick={() => open(c.id)}
        onDblClick={() => (editing.value = true)}
      >
        {live.value?.conversation === c.id && <span class="dot busy" role="img" aria-label="answering" />}
        <span>{title}</span>
      </button>
      <span class="conversation-actions">
        <IconButton icon="edit" label={`Rename “${title}”`} onClick={() => (editing.value = true)} />
        <IconButton icon="download" label={`Export “${title}”`} onClick={() => download(fileName(title), exportText([c]))} />
        <IconButton icon="trash" label={`Delete “${title}”`} disabled={live.value?.conversation === c.id} onClick={() => remove(c.id)} />
      </span>
    </li>
  );
}

function ImportButton() {
  const input = useRef<HTMLInputElement>(null);
  const read = async (file: File | undefined): Promise<void> => {
    if (!file) return;
    try {
      const list = parseImport(await file.text(), new Set(conversations.value.map((c) => c.id)));
      addAll(list);
      if (list[0]) open(list[0].id);
      notify(list.length === 1 ? "Imported one conversation." : `Imported ${list.length} conversations.`);
    } catch (err) {
      notify(`${file.name} was not imported. ${err instanceof Error ? err.message : String(err)}`);
    }
  };
  return (
    <>
      <input
        ref={input}
        type="file"
        accept=".json,application/json"
        hidden
        aria-label="File to import"
        onChange={(e) => {
          void read(e.currentTarget.files?.[0]);
          e.currentTarget.value = "";
        }}
      />
      <button type="button" class="button quiet" onClick={() => input.current?.click()}>
        <Icon name="upload" /> Import
      </button>
    </>
  );
}
