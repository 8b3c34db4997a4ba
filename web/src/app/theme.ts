// Dark and light: follows the system until the user chooses. In localStorage, which is there before the first paint.

import { computed, effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const key = "qwen-wgpu-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function saved(): Theme {
  try {
    const t = localStorage.getItem(key);
    return t === "light" || t === "dark" ? t : "system";
  } catch {
    return "system"; // storage is refused
  }
}

export const theme = signal<Theme>(saved());
const systemDark = signal(dark.matches);
dark.addEventListener("change", () => (systemDark.value = dark.matches));

export const isDark = computed(() => theme.value === "dark" || (theme.value === "system" && systemDark.value));

effect(() => {
  document.documentElement.dataset.theme = isDark.value ? "dark" : "light";
});

export function setTheme(t: Theme): void {
  theme.value = t;
  try {
    localStorage.setItem(key, t);
  } catch {
    // storage is refused: the choice lasts as long as the page
  }
}
