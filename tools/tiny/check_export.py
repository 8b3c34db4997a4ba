"""Compares an exported model with transformers: same logits from Qwen3ForCausalLM, same prompts from its chat template.

    python check_export.py --model ../../models/tiny/hf
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import greedy
import model as M
from tinygen.render import render, text_of


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, required=True)
    a = p.parse_args()
    theirs = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ours = M.load(a.model).eval()
    print(type(theirs).__name__, sum(p.numel() for p in theirs.parameters()), "parameters,", type(tokenizer).__name__)
    questions = [json.loads(line) for line in greedy.QUESTIONS.read_text().splitlines()]
    for q in questions:
        want = text_of(render(q["messages"], q.get("tools"), q["thinking"]))
        got = tokenizer.apply_chat_template(q["messages"], tools=q.get("tools"), add_generation_prompt=True, tokenize=False, enable_thinking=q["thinking"])
        assert got == want, q["id"]
    worst = 0.0
    for q in [q for q in questions if q.get("subset")][::4]:
        ids = tokenizer(text_of(render(q["messages"], q.get("tools"), q["thinking"])), return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            d = (theirs(ids).logits[0] - ours.logits(ours.hidden(ids))).abs().max().item()
        worst = max(worst, d)
    print(f"{len(questions)} prompts as the template renders them; largest difference of a logit {worst:.2g}")
    assert worst < 1e-3


if __name__ == "__main__":
    main()
