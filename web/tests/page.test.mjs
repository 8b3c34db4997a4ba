// The page with an engine stand-in (page-fake.ts): everything a person does, and what an answer may not do.
// engine.test.mjs and faults.test.mjs use the real engine.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, fake, launch, open, ready, serve } from "./page-harness.mjs";

let server;
let browser;

before(async () => {
  server = await serve(fake);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs a test on a fresh profile, and fails it for any error or policy violation that it did not expect. */
function onPage(name, run, options = {}) {
  it(name, async () => {
    const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
    try {
      const page = await open(context, server.url);
      await ready(page);
      await run(page, context);
      assert.deepEqual(page.problems, []);
    } finally {
      await context.close();
    }
  });
}

const request = (page) => page.evaluate(() => globalThis.lastRequest);
const button = (page, name) => page.getByRole("button", { name, exact: true });

async function chooseModel(page, url) {
  await page.locator(".model-button").click();
  await page.locator("#model-url").fill(url);
  await page.keyboard.press("Enter");
}

describe("chat", () => {
  onPage("answers, with figures, and keeps the focus where one writes", async (page) => {
    const answer = await ask(page, "hello there");
    assert.equal(await answer.locator(".markdown").innerText(), "You said: hello there");
    const figures = await answer.locator(".figures").innerText();
    assert.match(figures, /61\.5 tokens\/s/);
    assert.match(figures, /prefill \d+ in 42 ms/);
    assert.match(figures, /context \d+ of 2,048/);
    assert.equal(await page.evaluate(() => document.activeElement?.id), "prompt");
    assert.match(await page.locator(".meter").innerText(), /%/);
    assert.equal(await page.locator(".hidden[role=status]").innerText(), "Answer: You said: hello there");
  });

  onPage("Shift+Enter begins a line, Enter sends; whitespace is not sent", async (page) => {
    const prompt = page.locator("#prompt");
    await prompt.press("Enter");
    await prompt.fill("  ");
    await prompt.press("Enter");
    assert.equal(await page.locator(".message").count(), 0);
    await prompt.fill("one");
    await prompt.press("Shift+Enter");
    await page.keyboard.type("two");
    await prompt.press("Enter");
    await page.locator(".message.assistant .figures").waitFor();
    assert.equal((await request(page)).messages[0].content, "one\ntwo");
  });

  onPage("Escape and the stop button stop an answer, which is kept", async (page) => {
    for (const stop of [() => page.keyboard.press("Escape"), () => button(page, "Stop (Escape)").click()]) {
      const answer = await ask(page, "long answer", { finish: false });
      await answer.getByText("word5").waitFor();
      await stop();
      await button(page, "Send").waitFor();
      assert.match(await answer.locator(".figures").innerText(), /stopped/);
      const text = await answer.locator(".markdown").innerText();
      assert.match(text, /word5/);
      assert.doesNotMatch(text, /word399/);
    }
  });

  onPage("folds reasoning away, and sends it back for the template to judge", async (page) => {
    const answer = await ask(page, "think hard", { finish: false });
    await answer.getByText("Thinking").waitFor();
    assert.equal(await answer.locator("details").evaluate((d) => d.open), true);
    await button(page, "Send").waitFor();
    assert.equal(await answer.locator("details").evaluate((d) => d.open), false);
    await answer.locator("summary").click();
    assert.match(await answer.locator(".reasoning-text").innerText(), /from one side/);
    assert.equal((await request(page)).enable_thinking, true);
    await button(page, "Think").click();
    await ask(page, "think again");
    const r = await request(page);
    assert.equal(r.enable_thinking, false);
    assert.match(r.messages[1].reasoning_content, /from one side/);
  });

  onPage("answers again, and after an edit", async (page) => {
    await ask(page, "first");
    await ask(page, "second");
    await page.locator(".message.assistant").last().getByRole("button", { name: "Answer again" }).click();
    await page.locator(".message.assistant .figures").nth(1).waitFor();
    assert.deepEqual(
      (await request(page)).messages.map((m) => m.content),
      ["first", "You said: first", "second"],
    );
    await page.locator(".message.user").first().getByRole("button", { name: "Edit and send again" }).click();
    await page.getByRole("textbox", { name: "Message" }).first().fill("changed");
    await page.keyboard.press("Enter");
    await page.getByText("You said: changed", { exact: true }).waitFor();
    await button(page, "Send").waitFor();
    assert.equal(await page.locator(".message").count(), 2);
    assert.deepEqual((await request(page)).messages.map((m) => m.content), ["changed"]);
  });

  onPage("copies answers and code", async (page) => {
    const answer = await ask(page, "markdown");
    await answer.getByRole("button", { name: "Copy the answer" }).click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^Here is \*\*bold\*\*/);
    await answer.getByRole("button", { name: "Copy code" }).click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^\/\/ Fib returns[\s\S]*\n}\n$/);
  });

  onPage("shows Markdown as it is meant", async (page) => {
    const markdown = (await ask(page, "markdown")).locator(".markdown");
    for (const selector of ["strong", "em", "h2", "ol > li ul", "blockquote", "table td[align=right]", ".code .hljs-keyword", "p code"]) {
      assert.ok((await markdown.locator(selector).count()) > 0, selector);
    }
    const link = markdown.locator("a");
    assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
    assert.equal(await link.getAttribute("target"), "_blank");
  });

  onPage("shows tool calls and sends their results", async (page) => {
    await button(page, "Settings").last().click();
    const tools = page.getByLabel("Tools, as a JSON list of functions");
    await tools.fill("{");
    await tools.blur();
    await page.getByText("Not kept:").waitFor();
    await tools.fill('[{"type":"function","function":{"name":"weather"}}]');
    await tools.blur();
    await page.keyboard.press("Escape");
    const answer = await ask(page, "tool");
    assert.equal((await request(page)).tools[0].function.name, "weather");
    assert.match(await answer.locator(".tool-call").innerText(), /Calls weather[\s\S]*"city": "Berlin"/);
    await answer.getByLabel("Result of weather").fill("18 degrees");
    await button(page, "Send result").click();
    await page.getByText("You said: 18 degrees", { exact: true }).waitFor();
    const { messages } = await request(page);
    assert.equal(messages[1].tool_calls[0].function.name, "weather");
    assert.deepEqual(messages[2], { role: "tool", content: "18 degrees", tool_call_id: "call_1" });
  });

  onPage("offers to forget when the context is full", async (page) => {
    const answer = await ask(page, "fill it");
    assert.match(await answer.locator(".error").innerText(), /no longer fits[\s\S]*2100 tokens and the context 2048/);
    await button(page, "Forget the oldest messages").click();
    await page.getByText("You said: fill it", { exact: true }).waitFor();
    assert.equal((await request(page)).overflow, "drop-oldest");
  });
});

describe("untrusted output", () => {
  onPage("cannot add HTML, scripts, images or script links", async (page) => {
    const outside = [];
    page.on("request", (r) => {
      if (new URL(r.url()).origin !== new URL(server.url).origin) outside.push(r.url());
    });
    const answer = await ask(page, "inject");
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => globalThis.injected), undefined);
    assert.deepEqual(outside, []);
    const markdown = answer.locator(".markdown");
    assert.equal(await markdown.locator("script, img, iframe, svg, style, form, object, embed, link, meta, base").count(), 0);
    const found = await markdown.evaluate((root) => {
      const bad = [];
      for (const e of root.querySelectorAll("*")) {
        for (const a of e.attributes) {
          if (/^on|^style$|^id$|^name$/.test(a.name)) bad.push(`${e.localName} ${a.name}`);
        }
        if (e.localName === "a" && !/^(https?|mailto):/.test(e.getAttribute("href") ?? "https:")) bad.push(e.outerHTML);
      }
      return bad;
    });
    assert.deepEqual(found, []);
    const text = await markdown.innerText();
    assert.match(text, /<script>window\.injected = "script"<\/script>/, "HTML is shown as text");
    assert.match(text, /<b onclick=/);
    assert.equal(await markdown.getByRole("link", { name: "pixel" }).getAttribute("href"), "https://example.org/pixel.png?secret");
    assert.equal(await page.locator("#prompt").isVisible(), true);
  });

  onPage("is the same after a reload and after an import", async (page) => {
    await ask(page, "inject");
    await page.reload();
    await page.locator(".message.assistant .markdown").waitFor();
    assert.equal(await page.evaluate(() => globalThis.injected), undefined);
    const conversation = {
      id: "x", title: '<img src=x onerror="injected=1">', system: "", created: 1, updated: 1,
      messages: [{ role: "user", content: "<script>injected=1</script>", at: 1 }, { role: "assistant", content: '<img src=x onerror="injected=1">', at: 1 }],
    };
    await importFile(page, { format: "qwen-wgpu conversations", version: 1, conversations: [conversation] });
    await page.getByText("Imported one conversation.").waitFor();
    assert.equal(await page.locator(".bubble").innerText(), "<script>injected=1</script>");
    assert.equal(await page.locator(".message img, .conversation img").count(), 0);
    assert.equal(await page.evaluate(() => globalThis.injected), undefined);
  });

  it("is held by a strict policy even if it got through", async () => {
    const response = await fetch(server.url);
    const csp = response.headers.get("content-security-policy");
    for (const rule of ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
      assert.ok(csp.split("; ").includes(rule), `${rule} in ${csp}`);
    }
    assert.doesNotMatch(csp, /'unsafe-inline'|'unsafe-eval'|\*/);
    const html = await response.text();
    assert.match(html, /<meta http-equiv="Content-Security-Policy" content="default-src 'none'/);
    assert.doesNotMatch(html.replace(/<script type="module" src="[^"]+"><\/script>/, ""), /<script|style=|onload/);

    const context = await browser.newContext();
    const page = await open(context, server.url);
    await ready(page);
    const outcome = await page.evaluate(async () => {
      const results = {};
      try {
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='globalThis.injected=1'>");
        results.html = "inserted";
      } catch (err) {
        results.html = err.name;
      }
      const script = document.createElement("script");
      try {
        script.text = "globalThis.injected = 1";
        document.body.append(script);
      } catch (err) {
        results.script = err.name;
      }
      try {
        results.fetch = String(await fetch("https://example.org/"));
      } catch (err) {
        results.fetch = err.name;
      }
      try {
        new Worker("https://example.org/worker.js");
        results.worker = "started";
      } catch (err) {
        results.worker = err.name;
      }
      return { ...results, injected: globalThis.injected };
    });
    assert.deepEqual(outcome, { html: "TypeError", script: "TypeError", fetch: "TypeError", worker: "TypeError", injected: undefined });
    await context.close();
  });
});

/** Chooses a file in the import dialog. */
async function importFile(page, content) {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  await page.locator("input[type=file]").setInputFiles({ name: "import.json", mimeType: "application/json", buffer: Buffer.from(text) });
}

async function exported(page, trigger) {
  const [download] = await Promise.all([page.waitForEvent("download"), trigger()]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  return { name: download.suggestedFilename(), data: JSON.parse(Buffer.concat(chunks).toString()) };
}

describe("conversations", () => {
  onPage("are kept over a reload, an unfinished answer too", async (page) => {
    await ask(page, "keep me");
    await button(page, "New conversation").click();
    const answer = await ask(page, "long answer", { finish: false });
    await answer.getByText("word60").waitFor();
    await page.reload();
    await ready(page);
    const kept = page.locator(".message.assistant");
    assert.match(await kept.innerText(), /word10[\s\S]*interrupted/);
    assert.equal(await page.locator(".conversation").count(), 2);
    await page.getByRole("button", { name: "keep me", exact: true }).click();
    await page.getByText("You said: keep me", { exact: true }).waitFor();
  });

  onPage("are renamed, deleted and brought back", async (page) => {
    await ask(page, "a first question");
    await page.locator(".conversation").hover();
    await button(page, "Rename “a first question”").click();
    await page.keyboard.type("Better name");
    await page.keyboard.press("Enter");
    await page.locator(".conversation-title", { hasText: "Better name" }).waitFor();
    await button(page, "Delete “Better name”").click();
    assert.equal(await page.locator(".conversation").count(), 0);
    await button(page, "Undo").click();
    assert.equal(await page.locator(".conversation-title").innerText(), "Better name");
    await button(page, "Delete “Better name”").click();
    await page.reload();
    await ready(page);
    assert.equal(await page.locator(".conversation").count(), 0);
  });

  onPage("are exported and imported", async (page, context) => {
    await ask(page, "think of export");
    await ask(page, "more");
    const all = await exported(page, () => button(page, "Export all").click());
    assert.equal(all.name, "conversations.json");
    const [conversation] = all.data.conversations;
    assert.deepEqual(conversation.messages.map((m) => m.role), ["user", "assistant", "user", "assistant"]);
    assert.match(conversation.messages[1].reasoning, /from one side/);

    const one = await exported(page, () => page.getByRole("button", { name: /^Export “think/ }).click({ force: true }));
    assert.equal(one.name, "think-of-export.json");

    // Into the same page: a copy; into a fresh one: the same conversation.
    await importFile(page, all.data);
    await page.getByText("Imported one conversation.").waitFor();
    assert.equal(await page.locator(".conversation").count(), 2);
    await page.close();
    const fresh = await browser.newContext();
    const other = await open(fresh, server.url);
    await ready(other);
    await importFile(other, one.data);
    await other.getByText("You said: more", { exact: true }).waitFor();
    await other.reload();
    await other.getByText("You said: more", { exact: true }).waitFor();
    const again = await exported(other, () => button(other, "Export all").click());
    const plain = (c) => c.messages.map(({ id: _, ...m }) => m);
    assert.deepEqual(plain(again.data.conversations[0]), plain(conversation));
    await fresh.close();
  });

  onPage("refuse a file that is wrong, and say why", async (page) => {
    for (const [content, said] of [
      ["no json", /not a JSON file/],
      [{ format: "other" }, /was not exported from here/],
      [{ format: "qwen-wgpu conversations", version: 9 }, /version 9/],
      [{ format: "qwen-wgpu conversations", version: 1, conversations: [{ id: "x", messages: [{ role: "robot", content: "" }] }] }, /conversation 1, message 1: the role is "robot"/],
      [{ format: "qwen-wgpu conversations", version: 1, conversations: [{ id: "x", messages: [{ role: "user", content: {} }] }] }, /message 1: content is not a text/],
    ]) {
      await importFile(page, content);
      await page.locator(".notice", { hasText: said }).waitFor();
    }
    assert.equal(await page.locator(".conversation").count(), 0);
  });
});

describe("settings", () => {
  onPage("show the model's defaults, check numbers, and reach the engine", async (page) => {
    await button(page, "Settings").last().click();
    const temperature = page.getByLabel("Temperature");
    assert.equal(await temperature.getAttribute("placeholder"), "0.6");
    const topP = page.getByLabel("Top p");
    await topP.fill("1.5");
    await topP.blur();
    await page.getByText("must be at most 1").waitFor();
    await topP.fill("0.8");
    await temperature.fill("0");
    await page.getByLabel("Seed").fill("42");
    await page.getByLabel("Longest answer").fill("99");
    await page.getByLabel("Stop texts, one a line").fill("END\nSTOP");
    await page.getByLabel("System prompt").fill("Answer in verse.");
    await page.getByLabel("System prompt").blur();
    await page.keyboard.press("Escape");
    await ask(page, "hi");
    const first = await request(page);
    assert.deepEqual(first.messages[0], { role: "system", content: "Answer in verse." });
    assert.deepEqual(
      [first.top_p, first.temperature, first.seed, first.max_tokens, first.stop],
      [0.8, 0, 42, 99, ["END", "STOP"]],
    );
    await page.reload();
    await ready(page);
    await button(page, "Settings").last().click();
    assert.equal(await page.getByLabel("Top p").inputValue(), "0.8");
    await button(page, "Reset to the model’s defaults").click();
    await page.keyboard.press("Escape");
    await ask(page, "hi");
    assert.equal("top_p" in (await request(page)), false);
  });

  onPage("measure the GPU, and say so", async (page) => {
    await button(page, "Settings").last().click();
    await page.getByText("Answers can come considerably faster.").waitFor();
    await button(page, "Measure this GPU").click();
    await page.getByText("answers wait meanwhile").waitFor();
    assert.equal(await button(page, "Measuring…").isDisabled(), true);
    await button(page, "Measure this GPU again").waitFor();
    await page.getByText("This model runs as was measured").waitFor();
    await page.getByText("From now on this model runs").waitFor();
  });

  onPage("dark and light follow the system until chosen", async (page) => {
    const becomes = (theme) => page.waitForFunction((t) => document.documentElement.dataset.theme === t, theme);
    await becomes("light");
    await page.emulateMedia({ colorScheme: "dark" });
    await becomes("dark");
    await button(page, "Light").click();
    await becomes("light");
    await page.reload();
    await becomes("light");
  });
});

describe("models", () => {
  onPage("load with progress and can be cancelled", async (page) => {
    await chooseModel(page, "/models/slow-0.6b/");
    const card = page.locator(".card", { hasText: "Loading slow-0.6b" });
    await card.getByText(/MB of 639 MB/).waitFor();
    assert.match(await card.innerText(), /48\.3 MB\/s[\s\S]*1\d s left/);
    assert.ok(Number(await card.getByRole("progressbar").getAttribute("value")) > 0);
    await button(page, "Cancel").click();
    await page.getByText("No model is loaded").waitFor();
    await button(page, "Load slow-0.6b").waitFor();
  });

  onPage("are refused where the address is wrong", async (page) => {
    await chooseModel(page, "http://example.org/model/");
    await page.getByText("The address must begin with https://").waitFor();
  });

  for (const [code, title] of Object.entries({
    limits: "The GPU is too small for this model", network: "The download was interrupted", http: "The server has no such model",
    hash: "A downloaded file is damaged", truncated: "A file ended too early", quota: "No room to keep the model",
  })) {
    onPage(`say what is wrong and what to do: ${code}`, async (page) => {
      await chooseModel(page, `/models/error-${code}/`);
      const card = page.locator(`.card[data-code=${code}]`);
      await card.waitFor();
      const text = await card.innerText();
      assert.ok(text.includes(title), text);
      assert.match(text, /needs 2147483648 bytes, this has 134217728/);
      await button(page, "Use the tiny model").click();
      await ready(page);
    });
  }

  onPage("a lost GPU keeps the conversation, and the model comes back", async (page) => {
    const answer = await ask(page, "lose it", { finish: false });
    await answer.locator(".error").waitFor();
    assert.match(await answer.innerText(), /Half an[\s\S]*The GPU was lost/);
    await page.locator(".status").getByRole("button", { name: "Try again" }).click();
    await ready(page);
    await answer.getByRole("button", { name: "Answer again" }).waitFor();
  });
});

describe("tabs", () => {
  onPage("the second is told, and can take the model over", async (page, context) => {
    const second = await open(context, server.url);
    await second.getByText("The model runs in another tab").waitFor();
    await second.getByRole("button", { name: "Use it here" }).click();
    await ready(second);
    await page.getByText("The model moved to another tab").waitFor();
    await ask(second, "from the second");
    await page.locator(".conversation-title", { hasText: "from the second" }).waitFor();
    await page.getByRole("button", { name: "Use it here" }).click();
    await ready(page);
    await second.getByText("The model moved to another tab").waitFor();
    assert.deepEqual(second.problems, []);
  });
});

describe("offline", () => {
  it("a second visit needs no network", async () => {
    const own = await serve(fake);
    const context = await browser.newContext();
    const page = await open(context, own.url);
    await ready(page);
    await ask(page, "before");
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.close();
    await own.stop();
    const again = await open(context, own.url);
    await ready(again);
    await again.getByText("You said: before", { exact: true }).waitFor();
    await ask(again, "after");
    await again.getByText("You said: after", { exact: true }).waitFor();
    await context.close();
  });
});

describe("keyboard and width", () => {
  onPage("dialogs keep the focus and give it back", async (page) => {
    await page.locator(".model-button").focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "Model" }).waitFor();
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press("Tab");
      assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null));
    }
    for (let i = 0; i < 30; i++) { // however soon it is opened again
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
      assert.ok(await page.evaluate(() => document.activeElement.classList.contains("model-button")));
      await page.keyboard.press("Enter");
      await page.getByRole("dialog", { name: "Model" }).waitFor();
    }
    await page.keyboard.press("Control+Shift+O");
    await page.waitForFunction(() => document.activeElement?.id === "prompt");
  });

  onPage("every control has a name, and the page no horizontal scroll", async (page) => {
    await ask(page, "markdown");
    await page.locator(".model-button").click();
    const unnamed = await page.evaluate(() => {
      const named = (e) => e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim();
      return [...document.querySelectorAll("button, input, textarea, select")].filter((e) => !named(e)).map((e) => e.outerHTML);
    });
    assert.deepEqual(unnamed, []);
  });

  onPage("a phone has the list behind a button and everything in reach", async (page) => {
    await ask(page, "markdown");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    assert.equal(await page.locator(".sidebar").isVisible(), false);
    await button(page, "Conversations").click();
    await page.locator(".sidebar .conversation-title").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".sidebar").waitFor({ state: "hidden" });
    for (const name of ["Settings", "New conversation"]) assert.equal(await page.locator(".header").getByRole("button", { name }).isVisible(), true);
    await page.locator(".header").getByRole("button", { name: "Settings" }).click();
    const box = await page.getByRole("dialog").boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= 360, JSON.stringify(box));
  }, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
});

describe("unsupported browsers", () => {
  async function shown(options, init) {
    const other = await launch({ gpu: false });
    try {
      const context = await other.newContext(options);
      if (init) await context.addInitScript(init);
      const page = await open(context, server.url);
      const card = page.locator(".card.unsupported");
      await card.waitFor();
      assert.equal(await page.locator("#prompt").count(), 0);
      return { missing: await card.getAttribute("data-missing"), text: await card.innerText() };
    } finally {
      await other.close();
    }
  }

  it("without WebGPU", async () => {
    const { missing, text } = await shown({}, () => Object.defineProperty(Navigator.prototype, "gpu", { value: undefined }));
    assert.equal(missing, "no-webgpu");
    assert.match(text, /navigator\.gpu is missing[\s\S]*Chrome[\s\S]*Safari 26[\s\S]*Firefox 141/);
  });

  it("without an adapter", async () => {
    const { missing, text } = await shown({});
    assert.equal(missing, "no-adapter");
    assert.match(text, /found no GPU/);
  });

  it("without a secure address", async () => {
    const { missing, text } = await shown({}, () => Object.defineProperty(globalThis, "isSecureContext", { value: false }));
    assert.equal(missing, "insecure");
    assert.match(text, /https or localhost/);
  });
});
