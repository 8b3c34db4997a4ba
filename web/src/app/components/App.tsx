// The page's frame: list, header, conversation, composer, dialogs, notices.

import { live } from "../chat";
import { info, model, modelName } from "../model";
import { announcement, current, dialog, notice, settings, sidebarOpen, titleOf } from "../store";
import { isDark, setTheme } from "../theme";
import { IconButton } from "./Button";
import { Chat } from "./Chat";
import { Composer } from "./Composer";
import { ModelDialog } from "./ModelDialog";
import { ModelStatus } from "./ModelStatus";
import { SettingsDialog } from "./SettingsDialog";
import { Sidebar, startNew } from "./Sidebar";

export function App() {
  return (
    <>
      <a class="skip" href="#prompt">
        Skip to the message box
      </a>
      <Sidebar />
      <main class="main" inert={sidebarOpen.value}>
        <Header />
        <Chat />
        {(current.value?.messages.length ?? 0) > 0 && model.value.kind !== "ready" && (
          <div class="status">
            <ModelStatus />
          </div>
        )}
        {model.value.kind !== "unsupported" && <Composer />}
      </main>
      {dialog.value === "settings" && <SettingsDialog />}
      {dialog.value === "model" && <ModelDialog />}
      <div class="notices" role="status">
        {notice.value && (
          <div class="notice">
            <span>{notice.value.text}</span>
            {notice.value.action && (
              <button
                type="button"
                class="button quiet"
                onClick={() => {
                  notice.value?.action?.run();
                  notice.value = null;
                }}
              >
                {notice.value.action.label}
              </button>
            )}
            <IconButton icon="close" label="Dismiss" onClick={() => (notice.value = null)} />
          </div>
        )}
      </div>
      <div class="hidden" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </>
  );
}

const stateLabels: Record<typeof model.value.kind, string> = {
  none: "not loaded",
  unsupported: "cannot run here",
  "ask-folder": "waiting for you",
  loading: "loading",
  ready: "ready",
  failed: "failed",
  elsewhere: "in another tab",
};

// detail stands behind the model's name: what it is doing, or its number format where the name does not have it.
function detail(state: keyof typeof stateLabels): string {
  if (!info.value) return stateLabels[state];
  return info.value.name.endsWith(info.value.dtype) ? "" : info.value.dtype;
}

function Header() {
  const state = model.value.kind;
  return (
    <header class="header">
      <IconButton
        icon="menu"
        label="Conversations"
        class="phone-only"
        expanded={sidebarOpen.value}
        onClick={() => (sidebarOpen.value = true)}
      />
      <button type="button" class="model-button" onClick={() => (dialog.value = "model")} aria-haspopup="dialog">
        <span class={`dot ${live.value ? "busy" : state}`} />
        <span class="model-name">{info.value?.name ?? modelName(settings.value.model)}</span>
        <span class={info.value ? "muted model-detail" : "muted model-detail wide-only"}>{detail(state)}</span>
      </button>
      <div class="title wide-only">{current.value ? titleOf(current.value) : ""}</div>
      <IconButton
        icon={isDark.value ? "sun" : "moon"}
        label={isDark.value ? "Light" : "Dark"}
        class="wide-only"
        onClick={() => setTheme(isDark.value ? "light" : "dark")}
      />
      <IconButton icon="settings" label="Settings" onClick={() => (dialog.value = "settings")} />
      <IconButton icon="plus" label="New conversation" class="phone-only" onClick={startNew} />
    </header>
  );
}
