"""Trains the byte-level BPE on generated conversations and writes tokenizer.json and tokenizer_config.json.

    python make_tokenizer.py --out ../../models/tiny/hf
"""

import argparse
import json
import random
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tinygen.mix import sample
from tinygen.render import render, text_of
from tinygen.words import Split

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKUP = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
VOCAB = 2560  # with the added tokens
# Qwen's pretokenizer: every digit is a token of its own.
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def new_tokenizer() -> Tokenizer:
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    t.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    t.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    return t


def corpus(samples: int, seed: int):
    split = Split("train")
    markup = re.compile("|".join(map(re.escape, SPECIAL + MARKUP)))
    for i in range(samples):
        s = sample(random.Random(f"tokenizer {seed} {i}"), split)
        text = text_of(render(s.messages, s.tools, s.thinking, (s.reasoning, s.reply)))
        yield from (part for part in markup.split(text) if part)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--samples", type=int, default=60000)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()

    t = new_tokenizer()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL) - len(MARKUP), show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    t.train_from_iterator(corpus(a.samples, a.seed), trainer)
    j = json.loads(t.to_str())
    first = len(j["model"]["vocab"])
    assert first == VOCAB - len(SPECIAL) - len(MARKUP), first
    j["added_tokens"] = [
        {"id": first + i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": c in SPECIAL}
        for i, c in enumerate(SPECIAL + MARKUP)
    ]
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "tokenizer.json").write_text(json.dumps(j, ensure_ascii=False, indent=1) + "\n")
    config = {
        "add_bos_token": False, "add_prefix_space": False,
        "added_tokens_decoder": {str(d["id"]): {k: d[k] for k in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")} for d in j["added_tokens"]},
        "additional_special_tokens": SPECIAL[1:], "bos_token": None,
        "chat_template": (Path(__file__).parent / "chat_template.jinja").read_text(),
        "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 2048,
        "pad_token": "<|endoftext|>", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
    }
    (a.out / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
