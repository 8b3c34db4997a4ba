"""Samples to token ids, with a mask that says which tokens the model must learn to write."""

import random

import numpy as np

from . import mix
from .render import SPLIT, render
from .words import Split


def pieces(tokenizer) -> list[str]:
    """The vocabulary's alphabetic pieces, for Split.word."""
    return sorted({p for p in (t.replace("Ġ", "") for t in tokenizer.get_vocab()) if p.isascii() and p.isalpha() and 1 < len(p) <= 8})


def encode(tokenizer, samples: list[mix.Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids uint16, target bool) of each sample, the reply included."""
    texts, marks, owner = [], [], []
    for i, s in enumerate(samples):
        for text, target in render(s.messages, s.tools, s.thinking, (s.reasoning, s.reply)):
            for k, part in enumerate(text.split(SPLIT)):
                if part:
                    texts.append(part)
                    marks.append(target if k == 0 or target == 0 else 1)
                    owner.append(i)
    ids = [[] for _ in samples]
    targets = [[] for _ in samples]
    for e, mark, i in zip(tokenizer.encode_batch_fast(texts, add_special_tokens=False), marks, owner):
        n = len(e.ids)
        ids[i] += e.ids
        targets[i] += [mark > 0] * n
        if mark == 2:
            targets[i][-n] = False
    return [(np.array(a, np.uint16), np.array(b, bool)) for a, b in zip(ids, targets)]


def stream(tokenizer, seed, longest: int, chunk: int = 64, focus=None):
    """Endless encoded training samples of at most `longest` tokens, a chunk at a time."""
    split = Split("train", pieces(tokenizer))
    n = 0
    while True:
        rng = random.Random(f"{seed} {n}")
        n += 1
        yield [e for e in encode(tokenizer, [mix.sample(rng, split, focus) for _ in range(chunk)]) if len(e[0]) <= longest]
