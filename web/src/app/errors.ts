// Errors as a person reads them: what happened, the engine's own words with the numbers, and what to do.

import { QwenError } from "../engine/index";
import type { Failure } from "./types";

export function failure(err: unknown): Failure {
  if (err instanceof QwenError) return { code: err.code, message: err.message };
  return { code: "internal", message: err instanceof Error ? err.message : String(err) };
}

interface Explanation {
  title: string;
  advice: string;
}

const explanations: Record<Failure["code"], Explanation> = {
  unsupported: {
    title: "This browser cannot run the model",
    advice: "Use a browser with WebGPU, up to date, and check that graphics acceleration is on in its settings.",
  },
  limits: {
    title: "The GPU is too small for this model",
    advice: "Nothing was downloaded. Choose a smaller model, a smaller number format (q4) or fewer tokens of context.",
  },
  network: {
    title: "The download was interrupted",
    advice: "Check the connection and try again: what has arrived is kept, and only the rest is downloaded.",
  },
  http: {
    title: "The server has no such model",
    advice: "Check the address: it must be a directory written by the converter, with a manifest.json. The server must allow this page to read it (CORS).",
  },
  hash: {
    title: "A downloaded file is damaged",
    advice: "Try again: only the damaged file is downloaded anew. If it stays, the copy on the server is broken.",
  },
  truncated: {
    title: "A file ended too early",
    advice: "Try again: only what is missing is downloaded. If it stays, the copy on the server is incomplete.",
  },
  quota: {
    title: "No room to keep the model",
    advice: "Free space on this device, or turn off “Keep a copy on this device” to run without one.",
  },
  busy: {
    title: "The model runs in another tab",
    advice: "One tab at a time holds the model, so that the GPU holds one copy.",
  },
  context_full: {
    title: "The conversation no longer fits the context",
    advice: "Forget the oldest messages and go on, or start a new conversation.",
  },
  cancelled: { title: "Stopped", advice: "" },
  device_lost: {
    title: "The GPU was lost",
    advice: "Another program or the driver reset it. Load the model again; the conversation is kept.",
  },
  invalid: { title: "That does not work", advice: "Check the settings or the model’s files." },
  internal: {
    title: "Something went wrong inside",
    advice: "This is a bug. Load the model again; if it stays, please report it with the text above.",
  },
};

export function explain(f: Failure): Explanation {
  return explanations[f.code] ?? explanations.internal;
}
