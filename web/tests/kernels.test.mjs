// The kernels and the device in other implementations of WebGPU than the native one: the same checks and the same parity
// cases, and a table of the largest differences. Node and Chromium have Dawn (on SwiftShader), Firefox wgpu (on lavapipe).

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { buildTests, firefox, inChromium, inFirefox, runInNode, runInPage, work } from "./browsers.mjs";
import { root } from "./page-harness.mjs";

const outputs = join(work, "outputs");
let program;

before(async () => {
  program = buildTests("./engine/gpu/browser");
  await promisify(execFile)("go", ["test", "-count=1", "-run", "^TestWriteOutputs$", "./shaders"], { cwd: root, env: { ...process.env, QWEN_WGPU_OUTPUTS: outputs } });
});

/** Fails with a program's output unless it passed, and returns the output. */
function passed({ code, output }) {
  assert.equal(code, 0, output.replaceAll(/^ *(=== |--- PASS).*\n/gm, ""));
  assert.match(output, /^PASS$/m);
  return output;
}

/** The table that TestParity printed. */
function table(output) {
  return JSON.parse(/^parity table: (.*)$/m.exec(output)[1]);
}

function print(t, name, rows) {
  t.diagnostic(`${name.padEnd(34)} tolerance  error    against wgpu`);
  for (const [key, r] of Object.entries(rows).sort()) {
    t.diagnostic(`${key.padEnd(34)} ${r.Tolerance.toExponential(0).padEnd(9)}  ${r.Error.toExponential(1)}  ${r.Difference.toExponential(1)}`);
  }
}

test("every kernel compiles within WebGPU's default limits", async () => {
  passed(await runInNode(program, ["-test.run", "^TestCompile$"], { device: "null" }));
});

test("Node and Dawn: the device", async () => {
  passed(await runInNode(program, ["-test.run", "^TestConformance$"]));
});

test("Node and Dawn: a model against transformers", async () => {
  const dir = join(root, "engine/gpu/browser");
  passed(await runInNode(program, ["-test.v", "-test.run", "^TestGolden$/^tied-gqa2$/^f16$/^(prompts|greedy|refusals)$"], { dir }));
});

// Which needs more storage buffers than some browsers have.
test("Node and Dawn: layer_products", async (t) => {
  const args = ["-test.v", "-test.run", "^TestParity$/^layer_products$", "-native", outputs];
  const rows = table(passed(await runInNode(program, args)));
  assert.ok(rows["layer_products x"] && rows["layer_products exchange"], "no case was run");
  print(t, "Node", rows);
});

test("Chromium: the device and the kernels", async (t) => {
  const args = ["-test.run", "^(TestConformance|TestParity)$", "-native", "ORIGIN/outputs"];
  print(t, "Chromium", table(passed(await runInPage(program, args, inChromium, { files: { "/outputs": outputs } }))));
});

test("Firefox: the device and the kernels", { timeout: 600_000, skip: !existsSync(firefox) && `${firefox} is not installed` }, async (t) => {
  // All kernels; the parity cases too where asked: it is wgpu again, and lavapipe compiles slowly.
  const all = process.env.QWEN_WGPU_ALL_BROWSERS === "1";
  const args = ["-test.run", `^(TestConformance|TestCompile${all ? "|TestParity" : ""})$`, "-native", "ORIGIN/outputs"];
  const output = passed(await runInPage(program, args, inFirefox, { files: { "/outputs": outputs } }));
  if (all) print(t, "Firefox", table(output));
});
