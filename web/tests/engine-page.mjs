// The engine's checks that run inside a page, the same in every browser: engine.js alone, without the chat page. Each throws
// an Error that says what differs.

function check(condition, message) {
  if (!condition) throw new Error(message);
}

function same(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  check(a === b, `${what}: ${a}, want ${b}`);
}

async function rejects(promise, code, words) {
  const error = await promise.then(
    () => undefined,
    (e) => e,
  );
  check(error, `no error ${code}`);
  same(error.code, code, `the code of "${error.message}"`);
  for (const word of words) check(error.message.includes(word), `"${error.message}" does not mention ${word}`);
}

const QUESTION = [{ role: "user", content: "Tell me about the sea." }];
const GREEDY = { temperature: 0, max_tokens: 24, stop: [] };

/** Streams an answer; onChunk(n, stream) may interfere. Returns the text, the chunks and the last one. */
async function stream(engine, request, onChunk = () => {}) {
  const stream = await engine.chat.completions.create({ ...request, stream: true });
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    await onChunk(chunks.length, stream);
  }
  const text = chunks.map(({ choices: [c] }) => (c.delta.reasoning_content ?? "") + (c.delta.content ?? "")).join("");
  return { text, chunks, last: chunks.at(-1) };
}

/** Runs all; expected holds what the native engine says of the same model. */
export async function runChecks({ engineURL, modelURL, expected }) {
  const { QwenEngine } = await import(engineURL);
  const phases = [];
  let lost = 0;
  const engine = await QwenEngine.load(modelURL, {
    contextTokens: 256,
    onProgress: (p) => phases.push(p),
    onDeviceLost: (info) => (lost += info.recovering ? 1 : 1000),
  });
  const { info } = engine;

  const kinds = [...new Set(phases.map((p) => p.phase))];
  same(kinds.filter((k) => k !== "upload"), ["check", "compile", "check", "download", "ready"].filter((k, i, all) => all.indexOf(k) === i), "phases");
  const download = phases.filter((p) => p.phase === "download").at(-1);
  check(download.totalBytes > 200_000 && download.loadedBytes === download.totalBytes && !download.cached, JSON.stringify(download));
  same(info.contextTokens, 256, "contextTokens");
  same(info.parameters, expected.parameters, "parameters");
  check(info.adapter !== "" && info.sampling.temperature > 0, JSON.stringify(info));

  same(await engine.tokenize("Hello <think> world"), expected.tokens, "tokenize");
  same(await engine.generateIDs(expected.prompt, expected.greedy.length), expected.greedy, "greedy tokens");

  const first = await stream(engine, { ...GREEDY, messages: QUESTION });
  const { usage, choices } = first.last;
  same([first.chunks[0].choices[0].delta.role, choices[0].finish_reason, usage.completion_tokens], ["assistant", "length", 24], "an answer");
  check(first.chunks.length > 5 && first.text.length > 10, "the answer came in pieces");
  const whole = await engine.chat.completions.create({ ...GREEDY, messages: QUESTION });
  same((whole.choices[0].message.reasoning_content ?? "") + whole.choices[0].message.content, first.text, "the whole answer");
  same(whole.usage.reused_tokens, usage.prompt_tokens - 1, "the prompt is found in the cache");

  const seeded = { ...GREEDY, messages: QUESTION, temperature: 1, seed: 7 };
  same((await stream(engine, seeded)).text, (await stream(engine, seeded)).text, "answers of one seed");

  const cancelled = await stream(engine, { ...GREEDY, messages: QUESTION, max_tokens: 200 }, (n, s) => n === 6 && s.cancel());
  same(cancelled.last.choices[0].finish_reason, "cancelled", "finish_reason");
  check(cancelled.last.usage.completion_tokens < 100, "a cancelled answer ends");

  const logged = await stream(engine, { ...GREEDY, messages: QUESTION, max_tokens: 5, logprobs: true, top_logprobs: 3 });
  const logprobs = logged.chunks.flatMap((c) => c.choices[0].logprobs?.content ?? []);
  check(logprobs.length === 5 && logprobs.every((l) => l.top_logprobs.length === 3 && l.logprob <= 0 && Math.abs(l.logprob - l.top_logprobs[0].logprob) < 1e-5), JSON.stringify(logprobs));

  await rejects(engine.chat.completions.create({ messages: [] }), "invalid", ["messages"]);
  await rejects(engine.chat.completions.create({ messages: QUESTION, top_p: 3 }), "invalid", ["top_p", "3"]);
  await rejects(engine.chat.completions.create({ messages: [{ role: "user", content: "sea ".repeat(400) }] }), "context_full", ["256"]);

  const afterLoss = await stream(engine, { ...GREEDY, messages: QUESTION }, (n) => (n === 8 ? engine.loseDevice() : undefined));
  same(afterLoss.text, first.text, "an answer in which the GPU was lost");
  same(lost, 1, "losses told");
  const stats = await engine.stats();
  same(stats.deviceLosses, 1, "losses counted");
  check(stats.freePages > 0 && stats.cachedTokens > 24 && stats.wasmBytes < 64 << 20, JSON.stringify(stats));

  await engine.close();
  await rejects(engine.stats(), "cancelled", ["closed"]);
  return { adapter: info.adapter, wasmBytes: stats.wasmBytes };
}

/** The answers of the model in the box to evaluation questions, in the form of qwen-wgpu eval --out. */
export async function evaluate({ engineURL, questions }) {
  const { QwenEngine } = await import(engineURL);
  const engine = await QwenEngine.load("tiny", { contextTokens: 2048 });
  const answers = [];
  for (const q of questions) {
    const { choices } = await engine.chat.completions.create({ messages: q.messages, tools: q.tools, enable_thinking: q.thinking, temperature: 0, max_tokens: 320 });
    const { content, reasoning_content, tool_calls } = choices[0].message;
    answers.push({
      id: q.id,
      ...(reasoning_content && { reasoning: reasoning_content }),
      ...(content && { content }),
      ...(tool_calls && { tool_calls: tool_calls.map((c) => ({ name: c.function.name, arguments: JSON.parse(c.function.arguments) })) }),
    });
  }
  await engine.close();
  return answers;
}

/** The directory that a user picked: here one of the origin's own file system. */
export async function fromDirectory({ engineURL, modelURL, damage }) {
  const { QwenEngine } = await import(engineURL);
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("picked", { create: true });
  const manifest = await (await fetch(modelURL + "manifest.json")).json();
  for (const name of ["manifest.json", ...manifest.files.map((f) => f.name), ...manifest.shards.map((s) => s.name)]) {
    const data = new Uint8Array(await (await fetch(modelURL + name)).arrayBuffer());
    if (name === damage) data[data.length - 5] ^= 1;
    const out = await (await folder.getFileHandle(name, { create: true })).createWritable();
    await out.write(data);
    await out.close();
  }
  if (damage) {
    await rejects(QwenEngine.load(folder), "hash", [damage]);
    return;
  }
  const engine = await QwenEngine.load(folder, { contextTokens: 128 });
  check((await engine.tokenize("sea")).length > 0, "no tokens");
  await engine.close();
}
