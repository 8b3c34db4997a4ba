"""Paraphrases from a small grammar, and the noise of real typing.

`(a|b|)` chooses one alternative (it may nest, and may be empty); `{slot}` is filled after the noise, so that names and
operands reach the model as the question means them.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(r"[(|)]|[^(|)]+")


@lru_cache(maxsize=None)
def _parse(pattern: str):
    tokens = _TOKEN.findall(pattern)
    pos = 0

    def alternatives(closing: bool):
        nonlocal pos
        options, sequence = [], []
        while pos < len(tokens):
            t = tokens[pos]
            pos += 1
            if t == "(":
                sequence.append(alternatives(True))
            elif t == "|":
                options.append(sequence)
                sequence = []
            elif t == ")":
                if not closing:
                    raise ValueError(f"phrases: unbalanced ) in {pattern!r}")
                options.append(sequence)
                return options
            else:
                sequence.append(t)
        if closing:
            raise ValueError(f"phrases: unbalanced ( in {pattern!r}")
        options.append(sequence)
        return options

    return alternatives(False)


def _walk(rng, options, out):
    sequence = options[0] if len(options) == 1 else options[int(rng.random() * len(options))]
    for item in sequence:
        if isinstance(item, str):
            out.append(item)
        else:
            _walk(rng, item, out)


def expand(rng, pattern: str) -> str:
    """One expansion of the pattern, slots left in place."""
    out: list[str] = []
    _walk(rng, _parse(pattern), out)
    return "".join(out)


_PREFIX = (
    "(hey|hi|hello|ok|okay|so|and|now|well|please|right|oh|alright|hm|um|quick question|one more question|another question|"
    "next question|tell me|just tell me|can you tell me|could you tell me|please tell me|i wonder|question|also|by the way)"
)
_SUFFIX = "(please|thanks|thank you|now|again|then|my friend|buddy|if you can|for me|ok|ok?|pls)"


_OPEN_END = re.compile(r"\{(items|text|note|query|song|task|echo)\}\W?$")  # an ending would read as part of the slot


def dress(rng, text: str) -> str:
    """A question as somebody would type it: now and then with an opening or an ending (no ending after free text)."""
    r = rng.random()
    if r < 0.2:
        text = expand(rng, _PREFIX) + rng.choice([", ", ", ", ": ", " "]) + (text[:1].lower() + text[1:] if text[:2] != "I " and text[:2] != "I'" else text)
        if rng.random() < 0.7:
            text = text[:1].upper() + text[1:]
    if rng.random() < 0.06 and not _OPEN_END.search(text):
        end = text[-1:] if text[-1:] in "?.!" else ""
        text = text[: len(text) - len(end)] + rng.choice([" ", ", "]) + expand(rng, _SUFFIX) + end
    return text


_WORD = re.compile(r"\{\w+\}|[A-Za-z']+|[^A-Za-z'{]+|\{")


def _typo(rng, word: str) -> str:
    i = rng.randrange(1, len(word) - 1)
    r = rng.random()
    if r < 0.4:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if r < 0.7:
        return word[:i] + word[i + 1 :]
    if r < 0.85:
        return word[:i] + word[i] + word[i:]
    return word[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[i + 1 :]


def noisy(rng, text: str, level: float = 1.0) -> str:
    """Typing noise on everything but the slots: case, punctuation, apostrophes, a typo in a longer word."""
    r = rng.random()
    if r > 0.62 * level:
        return text
    if rng.random() < 0.65:
        parts = _WORD.findall(text)
        text = "".join(p if p.startswith("{") else p.lower() for p in parts)
    if rng.random() < 0.5 and text[-1:] in "?.!":
        text = text[:-1]
    elif rng.random() < 0.06:
        text = text.rstrip("?.!") + rng.choice(["!", "??", "!!", "...", " ?", "?!"])
    if rng.random() < 0.3:
        text = text.replace("'", "")
    if rng.random() < 0.16:
        parts = _WORD.findall(text)
        candidates = [i for i, p in enumerate(parts) if len(p) >= 5 and p.isalpha()]
        if candidates:
            i = rng.choice(candidates)
            parts[i] = _typo(rng, parts[i])
            text = "".join(parts)
    if rng.random() < 0.015:
        text = "".join(p if p.startswith("{") else p.upper() for p in _WORD.findall(text))
    return text


def fill(text: str, slots: dict) -> str:
    for name, value in slots.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def say(rng, pattern: str, noise: float = 1.0, dressed: bool = True, **slots) -> str:
    """A user's utterance: expansion, dressing, noise, then the slots."""
    text = expand(rng, pattern)
    if dressed:
        text = dress(rng, text)
    return fill(noisy(rng, text.strip(), noise), slots)


def number_words(n: int) -> str:
    """English words for 0..999."""
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
    tens = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
    if n < 20:
        return ones[n]
    if n < 100:
        return tens[n // 10] + ("-" + ones[n % 10] if n % 10 else "")
    return ones[n // 100] + " hundred" + (" and " + number_words(n % 100) if n % 100 else "")


_NORM = re.compile(r"[^a-z0-9]+")


def normal(text: str) -> str:
    """Lower case, letters and digits only: two questions equal under this count as the same question."""
    return _NORM.sub(" ", text.lower()).strip()
