"""Whole conversations out of the other modules' turns: training samples and evaluation questions.

A Conversation keeps what was said, so that a later question about it has a known answer. sample() draws a training
sample; question() draws an evaluation question of one kind, its last question from the held-out part.
"""

from dataclasses import dataclass, field

from . import facts as F
from . import talk, tasks, tools
from . import words as W
from .render import SPLIT, call_text
from .tasks import Turn

TOOL_ANSWERED = "The tool has answered."
NO_TOOL_FITS = "No tool fits."
SUMMARY_MAX = 4

# Kinds of question that the evaluation asks, and how many of each.
KINDS = {
    "smalltalk": 40, "about": 40, "unknown": 40, "statement": 24, "recall": 40, "recall-long": 48, "update": 32, "not-told": 32,
    "persona": 32, "add": 40, "subtract": 40, "sort": 40, "count": 40, "reverse": 40, "spell": 40, "rhyme": 32, "continue": 40,
    "tool-call": 40, "tool-result": 32, "no-tool": 32,
}
# Kinds that need their steps: the evaluation asks them with thinking on.
STEPS = {"add", "subtract", "count", "reverse", "sort", "rhyme"}


@dataclass
class Sample:
    """messages end with what the assistant must answer; reply is that answer, calls its tool calls."""

    kind: str
    messages: list[dict]
    tools: list[dict] | None
    thinking: bool
    reasoning: str
    reply: str
    accept: list[str] = field(default_factory=list)
    calls: list[dict] | None = None
    fact_at: int = -1  # message that states the asked fact
    key: str = ""  # what this sample's question is, for the check that training never asks it


class Conversation:
    def __init__(self, rng, split):
        self.rng, self.split = rng, split
        self.messages: list[dict] = []
        self.tools: list[dict] = []  # of tools.tool_list
        self.persona = None
        self.told: dict[str, list] = {}  # key -> [topic, values, index of the message with the last value]
        self.chars = 0
        self.last_sum: int | None = None

    # --- what it is set up with

    def neutral(self):
        self.system(talk.neutral_system(self.rng))

    def be(self, persona):
        self.persona = persona
        self.system(persona.system)

    def system(self, text: str):
        self.add({"role": "system", "content": text})

    def offer(self, tool_list: list[dict]):
        self.tools = tool_list
        self.chars += sum(400 for _ in tool_list)

    def schemas(self):
        return [t["schema"] for t in self.tools] or None

    def has_intent(self, *keys) -> bool:
        return any(t["intent"].key in keys for t in self.tools)

    # --- turns

    def add(self, message: dict):
        self.messages.append(message)
        self.chars += len(message.get("content") or "") + 12

    def answered(self, turn: Turn) -> str:
        return self.persona.decorate(turn.answer) if self.persona else turn.answer

    def past(self, turn: Turn):
        """A turn that has been answered."""
        self.add({"role": "user", "content": turn.user})
        self.add({"role": "assistant", "content": self.answered(turn)})
        self.last_sum = turn.value

    def past_tool(self, c: tools.ToolCase):
        self.add({"role": "user", "content": c.user})
        self.calls(c, "")
        self.add({"role": "assistant", "content": c.answer})
        self.last_sum = None

    def calls(self, c: tools.ToolCase, reasoning: str):
        message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": x} for x in c.calls]}
        if reasoning:
            message["reasoning_content"] = reasoning
        self.add(message)
        for r in c.results:
            self.add({"role": "tool", "content": r})

    # --- facts

    def new_fact(self, split=None) -> F.Fact:
        while True:
            f = F.fact(self.rng, split or self.split)
            if f.topic.key not in self.told:
                return f

    def tell(self, f: F.Fact, update: bool = False) -> Turn:
        turn = F.state(self.rng, self.split, f, update)
        self.remember(f)
        return turn

    def remember(self, f: F.Fact):
        entry = self.told.setdefault(f.topic.key, [f.topic, [], 0])
        entry[0] = f.topic
        entry[1].append(f.value)
        entry[2] = len(self.messages)

    def change(self, key: str) -> Turn:
        """A new value for a fact told before; for another fact where the split has no second value."""
        topic, values, _ = self.told[key]
        for _ in range(20):
            v = F.value(self.rng, self.split, topic)
            if v is not None and v.lower() not in (x.lower() for x in values):
                return self.tell(F.Fact(topic, v), update=True)
        return self.tell(self.new_fact())

    def ask(self, key: str) -> Turn:
        topic, values, _ = self.told[key]
        return F.ask(self.rng, topic, values, "update" if len(values) > 1 else "recall")

    def ask_untold(self) -> Turn:
        """About something not told, often of the same kind as something told (the dog's name, not the cat's)."""
        f = self.new_fact()
        if self.rng.random() < 0.5:
            pools = {t.pool for t, _, _ in self.told.values()}
            for _ in range(12):
                if f.topic.pool in pools:
                    break
                f = self.new_fact()
        return F.ask(self.rng, f.topic, [], "not-told")

    # --- one more turn of any kind, as history

    def _task(self, kinds=None) -> Turn:
        names = kinds or list(tasks.TASKS)
        if self.has_intent("calculator"):
            names = [n for n in names if n not in ("add", "subtract")]
        return tasks.TASKS[self.rng.choice(names)](self.rng, self.split)

    def any_turn(self) -> Turn:
        rng, r = self.rng, self.rng.random()
        if r < 0.24 and not self.has_intent("note", "reminder", "message", "define"):
            return self.tell(self.new_fact())
        if r < 0.30 and self.told:
            return self.change(rng.choice(list(self.told)))
        if r < 0.42 and self.told:
            return self.ask(rng.choice(list(self.told)))
        if r < 0.46:
            return self.ask_untold()
        if r < 0.48 and self.last_sum is not None and not self.has_intent("calculator"):
            turn = tasks.sum_follow_up(rng, self.split, self.last_sum)
            if turn:
                return turn
        if r < 0.50 and 1 < len(self.told) <= SUMMARY_MAX and not self.persona:
            return F.summary(rng, [F.Fact(t, v[-1]) for t, v, _ in self.told.values()])
        if r < 0.62 and not self.persona and not self.tools:
            return rng.choice([talk.smalltalk, talk.about, talk.unknown, talk.unknown])(rng, self.split)
        if r < 0.66 and not self.persona and self.tools:
            return rng.choice([talk.smalltalk, talk.about])(rng, self.split)
        if self.persona and r < 0.7:
            return self.persona_turn()
        return self._task()

    def persona_turn(self) -> Turn:
        while True:
            turn = self.rng.choice(self.persona.turns)(self.rng)
            if self.split.name == "eval" or talk.text_ok(self.split, turn.user):
                return turn

    def step(self):
        """Adds one answered turn."""
        if self.tools and self.rng.random() < 0.6:
            if self.rng.random() < 0.75:
                self.past_tool(tools.case(self.rng, self.split, self.rng.choice(self.tools)))
            else:
                self.past(no_tool(self.rng, self.split, self))
            return
        if self.rng.random() < 0.06 and not self.tools:
            fs = {f.topic.key: f for f in (self.new_fact() for _ in range(self.rng.randint(2, 3)))}
            turn = F.state_many(self.rng, list(fs.values()))
            for f in fs.values():
                self.remember(f)
            self.past(turn)
            return
        self.past(self.any_turn())

    def fill(self, chars: int):
        while self.chars < chars:
            self.step()

    # --- ends

    def end(self, turn: Turn, thinking: bool, fact_at: int = -1) -> Sample:
        self.add({"role": "user", "content": turn.user})
        accept = [self.persona.decorate(a) if self.persona else a for a in turn.answers()]
        return Sample(turn.kind, self.messages, self.schemas(), thinking, turn.think, self.answered(turn), accept, None, fact_at, turn.user)

    def end_call(self, c: tools.ToolCase, thinking: bool) -> Sample:
        self.add({"role": "user", "content": c.user})
        return Sample("tool-call", self.messages, self.schemas(), thinking, c.think, call_text(c.calls), [], c.calls, -1, c.user)

    def end_result(self, c: tools.ToolCase, thinking: bool) -> Sample:
        self.add({"role": "user", "content": c.user})
        self.calls(c, c.think if thinking else "")
        return Sample("tool-result", self.messages, self.schemas(), thinking, TOOL_ANSWERED, c.answer, [c.answer], None, -1, c.user + "\n" + "\n".join(c.results))


def no_tool(rng, split, conversation: Conversation) -> Turn:
    """A request that none of the offered tools can do."""
    avoid = [t["intent"].key for t in conversation.tools] + ["calculator"]
    if any(k in avoid for k in ("note", "reminder", "message", "shopping")):
        avoid += ["note", "reminder", "message", "shopping"]  # too near to each other
    if any(k in avoid for k in ("search", "define", "file")):
        avoid += ["search", "define", "file"]
    while True:
        intent = tools.pick_intent(rng, split)
        if intent.key not in avoid:
            c = tools.case(rng, split, tools._instance(rng, intent))
            return Turn("no-tool", c.user, NO_TOOL_FITS, tools.NO_TOOL)


def recall_in_one(c: Conversation) -> tuple[Turn, int]:
    """The fact and the question in one message."""
    f = c.new_fact()
    told = F.state_text(c.rng, f)
    if told[-1] not in ".!?":
        told += "."
    turn = F.ask(c.rng, f.topic, [f.value], "recall")
    turn.user = told + " " + turn.user
    return turn, len(c.messages)


_TALK = {"smalltalk": talk.smalltalk, "about": talk.about, "unknown": talk.unknown}
_FINAL = (
    ["add"] * 10 + ["subtract"] * 11 + ["sort"] * 10 + ["count"] * 10 + ["reverse"] * 10 + ["spell"] * 7 + ["rhyme"] * 6 + ["continue"] * 9
    + ["smalltalk"] * 5 + ["about"] * 6 + ["unknown"] * 8 + ["statement"] * 4 + ["recall"] * 9 + ["update"] * 4 + ["not-told"] * 4 + ["follow-up"] * 2
    + ["summary"] * 1
)


def finish(c: Conversation, kind: str, thinking: bool) -> Sample:
    """Ends the conversation with a question of the kind."""
    rng, split = c.rng, c.split
    if kind == "statement":
        if c.told and rng.random() < 0.25 and split.name == "train":
            return c.end(c.change(rng.choice(list(c.told))), thinking)
        return c.end(c.tell(c.new_fact()), thinking)
    if kind == "recall":
        once = [k for k, e in c.told.items() if len(e[1]) == 1]
        if once and rng.random() < 0.85:
            key = rng.choice(once)
            return c.end(c.ask(key), thinking, c.told[key][2])
        turn, at = recall_in_one(c)
        return c.end(turn, thinking, at)
    if kind == "update":
        while not (changed := [k for k, e in c.told.items() if len(e[1]) > 1]):
            if not c.told or rng.random() < 0.2:
                c.past(c.tell(c.new_fact()))
            if rng.random() < 0.3:
                c.step()
            c.past(c.change(rng.choice(list(c.told))))
            if rng.random() < 0.3:
                c.step()
        key = rng.choice(changed)
        turn = c.ask(key)
        turn.kind = "update"
        return c.end(turn, thinking, c.told[key][2])
    if kind == "not-told":
        return c.end(c.ask_untold(), thinking)
    if kind == "follow-up":
        while True:
            c.past(c._task(["add", "subtract"]))
            turn = tasks.sum_follow_up(rng, split, c.last_sum) if c.last_sum is not None else None
            if turn:
                return c.end(turn, thinking)
    if kind == "summary":
        if not 1 <= len(c.told) <= SUMMARY_MAX:
            return c.end(c.ask_untold(), thinking)
        return c.end(F.summary(rng, [F.Fact(t, v[-1]) for t, v, _ in c.told.values()]), thinking)
    if kind in _TALK:
        return c.end(_TALK[kind](rng, split), thinking)
    if kind == "persona":
        return c.end(c.persona_turn(), thinking)
    if kind in ("tool-call", "tool-result"):
        case = tools.case(rng, split, rng.choice(c.tools))
        return c.end_call(case, thinking) if kind == "tool-call" else c.end_result(case, thinking)
    if kind == "no-tool":
        return c.end(no_tool(rng, split, c), thinking)
    return c.end(tasks.TASKS[kind](rng, split), thinking)


def _tools_for(c: Conversation, n: int):
    c.offer(tools.tool_list(c.rng, c.split, tools.pick_intent(c.rng, c.split), n))


def sample(rng, split, focus: dict[str, float] | None = None) -> Sample:
    """A training sample: one question, a short conversation, or a long one. focus: kind -> share of extra questions."""
    c = Conversation(rng, split)
    thinking = rng.random() < 0.68
    for kind, share in (focus or {}).items():
        if rng.random() < share:
            if rng.random() < 0.3:
                c.step()
            return finish(c, kind, thinking)
    r = rng.random()
    kinds = _FINAL
    if r < 0.10:
        c.be(talk.persona(rng, split))
        kinds = ["persona"] * 6 + ["add", "subtract", "sort", "count", "reverse", "spell", "continue", "recall", "statement", "not-told"]
    elif r < 0.30:
        if rng.random() < 0.3:
            c.neutral()
        _tools_for(c, rng.choice([1, 1, 2, 2, 3, 3, 4, 5]))
        kinds = ["tool-call"] * 10 + ["tool-result"] * 7 + ["no-tool"] * 5 + ["spell", "smalltalk", "about", "reverse", "count", "continue"]
        if not c.has_intent("calculator"):
            kinds += ["add", "subtract"]
        if not c.has_intent("note", "reminder", "message", "define"):
            kinds += ["recall", "not-told"]
    elif rng.random() < 0.12:
        c.neutral()
    length = rng.random()
    if length < 0.11:  # long: what lies far back is asked for
        c.fill(rng.randint(1200, 5200))
        if not c.tools and not c.persona and rng.random() < 0.75:
            kinds = ["recall"] * 6 + ["update"] * 2 + ["not-told"] * 3
    elif length < 0.5:
        for _ in range(rng.choice([1, 1, 2, 2, 3, 4, 6, 8])):
            c.step()
    return finish(c, rng.choice(kinds), thinking)


def question(rng, kind: str, train, held, count_tokens) -> Sample:
    """An evaluation question. What comes before it is ordinary conversation; facts and the question are held out.

    count_tokens(messages, tools) measures how far back the fact of a recall-long question lies.
    """
    thinking = kind in STEPS or rng.random() < 0.6
    c = Conversation(rng, train)
    if kind == "persona":
        c.be(talk.persona(rng, held))
    elif kind in ("tool-call", "tool-result", "no-tool"):
        _tools_for(c, rng.randint(1, 4))
    if kind == "recall-long":
        for _ in range(rng.randint(0, 2)):
            c.step()
        c.split = held
        f = c.new_fact()
        while f.topic.pool in ("day", "month"):
            f = c.new_fact()
        at = len(c.messages)
        c.past(c.tell(f))
        c.split = train
        while len(c.messages) < at + 6 or count_tokens(c.messages[at + 2 :], None) < 1010:
            keep = dict(c.told)
            c.step()
            if c.told.get(f.topic.key) is not keep.get(f.topic.key) or len(c.told[f.topic.key][1]) > 1 or c.told[f.topic.key][2] != at:
                return question(rng, kind, train, held, count_tokens)
            if any(f.value.lower() in (m.get("content") or "").lower() for m in c.messages[at + 2 :]):
                return question(rng, kind, train, held, count_tokens)  # must not be said again
        turn = c.ask(f.topic.key)
        turn.kind = kind
        return c.end(turn, thinking, at)
    if kind in ("recall", "update"):
        c.split = held
        c.past(c.tell(c.new_fact()))
        for _ in range(rng.randint(0, 3)):
            c.split = held if rng.random() < 0.3 else train
            c.step()
    elif kind == "not-told":
        c.split = held
        c.past(c.tell(c.new_fact()))
    elif rng.random() < 0.3:
        c.step()
    c.split = held
    return finish(c, kind, thinking)
