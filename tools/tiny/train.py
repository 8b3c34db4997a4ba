"""Trains the tiny model on conversations that the generator draws while training runs, and exports it.

    python train.py --tokenizer ../../models/tiny/hf/tokenizer.json --out OUT --minutes 8.5        # a GPU
    python train.py --tokenizer ../../models/tiny/hf/tokenizer.json --out OUT --steps 9000         # the same schedule by steps

Worker processes generate and encode; each batch holds rows of one length, so attention needs no mask and shapes repeat.
Batches come from the workers in turn, so the data of step n depends on the seed and the number of workers alone.
Matrices inside the layers are trained with Muon, the rest with AdamW.
"""

import argparse
import json
import math
import multiprocessing as mp
import queue
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import greedy
import model as M
from tinygen.encode import stream

LENGTHS = [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048]  # all divide the batch


def worker(q, stop, tokenizer_file: str, seed: str, tokens: int, lengths: list[int], focus: dict):
    """Puts (ids, labels) arrays [rows, length]; label -1: not to be learnt."""
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    buckets = {n: [] for n in lengths}
    for chunk in stream(Tokenizer.from_file(tokenizer_file), seed, lengths[-1] + 1, focus=focus):
        for ids, target in chunk:
            length = next(n for n in lengths if n >= len(ids) - 1)
            rows = buckets[length]
            rows.append((ids, target))
            if len(rows) * length == tokens:
                x = np.zeros((len(rows), length), np.int16)
                y = np.full((len(rows), length), -1, np.int16)
                for r, (i, t) in enumerate(rows):
                    x[r, : len(i) - 1] = i[:-1]
                    y[r, : len(i) - 1] = np.where(t[1:], i[1:].astype(np.int16), -1)
                rows.clear()
                while True:
                    if stop.is_set():
                        q.cancel_join_thread()
                        return
                    try:
                        q.put((x, y), timeout=1)
                        break
                    except queue.Full:
                        pass


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized by Newton-Schulz; matrices of one shape go through it together."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, ps in shapes.items():
                state = self.state[ps[0]]
                g = torch.stack([p.grad for p in ps])
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(g)
                buf = state["momentum"]
                buf.lerp_(g, 1 - group["momentum"])
                update = orthogonal(g.lerp(buf, group["momentum"])).to(g.dtype)
                # 0.2*sqrt(max dim) gives the update the size that AdamW's has, so both take the same rate.
                scale = -group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(ps, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(ps, list(update.unbind(0)), alpha=scale)


def orthogonal(g):
    """Nearest half-orthogonal matrices to g [n, rows, columns], about."""
    x = g.bfloat16()
    wide = x.shape[1] <= x.shape[2]
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.mT


def loss_of(model, x, labels):
    logits = model.logits(x).float()
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tokenizer", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--init", type=Path, help="continue from this exported model")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--minutes", type=float, default=0, help="stop after this time, compilation and evaluation included")
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--batch", type=int, default=36864, help="tokens of one pass, a multiple of every length")
    p.add_argument("--passes", type=int, default=2, help="passes of one step")
    p.add_argument("--workers", type=int, default=max(1, mp.cpu_count() - 2))
    p.add_argument("--eval-seconds", type=float, default=45, help="kept of the minutes for the evaluation; 0: none")
    p.add_argument("--longest", type=int, default=LENGTHS[-1], choices=LENGTHS, help="tokens of the longest conversation trained")
    p.add_argument("--focus", type=lambda t: (t.split("=")[0], float(t.split("=")[1])), action="append", default=[], metavar="KIND=SHARE", help="extra questions of a kind")
    p.add_argument("--adamw", action="store_true", help="AdamW for everything: cheaper than Muon on a CPU")
    p.add_argument("--no-compile", action="store_true")
    a = p.parse_args()
    began = time.monotonic()
    lengths = [n for n in LENGTHS if n <= a.longest]
    assert all(a.batch % n == 0 for n in lengths) and (a.minutes or a.steps)

    ctx = mp.get_context("spawn")
    stop = ctx.Event()
    queues = [ctx.Queue(24) for _ in range(a.workers)]
    procs = [ctx.Process(target=worker, args=(q, stop, str(a.tokenizer), f"train {a.seed} {w}", a.batch, lengths, dict(a.focus)), daemon=True) for w, q in enumerate(queues)]
    for proc in procs:
        proc.start()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(str(a.tokenizer))
    model = (M.load(a.init) if a.init else M.Model(M.Config(vocab_size=tokenizer.get_vocab_size()))).to(device)
    params = dict(model.named_parameters())
    inner = {k for k, v in params.items() if v.dim() == 2 and "layers" in k and not a.adamw}
    matrices = [v for k, v in params.items() if k in inner]
    others = [v for k, v in params.items() if k not in inner]
    print(f"{sum(v.numel() for v in params.values())} parameters on {device}", flush=True)
    optimizers = [Muon(matrices, a.lr)] if matrices else []
    optimizers.append(torch.optim.AdamW(others, a.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=device == "cuda"))
    loss_fn = loss_of
    torch._dynamo.config.recompile_limit = 64
    if not a.no_compile:
        model.before, model.after = (torch.compile(f, dynamic=False) for f in (M.before_attention, M.after_attention))
        loss_fn = torch.compile(loss_of, dynamic=False)

    picker = random.Random(a.seed)
    step, seen, waited = 0, 0, 0.0
    recent = []
    start = None
    while True:
        now = time.monotonic()
        progress = step / a.steps if a.steps else 0.0
        if a.minutes:
            if start is None and step == 8:
                start = now  # compiled
            spent = now - start if start else 0.0
            room = a.minutes * 60 - a.eval_seconds - ((start or now) - began)
            progress = max(progress, spent / room)
        if progress >= 1:
            break
        rate = min(1.0, (step + 1) / a.warmup) * (1.0 if progress < 0.15 else 0.5 * (1 + math.cos(math.pi * (progress - 0.15) / 0.85)) * 0.99 + 0.01)
        for o in optimizers:
            for group in o.param_groups:
                group["lr"] = a.lr * rate
        loss = 0.0
        for n in range(a.passes):
            t = time.monotonic()
            x, y = queues[(step * a.passes + n) % a.workers].get()
            waited += time.monotonic() - t
            x = torch.from_numpy(x).to(device, non_blocking=True).long()
            y = torch.from_numpy(y).to(device, non_blocking=True).long().view(-1)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                part = loss_fn(model, model.hidden(x), y) / a.passes
            part.backward()
            loss = loss + part.detach()
            seen += x.numel()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        for o in optimizers:
            o.step()
        model.zero_grad(set_to_none=True)
        recent.append(loss)
        step += 1
        if step % 200 == 0 or step in (1, 8, 20, 50) or device == "cpu" and step % 10 == 0:
            mean = torch.stack(recent).mean().item()
            recent.clear()
            seconds = time.monotonic() - began
            if step % 3000 == 0:
                M.export(model, tokenizer, a.out)
            print(f"step {step} {seconds:.0f} s, {seen / 1e6:.0f} M tokens, waited {waited:.1f} s, rate {rate:.3f}, loss {mean:.4f}", flush=True)

    stop.set()
    print(f"trained {step} steps, {seen} tokens, {time.monotonic() - began:.0f} s", flush=True)
    M.export(model, tokenizer, a.out)
    if not a.eval_seconds:
        for proc in procs:
            proc.terminate()
        return
    model = M.load(a.out).to(device).eval()
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        questions = [json.loads(line) for line in greedy.QUESTIONS.read_text().splitlines()]
        if device == "cpu":
            questions = [q for q in questions if q.get("subset")]
        greedy.evaluate(model, tokenizer, questions, show=5)
        if device == "cuda" and (not a.minutes or time.monotonic() - began < a.minutes * 60 - 12):
            greedy.evaluate(model, tokenizer, [q for q in questions if q["kind"] != "recall-long"], show=2, modes=(False,))
    print(f"evaluated, {time.monotonic() - began:.0f} s", flush=True)
    sys.stdout.flush()
    for proc in procs:
        proc.terminate()


if __name__ == "__main__":
    main()
