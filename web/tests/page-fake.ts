// An engine without a model, for tests of the page: the last message says what it answers, the model's address which error
// it has. It keeps to the protocol of web/src/engine; devserver --engine bundles it in its place.

import type {
  ChatChunk,
  ChatCompletion,
  ChatRequest,
  ChatStream,
  EngineStats,
  FinishReason,
  LoadOptions,
  LoadProgress,
  ModelInfo,
} from "../src/engine/index";

export class QwenError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "QwenError";
  }
}

const sample = `Here is **bold**, *italic*, \`code\` and a [link](https://example.org/).

## A heading

1. first
2. second
   - nested

> A quote, with a second line
> below it.

| Language | Year |
|---|---:|
| Go | 2009 |
| TypeScript | 2012 |

\`\`\`go
// Fib returns the n-th Fibonacci number.
func Fib(n int) int {
	if n < 2 {
		return n
	}
	return Fib(n-1) + Fib(n-2)
}
\`\`\`

That is all.`;

const hostile = `<script>window.injected = "script"</script>
<img src="x" onerror="window.injected = 'onerror'">
<iframe src="javascript:parent.injected = 'iframe'"></iframe>
<svg><script>window.injected = "svg"</script></svg>
<style>body { display: none }</style>
<form action="https://example.org/"><button>go</button></form>

Inline <b onclick="window.injected = 'b'">html</b> and <a href="javascript:window.injected='a'">a</a>.

[click](javascript:window.injected='link') [data](data:text/html,<script>window.injected=1</script>) ![pixel](https://example.org/pixel.png?secret)

[vb]( vbscript:msgbox) <javascript:alert(1)> [entity](&#106;avascript:window.injected='entity')

\`\`\`html"><script>window.injected='fence'</script>
<script>window.injected = "code"</script>
\`\`\`

| a | b |
|---|---|
| <img src=x onerror="window.injected='cell'"> | [x](javascript:window.injected='cell') |`;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class QwenEngine {
  readonly chat = { completions: { create: (req: ChatRequest) => this.create(req) } };
  private closed = false;
  private release = (): void => {};

  private constructor(
    readonly info: ModelInfo,
    private readonly opts: LoadOptions,
  ) {}

  static async load(model: string | FileSystemDirectoryHandle, opts: LoadOptions = {}): Promise<QwenEngine> {
    const name = typeof model === "string" ? model.replace(/\/+$/, "").split("/").pop()! : model.name;
    let engine: QwenEngine | undefined;
    const release = await new Promise<() => void>((resolve, reject) => {
      navigator.locks
        .request("qwen-wgpu-engine", opts.takeOver ? { steal: true } : { ifAvailable: true }, (lock) => {
          if (!lock) {
            reject(new QwenError("busy", "another tab holds the engine"));
            return;
          }
          return new Promise<void>((free) => resolve(free));
        })
        .catch(() => engine?.taken());
    });
    try {
      const slow = name.startsWith("slow");
      const total = slow ? 639_446_688 : 2_300_000;
      const progress = (phase: LoadProgress["phase"], part: number): void => {
        opts.onProgress?.({
          phase,
          loadedBytes: total * part,
          totalBytes: total,
          bytesPerSecond: 48_300_000,
          secondsLeft: (total * (1 - part)) / 48_300_000,
          cached: false,
        });
      };
      progress("check", 0);
      const code = /^error-(.*)/.exec(name)?.[1];
      if (code) throw new QwenError(code, `made for a test: needs 2147483648 bytes, this has 134217728`);
      progress("compile", 0);
      for (let part = 0; part < 1; part += slow ? 0.002 : 0.25) {
        if (opts.signal?.aborted) throw new QwenError("cancelled", "loading was cancelled");
        progress("download", part);
        await sleep(slow ? 100 : 5);
      }
      progress("upload", 1);
      progress("ready", 1);
    } catch (err) {
      release();
      throw err;
    }
    engine = new QwenEngine(
      {
        name: name === "tiny" ? "Qwen3-tiny" : name,
        dtype: "q8",
        parameters: 1_200_000,
        bytes: 1_300_000,
        contextTokens: opts.contextTokens ?? 2048,
        adapter: "a GPU that is not there",
        features: [],
        sampling: { temperature: 0.6, top_p: 0.95, top_k: 20, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0 },
        thinking: true,
        tuned: false,
      } as unknown as ModelInfo,
      opts,
    );
    engine.release = release;
    return engine;
  }

  async tune(): Promise<void> {
    await sleep(500);
    this.info.tuned = true;
  }

  private taken(): void {
    this.closed = true;
    this.opts.onClosed?.(new QwenError("busy", "another tab took the engine over") as never);
  }

  private async create(req: ChatRequest): Promise<ChatStream & ChatCompletion> {
    if (this.closed) throw new QwenError("internal", "the engine is closed");
    (globalThis as { lastRequest?: unknown }).lastRequest = JSON.parse(JSON.stringify(req));
    const last = req.messages.at(-1)?.content ?? "";
    const full = /^fill/.test(last) && req.overflow === "error";
    if (full) throw new QwenError("context_full", "the conversation has 2100 tokens and the context 2048");
    let cancelled = false;
    const answer = this.answer(last, req);
    const chunk = (delta: ChatChunk["choices"][0]["delta"], finish_reason: FinishReason | null = null): ChatChunk => ({
      id: "chatcmpl-1",
      object: "chat.completion.chunk",
      created: 1,
      model: this.info.name,
      choices: [{ index: 0, delta, finish_reason }],
    });
    async function* run(): AsyncGenerator<ChatChunk> {
      let tokens = 0;
      await sleep(30);
      for await (const delta of answer) {
        if (cancelled) break;
        tokens++;
        yield chunk(delta);
      }
      const calls = /^tool/.test(last);
      const prompt = req.messages.reduce((n, m) => n + Math.ceil(m.content.length / 4) + 5, 0);
      yield {
        ...chunk({}, cancelled ? "cancelled" : calls ? "tool_calls" : "stop"),
        usage: {
          prompt_tokens: prompt,
          completion_tokens: tokens,
          total_tokens: prompt + tokens,
          reused_tokens: Math.floor(prompt / 2),
          prefill_seconds: 0.042,
          decode_seconds: tokens / 61.5,
          context_tokens: prompt + tokens,
        },
      };
    }
    return Object.assign(run(), { cancel: () => (cancelled = true) }) as unknown as ChatStream & ChatCompletion;
  }

  private async *answer(last: string, req: ChatRequest): AsyncGenerator<ChatChunk["choices"][0]["delta"]> {
    const words = async function* (text: string, ms: number): AsyncGenerator<string> {
      for (const word of text.match(/\S*\s*/g) ?? []) {
        if (!word) continue;
        await sleep(ms);
        yield word;
      }
    };
    if (/^lose/.test(last)) {
      yield { content: "Half an " };
      throw new QwenError("device_lost", "the GPU device was lost: made for a test");
    }
    if (req.enable_thinking && /^think/.test(last)) {
      const thought = "The user wants me to think. First I look at the question from one side, then from the other. Both agree, so the answer is clear.";
      for await (const w of words(thought, 20)) yield { reasoning_content: w };
    }
    if (/^tool/.test(last)) {
      yield { content: "I look it up." };
      yield { tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: '{"city": "Berlin", "unit": "celsius"}' } }] };
      return;
    }
    const text = /^inject/.test(last)
      ? hostile
      : /^markdown/.test(last)
        ? sample
        : /^long/.test(last)
          ? Array.from({ length: 400 }, (_, i) => `word${i}`).join(" ")
          : `You said: ${last}`;
    for await (const w of words(text, /^long/.test(last) ? 25 : 4)) yield { content: w };
  }

  tokenize(text: string): Promise<number[]> {
    return Promise.resolve([...text].map((c) => c.codePointAt(0)!));
  }

  stats(): Promise<EngineStats> {
    return Promise.resolve({} as EngineStats);
  }

  close(): Promise<void> {
    this.closed = true;
    this.release();
    return Promise.resolve();
  }
}
