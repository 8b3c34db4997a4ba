// A server of one packed model on an origin of its own, that misbehaves as a test asks and remembers what was requested;
// and random models to serve, made by the converter.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./page-harness.mjs";

const work = mkdtempSync(join(tmpdir(), "qwen-wgpu-faults-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

/** Packs a random model of some shape, with the tiny model's tokenizer, into shards of at most 1 MiB. Returns its path. */
export function randomModel(name, shape) {
  const convert = join(work, "convert");
  execFileSync("go", ["build", "-o", convert, "./tools/convert"], { cwd: root });
  const hf = join(work, `${name}-hf`);
  const tokenizer = join(root, "models/tiny/q8");
  const config = {
    architectures: ["Qwen3ForCausalLM"], model_type: "qwen3", hidden_act: "silu", attention_bias: false, tie_word_embeddings: true,
    rms_norm_eps: 1e-6, rope_theta: 1e6, vocab_size: 2560, max_position_embeddings: 4096, eos_token_id: 1, torch_dtype: "bfloat16", ...shape,
  };
  mkdirSync(hf, { recursive: true });
  writeFileSync(join(work, `${name}.json`), JSON.stringify(config));
  execFileSync(convert, ["synth", "--config", join(work, `${name}.json`), "--out", hf, "--force", "--quiet"]);
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) cpSync(join(tokenizer, file), join(hf, file));
  const out = join(work, name);
  execFileSync(convert, ["--in", hf, "--out", out, "--dtype", "q8", "--shard-mib", "1"]);
  return out;
}

/** The nth shard's file name, from 1. */
export function shard(dir, n) {
  return JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8")).shards[n - 1].name;
}

export class ModelServer {
  /** What was asked for: {name, from} with from the first byte of a Range request, or 0. */
  requests = [];
  /** Names of the files that went out to their last byte. */
  sent = new Set();
  /** By file name: (response, body, from) => true when it has answered. */
  faults = new Map();
  #server;
  #port = 0;
  #held = [];

  constructor(dir) {
    this.dir = dir;
  }

  get url() {
    return `http://localhost:${this.#port}/model/`;
  }

  /** Starts, or starts again on the same port. */
  async start() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = this.#server.address().port;
    return this;
  }

  /** Stops as a machine that lost its power does. */
  async stop() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  shards() {
    return this.requests.filter((r) => r.name.endsWith(".safetensors"));
  }

  /** Sends the first part of a file and nothing more until release(). */
  holdAfter(name, bytes) {
    this.faults.set(name, (response, body, from) => {
      if (from >= bytes) return false;
      response.write(body.subarray(0, bytes - from));
      this.#held.push({ response, rest: body.subarray(bytes - from) });
      return true;
    });
  }

  release() {
    this.faults.clear();
    for (const { response, rest } of this.#held.splice(0)) response.end(rest);
  }

  /** Breaks off what is held, and answers as it should from then on. */
  drop() {
    this.faults.clear();
    for (const { response } of this.#held.splice(0)) response.destroy();
  }

  #answer(request, response) {
    const name = decodeURIComponent(new URL(request.url, "http://x/").pathname).replace(/^\/model\//, "");
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    this.requests.push({ name, from });
    response.setHeader("Access-Control-Allow-Origin", "*");
    response.setHeader("Access-Control-Expose-Headers", "Content-Range");
    let file;
    try {
      file = readFileSync(join(this.dir, name));
    } catch {
      response.writeHead(404).end();
      return;
    }
    const fault = this.faults.get(name);
    if (fault?.replace) file = fault.replace(file);
    if (from >= file.length) {
      response.writeHead(416, { "Content-Range": `bytes */${file.length}` }).end();
      return;
    }
    const body = file.subarray(from);
    const headers = { "Content-Length": body.length };
    if (from > 0) headers["Content-Range"] = `bytes ${from}-${file.length - 1}/${file.length}`;
    if (fault?.status) {
      response.writeHead(fault.status).end();
      return;
    }
    response.writeHead(from > 0 ? 206 : 200, headers);
    response.on("finish", () => this.sent.add(name));
    if (typeof fault === "function" && fault(response, body, from)) return;
    response.end(body);
  }
}
