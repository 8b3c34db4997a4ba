"""Facts that a user states and asks for later: the recall, update and long-memory questions.

A Fact is one topic ("cat") with a value ("Milo"); asking for a topic that was never stated has its own answer. The
reasoning lists every value of the topic in the order told, so the latest is the last one.
"""

from dataclasses import dataclass

from . import words as W
from .phrases import expand, noisy, say
from .tasks import Turn

NOT_TOLD = "You have not told me that yet."


@dataclass
class Topic:
    """A kind of fact. Patterns use {v} for the value and the topic's own slots."""

    key: str  # short name, used in the reasoning
    pool: str
    states: str
    asks: str
    answer: str
    updates: str
    slots: dict


@dataclass
class Fact:
    topic: Topic
    value: str

    def think(self) -> str:
        return f"{self.topic.key}: {self.value}"

    def answer(self) -> str:
        return filled(self.topic.answer, self.topic.slots, self.value)


def filled(text: str, slots: dict, value: str = "") -> str:
    for k, v in slots.items():
        text = text.replace("{" + k + "}", v)
    return text.replace("{v}", value)


def _pet(rng, split):
    pet = rng.choice(W.PETS)
    return Topic(
        f"{pet}", "pet",
        "My {p} is called {v}.|I have a {p} (named|called) {v}.|My {p}'s name is {v}.|The name of my {p} is {v}.|We have a {p}, {v}.|I've got a {p} called {v}.|I got a {p}. Its name is {v}.",
        "(What is|What's|Tell me|Do you remember|Do you know|What was) (my {p}'s name|the name of my {p})?|(What|How) is my {p} called?|Who is my {p}?|What did I (call|name) my {p}?",
        "Your {p} is called {v}.", "(Actually|No|Sorry|Correction|Wait), (my {p} is called {v}|my {p}'s name is {v}|the {p} is called {v}|the {p}'s name is {v}) now.|I renamed my {p}: (it is|it's) called {v} now.|I changed my {p}'s name to {v}.",
        {"p": pet},
    )


_JOBS = [j for j in W.JOBS if j[0] not in "aeiou"]  # "a" fits before them
_RELATIVES = W._list("brother sister mother father cousin uncle aunt wife husband son daughter grandmother grandfather neighbour boss teacher friend colleague roommate doctor nephew niece")


def _relative(rng, split):
    rel = rng.choice(_RELATIVES)
    return Topic(
        f"{rel}", "name",
        "My {p} is called {v}.|My {p}'s name is {v}.|The name of my {p} is {v}.|I have a {p} (called|named) {v}.|{v} is my {p}.",
        "(What is|What's|Tell me|Do you remember|Do you know|What was) (my {p}'s name|the name of my {p})?|(What|How) is my {p} called?|Who is my {p}?",
        "Your {p} is called {v}.", "(Actually|No|Sorry|Correction|Wait), (my {p} is called {v}|my {p}'s name is {v}|the name of my {p} is {v}).|I got that wrong: my {p} is called {v}.",
        {"p": rel},
    )


_FAVOURITES = {
    "colour": W.COLOURS, "food": W.FOODS, "animal": W.ANIMALS, "season": W.SEASONS, "sport": W.SPORTS, "fruit": W.FRUITS,
    "vegetable": W.VEGETABLES, "drink": W.DRINKS, "instrument": W.INSTRUMENTS, "day": W.DAYS, "month": W.MONTHS,
    "city": W.CITIES, "country": W.COUNTRIES, "subject": W.SUBJECTS, "word": W.WORDS, "hobby": W.HOBBIES, "flower": W.NATURE,
    "number": None, "name": W.NAMES,
}


def _favourite(rng, split):
    what = rng.choice(list(_FAVOURITES))
    spelled = "favourite" if rng.random() < 0.55 else "favorite"
    asked = spelled if rng.random() < 0.85 else ("favourite" if spelled == "favorite" else "favorite")
    shown = "color" if what == "colour" and spelled == "favorite" else what
    shown2 = "color" if what == "colour" and asked == "favorite" else what
    return Topic(
        f"favourite {what}", "favourite " + what,
        "My {f} {p} is {v}.|The {p} I like (most|best) is {v}.|{v} is my {f} {p}.|I like {v}, it's my {f} {p}.",
        "(What is|What's|Tell me|Do you remember|Do you know|What was) my {g} {q}?|Which {q} do I like (best|most)?|What is the {q} I like (best|most)?|Which {q} is my {g}?",
        f"Your favourite {what} is {{v}}.", "(Actually|No|Sorry|Wait), my {f} {p} is {v} now.|I changed my mind: my {f} {p} is {v}.|My {f} {p} is {v} now.|From now on my {f} {p} is {v}.",
        {"f": spelled, "p": shown, "g": asked, "q": shown2},
    )


_SINGLE = [
    ("name", "name", "My name is {v}.|I'm {v}.|I am {v}.|(You can|Please|) call me {v}.|(Hi|Hello|Hey), (my name is|I'm|I am) {v}.|My name's {v}.|The name is {v}.",
     "(What is|What's|Tell me|Do you remember|Do you know|What was) my name?|Who am I?|What am I called?|How am I called?", "Your name is {v}.",
     "(Actually|No|Sorry|Wait), my name is {v}.|I lied, my name is {v}.|Please call me {v} (now|from now on)."),
    ("city", "city", "I live in {v}.|My home is in {v}.|I'm living in {v}.|I live in {v} now.|My flat is in {v}.",
     "Where do I live?|(In which|Which|What) city do I live in?|Where is my home?|Do you (know|remember) where I live?", "You live in {v}.",
     "(Actually|No|Sorry|Wait), I live in {v} now.|I moved to {v}.|I have moved to {v}.|I live in {v} now."),
    ("birthplace", "city", "I was born in {v}.|I come from {v}.|I'm from {v}.|I am from {v}.|I grew up in {v}.",
     "Where (was I born|do I come from|am I from)?|(Which|What) city (do I come from|am I from)?|Where did I grow up?|Do you (know|remember) where I am from?", "You come from {v}.",
     "(Actually|No|Sorry|Wait), I come from {v}.|I got that wrong, I am from {v}."),
    ("job", "job", "I work as a {v}.|I am a {v}.|I'm a {v}.|My job is {v}.|I'm a {v} by profession.|I earn my money as a {v}.",
     "(What is|What's|What was) my job?|What do I (do|work as)?|What do I do for (a living|work)?|Do you (know|remember) my job?", "You work as a {v}.",
     "(Actually|No|Sorry|Wait), I work as a {v} now.|I changed jobs: I am a {v} now.|I work as a {v} now."),
    ("age", "age", "I am {v} years old.|I'm {v} years old.|My age is {v}.|I'm {v}.|I just turned {v}.", "How old am I?|(What is|What's) my age?|Do you (know|remember) how old I am?", "You are {v} years old.",
     "(Actually|No|Sorry|Wait), I am {v} years old.|I turned {v} today."),
    ("birthday", "month", "My birthday is in {v}.|I was born in {v}, that's my birthday month.|I have my birthday in {v}.", "(When|In which month) is my birthday?|(What is|Which is) my birthday month?|When do I have my birthday?", "Your birthday is in {v}.",
     "(Actually|No|Sorry|Wait), my birthday is in {v}."),
    ("car", "colour", "My car is {v}.|I drive a {v} car.|I have a {v} car.|The colour of my car is {v}.", "(What|Which) (colour|color) (is my car|has my car)?|What is the (colour|color) of my car?", "Your car is {v}.",
     "(Actually|No|Sorry|Wait), my car is {v} now.|I painted my car {v}.|My car is {v} now."),
    ("house number", "number", "My house number is {v}.|I live at number {v}.|The number of my house is {v}.", "(What is|What's|Do you remember) my house number?|Which number is my house?|What is the number of my house?", "Your house number is {v}.",
     "(Actually|No|Sorry|Wait), my house number is {v}."),
    ("phone number", "code", "My phone number is {v}.|My number is {v}, for calls.|You can call me at {v}.", "(What is|What's|Tell me|Do you remember) my phone number?|What number can you call me at?", "Your phone number is {v}.",
     "(Actually|No|Sorry|Wait), my phone number is {v} now.|My new phone number is {v}."),
    ("password", "secret", "The password is {v}.|The secret word is {v}.|Remember the password: {v}.|Remember this: the password is {v}.|Our password is {v}.", "(What is|What's|Tell me|Do you remember) the (password|secret word)?|(What was|Which is) the password?", "The password is {v}.",
     "(Actually|No|Sorry|Wait), the password is {v} now.|The password has changed to {v}.|The new password is {v}."),
    ("dentist", "day", "My dentist appointment is on {v}.|I see the dentist on {v}.|I have to go to the dentist on {v}.", "When (is my dentist appointment|do I see the dentist|do I go to the dentist)?|(On which|Which|What) day is my dentist appointment?", "Your dentist appointment is on {v}.",
     "(Actually|No|Sorry|Wait), the dentist appointment is on {v}.|My dentist appointment was moved to {v}."),
    ("meeting", "hour", "The meeting is at {v}.|My meeting starts at {v}.|We meet at {v}, the meeting is then.|I have a meeting at {v}.", "(When|At what time) is (the|my) meeting?|(When|What time) does the meeting start?", "The meeting is at {v}.",
     "(Actually|No|Sorry|Wait), the meeting is at {v}.|The meeting was moved to {v}."),
    ("hobby", "hobby", "My hobby is {v}.|I enjoy {v} in my free time.|In my free time I like {v}.|My hobbies? Just {v}.", "(What is|What's) my hobby?|What do I (like|enjoy|do) in my free time?", "Your hobby is {v}.",
     "(Actually|No|Sorry|Wait), my hobby is {v} now.|My new hobby is {v}."),
    ("language", "language", "I am learning {v}.|I'm learning {v}.|I study {v}, the language.|At the moment I learn {v}.", "(Which|What) language (am I learning|do I learn|do I study)?|What am I learning?", "You are learning {v}.",
     "(Actually|No|Sorry|Wait), I am learning {v} now.|I switched to learning {v}."),
    ("holiday", "country", "I am going to {v} (for my holiday|on holiday).|My holiday will be in {v}.|I will travel to {v}.|Next summer I fly to {v}.|We spend our holiday in {v}.", "Where (am I going|will I go|do I go) on holiday?|(Which|What) country will I (travel to|visit)?|Where will I travel?|Where is my holiday?", "You are going to {v}.",
     "(Actually|No|Sorry|Wait), I am going to {v} on holiday.|We changed the holiday: I am going to {v}."),
    ("train", "hour", "My train leaves at {v}.|The train goes at {v}.|I take the train at {v}.", "(When|What time|At what time) does my train leave?|When is my train?|When does the train go?", "Your train leaves at {v}.",
     "(Actually|No|Sorry|Wait), my train leaves at {v}.|The train was moved to {v}."),
    ("dinner", "food", "I will cook {v} tonight.|Tonight we eat {v}.|Dinner is {v} tonight.|For dinner I make {v}.", "What (do I cook|will I cook|do we eat|is for dinner|am I cooking) tonight?|What is for dinner?|What will I make for dinner?", "Dinner is {v}.",
     "(Actually|No|Sorry|Wait), dinner is {v}.|I changed my mind, for dinner I make {v}."),
]


def _single(rng, split):
    key, pool, states, asks, answer, updates = rng.choice(_SINGLE)
    return Topic(key, pool, states, asks, answer, updates, {})


def _place(rng, split):
    thing = rng.choice(W.THINGS)
    are = "are" if thing in ("keys", "glasses", "gloves", "headphones") else "is"
    return Topic(
        thing, "place",
        "(I put my {p} in the {v}.|My {p} {are} in the {v}.|I left my {p} in the {v}.|The {p} {are} in the {v}.|I keep my {p} in the {v}.)",
        "Where {are} (my|the) {p}?|Where did I (put|leave) (my|the) {p}?|Do you (know|remember) where my {p} {are}?|In which place {are} my {p}?",
        "Your {p} {are} in the {v}.", "(Actually|No|Sorry|Wait), (my|the) {p} {are} in the {v} (now|).|I moved my {p} to the {v}.|I put the {p} in the {v} (now|instead).",
        {"p": thing, "are": are},
    )


_COLOURED = W._list("red blue green yellow black white brown grey front back old new big small")
_LOCKED = W._list("door safe locker garage gate box bike alarm office cellar")


def _code(rng, split):
    thing = rng.choice(_COLOURED) + " " + rng.choice(_LOCKED)
    return Topic(
        f"{thing}", "code",
        "The code for the {p} is {v}.|The {p} has the code {v}.|Remember: the code of the {p} is {v}.|{v} is the code for the {p}.|The {p} opens with {v}.",
        "(What is|What's|Tell me|Do you remember|What was) the code (for|of) the {p}?|Which code (opens|has) the {p}?|How do I open the {p}?|Code for the {p}?",
        "The code for the {p} is {v}.", "(Actually|No|Sorry|Wait), the code for the {p} is {v}.|The code for the {p} was changed to {v}.|The new code for the {p} is {v}.",
        {"p": thing},
    )


_PERSON = [
    ("lives in", "city", "{p} lives in {v}.|{p}'s home is in {v}.|{p} has a flat in {v}.", "Where does {p} live?|Which city does {p} live in?|Where is {p}'s home?", "{p} lives in {v}.", "(Actually|No|Sorry|Wait), {p} lives in {v} (now|).|{p} moved to {v}."),
    ("job", "job", "{p} works as a {v}.|{p} is a {v}.|{p}'s job is {v}.", "What is {p}'s job?|What does {p} (do|work as)?|What does {p} do for (a living|work)?", "{p} works as a {v}.", "(Actually|No|Sorry|Wait), {p} works as a {v} (now|).|{p} changed jobs: {p} is a {v} now."),
    ("plays", "instrument", "{p} plays the {v}.|{p}'s instrument is the {v}.|{p} is learning the {v}.", "(What|Which) instrument does {p} play?|What does {p} play?", "{p} plays the {v}.", "(Actually|No|Sorry|Wait), {p} plays the {v} (now|)."),
    ("likes", "food", "{p} likes {v}.|{p} loves {v}.|{p} likes to eat {v}.", "What does {p} (like|love)( to eat|)?|(What|Which) food does {p} like?", "{p} likes {v}.", "(Actually|No|Sorry|Wait), {p} likes {v} (now|)."),
    ("is from", "country", "{p} comes from {v}.|{p} is from {v}.|{p} was born in {v}.", "Where (does {p} come|is {p}) from?|(Which|What) country (does {p} come|is {p}) from?", "{p} comes from {v}.", "(Actually|No|Sorry|Wait), {p} comes from {v}."),
    ("age", "age", "{p} is {v} years old.|{p} is {v} now, years I mean.|{p} turned {v}.", "How old is {p}?|What is {p}'s age?", "{p} is {v} years old.", "(Actually|No|Sorry|Wait), {p} is {v} years old."),
    ("sport", "sport", "{p} does {v} every week.|{p}'s sport is {v}.|{p} enjoys {v}.", "(What|Which) sport does {p} (do|enjoy)?|What is {p}'s sport?", "{p}'s sport is {v}.", "(Actually|No|Sorry|Wait), {p}'s sport is {v} (now|)."),
    ("colour", "colour", "{p}'s favourite colour is {v}.|{p} likes the colour {v} best.", "What is {p}'s favourite colour?|Which colour does {p} like (best|most)?", "{p}'s favourite colour is {v}.", "(Actually|No|Sorry|Wait), {p}'s favourite colour is {v} (now|)."),
]


def _person(rng, split):
    rel, pool, states, asks, answer, updates = rng.choice(_PERSON)
    name = split.name_(rng)
    return Topic(f"{name} {rel}", pool, states, asks, answer, updates, {"p": name})


def topic(rng, split) -> Topic:
    r = rng.random()
    if r < 0.2:
        return _pet(rng, split)
    if r < 0.3:
        return _relative(rng, split)
    if r < 0.48:
        return _favourite(rng, split)
    if r < 0.76:
        return _single(rng, split)
    if r < 0.83:
        return _place(rng, split)
    if r < 0.9:
        return _code(rng, split)
    return _person(rng, split)


def _digits(rng, n: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(n))


def value(rng, split, t: Topic) -> str | None:
    """A value for the topic; (topic, value) pairs of the other split are never drawn. None: a short list has none left."""
    pool = t.pool
    for _ in range(40):
        if pool == "pet":
            v = split.name_(rng, W.PET_NAMES)
        elif pool == "name":
            v = split.name_(rng)
        elif pool == "city":
            v = split.name_(rng, W.CITIES)
        elif pool == "country":
            v = split.pick(rng, W.COUNTRIES)
        elif pool == "colour":
            v = split.pick(rng, W.COLOURS)
        elif pool == "food":
            v = split.pick(rng, W.FOODS)
        elif pool == "job":
            v = split.pick(rng, _JOBS)
        elif pool == "month":
            v = rng.choice(W.MONTHS)
        elif pool == "day":
            v = rng.choice(W.DAYS)
        elif pool == "hobby":
            v = rng.choice(W.HOBBIES)
        elif pool == "sport":
            v = rng.choice(W.SPORTS)
        elif pool == "instrument":
            v = rng.choice(W.INSTRUMENTS)
        elif pool == "language":
            v = rng.choice(W.LANGUAGES)
        elif pool == "place":
            v = rng.choice(W.PLACES)
        elif pool == "age":
            v = str(rng.randint(5, 99))
        elif pool == "number":
            v = str(rng.randint(1, 999))
        elif pool == "code":
            v = _digits(rng, rng.randint(3, 6))
        elif pool == "hour":
            v = str(rng.randint(1, 12)) + rng.choice(["", ":30", ":15", ":45"])
        elif pool == "secret":
            v = split.word(rng, "secret", 4, 10)
        elif pool.startswith("favourite "):
            items = _FAVOURITES[pool[10:]]
            v = str(rng.randint(1, 999)) if items is None else split.pick(rng, items)
        else:
            raise AssertionError(pool)
        if split.ok("fact", t.key, v):
            return v
    return None


def fact(rng, split) -> Fact:
    while True:
        t = topic(rng, split)
        v = value(rng, split, t)
        if v is not None:
            return Fact(t, v)


def _lower_value(rng, f: Fact):
    if rng.random() < 0.07:
        f.value = f.value.lower()


_REMEMBER = "(Remember this: |Please remember: |Remember that |Note: |Just so you know, |By the way, |I want you to remember this: |Let me tell you something. |Some news: |Did you know? |)"


def state_text(rng, f: Fact, update: bool = False, plain: bool = False) -> str:
    """The user's sentence that states the fact. Typing noise spares the topic and the value."""
    text = expand(rng, f.topic.updates if update else f.topic.states).strip()
    if not plain and rng.random() < 0.12:
        text = expand(rng, _REMEMBER) + text
    return filled(noisy(rng, text, 0.0 if plain else 1.0), f.topic.slots, f.value)


def acknowledge(f: Fact) -> str:
    if f.topic.key == "name":
        return f"Nice to meet you, {f.value}!"
    return f"Thank you, I will remember it: {lower_first(f.answer())}"


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text.startswith(("Your ", "You ", "The ", "Dinner ")) else text


def state(rng, split, f: Fact, update: bool = False) -> Turn:
    if not update:
        _lower_value(rng, f)
    user = state_text(rng, f, update)
    return Turn("statement", user, f.think(), acknowledge(f))


def state_many(rng, fs: list[Fact]) -> Turn:
    user = " ".join(state_text(rng, f, plain=rng.random() < 0.5) for f in fs)
    return Turn("statement", user, "\n".join(f.think() for f in fs), "Thank you, I will remember all of that.")


def ask(rng, t: Topic, values: list[str], kind: str) -> Turn:
    """The question about a topic, given the values told so far (none, or the latest last)."""
    user = say(rng, t.asks, **t.slots)
    if not values:
        return Turn(kind, user, f"{t.key}: not told", NOT_TOLD)
    f = Fact(t, values[-1])
    return Turn(kind, user, f"{t.key}: " + ", then ".join(values), f.answer())


def summary(rng, fs: list[Fact]) -> Turn:
    user = say(rng, "What do you know about me?|What have I told you( so far|)?|What do you remember( about me|)?|(List|Tell me) everything I told you.|Can you repeat what I told you?")
    return Turn("recall-short", user, "\n".join(f.think() for f in fs), " ".join(f.answer() for f in fs))
