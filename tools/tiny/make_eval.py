"""Writes testdata/tiny-eval/questions.jsonl and checks that training never asks these questions.

    python make_eval.py --tokenizer ../../models/tiny/hf/tokenizer.json [--check 300000]
"""

import argparse
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

from tinygen import mix
from tinygen.encode import pieces
from tinygen.phrases import normal
from tinygen.render import SPLIT, render, text_of
from tinygen.words import Split

QUESTIONS = Path(__file__).parents[2] / "testdata/tiny-eval/questions.jsonl"
SUBSET_PER_KIND = 2
SUBSET_TOKENS = 240  # of a prompt, but for recall-long: tests ask these
# Kinds whose last message is by itself the question: training must not contain that message at all.
ALONE = {"smalltalk", "about", "unknown", "add", "subtract", "sort", "count", "reverse", "spell", "rhyme", "continue"}


def record(i: int, kind: str, s: mix.Sample) -> dict:
    messages = []
    for m in s.messages:
        m = m | {"content": m["content"].replace(SPLIT, "")}
        if m.get("tool_calls"):
            m["tool_calls"] = [
                {"type": "function", "function": {"name": t["function"]["name"], "arguments": json.dumps(t["function"]["arguments"], ensure_ascii=False)}}
                for t in m["tool_calls"]
            ]
        messages.append(m)
    if s.calls:
        expect = {"tool_calls": s.calls}
    else:
        other = s.accept if kind == "rhyme" else []
        expect = {"content": list(dict.fromkeys([s.reply.replace(SPLIT, "")] + other))}
    q = {"id": f"{kind}-{i + 1:02d}", "kind": kind, "messages": messages}
    if s.tools:
        q["tools"] = s.tools
    return q | {"thinking": s.thinking, "expect": expect} | ({"subset": True} if i < SUBSET_PER_KIND else {})


def prompt(messages, tools, thinking) -> str:
    return text_of(render(messages, tools, thinking))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--tokenizer", type=Path, required=True)
    p.add_argument("--out", type=Path, default=QUESTIONS)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--train-seed", type=int, default=1, help="train.py's --seed")
    p.add_argument("--check", type=int, default=0, metavar="N", help="also draw N training samples and look for the questions among them")
    a = p.parse_args()
    tokenizer = Tokenizer.from_file(str(a.tokenizer))
    parts = pieces(tokenizer)
    train, held = Split("train", parts), Split("eval", parts)

    def tokens(messages, tools):
        return len(tokenizer.encode(text_of(render(messages, tools, True)), add_special_tokens=False).ids)

    questions, seen = [], set()
    for kind, n in mix.KINDS.items():
        rng = random.Random(f"evaluation {a.seed} {kind}")
        i = 0
        while i < n:
            s = mix.question(rng, kind, train, held, tokens)
            q = record(i, kind, s)
            text = prompt(q["messages"], q.get("tools"), q["thinking"])
            key = normal(q["messages"][-1]["content"]) if kind in ALONE else text
            if key in seen or tokens(q["messages"], q.get("tools")) > (1900 if kind == "recall-long" else 700):
                continue
            if i < SUBSET_PER_KIND and kind != "recall-long" and tokens(q["messages"], q.get("tools")) > SUBSET_TOKENS:
                continue
            seen.add(key)
            questions.append(q)
            i += 1
    a.out.write_text("".join(json.dumps(q, ensure_ascii=False) + "\n" for q in questions))
    print(f"{len(questions)} questions of {len(mix.KINDS)} kinds, {sum(q.get('subset', False) for q in questions)} in the subset")

    if a.check:
        alone = {normal(q["messages"][-1]["content"]): q["id"] for q in questions if q["kind"] in ALONE}
        whole = {prompt(q["messages"], q.get("tools"), q["thinking"]): q["id"] for q in questions}
        found = set()
        for n in range(a.check):
            s = mix.sample(random.Random(f"check {a.train_seed} {n}"), train)
            if not s.tools:  # with tools the same words are another question
                found |= {alone[k] for k in (normal(m["content"]) for m in s.messages if m["role"] == "user") if k in alone}
            text = prompt(s.messages, s.tools, s.thinking)
            if text in whole:
                found.add(whole[text])
        print(f"{len(found)} of them among {a.check} training samples {sorted(found)[:20]}")
        if found:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
