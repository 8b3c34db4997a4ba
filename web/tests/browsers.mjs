// Where WebAssembly test programs of Go run: Node with Dawn, Chromium and Firefox. A test program is `go test -c` for
// GOOS=js; in a browser it writes to the page, which hands the text back to a server here.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, root } from "./page-harness.mjs";

export const work = mkdtempSync(join(tmpdir(), "qwen-wgpu-tests-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

/** Compiles a package's tests to WebAssembly; returns the file. */
export function buildTests(pkg) {
  const out = join(work, `${pkg.replaceAll(/\W/g, "_")}.test.wasm`);
  execFileSync("go", ["test", "-c", "-o", out, pkg], { cwd: root, env: { ...process.env, GOOS: "js", GOARCH: "wasm" }, stdio: "inherit" });
  return out;
}

/** Runs a test program under Node with Dawn in the package's directory; returns {code, output}. */
export function runInNode(program, args, { device = "swiftshader", dir = root } = {}) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, QWEN_WGPU_DAWN: device, XDG_RUNTIME_DIR: work };
    const child = spawn(process.execPath, [join(root, "web/node/exec.mjs"), program, ...args], { cwd: dir, env });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("error", reject);
    child.on("exit", (code) => resolve({ code, output }));
  });
}

const goRoot = execFileSync("go", ["env", "GOROOT"], { encoding: "utf8" }).trim();

const PAGE = `<!doctype html><meta charset="utf-8"><title>tests</title>
<script src="/wasm_exec.js"></script>
<script type="module">
  import { install } from "/glue.js";
  const { args } = await (await fetch("/run")).json();
  let output = "";
  const decoder = new TextDecoder();
  fs.writeSync = (fd, bytes) => { output += decoder.decode(bytes, { stream: true }); return bytes.length; };
  const done = (code) => fetch("/done", { method: "POST", body: JSON.stringify({ code, output }) });
  addEventListener("error", (e) => { output += e.message; done(-1); });
  addEventListener("unhandledrejection", (e) => { output += e.reason; done(-1); });
  const go = new Go();
  go.argv = ["test", ...args];
  go.exit = done;
  install(go);
  const { instance } = await WebAssembly.instantiateStreaming(fetch("/test.wasm"), go.importObject);
  await go.run(instance);
</script>`;

/** Serves a test program's page; start(browser) opens it, and the promise has {code, output}. */
export async function runInPage(program, args, start, { files = {} } = {}) {
  let finish;
  const result = new Promise((resolve) => (finish = resolve));
  const types = { html: "text/html; charset=utf-8", js: "text/javascript", wasm: "application/wasm" };
  const served = {
    "/": ["html", PAGE],
    "/wasm_exec.js": ["js", readFileSync(join(goRoot, "lib/wasm/wasm_exec.js"))],
    "/glue.js": ["js", readFileSync(join(root, "engine/gpu/browser/glue.js"))],
    "/test.wasm": ["wasm", readFileSync(program)],
  };
  const server = createServer((request, response) => {
    if (request.url === "/run") return response.end(JSON.stringify({ args: args.map((a) => a.replace("ORIGIN", `http://127.0.0.1:${server.address().port}`)) }));
    if (request.url === "/done") {
      let body = "";
      request.on("data", (data) => (body += data));
      request.on("end", () => {
        response.end();
        finish(JSON.parse(body));
      });
      return;
    }
    const file = files[request.url];
    const [type, content] = served[request.url] ?? (file ? ["bin", readFileSync(file)] : []);
    if (!type) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": types[type] ?? "application/octet-stream" }).end(content);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = await start(`http://127.0.0.1:${server.address().port}/`, (message) => finish({ code: -1, output: message }));
  try {
    return await result;
  } finally {
    await stop();
    server.closeAllConnections();
    server.close();
  }
}

/** Chromium, for runInPage. */
export async function inChromium(url, failed) {
  const browser = await launch();
  const page = await browser.newPage();
  page.on("crash", () => failed("the page crashed"));
  await page.goto(url);
  return () => browser.close();
}

export const firefox = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

// Enough to have WebGPU, and to be alone: no network but the test's.
const PREFERENCES = {
  "dom.webgpu.enabled": true,
  "dom.webgpu.workers.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.homepage_override.mstone": "ignore",
  "datareporting.policy.dataSubmissionEnabled": false,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
  "app.normandy.enabled": false,
  "app.update.enabled": false,
  "browser.safebrowsing.downloads.remote.enabled": false,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "extensions.getAddons.cache.enabled": false,
  "extensions.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,#remote-settings-dummy/v1",
  "media.gmp-manager.updateEnabled": false,
};

/** Firefox with WebGPU on Mesa's CPU device, for runInPage. */
export async function inFirefox(url, failed) {
  const profile = mkdtempSync(join(work, "firefox-"));
  writeFileSync(join(profile, "user.js"), Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(""));
  const child = spawn(firefox, ["--headless", "--no-remote", "--profile", profile, url], { env: { ...process.env, HOME: profile, MOZ_DISABLE_CONTENT_SANDBOX: "1" }, stdio: ["ignore", "ignore", "pipe"], detached: true });
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  const exited = new Promise((resolve) => child.on("exit", resolve));
  const kill = () => {
    try {
      process.kill(-child.pid); // and its content processes
    } catch {
      // it has ended
    }
  };
  process.once("exit", kill);
  let stopping = false;
  exited.then((code) => stopping || failed(`Firefox ended with ${code}:\n${errors}`));
  return async () => {
    stopping = true;
    kill();
    await exited;
    process.off("exit", kill);
  };
}
