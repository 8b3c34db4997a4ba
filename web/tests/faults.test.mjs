// What can go wrong between a model's server and the GPU, with the real engine in the page. Each test has a browser of its
// own: an engine that failed may still be compiling kernels in the one before.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { ModelServer, randomModel, shard } from "./faults-server.mjs";
import { ask, launch, open, serve } from "./page-harness.mjs";

const loadTime = 240_000; // kernels compile slowly on the CPU

let page; // the devserver
let dir;
let wide; // a model whose cache can be too large for a buffer

before(async () => {
  dir = randomModel("random", { hidden_size: 256, intermediate_size: 768, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64 });
  wide = randomModel("wide", { hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 8, num_key_value_heads: 8, head_dim: 128, max_position_embeddings: 1_000_000 });
  page = await serve();
});

after(() => page?.stop());

/** Runs a test with a model's server, a fresh browser, and load() that opens the page and loads the model. */
function fault(name, run, { model = () => dir } = {}) {
  it(name, { timeout: 2 * loadTime }, async () => {
    const server = await new ModelServer(model()).start();
    const browser = await launch();
    try {
      const context = await browser.newContext();
      const tab = async () => {
        const p = await open(context, page.url);
        p.setDefaultTimeout(60_000);
        return p;
      };
      const load = async (p) => {
        await p.locator(".model-button").click();
        await p.locator("#model-url").fill(server.url);
        await p.keyboard.press("Enter");
        return p;
      };
      await run({ server, context, tab, load });
    } finally {
      await browser.close();
      await server.stop().catch(() => {});
    }
  });
}

/** Waits for an error of a kind on the page; returns its text. */
async function failed(p, code) {
  await p.locator(`.card[data-code=${code}]`).waitFor();
  return p.locator(`.card[data-code=${code}]`).innerText();
}

/** Tries again, and waits until every byte is here. */
async function retry(p, server) {
  server.requests.length = 0;
  await p.getByRole("button", { name: "Try again" }).click();
  await downloaded(p);
}

/** Waits until the weights are moved to the GPU, or more. */
async function downloaded(p) {
  await p.locator('.phases li:is(.now, .done):has-text("To the GPU"), .model-button .dot.ready').first().waitFor();
}

/** Waits until all of the model has come but for the nth shard, which the server holds back. */
async function stalled(p, server, n) {
  const all = [1, 2, 3, 4, 5].filter((i) => i !== n).map((i) => shard(dir, i));
  for (let waited = 0; !all.every((name) => server.sent.has(name)); waited += 50) {
    assert.ok(waited < 60_000, `only ${[...server.sent]} were downloaded`);
    await p.waitForTimeout(50);
  }
  await p.waitForTimeout(500); // until they are checked and stored
}

const names = (requests) => [...new Set(requests.map((r) => r.name))];

fault("a shard that is too short is named, and alone downloaded again", async ({ server, tab, load }) => {
  const second = shard(dir, 2);
  server.faults.set(second, { replace: (file) => file.subarray(0, file.length - 1000) });
  const p = await load(await tab());
  const text = await failed(p, "truncated");
  assert.match(text, new RegExp(`${second}.*\\d{6} of \\d{6} bytes`));
  server.faults.clear();
  await retry(p, server);
  assert.deepEqual(names(server.shards()), [second]);
});

fault("a shard with another hash is named, and alone downloaded again", async ({ server, tab, load }) => {
  const third = shard(dir, 3);
  server.faults.set(third, {
    replace(file) {
      const damaged = Buffer.from(file);
      damaged[damaged.length - 7] ^= 1;
      return damaged;
    },
  });
  const p = await load(await tab());
  const text = await failed(p, "hash");
  assert.match(text, new RegExp(`${third} is damaged: its SHA-256 is [0-9a-f]{64}`));
  server.faults.clear();
  await retry(p, server);
  assert.deepEqual(names(server.shards()), [third]);
});

fault("a file that is not there is named, a model that is not there too", async ({ server, tab, load }) => {
  const fourth = shard(dir, 4);
  server.faults.set(fourth, { status: 404 });
  const p = await load(await tab());
  assert.match(await failed(p, "http"), new RegExp(`${fourth}.* 404`));
  server.faults.set("manifest.json", { status: 404 });
  await p.getByRole("button", { name: "Try again" }).click();
  await p.getByText(/manifest\.json.* 404/).waitFor();
});

fault("a connection that breaks is taken up where it broke", async ({ server, tab, load }) => {
  const second = shard(dir, 2);
  let breaks = 2;
  server.faults.set(second, (response, body, from) => {
    if (breaks-- <= 0) return false;
    response.write(body.subarray(0, 200_000), () => setTimeout(() => response.destroy(), 1000));
    return true;
  });
  const p = await load(await tab());
  await downloaded(p);
  const ranges = server.shards().filter((r) => r.name === second).map((r) => r.from);
  assert.equal(ranges.length, 3, String(ranges));
  assert.equal(ranges[0], 0);
  assert.ok(ranges[1] > 0 && ranges[2] > ranges[1], String(ranges));
});

fault("a server that stops is an error that a second try takes up", async ({ server, tab, load }) => {
  const third = shard(dir, 3);
  server.holdAfter(third, 300_000);
  const p = await load(await tab());
  await stalled(p, server, 3);
  await server.stop();
  assert.match(await failed(p, "network"), new RegExp(`${third}`));
  server.drop();
  await server.start();
  await retry(p, server);
  const again = server.shards();
  assert.ok(!names(again).includes(shard(dir, 1)) && !names(again).includes(shard(dir, 2)), String(names(again)));
  assert.ok(again.find((r) => r.name === third).from > 0, JSON.stringify(again));
});

fault("a tab that is closed in mid-download leaves what it has to the next", async ({ server, tab, load }) => {
  const third = shard(dir, 3);
  server.holdAfter(third, 300_000);
  const p = await load(await tab());
  await stalled(p, server, 3);
  await p.close();
  server.drop();
  server.requests.length = 0;
  const next = await tab(); // the page loads the last model by itself
  await downloaded(next);
  const again = server.shards();
  assert.ok(!names(again).includes(shard(dir, 1)) && !names(again).includes(shard(dir, 2)), String(names(again)));
  assert.ok(again.find((r) => r.name === third).from > 0, JSON.stringify(again));
});

async function setQuota(context, p, bytes) {
  const cdp = await context.newCDPSession(p);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(p.url()).origin, quotaSize: bytes });
}

/** Names of the checked shards in OPFS. */
function stored(p) {
  return p.evaluate(async () => {
    const names = [];
    const walk = async (d) => {
      for await (const [name, handle] of d.entries()) {
        if (handle.kind === "directory") await walk(handle);
        else if (name.endsWith(".ok")) names.push(name);
      }
    };
    await walk(await navigator.storage.getDirectory());
    return names;
  });
}

fault("with no room the model runs without being kept, and says so", async ({ tab, load }) => {
  // Chromium's estimate does not follow its own quota override, so the worker is told this one.
  const p = await tab();
  p.on("worker", (worker) => void worker.evaluate(() => (navigator.storage.estimate = async () => ({ quota: 2_500_000, usage: 0 }))).catch(() => {}));
  await load(p);
  await p.locator(".progress-text", { hasText: /needs 5 MB of storage and the browser gives 3 MB.* not kept/ }).waitFor();
  await p.locator(".model-button .dot.ready").waitFor({ timeout: loadTime });
  assert.ok((await stored(p)).length <= 4, "only small files are kept");
  const answer = await ask(p, "hello", { finish: false });
  await answer.locator(".markdown").waitFor();
  await p.keyboard.press("Escape");
});

fault("storage that fills up in mid-download does not stop the load", async ({ server, context, tab, load }) => {
  const second = shard(dir, 2);
  server.holdAfter(second, 300_000);
  const p = await load(await tab());
  await stalled(p, server, 2);
  await setQuota(context, p, 1000);
  server.release();
  await p.locator(".progress-text", { hasText: /storage is full .* not kept/ }).waitFor();
  await downloaded(p);
});

fault(
  "a GPU that is too small is told with the numbers, before anything is downloaded",
  async ({ server, tab, load }) => {
    const p = await tab();
    await p.locator(".model-button").click();
    await p.getByText("Memory", { exact: true }).click();
    await p.getByLabel("Context, tokens").fill("1000000");
    await p.getByLabel("Cache of keys and values").selectOption("f32");
    await p.keyboard.press("Escape");
    await load(p);
    const text = await failed(p, "limits");
    assert.match(text, /Nothing was downloaded/);
    assert.match(text, /\d+(\.\d+)? [MG]iB|\d{9,}/);
    assert.deepEqual(server.shards(), []);
  },
  { model: () => wide },
);

fault("a GPU that is lost in mid-answer is set up again, and the answer goes on", async ({ server, tab, load }) => {
  const p = await load(await tab());
  await p.locator(".model-button .dot.ready").waitFor({ timeout: loadTime });
  const answer = await ask(p, "Tell me a story", { finish: false });
  const text = answer.locator(".markdown");
  await p.waitForFunction(() => (document.querySelector(".message.assistant .markdown")?.textContent.length ?? 0) > 20);
  const worker = p.workers().find((w) => w.url().includes("worker"));
  await worker.evaluate(() => self.onmessage({ data: { kind: "lose_device", id: 1e9 } }));
  await p.getByText("The GPU was lost. It is being set up again").waitFor();
  const before = await text.innerText();
  await p.waitForFunction((n) => document.querySelector(".message.assistant .markdown").textContent.length > n + 20, before.length, { timeout: loadTime });
  const now = await text.innerText();
  assert.ok(now.startsWith(before.trim().slice(0, 20)), `${before} -> ${now}`);
  await p.keyboard.press("Escape");
  await p.getByRole("button", { name: "Send", exact: true }).waitFor();
  assert.match(await answer.locator(".figures").innerText(), /stopped/);
});
