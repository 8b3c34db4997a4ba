"""Questions with one right answer: sums, words, lists. Each function makes one Turn.

Every answer is a fixed function of the question, so that greedy decoding is confident; the steps that lead to it are the
reasoning, written digit by digit or letter by letter.
"""

from dataclasses import dataclass, field

from . import words as W
from .phrases import normal, number_words, say
from .render import SPLIT


@dataclass
class Turn:
    kind: str
    user: str
    think: str
    answer: str
    accept: list[str] = field(default_factory=list)  # other right answers, for the evaluation
    value: int | None = None  # a sum's result, for a follow-up question

    def answers(self) -> list[str]:
        return list(dict.fromkeys([self.answer.replace(SPLIT, ""), *self.accept]))


# --- sums -----------------------------------------------------------------------------------------------------------

_COLUMNS = ["ones", "tens", "hundreds", "thousands", "ten thousands"]


def add_steps(a: int, b: int) -> list[str]:
    """Column addition, ones first."""
    lines, carry = [], 0
    for i in range(max(len(str(a)), len(str(b)))):
        x, y = a // 10**i % 10, b // 10**i % 10
        s = x + y + carry
        lines.append(f"{_COLUMNS[i]}: {x} + {y} + {carry} = {s}, write {s % 10}, carry {s // 10}")
        carry = s // 10
    return lines + [f"{a} + {b} = {a + b}"]


def subtract_steps(a: int, b: int) -> list[str]:
    """Column subtraction, ones first; the larger number is put on top."""
    lines, borrow, top, low = [], 0, max(a, b), min(a, b)
    if a < b:
        lines.append(f"{a} is less than {b}: minus ({b} - {a})")
    for i in range(len(str(top))):
        x, y = top // 10**i % 10, low // 10**i % 10
        d = x - y - borrow
        lines.append(f"{_COLUMNS[i]}: {x} - {y} - {borrow} = {d}, write {d % 10}, borrow {int(d < 0)}")
        borrow = int(d < 0)
    return lines + [f"{a} - {b} = {a - b}"]


def _operand(rng) -> int:
    r = rng.random()
    if r < 0.15:
        return rng.randint(0, 9)
    if r < 0.45:
        return rng.randint(10, 99)
    if r < 0.97:
        return rng.randint(100, 999)
    return rng.randint(1000, 9999)


def operands(rng, split: W.Split, op: str) -> tuple[int, int]:
    while True:
        a, b = _operand(rng), _operand(rng)
        if split.name == "eval":
            if 20 <= max(a, b) <= 999 and split.ok(op, a, b):
                return a, b
        elif max(a, b) < 20 or split.ok(op, a, b):
            return a, b


_ADD = """(What is|What's|Whats|What does|Calculate|Compute|Work out|How much is|Solve||||) {a}( + | plus |+){b}(?|?|=|)
|(Add|Sum|Add up|Add together) {a} (and|to|and|plus) {b}.|What is the sum of {a} and {b}?|What do you get if you add {a} and {b}?
|{a}( + | plus |+){b}( =|=| =?| is| is what| makes what| equals)?|How much is {a} and {b}?|(What's|What is|Give me) the (sum|total) of {a} and {b}(?|.)
|Can you add {a} and {b}?|(Do|Now) {a}( + | plus ){b}(.|)|If I add {b} to {a}, what do I get?|(Please|) add {a} to {b}"""
_ADD = _ADD.replace("\n", "")
_ADD_STORY = """I have {a} {things} and (buy|get|find|receive) {b} more. How many (do I have|{things} do I have) (now|in all|altogether|)?
|{name} has {a} {things} and {other} has {b}. How many (do they have|{things} do they have|are there) (together|in all|altogether)?
|There are {a} {things} on the {place} and {b} in the {place2}. How many {things} are there in all?"""
_ADD_STORY = _ADD_STORY.replace("\n", "")
_SUB = """(What is|What's|Whats|What does|Calculate|Compute|Work out|How much is|Solve||||) {a}( - | minus |-){b}(?|?|=|)
|Subtract {b} from {a}(.|)|(Take|Take away) {b} from {a}(.|)|What do you get if you subtract {b} from {a}?
|{a}( - | minus |-| take away ){b}( =|=| =?| is| is what| equals)?|How much is {a} minus {b}?|Can you subtract {b} from {a}?
|(Do|Now) {a}( - | minus ){b}(.|)|If I take {b} (away from|from) {a}, what (do I get|is left)?|What is left if I take {b} from {a}?"""
_SUB = _SUB.replace("\n", "")
_SUB_STORY = """I have {a} {things} and (lose|eat|sell|give away) {b}. How many (do I have left|are left|{things} are left)?
|{name} had {a} {things} and gave {b} to {other}. How many (does {name} have left|{things} does {name} have left|are left)?
|There were {a} {things} in the {place}. {b} are gone. How many are left?"""
_SUB_STORY = _SUB_STORY.replace("\n", "")
_COUNTED = [w + "s" for w in "apple orange banana coin book card stone shell egg stamp button ticket marble pencil cookie flower candle balloon sticker plum".split()]


def _story(rng, split, pattern, a, b):
    name, other = split.name_(rng), split.name_(rng)
    return say(rng, pattern, dressed=False, a=a, b=b, things=rng.choice(_COUNTED), name=name, other=other,
               place=rng.choice(W.PLACES), place2=rng.choice(W.PLACES))


def _shown(rng, n: int) -> str:
    return number_words(n) if n < 1000 and rng.random() < 0.07 else str(n)


def add(rng, split) -> Turn:
    a, b = operands(rng, split, "+")
    if split.name == "train" and rng.random() < 0.06:
        c = rng.randint(1, 99)
        a, b = a % 1000, b % 1000
        if held_pair("+", a, b) or held_pair("+", a + b, c):
            return add(rng, split)
        user = say(rng, "(What is|How much is|Calculate|||) {a}( + | plus |+){b}( + | plus |+){c}(?|)", a=a, b=b, c=c)
        lines = [f"{a} + {b} + {c}"] + add_steps(a, b) + add_steps(a + b, c)
        return Turn("add", user, "\n".join(lines), f"{a} + {b} + {c} = {a + b + c}", value=a + b + c)
    if rng.random() < 0.1:
        user = _story(rng, split, _ADD_STORY, a, b)
    else:
        user = say(rng, _ADD, a=_shown(rng, a), b=_shown(rng, b))
    return Turn("add", user, "\n".join([f"{a} + {b}"] + add_steps(a, b)), f"{a} + {b} = {a + b}", [str(a + b)], a + b)


def subtract(rng, split) -> Turn:
    a, b = operands(rng, split, "-")
    if a < b and rng.random() < 0.75 and split.name == "train" and not held_pair("-", b, a):
        a, b = b, a
    if a >= b and rng.random() < 0.1:
        user = _story(rng, split, _SUB_STORY, a, b)
    else:
        user = say(rng, _SUB, a=_shown(rng, a), b=_shown(rng, b))
    return Turn("subtract", user, "\n".join([f"{a} - {b}"] + subtract_steps(a, b)), f"{a} - {b} = {a - b}", [str(a - b)], a - b)


def held_pair(op: str, a: int, b: int) -> bool:
    """Whether an operand pair is for the evaluation only."""
    return max(a, b) >= 20 and W.held_out(f"{op}|{a}|{b}")


def sum_follow_up(rng, split, value: int) -> Turn | None:
    """A question about the result just given: "add 12 to that"."""
    if not 0 <= value <= 9999:
        return None
    b = rng.randint(1, 99)
    if rng.random() < 0.5:
        op, c = "+", value + b
        pattern = "(Now|And|) (add|plus) {b}( to that| to it|)(.|?|)|(What is|What's) that plus {b}?|(And|) plus {b}?|Add {b} (to that|to the result|more)."
        steps = add_steps(value, b)
    else:
        if b > value:
            return None
        op, c = "-", value - b
        pattern = "(Now|And|) (subtract {b}|minus {b}|take away {b})( from that| from it|)(.|?|)|(What is|What's) that minus {b}?|(And|) minus {b}?|Subtract {b} from (that|the result)."
        steps = subtract_steps(value, b)
    if held_pair(op, value, b) != (split.name == "eval"):
        return None
    user = say(rng, pattern, dressed=False, b=b).strip()
    return Turn("add" if op == "+" else "subtract", user, "\n".join([f"{value} {op} {b}"] + steps), f"{value} {op} {b} = {c}", value=c)


# --- words ----------------------------------------------------------------------------------------------------------


def quoted(rng, word: str) -> str:
    r = rng.random()
    if r < 0.72:
        return word
    if r < 0.84:
        return f'"{word}"'
    if r < 0.94:
        return f"'{word}'"
    return rng.choice(["the word " + word, 'the word "' + word + '"', "`" + word + "`"])


def hyphens(word: str) -> str:
    return "-".join(word)


_ORDINALS = ["first", "second", "third", "fourth", "fifth"]


def spell(rng, split) -> Turn:
    r = rng.random()
    if r < 0.12:
        while True:
            word = split.name_(rng)
            if 3 <= len(word) <= 12 and split.mine(f"spell|{word}"):
                break
    else:
        word = split.word(rng, "spell")
    shown = quoted(rng, word)
    if r > 0.8:
        i = rng.choice([0, 0, 1, 2, 3, 4, -1, -1])
        if i >= len(word):
            i = 0
        which = "last" if i < 0 else _ORDINALS[i]
        user = say(rng, "(What is|What's|Tell me|Give me) the {which} letter (of|in) {w}?|Which letter is {which} in {w}?|What letter does {w} (start|begin) with?" if i == 0
                   else "(What is|What's|Tell me|Give me) the {which} letter (of|in) {w}?|Which letter (is|comes) {which} in {w}?", which=which, w=shown)
        return Turn("spell", user, hyphens(word), f"The {which} letter of {word} is {word[i]}.", [word[i]])
    user = say(rng, """(How do you|How do I|How would you|How to|Can you|Could you|Please|) spell {w}(?|?|)|What is the spelling of {w}?
|Spell {w}( for me| letter by letter| out|)(.|)|Spell out {w}.|Write {w} letter by letter.|Give me the letters of {w}.|{w}: spell it|What letters are in {w}?
|How is {w} spelled?|How is {w} spelt?|Letters of {w}""".replace("\n", ""), w=shown)
    return Turn("spell", user, f"The word is {word}.", hyphens(word))


def reverse(rng, split) -> Turn:
    if rng.random() < 0.35:
        items = word_list(rng, split, rng.randint(3, 7))
        user = say(rng, """(Reverse|Turn around) (this list|the list|these words|the order of|)(:|) {items}|(Give me|Write|Say) (this|this list|the list|these words) (backwards|in reverse|in reverse order): {items}
|(Put|Write) (these|these words|this) in reverse order: {items}|Reverse the order of: {items}|{items}: (reverse the list|in reverse order)""".replace("\n", ""),
                   items=joined(rng, items))
        return Turn("reverse", user, "From the last item to the first.", ", ".join(reversed(items)))
    word = split.word(rng, "reverse", 3, 10)
    shown = quoted(rng, word)
    user = say(rng, """(Reverse|Please reverse|Can you reverse|Turn around|Flip) {w}(.|?|)|(What is|What's|Write|Say|Give me|Type) {w} (backwards|in reverse|spelled backwards|reversed|backward)(?|.|)
|Spell {w} backwards.|How do you (spell|write) {w} backwards?|{w} backwards|{w} in reverse|Reverse the (word|letters of|letters in|string) {w}(.|)""".replace("\n", ""), w=shown)
    return Turn("reverse", user, f"{hyphens(word)}\nbackwards: {hyphens(word[::-1])}", SPLIT.join(word[::-1]))


def times(n: int) -> str:
    return "1 time" if n == 1 else f"{n} times"


def count(rng, split) -> Turn:
    r = rng.random()
    if r < 0.35:
        word = split.word(rng, "length", 3, 12)
        user = say(rng, """How many letters (are in|are there in|does|has) {w}(?|)|(Count|Count up) the letters (in|of) {w}(.|)|How long is {w}?|(What is|What's) the length of {w}?
|(Number of|Count) letters in {w}|How many letters {w} has?|{w} has how many letters?|How many characters are in {w}?""".replace("\n", ""), w=quoted(rng, word))
        n = len(word)
        return Turn("count", user, ", ".join(f"{c} {i + 1}" for i, c in enumerate(word)), f"{word} has {n} letters.", [str(n)])
    if r < 0.65:
        word = split.word(rng, "letters", 4, 12)
        letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
        n, steps = 0, []
        for c in word:
            n += c == letter
            steps.append(f"{c} {n}")
        shown_letter = letter.upper() if rng.random() < 0.2 else letter
        user = say(rng, """How many (times does the letter {l} appear|times does {l} appear|times is the letter {l}|times does {l} occur) in {w}?|How many {l}(s|'s|) are (there in|in) {w}?
|Count the {l}('s|s) in {w}.|How often does (the letter |){l} (appear|occur|come up) in {w}?|(Count|Number of) the letter {l} in {w}|How many letters {l} are in {w}?""".replace("\n", ""),
                   l=shown_letter, w=quoted(rng, word))
        return Turn("count", user, ", ".join(steps), f"The letter {letter} appears {times(n)} in {word}.", [str(n)])
    if r < 0.85:
        n = rng.randint(2, 9)
        items = word_list(rng, split, n)
        user = say(rng, """How many (words|items|things) are (in this list|in the list|here|there|in)(:|) {items}|Count (these|the words|the items|these words|these items|this list)(:|) {items}
|How many words (do you see|did I write|are these): {items}|{items}: how many (words|items) (are there|is that)?""".replace("\n", ""), items=joined(rng, items))
        return Turn("count", user, ", ".join(f"{w} {i + 1}" for i, w in enumerate(items)), f"There are {n} items in the list.", [str(n)])
    kinds = word_list(rng, split, rng.randint(2, 3))
    items = [rng.choice(kinds) for _ in range(rng.randint(4, 8))]
    if not split.ok("list", *items):
        return count(rng, split)
    target = rng.choice(kinds)
    if target not in items:
        items[rng.randrange(len(items))] = target
    n, steps = 0, []
    for w in items:
        n += w == target
        steps.append(f"{w} {n}")
    user = say(rng, """How (many times does|often does) {w} (appear|occur) in(:| this list:| the list:) {items}|Count how often {w} appears in: {items}|How many times (is|do you see) {w} (in|here)(:|) {items}""", w=target, items=", ".join(items))
    return Turn("count", user, ", ".join(steps), f"{target} appears {times(n)}.", [str(n)])


def word_list(rng, split, n: int) -> list[str]:
    """n different words, some lists from one category; the list is what is held out."""
    while True:
        if rng.random() < 0.5:
            pool = rng.choice(list(W.CATEGORIES.values()))
            items = [rng.choice(pool) for _ in range(n)]
        else:
            items = [rng.choice(W.WORDS) if rng.random() < 0.85 else split.word(rng, "list", 3, 8) for _ in range(n)]
        if len(set(items)) == n and split.ok("list", *items):
            return items


def joined(rng, items) -> str:
    r = rng.random()
    items = [str(i) for i in items]
    if r < 0.65:
        return ", ".join(items)
    if r < 0.77:
        return " ".join(items)
    if r < 0.9 and len(items) > 1:
        return ", ".join(items[:-1]) + " and " + items[-1]
    return rng.choice([",", "; ", "\n", " / "]).join(items)


def sort(rng, split) -> Turn:
    r = rng.random()
    if r < 0.5:
        items = word_list(rng, split, rng.randint(3, 7))
        if len({w[:3] for w in items}) < len(items):
            return sort(rng, split)
        down = rng.random() < 0.15
        order = sorted(items, reverse=down)
        if down:
            user = say(rng, "(Sort|Order|Put|Arrange) (these words|these|this list|) (from z to a|in reverse alphabetical order|z to a)(:|) {items}|{items}: sort from z to a", items=joined(rng, items))
        else:
            user = say(rng, """(Sort|Order|Arrange|Alphabetize|Please sort|Can you sort) (these words|these|this list|the words|the list|the following|)( alphabetically| from a to z| in alphabetical order|)(:|) {items}
|(Put|Bring) (these words|these|them|this list) in (alphabetical|alphabetic|the right|ABC) order: {items}|{items}: (sort them|sort these words|in alphabetical order)|What is the alphabetical order of {items}?""".replace("\n", ""), items=joined(rng, items))
        return Turn("sort", user, ", ".join(f"{w} {hyphens(w[:3])}" for w in items), ", ".join(order))
    top = rng.choice([9, 99, 99, 999, 999])
    while True:
        items = rng.sample(range(0 if top == 9 else 1, top + 1), rng.randint(3, 6 if r < 0.85 else 5))
        if split.ok("numbers", *items):
            break
    if r < 0.85:
        down = rng.random() < 0.35
        order = sorted(items, reverse=down)
        if down:
            user = say(rng, """(Sort|Order|Arrange|Put) (these numbers|these|this list|the numbers|) (in descending order|from large to small|from high to low|from biggest to smallest|from largest to smallest|with the largest first|descending)(:|) {items}
|{items}: (sort descending|largest first|from large to small)""".replace("\n", ""), items=joined(rng, items))
            think = "Large to small."
        else:
            user = say(rng, """(Sort|Order|Arrange|Please sort|Can you sort) (these numbers|these|this list|the numbers|the following numbers|)( in ascending order| from small to large| from low to high| from smallest to largest| ascending|)(:|) {items}
|(Put|Bring) (these numbers|these|them|this list) in (ascending|the right|) order: {items}|{items}: (sort them|sort these numbers|smallest first|in order)""".replace("\n", ""), items=joined(rng, items))
            think = "Small to large."
        return Turn("sort", user, think, ", ".join(map(str, order)))
    big = rng.random() < 0.5
    user = say(rng, "(What is|What's|Which is|Which number is|Find|Tell me) the {which}( number|)( of| of these| in|)(:|) {items}?|{items}: which is the {which}?",
               which=rng.choice(["largest", "biggest", "highest", "greatest", "maximum"] if big else ["smallest", "lowest", "least", "minimum"]), items=joined(rng, items))
    best = max(items) if big else min(items)
    return Turn("sort", user, "Large to small." if big else "Small to large.", f"The {'largest' if big else 'smallest'} number is {best}.", [str(best)])


_FAMILY_WORDS = [(w, k) for k, ws in W.RHYMES.items() for w in ws]


def rhyme(rng, split) -> Turn:
    r = rng.random()
    pool = _split_family(split)
    if r < 0.1 and split.name == "train":
        word = split.pick(rng, W.NO_RHYME)
        return Turn("rhyme", say(rng, _RHYME, w=quoted(rng, word)), f"{hyphens(word)}: I know no such ending.", f"I know no rhyme for {word}.")
    word, ending = rng.choice(pool)
    if r < 0.3:
        if rng.random() < 0.5:
            other = rng.choice([w for w in W.RHYMES[ending] if w != word])
        else:
            other = rng.choice(_FAMILY_WORDS)[0]
        ending2 = max((k for k in W.RHYMES if other.endswith(k)), key=len)
        if not (split.ok("rhyme2", word, other)) or other == word:
            return rhyme(rng, split)
        user = say(rng, "(Do|Does|Would) {a} and {b} rhyme?|Does {a} rhyme with {b}?|Is {a} a rhyme for {b}?|Do the words {a} and {b} rhyme?", a=word, b=other)
        same = ending == ending2
        return Turn("rhyme", user, f"{hyphens(word)}: ends in {ending}\n{hyphens(other)}: ends in {ending2}",
                    f"Yes, {word} and {other} rhyme." if same else f"No, {word} and {other} do not rhyme.")
    family = W.RHYMES[ending]
    found = family[0] if word != family[0] else family[1]
    user = say(rng, _RHYME, w=quoted(rng, word))
    return Turn("rhyme", user, f"{hyphens(word)}: ends in {ending} like {family[0]}, {family[1]}", f"{found} rhymes with {word}.",
                [f"{w} rhymes with {word}." for w in family if w != word])


_RHYME = """(What|Which word|What word|Which words|What words) (rhymes|rhyme) with {w}?|(Tell me|Give me|Name|Say|Find|Find me) (a word that rhymes with|a rhyme for|a rhyme with|something that rhymes with) {w}(.|)
|(Do you know|Can you give me|Can you find) a (rhyme for|word that rhymes with|rhyme with) {w}?|Rhyme (with |){w}|(A rhyme|Rhymes) for {w}(?|)|What is a rhyme for {w}?|I need a rhyme for {w}.|{w} rhymes with(?|...| what?)""".replace("\n", "")


def _split_family(split):
    """Words to ask for; a family's first two, which answer for all of it, are always trained."""
    held = [(w, k) for w, k in _FAMILY_WORDS if W.held_out(w, 8) and w not in W.RHYMES[k][:2]]
    return held if split.name == "eval" else [x for x in _FAMILY_WORDS if x not in held]


# --- continuing lists -----------------------------------------------------------------------------------------------

_CONTINUE = """(Continue|Go on with|Complete|Extend|Keep going|Please continue|Can you continue)( this list| the list| the sequence| this sequence| the series| this|)(:|) {items}(...| ...|,| and so on|)
|What (comes|is|comes next) (next|after)(:| in| here:|) {items}(?|...)|{items}, (what comes next|what is next|go on|continue|and then)?|(Give me|Write|Name) the next three( items| in the list|): {items}|{items}...""".replace("\n", "")
_CONTINUE = _CONTINUE.replace("(comes|is|comes next) (next|after)", "(comes|is) next")
_NUMBER_NAMES = [number_words(n) for n in range(1, 41)]


def continue_list(rng, split) -> Turn:
    r = rng.random()
    if r < 0.5:
        while True:
            n = rng.randint(3, 5)
            step = rng.randint(1, 12) if rng.random() < 0.7 else rng.choice([15, 20, 25, 50, 100, 11, 30])
            down = rng.random() < 0.25
            start = rng.randint(0, 60) if rng.random() < 0.7 else rng.randint(0, 400)
            if down:
                start += step * (n + 3)
                step = -step
            items = [start + i * step for i in range(n + 3)]
            if items[-1] <= 999 and (split.name == "train" and start < 10 and abs(step) <= 2 or split.ok("step", start, step, n)):
                break
        shown, more = items[:n], items[n:]
        sign = "+" if step > 0 else "-"
        think = f"Each number is {abs(step)} {'more' if step > 0 else 'less'}: " + ", ".join(
            f"{items[n - 1 + i]} {sign} {abs(step)} = {items[n + i]}" for i in range(3)
        )
    elif r < 0.58:
        k, n = rng.randint(1, 9), rng.randint(3, 4)
        items = [k * 2**i for i in range(n + 3)]
        if not (split.ok("double", k, n) or k == 1 and split.name == "train"):
            return continue_list(rng, split)
        shown, more = items[:n], items[n:]
        think = "Each number is doubled: " + ", ".join(f"{items[n - 1 + i]} + {items[n - 1 + i]} = {items[n + i]}" for i in range(3))
    elif r < 0.78:
        kind = rng.randrange(5)
        cycle = [list("abcdefghijklmnopqrstuvwxyz"), list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), W.DAYS, W.MONTHS, _NUMBER_NAMES][kind]
        step = rng.choice([1, 1, 1, 2, -1]) if kind != 4 else rng.choice([1, 1, 2])
        n = rng.randint(2, 5) if step == 1 else rng.randint(3, 5)
        start = rng.randrange(len(cycle))
        if kind == 4 and start + step * (n + 2) >= len(cycle):
            return continue_list(rng, split)
        if kind < 2 and not 0 <= start + step * (n + 2) < 26:
            return continue_list(rng, split)
        kinds = (0, 1) if kind < 2 and split.name == "eval" else (kind,)  # small and capital letters are nearly one question
        if not all(split.ok("cycle", k, step, n, start) for k in kinds):
            if not (split.name == "train" and step == 1 and start == 0):
                return continue_list(rng, split)
        elif split.name == "eval" and step == 1 and start == 0:
            return continue_list(rng, split)
        items = [cycle[(start + i * step) % len(cycle)] for i in range(n + 3)]
        if kind in (2, 3) and rng.random() < 0.2:
            items = [w.lower() for w in items]
        shown, more = items[:n], items[n:]
        think = ["The letters of the alphabet.", "The letters of the alphabet.", "The days of the week.", "The months of the year.", "Numbers in words."][kind]
        if step == 2:
            think += " Every second one."
        elif step == -1:
            think += " Backwards."
    else:
        k = rng.randint(2, 3)
        unit = word_list(rng, split, k)
        n = rng.randint(2 * k, 2 * k + 2)
        items = [unit[i % k] for i in range(n + 3)]
        shown, more = items[:n], items[n:]
        think = "The pattern is " + ", ".join(unit) + "."
    user = say(rng, _CONTINUE, items=", ".join(map(str, shown)))
    return Turn("continue", user, think, ", ".join(map(str, more)))


TASKS = {
    "add": add, "subtract": subtract, "sort": sort, "count": count, "reverse": reverse, "spell": spell, "rhyme": rhyme,
    "continue": continue_list,
}
