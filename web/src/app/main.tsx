// The page's entry: state from IndexedDB, the model, the service worker, keys that work everywhere.

import { render } from "preact";
import { live, stop } from "./chat";
import { App } from "./components/App";
import { startNew } from "./components/Sidebar";
import * as model from "./model";
import { dialog, sidebarOpen, start } from "./store";
import "./styles.css";

declare const DEV: boolean;

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): unknown;
}

// Under the page's policy no text becomes the address of a script, except of this origin: the workers'.
const trusted = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
trusted?.createPolicy("default", {
  createScriptURL(url) {
    if (new URL(url, document.baseURI).origin !== location.origin) throw new TypeError(`a script of another origin: ${url}`);
    return url;
  },
});

document.addEventListener("keydown", (e) => {
  if (e.defaultPrevented || e.isComposing) return;
  if (e.key === "Escape" && !dialog.value) {
    if (sidebarOpen.value) sidebarOpen.value = false;
    else if (live.value) stop();
  } else if (e.key.toLowerCase() === "o" && e.shiftKey && (e.ctrlKey || e.metaKey)) {
    e.preventDefault();
    dialog.value = "";
    startNew();
  }
});

async function main(): Promise<void> {
  await start();
  const root = document.getElementById("app");
  if (root) render(<App />, root);
  // The service worker waits until the model is there, so as not to compete for the network.
  await model.start();
  if ("serviceWorker" in navigator) {
    await navigator.serviceWorker.register("sw.js").catch((err: unknown) => console.warn("no service worker:", err));
  }
}

if (DEV) new EventSource("dev/reload").addEventListener("reload", () => location.reload());

void main();
