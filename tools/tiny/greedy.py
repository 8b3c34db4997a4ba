"""Greedy answers to the evaluation's questions in PyTorch: what training reports. `make eval` is the real measure.

    python greedy.py --model ../../models/tiny/hf
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

import model as M
from tinygen.render import render, text_of

QUESTIONS = Path(__file__).parents[2] / "testdata/tiny-eval/questions.jsonl"


def right(q: dict, text: str) -> bool:
    """Whether the generated text (its end token cut off) is an expected answer."""
    content = text.split("</think>")[-1].strip("\n")
    expect = q["expect"]
    if "tool_calls" in expect:
        try:
            calls = [json.loads(part.split("</tool_call>")[0]) for part in content.split("<tool_call>")[1:]]
        except ValueError:
            return False
        return calls == expect["tool_calls"] and content.startswith("<tool_call>")
    return content in expect["content"]


@torch.no_grad()
def answers(model: M.Model, tokenizer, prompts: list[list[int]], longest: int = 260, rows: int = 96) -> list[str]:
    """Greedy continuations, up to the end token. Everything is computed anew at each step: short code, no cache."""
    device = model.embed_tokens.weight.device
    end = tokenizer.token_to_id("<|im_end|>")
    out = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for at in range(0, len(order), rows):
        todo = order[at : at + rows]
        seqs = {i: list(prompts[i]) for i in todo}
        while todo:
            width = max(len(seqs[i]) for i in todo)
            ids = torch.zeros(len(todo), width, dtype=torch.long)
            for r, i in enumerate(todo):
                ids[r, : len(seqs[i])] = torch.tensor(seqs[i])
            x = model.hidden(ids.to(device)).view(len(todo), width, -1)
            last = torch.tensor([len(seqs[i]) - 1 for i in todo], device=device)
            best = model.logits(x[torch.arange(len(todo), device=device), last]).argmax(-1).tolist()
            rest = []
            for i, b in zip(todo, best):
                if b == end or len(seqs[i]) - len(prompts[i]) >= longest or len(seqs[i]) >= model.c.max_position_embeddings - 1:
                    out[i] = tokenizer.decode(seqs[i][len(prompts[i]) :], skip_special_tokens=False)
                else:
                    seqs[i].append(b)
                    rest.append(i)
            todo = rest
    return out


def evaluate(model: M.Model, tokenizer, questions: list[dict], show: int = 3, modes=(None,)) -> float:
    """Prints exact answers a kind, with the first mistakes; modes override the questions' thinking."""
    total = 0.0
    for mode in modes:
        thinking = [q["thinking"] if mode is None else mode for q in questions]
        prompts = [tokenizer.encode(text_of(render(q["messages"], q.get("tools"), t)), add_special_tokens=False).ids for q, t in zip(questions, thinking)]
        found = answers(model, tokenizer, prompts)
        kinds = defaultdict(lambda: [0, 0, []])
        for q, a in zip(questions, found):
            k = kinds[q["kind"]]
            ok = right(q, a)
            k[0] += ok
            k[1] += 1
            if not ok:
                k[2].append((q["messages"][-1]["content"], a, q["expect"]))
        total = sum(k[0] for k in kinds.values()) / max(1, sum(k[1] for k in kinds.values()))
        print(f"thinking {'as asked' if mode is None else mode}: {total:.4f}")
        for name, (n, of, wrong) in kinds.items():
            print(f"  {name:12} {n}/{of}")
            for user, a, expect in wrong[:show]:
                print(f"      {user!r} -> {a!r}, expected {json.dumps(expect)}"[:600])
    return total


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--questions", type=Path, default=QUESTIONS)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--limit", type=int, default=0)
    a = p.parse_args()
    questions = [json.loads(line) for line in a.questions.read_text().splitlines()]
    if a.limit:
        questions = questions[:: max(1, len(questions) // a.limit)]
    model = M.load(a.model).to(a.device).eval()
    evaluate(model, Tokenizer.from_file(str(a.model / "tokenizer.json")), questions)


if __name__ == "__main__":
    main()
