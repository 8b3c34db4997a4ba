// Dawn, Chrome's WebGPU, in Node: what navigator.gpu is in a browser.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

// Debian's chromium brings SwiftShader, a Vulkan device on the CPU. It serves where no driver is named and no GPU is there.
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * @param {"gpu" | "swiftshader" | "null"} device the machine's own; a CPU device; or one that runs nothing, with WebGPU's
 *   default limits: for what Go and JavaScript cost, and for whether kernels fit the limits
 * @param {string[]} [toggles] more of Dawn's toggles to set
 * @returns {Promise<{gpu: GPU, library: string, spin: (on: boolean) => void}>}
 */
export async function openDawn(device, toggles = []) {
  const swiftshader = device === "swiftshader";
  if (swiftshader) process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES = SWIFTSHADER;
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  const spin = askSeldom(swiftshader);
  // Zeroing workgroup memory, which no kernel relies on, makes SwiftShader compile eight times as long.
  const features = ["allow_unsafe_apis", ...toggles, ...(swiftshader ? ["disable_workgroup_init"] : [])];
  const { version } = JSON.parse(readFileSync(fileURLToPath(new URL("package.json", import.meta.resolve("webgpu"))), "utf8"));
  return { gpu: create([`backend=${device === "null" ? "null" : "vulkan"}`, `enable-dawn-features=${features.join()}`]), library: `Dawn (npm webgpu ${version}, Node ${process.versions.node})`, spin };
}

/**
 * The bindings look for finished work from setImmediate to setImmediate while anything is in flight, which keeps a processor busy that
 * a browser leaves alone; from now on, once a millisecond, but without a pause while it spins, also where a look was due later. A CPU
 * device needs the processors itself.
 */
export function askSeldom(/** @type {boolean} */ onCPU) {
  const { setImmediate } = globalThis;
  const due = new Map(); // looks by their timers
  let spins = false;
  globalThis.setImmediate = (callback, ...args) => {
    if (spins) return setImmediate(callback, ...args);
    const look = () => {
      due.delete(timer);
      callback(...args);
    };
    const timer = setTimeout(look, 1);
    due.set(timer, look);
    return timer;
  };
  return (/** @type {boolean} */ on) => {
    spins = on && !onCPU;
    if (!spins) return;
    for (const [timer, look] of due) {
      clearTimeout(timer);
      setImmediate(look);
    }
    due.clear();
  };
}
