// Go's own glue for Node: the class Go, with what it expects to find in globalThis. The file wasm_exec.js comes from the
// Go installation that compiled the program, or from a copy beside the program.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import * as fs from "node:fs";
import * as path from "node:path";
import vm from "node:vm";

/** @param {string} wasmFile the program */
export function loadGo(wasmFile) {
  let file = path.join(path.dirname(wasmFile), "wasm_exec.js");
  if (!existsSync(file)) file = path.join(execFileSync("go", ["env", "GOROOT"], { encoding: "utf8" }).trim(), "lib/wasm/wasm_exec.js");
  Object.assign(globalThis, {
    path,
    fs: {
      ...fs,
      // Standard output is written at once: Node's asynchronous write would wait for Dawn.
      write(fd, buf, offset, length, position, done) {
        if (fd > 2) return fs.write(fd, buf, offset, length, position, done);
        let n = 0;
        while (n < length) {
          try {
            n += fs.writeSync(fd, buf, offset + n, length - n);
          } catch (e) {
            if (e.code !== "EAGAIN") return done(e);
          }
        }
        done(null, n);
      },
    },
  });
  vm.runInThisContext(readFileSync(file, "utf8"), { filename: file });
  return new globalThis.Go();
}
