// The JavaScript half of this package: the functions that its //go:wasmimport declarations name, over a GPU object. It
// runs in a worker, a page and Node. It owns the WebGPU objects, which Go knows by number, and the pool of mapped
// staging buffers; what may be asked of them is checked in Go. install() comes before WebAssembly.instantiate.
//
// No function here may throw into WebAssembly or call Go before it returns: results and errors come later, through the
// handlers that Go sets on the object that install() returns and puts into globalThis.qwgpu.

const STATUS = { ok: 0, validation: 1, memory: 2, internal: 3, lost: 4 };

const BINDING_TYPES = /** @type {GPUBufferBindingType[]} */ (["uniform", "read-only-storage", "storage"]); // by gpu.BindingKind

// The limits that the engine reads, in the order of gpu.Limits.
const LIMITS = /** @type {const} */ ([
  "maxBufferSize", "maxStorageBufferBindingSize", "maxUniformBufferBindingSize", "minStorageBufferOffsetAlignment",
  "minUniformBufferOffsetAlignment", "maxStorageBuffersPerShaderStage", "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupSizeX", "maxComputeWorkgroupsPerDimension",
]);

// Asked for too, so that a workgroup of any shape that fits the limits above can be used.
const MORE_LIMITS = ["maxComputeWorkgroupSizeY", "maxComputeWorkgroupSizeZ"];

const FEATURES = /** @type {GPUFeatureName[]} */ (["subgroups", "shader-f16", "timestamp-query"]);

const OP_DISPATCH = 0; // op, pipeline, group, x, y, z
const OP_COPY = 1; // op, source, destination, then three offsets and sizes of two words: from, to, size

const MIN_STAGING = 256;
const MAX_POOLED_STAGING = 16 << 20; // larger ones are freed after use
const POOL_BYTES = 64 << 20;

/**
 * @typedef {object} Options
 * @property {GPU} [gpu] default: navigator.gpu
 * @property {string} [library] name and version of the WebGPU implementation; default: the browser's
 * @property {(on: boolean) => void} [spin] has it look for finished work without a pause; default: a browser needs not be told
 * @property {string[]} [without] features that are not asked for though the adapter has them
 * @typedef {object} Opened
 * @property {GPUDevice} device
 * @property {Map<string, {groups: GPUBindGroupLayout, pipeline: GPUPipelineLayout}>} layouts by binding kinds
 * @property {Map<number, GPUBuffer[]>} staging unmapped, by size
 * @property {number} stagingBytes
 * @property {boolean} closing
 * @property {Promise<unknown>} lost
 */

/**
 * Adds the imports of this package to a Go program that has not been instantiated yet.
 * @param {any} go an instance of the class Go of wasm_exec.js
 * @param {Options} [options]
 */
export function install(go, options = {}) {
  const gpu = options.gpu ?? globalThis.navigator?.gpu;
  const decoder = new TextDecoder();

  /** @type {any[]} objects by number; 0 is none */
  const objects = [undefined];
  /** @type {number[]} */
  const free = [];
  const put = (/** @type {any} */ object) => {
    const id = free.pop() ?? objects.length;
    objects[id] = object;
    return id;
  };
  const take = (/** @type {number} */ id) => {
    const object = objects[id];
    objects[id] = undefined;
    free.push(id);
    return object;
  };

  // A view is made for each call: the memory's buffer is another one after it has grown.
  const bytes = (/** @type {number} */ at, /** @type {number} */ n) => new Uint8Array(go._inst.exports.mem.buffer, at >>> 0, n);
  const words = (/** @type {number} */ at, /** @type {number} */ n) => new Uint32Array(go._inst.exports.mem.buffer, at >>> 0, n);
  const floats = (/** @type {number} */ at, /** @type {number} */ n) => new Float64Array(go._inst.exports.mem.buffer, at >>> 0, n);
  const string = (/** @type {number} */ at, /** @type {number} */ n) => decoder.decode(bytes(at, n));

  /** @type {Set<GPUDevice>} */
  const devices = new Set();

  /** What Go finds in globalThis.qwgpu; it sets the two handlers. */
  const hooks = {
    /** @type {(token: number, status: number, text: string | undefined) => void} */
    complete: () => {},
    /** @type {(device: number, lost: boolean, text: string) => void} */
    trouble: () => {},
    /** Milliseconds that Go took since the program started, with all that it called. */
    busy: () => busy + (depth > 0 ? performance.now() - since : 0),
    /** For tests: destroys all devices, as a driver reset would. */
    loseDevices: () => devices.forEach((device) => device.destroy()),
  };
  /** @type {any} */ (globalThis).qwgpu = hooks;

  // Go runs only inside _resume, which its callbacks and timers call.
  const resume = go._resume;
  let depth = 0;
  let since = 0;
  let busy = 0;
  go._resume = () => {
    if (depth++ === 0) since = performance.now();
    try {
      resume.call(go);
    } finally {
      if (--depth === 0) busy += performance.now() - since;
    }
  };

  const complete = (/** @type {number} */ token, /** @type {number} */ status, /** @type {string | undefined} */ text = undefined) => {
    if (!go.exited) hooks.complete(token, status, text);
  };
  const trouble = (/** @type {number} */ dev, /** @type {boolean} */ lost, /** @type {string} */ text) => {
    if (!go.exited) hooks.trouble(dev, lost, text);
  };
  const messageOf = (/** @type {unknown} */ e) => (e instanceof Error || (typeof e === "object" && e !== null && "message" in e) ? String(/** @type {any} */ (e).message) : String(e));
  const statusOf = (/** @type {unknown} */ e) => {
    const name = /** @type {any} */ (e)?.constructor?.name ?? "";
    if (name.includes("OutOfMemory")) return STATUS.memory;
    if (name.includes("Internal")) return STATUS.internal;
    return STATUS.validation;
  };

  /** Runs what must not throw; a throw counts as an error of the device. */
  const guard = (/** @type {number} */ dev, /** @type {string} */ what, /** @type {() => number | void} */ fn) => {
    try {
      return fn() ?? 0;
    } catch (e) {
      queueMicrotask(() => trouble(dev, false, `${what}: ${messageOf(e)}`));
      return 0;
    }
  };

  /** Creates an object within error scopes and completes token when they have told. */
  const scoped = (/** @type {number} */ token, /** @type {GPUDevice} */ device, /** @type {() => any} */ create) => {
    let id = 0;
    /** @type {unknown} */
    let thrown;
    const filters = /** @type {GPUErrorFilter[]} */ (["internal", "out-of-memory", "validation"]);
    for (const f of filters) device.pushErrorScope(f);
    try {
      id = put(create());
    } catch (e) {
      thrown = e;
    }
    Promise.all(filters.map(() => device.popErrorScope())).then(
      (errors) => {
        const error = thrown ?? errors.find((e) => e !== null);
        complete(token, error ? (thrown ? STATUS.validation : statusOf(error)) : STATUS.ok, error ? messageOf(error) : undefined);
      },
      (e) => complete(token, STATUS.lost, messageOf(e)),
    );
    return id;
  };

  /** Waits for device.lost a little, since an operation may fail before the loss is told. */
  const whyFailed = async (/** @type {Opened} */ d, /** @type {unknown} */ e, wait = 200) => {
    const lost = await Promise.race([d.lost, new Promise((done) => setTimeout(done, wait))]);
    return lost ? STATUS.lost : statusOf(e);
  };

  const request = async () => {
    if (!gpu) throw new Error("there is no WebGPU here (navigator.gpu is missing)");
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new Error("WebGPU offers no adapter on this machine");
    const requiredFeatures = FEATURES.filter((f) => adapter.features.has(f) && !options.without?.includes(f));
    /** @type {Record<string, number>} */
    const requiredLimits = {};
    for (const name of [...LIMITS, ...MORE_LIMITS]) {
      const value = /** @type {any} */ (adapter.limits)[name];
      if (value !== undefined) requiredLimits[name] = value;
    }
    const device = await adapter.requestDevice({ label: "qwen-wgpu", requiredFeatures, requiredLimits });
    /** @type {Opened} */
    const d = { device, layouts: new Map(), staging: new Map(), stagingBytes: 0, closing: false, lost: device.lost };
    const id = put(d);
    devices.add(device);
    device.lost.then((info) => {
      devices.delete(device);
      if (!d.closing) trouble(id, true, info.message || info.reason || "no reason given");
    });
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      trouble(id, false, messageOf(event.error));
    });
    const info = /** @type {any} */ (adapter.info ?? {});
    return {
      id,
      info: {
        name: info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(" ") || "WebGPU adapter",
        vendor: info.vendor ?? "", type: info.isFallbackAdapter || info.architecture === "swiftshader" ? "cpu" : "unknown",
        library: options.library ?? libraryName(),
      },
      limits: LIMITS.map((name) => /** @type {any} */ (device.limits)[name] ?? 0),
      features: [...device.features],
      subgroups: [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0],
    };
  };

  const layout = (/** @type {Opened} */ d, /** @type {Uint8Array} */ kinds) => {
    const key = kinds.join();
    let l = d.layouts.get(key);
    if (!l) {
      const entries = [...kinds].map((kind, binding) => ({ binding, visibility: 4 /* COMPUTE */, buffer: { type: BINDING_TYPES[kind] } }));
      const groups = d.device.createBindGroupLayout({ entries });
      l = { groups, pipeline: d.device.createPipelineLayout({ bindGroupLayouts: [groups] }) };
      d.layouts.set(key, l);
    }
    return l;
  };

  const compile = async (/** @type {Opened} */ d, /** @type {number} */ id, /** @type {object} */ claim, /** @type {Uint8Array} */ kinds, /** @type {string} */ label, /** @type {string} */ code, /** @type {string} */ entryPoint) => {
    const { device } = d;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code });
    const bad = device.popErrorScope();
    const pipeline = device.createComputePipelineAsync({ label, layout: layout(d, kinds).pipeline, compute: { module, entryPoint } });
    pipeline.catch(() => {}); // awaited below
    const error = await bad;
    if (error) {
      const info = await module.getCompilationInfo();
      const lines = info.messages.filter((m) => m.type === "error").map((m) => `line ${m.lineNum}:${m.linePos}: ${m.message}`);
      throw new Error(lines.join("\n") || messageOf(error));
    }
    const compiled = await pipeline;
    if (objects[id] === claim) objects[id] = compiled; // or Go has released it meanwhile
  };

  const releaseStaging = (/** @type {Opened} */ d, /** @type {GPUBuffer} */ buffer) => {
    buffer.unmap();
    if (d.closing || buffer.size > MAX_POOLED_STAGING || d.stagingBytes + buffer.size > POOL_BYTES) {
      buffer.destroy();
      return;
    }
    d.stagingBytes += buffer.size;
    const list = d.staging.get(buffer.size);
    if (list) list.push(buffer);
    else d.staging.set(buffer.size, [buffer]);
  };

  const takeStaging = (/** @type {Opened} */ d, /** @type {number} */ size) => {
    let n = MIN_STAGING;
    if (size > MAX_POOLED_STAGING) n = size;
    else while (n < size) n *= 2;
    const pooled = d.staging.get(n)?.pop();
    if (pooled) {
      d.stagingBytes -= n;
      return pooled;
    }
    return d.device.createBuffer({ label: "staging", size: n, usage: 0x9 /* MAP_READ | COPY_DST */ });
  };

  /** Encodes passes: n Go slices at `at`, which are pointer, length and capacity in 64 bits each. */
  const replay = (/** @type {GPUCommandEncoder} */ encoder, /** @type {number} */ at, /** @type {number} */ n) => {
    const slices = words(at, 6 * n);
    /** @type {GPUComputePassEncoder | undefined} */
    let pass;
    let pipeline = 0;
    let group = 0;
    for (let k = 0; k < slices.length; k += 6) {
      const code = words(slices[k], slices[k + 2]);
      for (let i = 0; i < code.length; ) {
        if (code[i] === OP_DISPATCH) {
          if (!pass) {
            pass = encoder.beginComputePass();
            pipeline = group = 0;
          }
          if (code[i + 1] !== pipeline) pass.setPipeline(objects[(pipeline = code[i + 1])]);
          if (code[i + 2] !== group) pass.setBindGroup(0, objects[(group = code[i + 2])]);
          // A parameter less is a good deal where the binding converts each.
          if (code[i + 4] === 1 && code[i + 5] === 1) pass.dispatchWorkgroups(code[i + 3]);
          else pass.dispatchWorkgroups(code[i + 3], code[i + 4], code[i + 5]);
          i += 6;
        } else {
          pass?.end();
          pass = undefined;
          const wide = (/** @type {number} */ at) => code[i + at] + code[i + at + 1] * 4294967296;
          encoder.copyBufferToBuffer(objects[code[i + 1]], wide(3), objects[code[i + 2]], wide(5), wide(7));
          i += 9;
        }
      }
    }
    pass?.end();
  };

  // Parameters are in the order of the declarations in imports.go; a Go string is two of them.
  go.importObject.qwgpu = {
    request: (/** @type {number} */ token) => {
      request().then((opened) => complete(token, STATUS.ok, JSON.stringify(opened)), (e) => complete(token, STATUS.internal, messageOf(e)));
    },
    spin: (/** @type {number} */ on) => options.spin?.(on !== 0),
    close: (/** @type {number} */ dev) => {
      guard(dev, "close", () => {
        const d = /** @type {Opened} */ (take(dev));
        d.closing = true;
        d.device.destroy();
      });
    },
    buffer: (/** @type {number} */ dev, /** @type {number} */ token, /** @type {number} */ at, /** @type {number} */ n, /** @type {number} */ size, /** @type {number} */ usage) => {
      const { device } = /** @type {Opened} */ (objects[dev]);
      return scoped(token, device, () => device.createBuffer({ label: string(at, n), size, usage }));
    },
    release_buffer: (/** @type {number} */ id) => {
      if (id) take(id).destroy();
    },
    release: (/** @type {number} */ id) => {
      if (id) take(id);
    },
    kernel: (/** @type {number} */ dev, /** @type {number} */ token, /** @type {number} */ kindsAt, /** @type {number} */ kindsLen, /** @type {number} */ labelAt, /** @type {number} */ labelLen, /** @type {number} */ codeAt, /** @type {number} */ codeLen, /** @type {number} */ entryAt, /** @type {number} */ entryLen) => {
      const d = /** @type {Opened} */ (objects[dev]);
      const claim = {};
      const id = put(claim);
      compile(d, id, claim, bytes(kindsAt, kindsLen).slice(), string(labelAt, labelLen), string(codeAt, codeLen), string(entryAt, entryLen)).then(
        () => complete(token, STATUS.ok),
        async (e) => complete(token, await whyFailed(d, e), messageOf(e)),
      );
      return id;
    },
    bind: (/** @type {number} */ dev, /** @type {number} */ kindsAt, /** @type {number} */ kindsLen, /** @type {number} */ labelAt, /** @type {number} */ labelLen, /** @type {number} */ entriesAt) =>
      guard(dev, "bind", () => {
        const d = /** @type {Opened} */ (objects[dev]);
        const list = floats(entriesAt, 3 * kindsLen); // buffer, offset, size
        const entries = [];
        for (let i = 0; i < kindsLen; i++) entries.push({ binding: i, resource: { buffer: objects[list[3 * i]], offset: list[3 * i + 1], size: list[3 * i + 2] } });
        return put(d.device.createBindGroup({ label: string(labelAt, labelLen), layout: layout(d, bytes(kindsAt, kindsLen)).groups, entries }));
      }),
    write: (/** @type {number} */ dev, /** @type {number} */ buffer, /** @type {number} */ offset, /** @type {number} */ at, /** @type {number} */ n) => {
      guard(dev, "write", () => objects[dev].device.queue.writeBuffer(objects[buffer], offset, go._inst.exports.mem.buffer, at >>> 0, n));
    },
    submit: (/** @type {number} */ dev, /** @type {number} */ at, /** @type {number} */ n) => {
      guard(dev, "submit", () => {
        const { device } = /** @type {Opened} */ (objects[dev]);
        const encoder = device.createCommandEncoder();
        replay(encoder, at, n);
        device.queue.submit([encoder.finish()]);
      });
    },
    flush: (/** @type {number} */ dev, /** @type {number} */ token) => {
      const d = /** @type {Opened} */ (objects[dev]);
      d.device.queue.onSubmittedWorkDone().then(() => complete(token, STATUS.ok), async (e) => complete(token, await whyFailed(d, e), messageOf(e)));
    },
    download: (/** @type {number} */ dev, /** @type {number} */ token, /** @type {number} */ buffer, /** @type {number} */ offset, /** @type {number} */ size, /** @type {number} */ codeAt, /** @type {number} */ numPasses) => {
      const d = /** @type {Opened} */ (objects[dev]);
      // A mapping hardly fails but for a loss, and a busy browser may tell that late.
      const failed = async (/** @type {unknown} */ e) => complete(token, await whyFailed(d, e, 2000), messageOf(e));
      try {
        const staging = takeStaging(d, size);
        const encoder = d.device.createCommandEncoder();
        replay(encoder, codeAt, numPasses);
        encoder.copyBufferToBuffer(objects[buffer], offset, staging, 0, size);
        d.device.queue.submit([encoder.finish()]);
        staging.mapAsync(1 /* READ */, 0, size).then(() => complete(token, STATUS.ok), failed);
        return put(staging);
      } catch (e) {
        failed(e);
        return 0;
      }
    },
    read: (/** @type {number} */ dev, /** @type {number} */ id, /** @type {number} */ at, /** @type {number} */ n) => {
      guard(dev, "read", () => {
        const staging = /** @type {GPUBuffer} */ (take(id));
        bytes(at, n).set(new Uint8Array(staging.getMappedRange(0, n)));
        releaseStaging(objects[dev], staging);
      });
    },
    drop: (/** @type {number} */ dev, /** @type {number} */ id) => {
      guard(dev, "drop", () => releaseStaging(objects[dev], take(id)));
    },
  };
  return hooks;
}

/** The browser's name and version, with the WebGPU implementation that it is known to have. */
function libraryName() {
  const agent = globalThis.navigator?.userAgent ?? "";
  for (const [pattern, name] of /** @type {const} */ ([[/Firefox\/([\d.]+)/, "Firefox $ (wgpu)"], [/Chrome\/([\d.]+)/, "Chrome $ (Dawn)"], [/Version\/([\d.]+).*Safari/, "Safari $ (WebKit)"]])) {
    const found = pattern.exec(agent);
    if (found) return name.replace("$", found[1]);
  }
  return agent || "WebGPU";
}
