// Where the engine in the worker reads a model's files from. What read() hands out has the SHA-256 that the manifest
// names: it was checked when it was downloaded, or is checked when it is first read. url.ts has the downloads.

import { QwenError } from "../types";

/** What cmd/wasm/source.go calls. */
export interface ModelFiles {
  /** A small file, whole. One that the model does not have rejects with a FileMissing. */
  readFile(name: string): Promise<Uint8Array>;
  /** The model fits this GPU: shards will be read. */
  start(): Promise<void>;
  /** Bytes of a shard; valid until the next call. */
  read(name: string, offset: number, length: number): Promise<Uint8Array> | Uint8Array;
  /** All has been read for now. */
  idle(): void;
}

export interface FileInfo {
  name: string;
  size_bytes: number;
  sha256: string;
}

export interface Manifest {
  files: FileInfo[];
  shards: FileInfo[];
}

/** How far the files are; loaded counts what is here, whether downloaded now or before. */
export interface FilesProgress {
  loaded: number;
  total: number;
  cached: boolean;
  note?: string;
}

export class FileMissing extends Error {
  readonly code = "not_found";
}

export const MANIFEST = "manifest.json";

export function parseManifest(data: Uint8Array, where: string): Manifest {
  try {
    const m = JSON.parse(new TextDecoder().decode(data)) as Manifest;
    if (Array.isArray(m.files) && Array.isArray(m.shards)) return m;
  } catch {
    // said below
  }
  throw new QwenError("invalid", `${where} is not the manifest of a packed model`);
}

export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}

export async function checkContent(info: FileInfo, data: Uint8Array<ArrayBuffer>): Promise<void> {
  if (data.length !== info.size_bytes) {
    throw new QwenError("truncated", `${info.name} has ${data.length} bytes, but the manifest says ${info.size_bytes}`);
  }
  const sum = await sha256(data);
  if (sum !== info.sha256) {
    throw new QwenError("hash", `${info.name} is damaged: its SHA-256 is ${sum}, but the manifest says ${info.sha256}`);
  }
}

/** The shards that were read last, whole: for sources that cannot be read in parts or must be checked first. */
export class ShardMemory {
  private readonly held = new Map<string, Promise<Uint8Array>>();

  constructor(
    private readonly load: (name: string) => Promise<Uint8Array>,
    private readonly capacity: number,
  ) {}

  get(name: string): Promise<Uint8Array> {
    let shard = this.held.get(name);
    if (shard) {
      this.held.delete(name); // and in again, as the newest
    } else {
      shard = this.load(name);
      shard.catch(() => this.held.delete(name));
    }
    this.held.set(name, shard);
    for (const oldest of this.held.keys()) {
      if (this.held.size <= this.capacity) break;
      this.held.delete(oldest);
    }
    return shard;
  }

  clear(): void {
    this.held.clear();
  }
}

/** A directory that the user picked. */
export class DirectoryFiles implements ModelFiles {
  private manifest?: Manifest;
  private readonly memory = new ShardMemory((name) => this.shard(name), 2);
  private loaded = 0;
  private readonly seen = new Set<string>();

  constructor(
    private readonly directory: FileSystemDirectoryHandle,
    private readonly report: (p: FilesProgress) => void,
  ) {}

  private async bytes(name: string): Promise<Uint8Array<ArrayBuffer>> {
    let handle: FileSystemFileHandle;
    try {
      handle = await this.directory.getFileHandle(name);
    } catch (e) {
      if ((e as DOMException).name === "NotFoundError") throw new FileMissing(`${name} is not in the folder ${this.directory.name}`);
      throw new QwenError("invalid", `${name} in the folder ${this.directory.name} cannot be opened: ${(e as Error).message}`);
    }
    return new Uint8Array(await (await handle.getFile()).arrayBuffer());
  }

  async readFile(name: string): Promise<Uint8Array> {
    if (name === MANIFEST) {
      const data = await this.bytes(name);
      this.manifest = parseManifest(data, `${name} in the folder ${this.directory.name}`);
      return data;
    }
    const info = this.manifest?.files.find((f) => f.name === name);
    if (!info) throw new FileMissing(`${name} is not listed in the manifest`);
    const data = await this.bytes(name);
    await checkContent(info, data);
    return data;
  }

  start(): Promise<void> {
    return Promise.resolve();
  }

  private async shard(name: string): Promise<Uint8Array> {
    const info = this.manifest?.shards.find((s) => s.name === name);
    if (!info) throw new FileMissing(`${name} is not listed in the manifest`);
    const data = await this.bytes(name);
    await checkContent(info, data);
    if (!this.seen.has(name)) {
      this.seen.add(name);
      this.loaded += info.size_bytes;
      this.report({ loaded: this.loaded, total: this.manifest!.shards.reduce((sum, s) => sum + s.size_bytes, 0), cached: true });
    }
    return data;
  }

  async read(name: string, offset: number, length: number): Promise<Uint8Array> {
    return (await this.memory.get(name)).subarray(offset, offset + length);
  }

  idle(): void {
    this.memory.clear();
  }
}
