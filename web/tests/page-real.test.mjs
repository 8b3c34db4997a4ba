// The page with the real engine and the tiny model: what a first and a second visit do, from load to offline. One test,
// because loading is what takes time: kernels compile slowly on the CPU.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, it } from "node:test";
import { ask, launch, open, ready, serve } from "./page-harness.mjs";

const loadTime = 240_000;

let server;
let browser;

before(async () => {
  server = await serve();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

it("loads, chats, stops, edits, answers again, exports; a second visit is offline", { timeout: 3 * loadTime }, async () => {
  const context = await browser.newContext();
  const outside = [];
  context.on("request", (r) => {
    if (new URL(r.url()).origin !== new URL(server.url).origin && !r.url().startsWith("blob:")) outside.push(r.url());
  });
  const page = await open(context, server.url);
  page.setDefaultTimeout(loadTime);
  await ready(page);

  // Greedy, so that what is said can be compared.
  await page.locator(".header").getByRole("button", { name: "Settings" }).click();
  await page.getByLabel("Temperature").fill("0");
  await page.getByLabel("Longest answer").fill("40");
  await page.keyboard.press("Escape");

  const text = (answer) => answer.locator(".markdown").innerText();
  const first = await ask(page, "Hello!");
  const greeting = await text(first);
  assert.match(greeting, /[a-z]{2,}/i);
  assert.match(await first.locator(".figures").innerText(), /[\d.]+ tokens\/s[\s\S]*prefill \d+ in [\s\S]*context \d+ of/);

  await first.getByRole("button", { name: "Answer again" }).click();
  await page.getByRole("button", { name: "Send", exact: true }).waitFor();
  assert.equal(await text(page.locator(".message.assistant")), greeting, "greedy answers repeat");

  const second = await ask(page, "Tell me a story.", { finish: false });
  await second.locator(".markdown, .reasoning").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Send", exact: true }).waitFor();
  const ended = await second.locator(".figures").innerText();
  assert.match(ended, /stopped|tokens\/s/);

  await page.locator(".message.user").last().hover();
  await page.locator(".message.user").last().getByRole("button", { name: "Edit and send again" }).click();
  await page.getByRole("textbox", { name: "Message" }).first().fill("Thank you.");
  await page.keyboard.press("Enter");
  await page.locator(".message.user .bubble", { hasText: "Thank you." }).waitFor();
  await page.getByRole("button", { name: "Send", exact: true }).waitFor();
  assert.equal(await page.locator(".message").count(), 4);
  const thanks = await text(page.locator(".message.assistant").last());

  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export all" }).click()]);
  const exported = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.deepEqual(exported.conversations[0].messages.map((m) => m.role), ["user", "assistant", "user", "assistant"]);
  assert.equal(exported.conversations[0].messages[3].content.trim().slice(0, 10), thanks.trim().slice(0, 10));

  await page.evaluate(() => navigator.serviceWorker.ready);
  assert.deepEqual(page.problems, []);
  await page.close();
  await server.stop();

  const again = await open(context, server.url);
  again.setDefaultTimeout(loadTime);
  await ready(again);
  assert.equal(await again.locator(".message").count(), 4);
  await again.getByRole("button", { name: "New conversation" }).filter({ visible: true }).first().click();
  assert.equal(await text(await ask(again, "Hello!")), greeting, "the same answer offline");
  assert.deepEqual(outside, [], "nothing leaves the machine");
  await context.close();
});
