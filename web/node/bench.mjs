// Measures the WebAssembly build on this machine's GPU through Dawn, as qwen-wgpu bench does natively: prefill and decode
// rates as medians, the processor time of a token, memory, and how long the start takes. Options: see USAGE.
import { parseArgs } from "node:util";
import { startEngine } from "./engine.mjs";

const USAGE = `usage: bench.mjs --synth SHAPE [--dtype bf16|q8|q4] | --model DIR, and
  -p TOKENS,...     prompt lengths, 0: none (512)        -n TOKENS       tokens to decode, 0: none (128)
  -d TOKENS,...     context before each test (0)         -r TIMES        repetitions (5)
  --tune            measure the kernels' shapes first    --show-tuning   and print all of them
  --kv f16|f32      the cache's numbers (f16)            --context TOKENS
  --no-subgroups    do not use the feature               --dawn TOGGLE,...
  --json            print JSON, with every repetition    --wasm FILE (bin/bench.wasm)
  --device gpu|swiftshader|null`;

const { values } = parseArgs({
  options: {
    wasm: { type: "string", default: "bin/bench.wasm" },
    model: { type: "string" },
    synth: { type: "string" },
    dtype: { type: "string", default: "bf16" },
    device: { type: "string", default: "gpu" },
    dawn: { type: "string", default: "" },
    context: { type: "string" },
    kv: { type: "string", default: "f16" },
    prompt: { type: "string", short: "p", default: "512" },
    generate: { type: "string", short: "n", default: "128" },
    depth: { type: "string", short: "d", default: "0" },
    repetitions: { type: "string", short: "r", default: "5" },
    tune: { type: "boolean", default: false },
    "show-tuning": { type: "boolean", default: false },
    "no-subgroups": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const list = (text) => text.split(",").map(Number);
const [prompts, depths] = [list(values.prompt), list(values.depth)];
const [generate, repetitions] = [Number(values.generate), Number(values.repetitions)];
const isCount = (n) => Number.isInteger(n) && n >= 0;
if ((values.model === undefined) === (values.synth === undefined) || !["gpu", "swiftshader", "null"].includes(values.device) || ![...prompts, ...depths, generate, repetitions].every(isCount) || repetitions < 1) {
  console.error(USAGE);
  process.exit(2);
}
if (values.device === "null") {
  // Nothing is computed, so its memory holds anything: token 0 will do.
  const { openDawn } = await import("./dawn.mjs");
  await openDawn("null");
  globalThis.GPUBuffer.prototype.getMappedRange = (offset, size) => new ArrayBuffer(size);
}

const median = (numbers) => {
  const s = numbers.toSorted((a, b) => a - b);
  return (s[(s.length - 1) >> 1] + s[s.length >> 1]) / 2;
};
const started = performance.now();
const since = (start) => (performance.now() - start) / 1000;

try {
  const engine = await startEngine({
    wasm: values.wasm, model: values.model, device: values.device,
    without: values["no-subgroups"] ? ["subgroups"] : [], dawn: values.dawn.split(",").filter(Boolean),
  });
  const startSeconds = since(started);
  const loading = performance.now();
  const contextTokens = Number(values.context ?? Math.max(...depths) + Math.max(generate + 1, ...prompts));
  const info = await engine.request("load", { contextTokens, kv: values.kv, synth: values.synth, dtype: values.dtype });
  const loadSeconds = since(loading);
  const warming = performance.now();
  // What the first pass of each kind needs (pipelines, staging buffers) is neither measured nor counted as growth.
  await engine.request("bench", { prompt: Math.min(16, contextTokens - 1), generate: Math.min(8, contextTokens - 2), repetitions: 1 });
  const warmSeconds = since(warming);
  const tuning = performance.now();
  const tuned = values.tune || values["show-tuning"] ? (await engine.request("tune")).rows : [];
  const tuneSeconds = tuned.length > 0 ? since(tuning) : 0;
  const memory = async () => {
    const { wasmBytes, heapBytes } = await engine.request("stats");
    return { wasm_bytes: wasmBytes, go_heap_bytes: heapBytes, resident_bytes: process.memoryUsage().rss };
  };
  const warm = await memory();
  const roofline = await engine.request("roofline", { repetitions });
  const rows = [];
  for (const depth of depths) {
    for (const prompt of prompts) rows.push(...(await engine.request("bench", { prompt, depth, repetitions })));
    rows.push(...(await engine.request("bench", { generate, depth, repetitions })));
  }
  const end = await memory();
  const { runs, weightBytes, kvBytes, activationBytes } = await engine.request("stats");
  const report = {
    model: values.synth ? `random ${values.synth} ${values.dtype}` : info.name, adapter: info.adapter, runs, features: info.features, kv: values.kv, context_tokens: info.contextTokens,
    weight_bytes: info.bytes, device_bytes: weightBytes + kvBytes + activationBytes,
    start_seconds: startSeconds, load_seconds: loadSeconds, warm_up_seconds: warmSeconds, tune_seconds: tuneSeconds,
    roofline_bytes_per_second: roofline, memory_warm: warm, memory_end: end, peak_resident_bytes: process.resourceUsage().maxRSS * 1024, tuning: tuned, rows,
  };
  if (values.json) console.log(JSON.stringify(report, null, 1));
  else print(report);
  process.exit(0);
} catch (e) {
  console.error(`${e.code ?? "error"}: ${e.message}`);
  process.exit(1);
}

/** Prints the report for people; CPU is the whole process, main thread Go with the JavaScript and Dawn calls under it. */
function print(r) {
  const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  const line = (cells, widths) => console.log(cells.map((c, i) => (i === 0 ? String(c).padEnd(widths[i]) : String(c).padStart(widths[i]))).join(" "));
  console.log(`${r.model} (${mb(r.weight_bytes)}), kv ${r.kv}, ${r.context_tokens} tokens of context, ${mb(r.device_bytes)} on the device`);
  console.log(`${r.runs}\n${r.adapter}; features: ${r.features.join(", ") || "none"}`);
  console.log(`started in ${r.start_seconds.toFixed(2)} s, loaded in ${r.load_seconds.toFixed(2)} s, warmed up in ${r.warm_up_seconds.toFixed(2)} s${r.tune_seconds > 0 ? `, tuned in ${r.tune_seconds.toFixed(2)} s` : ""}, read roofline ${(r.roofline_bytes_per_second / 1e9).toFixed(0)} GB/s\n`);
  const widths = [14, 12, 12, 12, 12, 12, 16];
  line(["test", "tokens/s", "ms/token", "GB/s", "% roofline", "CPU ms/token", "main thread ms"], widths);
  for (const row of r.rows) {
    const bytes = row.bytes_per_second > 0 ? (row.bytes_per_second / 1e9).toFixed(1) : "-";
    const share = row.bytes_per_second > 0 ? ((100 * row.bytes_per_second) / r.roofline_bytes_per_second).toFixed(1) : "-";
    line([row.test, row.tokens_per_second.toFixed(1), (1000 / row.tokens_per_second).toFixed(4), bytes, share, (median(row.cpu_seconds_per_token) * 1000).toFixed(4), (median(row.busy_seconds_per_token) * 1000).toFixed(4)], widths);
  }
  const memory = (name, m) => console.log(`${name}: wasm memory ${mb(m.wasm_bytes)}, Go heap ${mb(m.go_heap_bytes)}, resident ${mb(m.resident_bytes)}`);
  console.log();
  memory("after warm-up", r.memory_warm);
  memory("at the end", r.memory_end);
  console.log(`resident at its peak: ${mb(r.peak_resident_bytes)}`);
  for (const t of r.tuning) {
    if (!values["show-tuning"] && !t.chosen) continue;
    line([t.kernel, t.shape, (1e6 * t.seconds).toFixed(2) + " us", (t.bytes_per_second / 1e9).toFixed(0) + " GB/s", t.chosen ? "*" : ""], [12, 24, 12, 10, 2]);
  }
}
