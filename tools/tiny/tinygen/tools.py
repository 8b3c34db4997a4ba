"""Function calling: tool lists with varied names and schemas, the right call, and an answer from the tool's result.

Names, parameter names, types and descriptions vary, so that the model reads the given list instead of knowing tools.
"""

import json
from dataclasses import dataclass
from typing import Callable

from . import words as W
from .phrases import say

NO_TOOL = "None of my tools can do that, and I do not know it myself."


@dataclass
class Param:
    names: list[str]
    type: str
    description: str
    slot: str
    enum: list[str] | None = None
    optional: bool = False


@dataclass
class Intent:
    """One thing a tool can do. values draws the slots; result gives the tool's output and the final answer."""

    key: str
    names: list[str]
    descriptions: list[str]
    params: list[Param]
    asks: str
    values: Callable
    result: Callable
    optional_asks: str = ""  # used when the optional parameter is given


def _p(names, type_, description, slot, **kw):
    return Param(names.split(), type_, description, slot, **kw)


def _city(rng, split):
    return {"city": split.name_(rng, W.CITIES)}


_CONDITIONS = W._list("sunny cloudy rainy snowy windy foggy stormy clear cold warm")
_EVENTS = ["call the dentist", "water the plants", "buy milk", "feed the cat", "send the letter", "clean the kitchen", "pay the bill",
           "take out the bins", "book the hotel", "pack the bag", "read the report", "bake the cake", "walk the dog", "fix the bike",
           "phone the bank", "renew the passport", "wash the car", "order the books", "check the oven", "charge the phone"]
_TEXTS = ["I will be late", "see you tomorrow", "dinner is ready", "the train is late", "call me back", "happy birthday", "I am on my way",
          "the meeting is cancelled", "thank you for the gift", "bring the keys", "we won the game", "the door is open", "I am at home",
          "lunch at noon", "please wait for me", "the parcel has arrived", "good luck today", "do not forget the milk"]


def _num(rng, low, high):
    return rng.randint(low, high)


def _json(**kw):
    return json.dumps(kw, ensure_ascii=False)


def _key(rng, *names):
    return rng.choice(names)


def _weather(rng, v):
    t, c = rng.randint(-9, 35), rng.choice(_CONDITIONS)
    return json.dumps({_key(rng, "temperature", "temp", "degrees"): t, _key(rng, "condition", "weather", "sky"): c}), f"It is {t} degrees and {c} in {v['city']}."


def _time(rng, v):
    t = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return (json.dumps({_key(rng, "time", "local_time", "now"): t}) if rng.random() < 0.8 else t), f"It is {t} in {v['city']}."


def _words_text(rng, split, n):
    return " ".join(split.pick(rng, W.WORDS) for _ in range(n))


_OPS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def _calc_values(rng, split):
    op = rng.choice("+-*/")
    a, b = rng.randint(2, 999), rng.randint(2, 99)
    return {"expression": f"{a} {op} {b}"}


def _calc_result(rng, v):
    a, op, b = v["expression"].split()
    a, b = int(a), int(b)
    r = {"+": a + b, "-": a - b, "*": a * b, "/": round(a / b, 2)}[op]
    if r == int(r):
        r = int(r)
    return (json.dumps({_key(rng, "result", "value", "answer"): r}) if rng.random() < 0.7 else str(r)), f"The result is {r}."


def _plain_value(rng, names, v):
    return json.dumps({_key(rng, *names): v}, ensure_ascii=False) if rng.random() < 0.75 else (v if isinstance(v, str) else json.dumps(v))


def _ok(rng):
    return rng.choice([_json(status="ok"), _json(success=True), "ok", "done", _json(status="done"), _json(ok=True)])


_INTENTS = [
    Intent("weather", W._list("get_weather weather fetch_weather current_weather get_current_weather weather_lookup getWeather weather_now"),
           ["Get the current weather for a city", "Current weather", "Get the weather at a place", "Returns temperature and sky for a city"],
           [_p("city location place town", "string", "The city", "city"), _p("unit units", "string", "The unit", "unit", enum=["celsius", "fahrenheit"], optional=True)],
           "(What is|What's|How is) the weather (like |)in {city}( today| now| right now|)?|Is it (raining|sunny|cold|warm) in {city}?|Weather in {city}?|How (warm|cold|hot) is it in {city}?|(Tell me|Check|Get|Look up) the weather (in|for) {city}.|What is the temperature in {city}?",
           _city, _weather, "(What is|What's) the (weather|temperature) in {city} in {unit}?|How warm is it in {city} in {unit}?|Weather in {city} in {unit}"),
    Intent("time", W._list("get_time current_time time_in_city get_local_time clock getTime world_clock what_time"),
           ["Get the current time in a city", "Local time of a place", "Current time"], [_p("city location place timezone_city", "string", "The city", "city")],
           "What time is it in {city}( now|)?|(What is|What's|Tell me) the (local |current |)time in {city}?|How late is it in {city}?|Time in {city}?|Is it night in {city}?", _city, _time),
    Intent("calculator", W._list("calculator calculate compute evaluate math eval_expression calc"),
           ["Evaluate an arithmetic expression", "A calculator", "Calculates an expression such as 2 * 3"], [_p("expression expr formula input", "string", "The expression", "expression")],
           "(What is|What's|Calculate|Compute|Work out|How much is|) {expression}(?|)|Use the calculator: {expression}|Can you (calculate|compute) {expression}?", _calc_values, _calc_result),
    Intent("message", W._list("send_message send_sms text_contact message send_text sendMessage write_message"),
           ["Send a message to a contact", "Send a text to a person"], [_p("to recipient contact name", "string", "Who gets the message", "person"), _p("text message body content", "string", "The text", "text")],
           "(Send a message to|Text|Message|Send a text to|Write to) {person}: {text}|(Tell|Let) {person} (know |)that {text}.|Send {person} the message {text}.".replace("(Tell|Let) {person} (know |)that", "(Tell {person} that|Let {person} know that)"),
           lambda rng, split: {"person": split.name_(rng), "text": rng.choice(_TEXTS) if rng.random() < 0.7 else _words_text(rng, split, rng.randint(2, 5))},
           lambda rng, v: (_ok(rng), f"I sent your message to {v['person']}.")),
    Intent("timer", W._list("set_timer start_timer timer countdown setTimer create_timer"), ["Set a timer", "Start a countdown"],
           [_p("minutes duration_minutes mins duration", "integer", "Minutes", "minutes")],
           "(Set|Start) a timer (for|of) {minutes} minutes(.|)|(Set|Start) a {minutes} minute timer(.|)|Timer {minutes} minutes|Wake me in {minutes} minutes.|I need a timer for {minutes} minutes.",
           lambda rng, split: {"minutes": rng.randint(2, 90)}, lambda rng, v: (_ok(rng), f"The timer is set for {v['minutes']} minutes.")),
    Intent("reminder", W._list("create_reminder add_reminder remind set_reminder reminder remind_me"), ["Create a reminder", "Remind the user of something at a time"],
           [_p("text task title what", "string", "What to remember", "task"), _p("time at when hour", "string", "The time", "time")],
           "Remind me to {task} at {time}(.|)|(Set|Create|Add) a reminder to {task} at {time}(.|)|At {time}, remind me to {task}.|I must {task} at {time}, remind me.",
           lambda rng, split: {"task": rng.choice(_EVENTS), "time": str(rng.randint(1, 12)) + rng.choice(["", ":30", ":15"]) + rng.choice([" pm", " am", ""])},
           lambda rng, v: (_ok(rng), f"I will remind you at {v['time']} to {v['task']}.")),
    Intent("translate", W._list("translate translate_text translator translation get_translation"), ["Translate a text", "Translates a text into a language"],
           [_p("text phrase input source", "string", "The text", "text"), _p("language target to target_language", "string", "The language", "language")],
           "Translate {text} (into|to) {language}(.|)|(What is|What's|How do you say) {text} in {language}?|Say {text} in {language}.",
           lambda rng, split: {"text": split.pick(rng, W.WORDS) if rng.random() < 0.5 else rng.choice(_TEXTS), "language": rng.choice(W.LANGUAGES)},
           lambda rng, v: (lambda t: (_plain_value(rng, ["translation", "text", "result"], t), f"In {v['language']} it is: {t}"))(" ".join(W.pseudo_word(rng, rng.randint(1, 3)) for _ in range(rng.randint(1, 3))))),
    Intent("music", W._list("play_music play_song music_player play start_music playMusic"), ["Play music", "Play a song or an artist"],
           [_p("artist title song name query", "string", "What to play", "song")], "Play (something by |the song |music by |){song}(.|)|I want to (hear|listen to) {song}.|Put on {song}( please|).|Can you play {song}?",
           lambda rng, split: {"song": split.name_(rng) if rng.random() < 0.5 else _words_text(rng, split, 2)}, lambda rng, v: (_ok(rng), f"Now playing {v['song']}.")),
    Intent("light", W._list("set_light switch_light light control_light lights setLight toggle_light"), ["Switch a light on or off", "Control the light in a room"],
           [_p("room place where", "string", "The room", "room"), _p("state power value", "string", "on or off", "state", enum=["on", "off"])],
           "(Turn|Switch) {state} the (light|lights) in the {room}(.|)|(Turn|Switch) the {room} (light|lights) {state}(.|)|(Light|Lights) {state} in the {room}|I want the light in the {room} {state}.",
           lambda rng, split: {"room": rng.choice(["kitchen", "bathroom", "bedroom", "hallway", "garage", "office", "attic", "cellar", "garden", "nursery"]), "state": rng.choice(["on", "off"])},
           lambda rng, v: (_ok(rng), f"The light in the {v['room']} is {v['state']}.")),
    Intent("stock", W._list("get_stock_price stock_price quote get_quote share_price stock"), ["Get the price of a share", "Stock price by symbol"],
           [_p("symbol ticker company stock", "string", "The symbol", "symbol")], "(What is|What's|Tell me|Get) the (stock price|share price|price) of {symbol}?|How much is a share of {symbol}?|How is {symbol} doing?|Price of {symbol}",
           lambda rng, split: {"symbol": W.pseudo_word(rng, 1).upper()[:4]}, lambda rng, v: (lambda n: (_plain_value(rng, ["price", "value", "last"], n), f"The price of {v['symbol']} is {n}."))(rng.randint(100, 99999) / 100)),
    Intent("distance", W._list("get_distance distance route_length distance_between measure_distance"), ["Distance between two places", "How far it is from one city to another"],
           [_p("from start origin city_a", "string", "First city", "a"), _p("to end destination city_b", "string", "Second city", "b")],
           "How far is it from {a} to {b}?|(What is|What's) the distance (from|between) {a} (to|and) {b}?|How many kilometres is it from {a} to {b}?|Distance {a} to {b}",
           lambda rng, split: dict(zip("ab", _two_cities(rng, split))), lambda rng, v: (lambda n: (_plain_value(rng, ["distance_km", "km", "distance"], n), f"It is {n} km from {v['a']} to {v['b']}."))(rng.randint(20, 9999))),
    Intent("population", W._list("get_population population city_population inhabitants count_people"), ["Population of a city", "Number of people who live in a place"], [_p("city place name town", "string", "The city", "city")],
           "How many people live in {city}?|(What is|What's) the population of {city}?|Population of {city}|How big is the population of {city}?", _city,
           lambda rng, v: (lambda n: (_plain_value(rng, ["population", "inhabitants", "count"], n), f"{v['city']} has {n} inhabitants."))(rng.randint(1, 999) * 10 ** rng.randint(2, 4))),
    Intent("capital", W._list("get_capital capital_of country_capital find_capital capital"), ["Capital of a country", "Get a country's capital"], [_p("country name nation state", "string", "The country", "country")],
           "(What is|What's|Tell me) the capital of {country}?|Which city is the capital of {country}?|Capital of {country}?", lambda rng, split: {"country": split.pick(rng, W.COUNTRIES)},
           lambda rng, v: (lambda n: (_plain_value(rng, ["capital", "city", "name"], n), f"The capital of {v['country']} is {n}."))(rng.choice(W.CITIES) if rng.random() < 0.5 else W.pseudo_word(rng, 2).capitalize())),
    Intent("dice", W._list("roll_dice roll dice throw_dice rollDice"), ["Roll a die", "Throws a die with some sides"], [_p("sides faces max", "integer", "Number of sides", "sides")],
           "(Roll|Throw) a (die|dice) with {sides} sides(.|)|(Roll|Throw) a {sides}-sided die(.|)|(Roll|Throw) a d{sides}(.|)", lambda rng, split: {"sides": rng.choice([4, 6, 8, 10, 12, 20, 100, rng.randint(3, 60)])},
           lambda rng, v: (lambda n: (_plain_value(rng, ["value", "result", "roll"], n), f"You rolled {n}."))(rng.randint(1, v["sides"]))),
    Intent("search", W._list("search web_search search_web lookup find_online google_it query_web"), ["Search the web", "Look something up on the web"], [_p("query q text search_term", "string", "The query", "query")],
           "(Search the web for|Search for|Look up|Search|Find out about|Google) {query}(.|)|(Can you|Please) (search for|look up) {query}(.|?)|What does the web say about {query}?", lambda rng, split: {"query": _words_text(rng, split, rng.randint(1, 3))},
           lambda rng, v: (lambda t: (_plain_value(rng, ["result", "text", "summary"], t), f"I found this: {t}"))(_words_text(rng, W.Split("train"), rng.randint(3, 8)))),
    Intent("define", W._list("define dictionary get_definition define_word meaning"), ["Look up a word in the dictionary", "Get the meaning of a word"], [_p("word term entry", "string", "The word", "word")],
           "(What does|What does the word) {word} mean?|Define {word}(.|)|(What is|Give me) the (meaning|definition) of {word}?|Look up {word} in the dictionary.", lambda rng, split: {"word": split.pick(rng, W.WORDS)},
           lambda rng, v: (lambda t: (_plain_value(rng, ["definition", "meaning", "text"], t), f"{v['word']} means: {t}"))(_words_text(rng, W.Split("train"), rng.randint(3, 7)))),
    Intent("note", W._list("create_note add_note save_note note write_note takeNote"), ["Save a note", "Write down a note"], [_p("text content note body", "string", "The note", "note")],
           "(Make|Take|Create|Save|Write) a note: {note}|Note down: {note}|(Write|Put) down {note}(.|)|Save this note: {note}", lambda rng, split: {"note": rng.choice(_EVENTS + _TEXTS) if rng.random() < 0.6 else _words_text(rng, split, rng.randint(2, 5))},
           lambda rng, v: (_ok(rng), f"I saved the note: {v['note']}")),
    Intent("shopping", W._list("add_to_list add_item shopping_list_add add_shopping_item buy_list"), ["Add an item to the shopping list", "Put something on the list"], [_p("item name product article", "string", "The item", "item"), _p("count quantity amount number", "integer", "How many", "count")],
           "(Put|Add) {count} {item} (on|to) (the|my) (shopping list|list)(.|)|I need {count} {item}, add (them|it) to the list.|Shopping list: {count} {item}", lambda rng, split: {"item": rng.choice(_ITEMS), "count": rng.randint(2, 30)},
           lambda rng, v: (_ok(rng), f"I added {v['count']} {v['item']} to the list.")),
    Intent("thermostat", W._list("set_temperature thermostat set_heating heat set_thermostat"), ["Set the heating of a room", "Set the thermostat"], [_p("room place where", "string", "The room", "room"), _p("degrees temperature value target", "integer", "Degrees", "degrees")],
           "Set the (temperature|heating) in the {room} to {degrees}( degrees|)(.|)|Make it {degrees} degrees in the {room}.|Heat the {room} to {degrees} degrees(.|)|{degrees} degrees in the {room}, please.",
           lambda rng, split: {"room": rng.choice(["kitchen", "bathroom", "bedroom", "hallway", "garage", "office", "attic", "cellar", "nursery"]), "degrees": rng.randint(14, 27)},
           lambda rng, v: (_ok(rng), f"The {v['room']} is set to {v['degrees']} degrees.")),
    Intent("currency", W._list("convert_currency currency exchange convert_money exchange_rate"), ["Convert an amount of money", "Currency conversion"],
           [_p("amount value sum", "integer", "The amount", "amount"), _p("from source from_currency", "string", "From", "a"), _p("to target to_currency", "string", "To", "b")],
           "(Convert|Change) {amount} {a} (to|into) {b}(.|)|How much (is|are) {amount} {a} in {b}?|What (is|are) {amount} {a} in {b}?",
           lambda rng, split: dict(zip(("amount", "a", "b"), (rng.randint(1, 999), *rng.sample(["dollars", "euros", "pounds", "yen", "francs", "rupees", "pesos", "crowns", "lira", "won"], 2)))),
           lambda rng, v: (lambda n: (_plain_value(rng, ["result", "amount", "value"], n), f"{v['amount']} {v['a']} are {n} {v['b']}."))(rng.randint(10, 99999) / 10)),
    Intent("file", W._list("read_file open_file cat_file show_file readFile load_file"), ["Read a file", "Show what a file contains"], [_p("path file filename name", "string", "The file", "path")],
           "(Read|Open|Show|Show me|Print) (the file |){path}(.|)|What (is in|does) (the file |){path}( say| contain|)?|What is in {path}?".replace("|What (is in|does) (the file |){path}( say| contain|)?", ""),
           lambda rng, split: {"path": split.pick(rng, W.WORDS) + rng.choice([".txt", ".md", ".csv", ".log", ".json"])},
           lambda rng, v: (lambda t: (_plain_value(rng, ["content", "text", "data"], t), f"{v['path']} says: {t}"))(_words_text(rng, W.Split("train"), rng.randint(3, 8)))),
]
_ITEMS = [w + "s" for w in "apple banana lemon melon orange pear plum egg onion carrot pepper cucumber candle pencil bottle napkin towel cookie muffin".split()]


def _two_cities(rng, split):
    while True:
        a, b = split.name_(rng, W.CITIES), split.name_(rng, W.CITIES)
        if a != b:
            return a, b


# Generic record tools: any verb on any noun.
_NOUNS = W._list("order invoice ticket customer book film song flight parcel user account product event task recipe photo room car student member booking report device document channel job offer page project sensor")
_VERBS = {
    "get": ("get find lookup fetch show check read", "(Find|Look up|Show me|Get|Check|Show|Fetch) {noun} {id}(.|)|What (is|about) {noun} {id}?|(What is the status|Give me the details) of {noun} {id}?|How is {noun} {id} doing?", "Look up a {noun} by its number"),
    "delete": ("delete remove cancel drop erase", "(Delete|Remove|Cancel|Erase) {noun} {id}(.|)|Please get rid of {noun} {id}.|{noun} {id} can be deleted.", "Delete a {noun}"),
    "open": ("open start activate enable", "(Open|Start|Activate|Enable) {noun} {id}(.|)|Please start {noun} {id}.", "Open a {noun}"),
    "close": ("close stop deactivate disable", "(Close|Stop|Deactivate|Disable) {noun} {id}(.|)|Please stop {noun} {id}.", "Close a {noun}"),
}
_DONE = {"delete": "deleted", "open": "opened", "close": "closed"}
_FIELDS = W._list("status state price owner title date place name size colour city count level amount priority")


def _generic(rng, split) -> Intent:
    noun = rng.choice(_NOUNS)
    verb = rng.choice(["get", "get", "delete", "open", "close"])
    names, asks, description = _VERBS[verb]
    styles = [f"{v}_{noun}" for v in names.split()] + [f"{v}{noun.capitalize()}" for v in names.split()] + [f"{noun}_{v}" for v in names.split()]
    as_int = rng.random() < 0.5

    def values(rng, split):
        n = rng.randint(1, 99999)
        return {"id": n if as_int else str(n), "noun": noun}

    def result(rng, v):
        if verb != "get":
            return _ok(rng), f"{noun.capitalize()} {v['id']} was {_DONE[verb]}."
        record = {}
        for f in rng.sample(_FIELDS, rng.randint(1, 3)):
            record[f] = rng.choice([rng.randint(1, 999), rng.choice(W.CITIES), rng.choice(W.COLOURS), rng.choice(W.NAMES), rng.choice(["open", "closed", "shipped", "paid", "ready", "late", "new"])])
        return json.dumps(record), f"{noun.capitalize()} {v['id']}: " + ", ".join(f"{k} {x}" for k, x in record.items()) + "."

    return Intent(f"{verb} {noun}", styles, [description.replace("{noun}", noun)], [_p(f"id {noun}_id number {noun}", "integer" if as_int else "string", f"The {noun}'s number", "id")], asks, values, result)


def _instance(rng, intent: Intent) -> dict:
    """A concrete tool of this intent: one name, one description, one name a parameter."""
    chosen = {p.slot: rng.choice(p.names) for p in intent.params}
    style = rng.random()
    properties = {}
    for p in intent.params:
        if p.optional and rng.random() < 0.6:
            continue
        schema = {"type": p.type}
        if p.enum:
            schema["enum"] = p.enum
        if style < 0.6:
            schema["description"] = p.description
        properties[chosen[p.slot]] = schema
    function = {
        "name": rng.choice(intent.names),
        "description": rng.choice(intent.descriptions) + ("." if rng.random() < 0.3 else ""),
        "parameters": {"type": "object", "properties": properties, "required": [chosen[p.slot] for p in intent.params if not p.optional]},
    }
    return {"intent": intent, "params": chosen, "schema": {"type": "function", "function": function}, "name": function["name"]}


def tool_list(rng, split, wanted: Intent | None, n: int, avoid: tuple[str, ...] = ()) -> list[dict]:
    """n concrete tools of different intents in random order, the wanted one among them."""
    tools = [_instance(rng, wanted)] if wanted else []
    used = {wanted.key} if wanted else set()
    names = {t["name"] for t in tools}
    while len(tools) < n:
        intent = rng.choice(_INTENTS) if rng.random() < 0.7 else _generic(rng, split)
        if intent.key in used or intent.key in avoid:
            continue
        t = _instance(rng, intent)
        if t["name"] in names:
            continue
        used.add(intent.key)
        names.add(t["name"])
        tools.append(t)
    rng.shuffle(tools)
    return tools


def pick_intent(rng, split) -> Intent:
    return rng.choice(_INTENTS) if rng.random() < 0.72 else _generic(rng, split)


@dataclass
class ToolCase:
    """One request that a tool answers: the call(s), the result(s), the final answer."""

    user: str
    think: str
    calls: list[dict]
    results: list[str]
    answer: str


def case(rng, split, tool: dict) -> ToolCase:
    intent: Intent = tool["intent"]
    properties = tool["schema"]["function"]["parameters"]["properties"]
    while True:
        many = intent.key in ("weather", "time", "population", "capital") and rng.random() < 0.12
        values = [intent.values(rng, split) for _ in range(2 if many else 1)]
        if split.ok("tool", intent.key, json.dumps(values, sort_keys=True)) and (not many or values[0] != values[1]):
            break
    v = values[0]
    asks = intent.asks
    optional = next((p for p in intent.params if p.optional and tool["params"][p.slot] in properties), None)
    if optional and not many and rng.random() < 0.5:
        v[optional.slot] = rng.choice(optional.enum)
        asks = intent.optional_asks
    if many:
        slot = intent.params[0].slot
        user = say(rng, asks, **{slot: f"{values[0][slot]} and {values[1][slot]}"})
    else:
        user = say(rng, asks, **v)
    calls, results, answers = [], [], []
    for v in values:
        arguments = {tool["params"][p.slot]: v[p.slot] for p in intent.params if p.slot in v}
        calls.append({"name": tool["name"], "arguments": arguments})
        if rng.random() < 0.06:
            error = rng.choice(["not found", "timeout", "no connection", "access denied", "invalid input", "unknown name"])
            results.append(json.dumps({"error": error}))
            answers.append(f"The tool reported an error: {error}.")
        else:
            text, answer = intent.result(rng, v)
            results.append(text)
            answers.append(answer)
    return ToolCase(user, f"I use {tool['name']}.", calls, results, " ".join(answers))
