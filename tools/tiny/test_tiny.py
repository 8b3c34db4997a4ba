"""Checks of the generator: the format is the chat template's, steps and answers are right, the split holds.

    python -m pytest test_tiny.py
"""

import json
import os
import random
import re
from pathlib import Path

import jinja2.sandbox
import pytest

from tinygen import mix, tasks
from tinygen.phrases import normal
from tinygen.render import SPLIT, render, text_of
from tinygen.words import RHYMES, Split

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("QWEN_WGPU_SHARED", HERE.parents[2] / "shared"))


def compiled(text):
    """A chat template as transformers runs it."""
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    env.filters["tojson"] = lambda x, **kw: json.dumps(x, ensure_ascii=False, **kw)
    return env.from_string(text)


OWN = compiled((HERE / "chat_template.jinja").read_text())


def published():
    path = SHARED / "qwen3" / "qwen3-chat-template.jinja"
    if not path.exists():
        pytest.skip("the published template is not part of the repository")
    return compiled(path.read_text())


def clean(messages):
    return [m | {"content": m["content"].replace(SPLIT, "")} for m in messages]


def contexts(n):
    split = Split("train")
    for i in range(n):
        s = mix.sample(random.Random(i), split)
        kwargs = {"messages": clean(s.messages), "tools": s.tools, "add_generation_prompt": True}
        if not s.thinking:
            kwargs["enable_thinking"] = False
        yield s, kwargs


def test_render_is_the_template():
    theirs = published()
    for s, kwargs in contexts(3000):
        want = theirs.render(**kwargs)
        assert OWN.render(**kwargs) == want
        assert text_of(render(s.messages, s.tools, s.thinking)) == want


def test_reply_is_what_the_template_renders():
    """The reply with its end is what the template makes of the assistant's message."""
    theirs = published()
    for s, kwargs in contexts(2000):
        m = {"role": "assistant", "content": s.reply.replace(SPLIT, ""), "reasoning_content": s.reasoning if s.thinking else ""}
        if s.calls:
            m |= {"content": "", "tool_calls": [{"function": c} for c in s.calls]}
        want = theirs.render(messages=clean(s.messages) + [m], tools=s.tools)
        assert text_of(render(s.messages, s.tools, s.thinking, (s.reasoning, s.reply))) + "\n" == want


def test_own_template_on_golden_cases():
    theirs = published()
    for case in json.loads((SHARED / "qwen3" / "chat_golden.json").read_text()):
        kwargs = case["ctx"]
        assert OWN.render(**kwargs) == theirs.render(**kwargs)


def test_sums():
    rng = random.Random(5)
    for _ in range(3000):
        a, b = rng.randint(0, 9999), rng.randint(0, 9999)
        for line in tasks.add_steps(a, b) + tasks.subtract_steps(a, b):
            for left, op, right, carry, result in re.findall(r"(\d+) ([+-]) (\d+)(?: [+-] (\d))? = (-?\d+)", line):
                sign = 1 if op == "+" else -1
                assert int(left) + sign * (int(right) + int(carry or 0)) == int(result), line
        digits = [int(m) for line in tasks.add_steps(a, b) for m in re.findall(r"write (\d)", line)]
        assert sum(d * 10**i for i, d in enumerate(digits)) == (a + b) % 10 ** len(digits)
        digits = [int(m) for line in tasks.subtract_steps(a, b) for m in re.findall(r"write (\d)", line)]
        assert sum(d * 10**i for i, d in enumerate(digits)) == abs(a - b)


def test_rhymes_belong_to_one_family():
    seen = {}
    for ending, words in RHYMES.items():
        for w in words:
            assert w.endswith(ending) and seen.setdefault(w, ending) == ending, w


def test_operands_are_split():
    rng = random.Random(3)
    train, held = Split("train"), Split("eval")
    for kind, make in tasks.TASKS.items():
        a = {normal(make(rng, train).user) for _ in range(4000)}
        b = {normal(make(rng, held).user) for _ in range(400)}
        assert not a & b, (kind, sorted(a & b)[:5])
    a, b = ({s.word(rng, "spell") for _ in range(3000)} for s in (train, held))
    assert not a & b and a & {held.word(rng, "reverse") for _ in range(3000)}
