// What the page's tests share: the devserver on a free port, Chromium with WebGPU on SwiftShader, and small helpers.
// Environment: CHROMIUM names another browser than Debian's; DEVSERVER a built devserver (otherwise one is built).

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** The engine of page-fake.ts instead of the real one. */
export const fake = ["--engine", join(root, "web/tests/page-fake.ts")];

let built;

/** The path of a built devserver. */
export function devserver() {
  if (process.env.DEVSERVER) return process.env.DEVSERVER;
  if (!built) {
    built = join(mkdtempSync(join(tmpdir(), "devserver-")), "devserver");
    execFileSync("go", ["build", "-o", built, "./cmd/devserver"], { cwd: root, stdio: "inherit" });
  }
  return built;
}

/** Starts devserver without watching; resolves to its address and stop(). */
export function serve(args = []) {
  const child = spawn(devserver(), ["serve", "--watch=false", "--port=0", ...args], { cwd: root });
  process.once("exit", () => child.kill());
  let output = "";
  return new Promise((resolve, reject) => {
    const read = (data) => {
      output += data;
      const url = /^ {4}(http\S+)$/m.exec(output)?.[1];
      if (url) resolve({ url, stop: () => stop(child) });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => reject(new Error(`devserver ended with ${code}:\n${output}`)));
  });
}

function stop(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null) return resolve();
    child.on("exit", resolve);
    child.kill();
  });
}

/** Chromium, with WebGPU on the CPU unless gpu is false, and kept off the network. */
export function launch({ gpu = true } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: false, // said by the flag: playwright's own would ask for another binary
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--no-first-run",
      // Zeroing workgroup memory, which no kernel relies on, makes SwiftShader compile eight times as long.
      ...(gpu ? ["--enable-unsafe-webgpu", "--enable-dawn-features=disable_workgroup_init"] : []),
    ],
  });
}

/** A page whose errors and policy violations are collected in page.problems. */
export async function open(context, url) {
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (err) => page.problems.push(`error: ${err.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") page.problems.push(`console: ${message.text()}`);
  });
  page.setDefaultTimeout(20_000);
  await page.goto(url);
  return page;
}

/** Waits until a model is ready. */
export async function ready(page) {
  await page.locator(".model-button .dot.ready").waitFor();
}

/** Writes a message, sends it, and waits for the end of the answer. Returns the answer's locator. */
export async function ask(page, text, { finish = true } = {}) {
  const before = await page.locator(".message.assistant").count();
  await page.locator("#prompt").fill(text);
  await page.keyboard.press("Enter");
  const answer = page.locator(".message.assistant").nth(before);
  await answer.waitFor();
  if (finish) await page.getByRole("button", { name: "Send", exact: true }).waitFor();
  return answer;
}
