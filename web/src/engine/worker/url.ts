// A model at a URL: downloaded once into the browser's origin private file system (OPFS), resumed where it broke off, and
// checked. Files are stored under their SHA-256, with a mark beside them when they have been checked, so that models share
// what they have in common and a manifest that changes costs only what changed. Where there is no storage, or no room,
// shards pass through memory one by one and are downloaded again next time.

import { QwenError } from "../types";
import { type FileInfo, FileMissing, type FilesProgress, MANIFEST, type Manifest, type ModelFiles, ShardMemory, checkContent, parseManifest, sha256 } from "./files";

const PARALLEL = 3; // downloads at a time
const ATTEMPTS = 5; // in a row without a byte
const FIRST_PAUSE = 250; // ms before the second attempt; doubled each time

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A quota that is used up, in any browser's words. */
function isQuotaError(e: unknown): boolean {
  return (e as DOMException).name === "QuotaExceededError";
}

/** Checked files in OPFS. */
class Store {
  private constructor(
    private readonly blobs: FileSystemDirectoryHandle,
    private readonly manifests: FileSystemDirectoryHandle,
  ) {}

  static async open(): Promise<Store> {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("qwen-wgpu", { create: true });
    return new Store(await root.getDirectoryHandle("blobs", { create: true }), await root.getDirectoryHandle("manifests", { create: true }));
  }

  private static async exists(dir: FileSystemDirectoryHandle, name: string): Promise<boolean> {
    return dir.getFileHandle(name).then(
      () => true,
      () => false,
    );
  }

  /** Opens a file for this worker alone. A worker that has just been ended may still hold it. */
  static async lock(dir: FileSystemDirectoryHandle, name: string): Promise<FileSystemSyncAccessHandle> {
    const file = await dir.getFileHandle(name, { create: true });
    for (let attempt = 0; ; attempt++) {
      try {
        return await file.createSyncAccessHandle();
      } catch (e) {
        if (attempt === 20 || (e as DOMException).name !== "NoModificationAllowedError") throw e;
        await pause(150);
      }
    }
  }

  has(info: FileInfo): Promise<boolean> {
    return Store.exists(this.blobs, `${info.sha256}.ok`);
  }

  blob(info: FileInfo): Promise<FileSystemSyncAccessHandle> {
    return Store.lock(this.blobs, info.sha256);
  }

  async markChecked(info: FileInfo): Promise<void> {
    await this.blobs.getFileHandle(`${info.sha256}.ok`, { create: true });
  }

  async forget(info: FileInfo): Promise<void> {
    await this.blobs.removeEntry(`${info.sha256}.ok`).catch(() => {});
    await this.blobs.removeEntry(info.sha256).catch(() => {});
  }

  async readSmall(info: FileInfo): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (!(await this.has(info))) return undefined;
    return new Uint8Array(await (await (await this.blobs.getFileHandle(info.sha256)).getFile()).arrayBuffer());
  }

  async writeSmall(info: FileInfo, data: Uint8Array<ArrayBuffer>): Promise<void> {
    await Store.write(this.blobs, info.sha256, data);
    await this.markChecked(info);
  }

  async readManifest(key: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.manifests.getFileHandle(key).then(
      async (h) => new Uint8Array(await (await h.getFile()).arrayBuffer()),
      () => undefined,
    );
  }

  writeManifest(key: string, data: Uint8Array<ArrayBuffer>): Promise<void> {
    return Store.write(this.manifests, key, data);
  }

  private static async write(dir: FileSystemDirectoryHandle, name: string, data: Uint8Array<ArrayBuffer>): Promise<void> {
    const handle = await Store.lock(dir, name);
    try {
      handle.truncate(0);
      handle.write(data, { at: 0 });
      handle.flush();
    } finally {
      handle.close();
    }
  }
}

export class URLFiles implements ModelFiles {
  private readonly base: URL;
  private store?: Store;
  private manifest: Manifest = { files: [], shards: [] };
  private complete = false; // all shards are in the store, as far as the stored manifest says
  private note?: string;
  private loaded = 0;
  private cached = true;

  private readonly ready = new Map<string, Promise<boolean>>(); // by shard: it is in the store, or (false) must pass through memory
  private readonly memory = new ShardMemory((name) => this.downloadWhole(this.shard(name)), 3);
  private readonly open = new Map<string, FileSystemSyncAccessHandle>(); // for reading
  private scratch = new Uint8Array(0);

  constructor(
    url: string,
    private readonly useStore: boolean,
    private readonly report: (p: FilesProgress) => void,
  ) {
    this.base = new URL(url);
  }

  private progress(bytes: number): void {
    this.loaded += bytes;
    const total = this.manifest.shards.reduce((sum, s) => sum + s.size_bytes, 0);
    this.report({ loaded: this.loaded, total, cached: this.cached, ...(this.note !== undefined && { note: this.note }) });
  }

  /** From now on nothing more is stored. */
  private goUncached(note: string): void {
    this.note ??= note;
    this.progress(0);
  }

  private shard(name: string): FileInfo {
    const info = this.manifest.shards.find((s) => s.name === name);
    if (!info) throw new FileMissing(`${name} is not listed in the manifest`);
    return info;
  }

  private async fetch(name: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(new URL(encodeURIComponent(name), this.base), init);
    } catch (e) {
      throw new QwenError("network", `${name} could not be downloaded from ${this.base.host || "here"}: ${(e as Error).message}`);
    }
  }

  private httpError(name: string, response: Response): QwenError {
    return new QwenError("http", `${name}: the server ${this.base.host} answered ${response.status} ${response.statusText}`.trim());
  }

  async readFile(name: string): Promise<Uint8Array> {
    if (name === MANIFEST) return this.openManifest();
    const info = this.manifest.files.find((f) => f.name === name);
    if (!info) throw new FileMissing(`${name} is not listed in the manifest`);
    const stored = await this.store?.readSmall(info);
    if (stored) return stored;
    let data = await this.small(name, { cache: "no-cache" });
    try {
      await checkContent(info, data);
    } catch {
      data = await this.small(name, { cache: "reload" }); // what the browser or a proxy kept may be from an older model
      await checkContent(info, data);
    }
    await this.store?.writeSmall(info, data).catch(() => {});
    return data;
  }

  private async small(name: string, init: RequestInit): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.fetch(name, init);
    if (!response.ok) throw this.httpError(name, response);
    try {
      return new Uint8Array(await response.arrayBuffer());
    } catch (e) {
      throw new QwenError("network", `${name}: the download broke off: ${(e as Error).message}`);
    }
  }

  /** The server's manifest, or the stored one where the server cannot be reached and the model is here. */
  private async openManifest(): Promise<Uint8Array> {
    if (this.useStore) {
      try {
        this.store = await Store.open();
      } catch (e) {
        this.note = `this browser offers no storage here (${(e as Error).message}): the model is downloaded again at each visit`;
      }
    }
    const key = await sha256(new TextEncoder().encode(this.base.href));
    const stored = await this.store?.readManifest(key);
    if (stored) {
      this.manifest = parseManifest(stored, "the stored manifest");
      const all = await Promise.all([...this.manifest.files, ...this.manifest.shards].map((f) => this.store!.has(f)));
      this.complete = all.every(Boolean);
    }
    try {
      const signal = this.complete ? { signal: AbortSignal.timeout(5000) } : {};
      const data = await this.small(MANIFEST, { cache: "no-cache", ...signal });
      this.manifest = parseManifest(data, new URL(MANIFEST, this.base).href);
      await this.store?.writeManifest(key, data).catch(() => {});
      return data;
    } catch (e) {
      if (stored && this.complete) return stored;
      throw e;
    }
  }

  /** Starts the downloads of what is missing. read() waits for the shard that it needs. */
  async start(): Promise<void> {
    this.loaded = 0;
    this.ready.clear();
    const missing: FileInfo[] = [];
    for (const s of this.manifest.shards) {
      if (this.store && (await this.store.has(s))) {
        this.ready.set(s.name, Promise.resolve(true));
        this.loaded += s.size_bytes;
      } else {
        missing.push(s);
      }
    }
    this.cached = missing.length === 0;
    this.progress(0);
    if (missing.length === 0) return;
    if (this.store) await this.checkRoom(missing);
    const queue = missing.map((info) => {
      let settle!: (stored: Promise<boolean>) => void;
      const done = new Promise<boolean>((resolve) => (settle = resolve));
      done.catch(() => {}); // read() will see it
      this.ready.set(info.name, done);
      return { info, settle };
    });
    const next = async (): Promise<void> => {
      for (let job = queue.shift(); job; job = queue.shift()) {
        const stored = this.store && this.note === undefined ? this.downloadToStore(this.store, job.info) : Promise.resolve(false);
        job.settle(stored);
        await stored.catch(() => {});
      }
    };
    for (let i = 0; i < PARALLEL; i++) void next();
  }

  private async checkRoom(missing: FileInfo[]): Promise<void> {
    const { quota, usage } = await navigator.storage.estimate().catch(() => ({ quota: undefined, usage: undefined }));
    if (quota === undefined || usage === undefined) return;
    let needed = 0;
    for (const info of missing) needed += info.size_bytes;
    if (needed > quota - usage) {
      const mb = (n: number): string => `${Math.ceil(n / 1e6)} MB`;
      this.goUncached(`the model needs ${mb(needed)} of storage and the browser gives ${mb(Math.max(0, quota - usage))}: it is not kept and is downloaded again at the next visit`);
    }
  }

  /** Downloads one shard into the store, from where an earlier download broke off. false: there is no room. */
  private async downloadToStore(store: Store, info: FileInfo): Promise<boolean> {
    let counted = 0; // bytes of this shard in this.loaded
    let handle: FileSystemSyncAccessHandle | undefined;
    try {
      handle = await store.blob(info);
      for (let fresh = false; ; fresh = true) {
        let have = handle.getSize();
        if (fresh || have > info.size_bytes) {
          handle.truncate(0);
          have = 0;
        }
        this.progress(have - counted);
        counted = have;
        await this.stream(info, have, (chunk, at) => {
          if (handle!.write(chunk, { at }) !== chunk.length) throw new DOMException("a write was cut short", "QuotaExceededError");
          this.progress(at + chunk.length - counted);
          counted = at + chunk.length;
        });
        const data = new Uint8Array(info.size_bytes);
        handle.flush();
        handle.read(data, { at: 0 });
        try {
          await checkContent(info, data);
          break;
        } catch (e) {
          if (fresh) {
            handle.truncate(0); // or the next visit would begin with what is damaged
            throw e;
          }
        }
      }
      await store.markChecked(info);
      return true;
    } catch (e) {
      if (!isQuotaError(e) && (e as DOMException).name !== "NoModificationAllowedError") throw e;
      this.goUncached(`the browser's storage is full (${(e as Error).message}): the model is not kept and is downloaded again at the next visit`);
      this.progress(-counted);
      handle?.close();
      handle = undefined;
      await store.forget(info);
      return false;
    } finally {
      handle?.close();
    }
  }

  /** Downloads one shard into memory. */
  private async downloadWhole(info: FileInfo): Promise<Uint8Array> {
    for (let last = false; ; last = true) {
      const data = new Uint8Array(info.size_bytes);
      let counted = 0;
      await this.stream(info, 0, (chunk, at) => {
        data.set(chunk, at);
        this.progress(at + chunk.length - counted);
        counted = at + chunk.length;
      });
      try {
        await checkContent(info, data);
        return data;
      } catch (e) {
        if (last) throw e;
        this.progress(-counted);
      }
    }
  }

  /** Streams a file from offset `have` on; what breaks off goes on with a Range request. */
  private async stream(info: FileInfo, have: number, write: (chunk: Uint8Array<ArrayBuffer>, at: number) => void): Promise<void> {
    let failures = 0;
    let furthest = have; // a file that is too short starts again and again, and gets no further
    while (have < info.size_bytes) {
      let problem: QwenError | undefined;
      try {
        const response = await this.fetch(info.name, { cache: "no-store", ...(have > 0 && { headers: { Range: `bytes=${have}-` } }) });
        const { status } = response;
        if (status === 416) {
          have = 0;
        } else if (!response.ok) {
          problem = this.httpError(info.name, response);
          if (status < 500 && status !== 408 && status !== 429) throw problem;
        } else {
          if (status !== 206 || !(response.headers.get("content-range") ?? `bytes ${have}-`).startsWith(`bytes ${have}-`)) have = 0; // the server sends all of it
          have = await this.receive(info, response, have, write);
        }
        problem ??= new QwenError("truncated", `${info.name}: the server ${this.base.host} ended it after ${Math.max(have, furthest)} of ${info.size_bytes} bytes`);
      } catch (e) {
        if (!(e instanceof Interrupted) && !(e instanceof QwenError && e.code === "network")) throw e;
        if (e instanceof Interrupted) have = e.have;
        problem = new QwenError("network", e.message);
      }
      if (have >= info.size_bytes) return;
      failures = have > furthest ? 0 : failures + 1;
      furthest = Math.max(furthest, have);
      if (failures === ATTEMPTS) throw problem;
      await pause(FIRST_PAUSE * 2 ** failures);
    }
  }

  private async receive(info: FileInfo, response: Response, have: number, write: (chunk: Uint8Array<ArrayBuffer>, at: number) => void): Promise<number> {
    const reader = response.body!.getReader();
    for (;;) {
      let part: ReadableStreamReadResult<Uint8Array<ArrayBuffer>>;
      try {
        part = await reader.read();
      } catch (e) {
        throw new Interrupted(`${info.name}: the download broke off after ${have} of ${info.size_bytes} bytes: ${(e as Error).message}`, have);
      }
      if (part.done) return have;
      if (have + part.value.length > info.size_bytes) {
        void reader.cancel();
        throw new QwenError("truncated", `${info.name} is longer than the ${info.size_bytes} bytes that the manifest says`);
      }
      write(part.value, have);
      have += part.value.length;
    }
  }

  async read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const info = this.shard(name);
    if (!(await this.ready.get(name))) return (await this.memory.get(name)).subarray(offset, offset + length);
    let handle = this.open.get(name);
    if (!handle) {
      handle = await this.store!.blob(info);
      this.open.set(name, handle);
    }
    if (this.scratch.length < length) this.scratch = new Uint8Array(length);
    const into = this.scratch.subarray(0, length);
    const n = handle.read(into, { at: offset });
    if (n === length) return into;
    this.idle();
    await this.store!.forget(info);
    throw new QwenError("truncated", `${name} in the browser's storage is damaged; load the model again to repair it`);
  }

  /** Closes what is open, so that another tab may have it. */
  idle(): void {
    for (const handle of this.open.values()) handle.close();
    this.open.clear();
    this.memory.clear();
  }
}

class Interrupted extends Error {
  constructor(
    message: string,
    readonly have: number,
  ) {
    super(message);
  }
}
