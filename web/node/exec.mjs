// Runs a js/wasm program of Go under Node with Dawn, for `go test -exec "node web/node/exec.mjs"` and `go run -exec`.
// QWEN_WGPU_DAWN is the device, see openDawn: swiftshader (the default), gpu or null.
// Usage: node web/node/exec.mjs PROGRAM.wasm [ARGUMENT ...]
import { readFileSync } from "node:fs";
import { install } from "../../engine/gpu/browser/glue.js";
import { openDawn } from "./dawn.mjs";
import { loadGo } from "./go.mjs";

const [program, ...args] = process.argv.slice(2);
if (!program) {
  console.error("usage: node exec.mjs PROGRAM.wasm [ARGUMENT ...]");
  process.exit(2);
}
const go = loadGo(program);
go.argv = [program, ...args];
const environment = Object.entries(process.env).filter(([name]) => /^(QWEN_WGPU_|GO|TMPDIR$|PATH$|HOME$|PWD$)/.test(name));
go.env = Object.fromEntries(environment);
go.exit = (code) => process.exit(code);
install(go, await openDawn(process.env.QWEN_WGPU_DAWN || "swiftshader"));
const { instance } = await WebAssembly.instantiate(readFileSync(program), go.importObject);
process.on("exit", (code) => {
  if (code === 0 && !go.exited) {
    console.error("exec.mjs: the program waits for something that will never come");
    go._pendingEvent = { id: 0 }; // makes Go print where its goroutines are
    go._resume();
    process.exitCode = 1;
  }
});
await go.run(instance);
