// The engine's WebAssembly program under Node with Dawn, spoken to by the same messages as in the browser
// (web/src/engine/protocol.ts), with a packed model directory of this machine.
import { readFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import * as path from "node:path";
import { install } from "../../engine/gpu/browser/glue.js";
import { openDawn } from "./dawn.mjs";
import { loadGo } from "./go.mjs";

/** ModelFiles (web/src/engine/worker/files.ts) over a directory. */
class LocalFiles {
  #dir;
  #open = new Map();
  #scratch = new Uint8Array(0);

  constructor(dir) {
    this.#dir = dir;
  }

  async readFile(name) {
    try {
      return new Uint8Array(await readFile(path.join(this.#dir, name)));
    } catch (e) {
      if (e.code === "ENOENT") throw Object.assign(new Error(`${name} is not in ${this.#dir}`), { code: "not_found" });
      throw e;
    }
  }

  async start() {}

  async read(name, offset, length) {
    let file = this.#open.get(name);
    if (!file) this.#open.set(name, (file = await open(path.join(this.#dir, name))));
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(length);
    const { bytesRead } = await file.read(this.#scratch, 0, length, offset);
    return this.#scratch.subarray(0, bytesRead);
  }

  idle() {
    for (const file of this.#open.values()) void file.close();
    this.#open.clear();
  }
}

/** An error of the engine, with its code. */
export class EngineError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Starts the program with a model directory, or without one for a random model. request() sends a message and gives its
 * result; load comes first. without names WebGPU features not to use, dawn toggles to set.
 * @param {{ wasm: string, model?: string, device: "gpu" | "swiftshader" | "null", without?: string[], dawn?: string[], onProgress?: (phase: string, loaded: number, total: number) => void, onMessage?: (reply: any) => void }} options
 */
export async function startEngine({ wasm, model, device, without = [], dawn = [], onProgress = () => {}, onMessage = () => {} }) {
  const go = loadGo(wasm);
  install(go, { ...(await openDawn(device, dawn)), without });
  const pending = new Map();
  let lastID = 0;
  const host = {
    files: model === undefined ? undefined : new LocalFiles(model),
    progress: onProgress,
    processMilliseconds: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    },
    wasmBytes: () => go._inst.exports.mem.buffer.byteLength,
    post(json) {
      const reply = JSON.parse(json);
      const p = pending.get(reply.id);
      if (reply.kind === "delta") p?.onDelta(reply.delta);
      else if (reply.kind === "result") p?.resolve(reply.result);
      else if (reply.kind === "error") p?.reject(new EngineError(reply.code, reply.message));
      else onMessage(reply);
    },
  };
  globalThis.qwen = host;
  go.exit = (code) => {
    console.error(`the engine ended with code ${code}`);
    process.exit(1);
  };
  const { instance } = await WebAssembly.instantiate(readFileSync(wasm), go.importObject);
  void go.run(instance);
  return {
    host,
    request(kind, fields = {}, onDelta = () => {}) {
      const id = ++lastID;
      return new Promise((resolve, reject) => {
        pending.set(id, { resolve, reject, onDelta });
        host.handle(JSON.stringify({ kind, id, ...fields }));
      });
    },
  };
}
