// Measures the WebAssembly build on this machine's GPU through Dawn, as qwen-wgpu bench does natively, and prints JSON:
// seconds to load and to the first token, prefill and decode rates (medians), what a token reads beside the device's read
// roofline, the processor time of a token in Go and JavaScript, and memory.
// Usage: node web/node/bench.mjs --wasm FILE --model DIR [--device gpu|swiftshader|null] [-p 512] [-n 128] [-d 0] [-r 5]
import { parseArgs } from "node:util";
import { startEngine } from "./engine.mjs";

const { values } = parseArgs({
  options: {
    wasm: { type: "string", default: "bin/qwen.wasm" },
    model: { type: "string" },
    device: { type: "string", default: "gpu" },
    context: { type: "string" },
    kv: { type: "string", default: "f16" },
    prompt: { type: "string", short: "p", default: "512" },
    generate: { type: "string", short: "n", default: "128" },
    depth: { type: "string", short: "d", default: "0" },
    repetitions: { type: "string", short: "r", default: "5" },
  },
});
if (!values.model || !["gpu", "swiftshader", "null"].includes(values.device)) {
  console.error("usage: bench.mjs --wasm FILE --model DIR [--device gpu|swiftshader|null] [-p TOKENS] [-n TOKENS] [-d TOKENS] [-r TIMES]");
  process.exit(2);
}
const [prompt, generate, depth, repetitions] = [values.prompt, values.generate, values.depth, values.repetitions].map(Number);
if (values.device === "null") {
  // Nothing is computed, so its memory holds anything: token 0 will do.
  const { openDawn } = await import("./dawn.mjs");
  await openDawn("null");
  globalThis.GPUBuffer.prototype.getMappedRange = (offset, size) => new ArrayBuffer(size);
}

const started = performance.now();
const engine = await startEngine({ wasm: values.wasm, model: values.model, device: values.device });
const ready = performance.now();
try {
  const contextTokens = Number(values.context ?? depth + prompt + generate + 1);
  const info = await engine.request("load", { contextTokens, kv: values.kv });
  const loaded = performance.now();
  const { roofline_bytes_per_second, rows } = await engine.request("bench", { prompt, generate, depth, repetitions });
  const { wasmBytes, weightBytes, kvBytes, activationBytes } = await engine.request("stats");
  const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
  const prefill = rows.find((r) => r.test.startsWith("pp"));
  const decode = rows.find((r) => r.test.startsWith("tg"));
  console.log(
    JSON.stringify(
      {
        model: info.name, adapter: info.adapter, weight_bytes: info.bytes, kv: values.kv, prompt, generate, depth,
        start_seconds: (ready - started) / 1000, load_seconds: (loaded - ready) / 1000,
        prefill_tokens_per_second: prefill?.tokens_per_second, decode_tokens_per_second: decode?.tokens_per_second,
        seconds_to_first_token: prefill?.seconds_to_first_token, prefill_flops_per_second: prefill?.flops_per_second,
        bytes_per_token: decode?.bytes_per_token, bytes_per_second: decode?.bytes_per_second, roofline_bytes_per_second,
        roofline_share: decode && decode.bytes_per_second / roofline_bytes_per_second,
        cpu_ms_per_token: decode && median(decode.cpu_seconds_per_token) * 1000, wasm_bytes: wasmBytes,
        device_memory: { weight_bytes: weightBytes, kv_bytes: kvBytes, activation_bytes: activationBytes }, peak_resident_bytes: process.resourceUsage().maxRSS * 1024, rows,
      },
      null,
      2,
    ),
  );
  process.exit(0);
} catch (e) {
  console.error(`${e.code ?? "error"}: ${e.message}`);
  process.exit(1);
}
