// Progress for people: phases, bytes, rate and time left, a few times a second.

import type { LoadProgress } from "../types";
import type { FilesProgress } from "./files";

const INTERVAL = 100; // ms between reports
const WINDOW = 3000; // ms over which the rate is taken

/** Bytes a second over the last moments. */
class Rate {
  private samples: { time: number; bytes: number }[] = [];

  at(bytes: number, time: number): number {
    this.samples.push({ time, bytes });
    while (this.samples.length > 2 && time - this.samples[0]!.time > WINDOW) this.samples.shift();
    const first = this.samples[0]!;
    return time > first.time ? Math.max(0, ((bytes - first.bytes) / (time - first.time)) * 1000) : 0;
  }
}

export class ProgressMeter {
  private download: FilesProgress = { loaded: 0, total: 0, cached: false };
  private readonly downloadRate = new Rate();
  private uploadRate = new Rate();
  private last = 0;
  private lastPhase = "";
  private later?: ReturnType<typeof setTimeout>;

  constructor(private readonly post: (progress: LoadProgress) => void) {}

  private get downloading(): boolean {
    return this.download.loaded < this.download.total;
  }

  /** The files' own report. While they download, that is what people see. */
  files(p: FilesProgress): void {
    this.download = p;
    if (p.total > 0 && !p.cached) this.send("download", p.loaded, p.total, this.downloadRate, !this.downloading);
  }

  /** The engine's report. */
  phase(phase: LoadProgress["phase"], loaded: number, total: number): void {
    if (phase === "upload" && this.downloading) return;
    if (phase !== this.lastPhase) this.uploadRate = new Rate();
    this.send(phase, loaded, total, this.uploadRate, loaded === total);
  }

  private send(phase: LoadProgress["phase"], loaded: number, total: number, rate: Rate, always: boolean): void {
    const now = performance.now();
    clearTimeout(this.later);
    if (!always && phase === this.lastPhase && now - this.last < INTERVAL) {
      this.later = setTimeout(() => this.send(phase, loaded, total, rate, true), INTERVAL); // if nothing newer comes: a download may stall here
      return;
    }
    this.last = now;
    this.lastPhase = phase;
    const bytesPerSecond = rate.at(loaded, now);
    const { cached, note } = this.download;
    this.post({
      phase, loadedBytes: loaded, totalBytes: total, bytesPerSecond, cached,
      ...(bytesPerSecond > 0 && total > loaded && { secondsLeft: (total - loaded) / bytesPerSecond }),
      ...(note !== undefined && { note }),
    });
  }
}
