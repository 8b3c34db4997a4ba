"""Word lists, names and rhyme families, all written for this project, and the split that keeps evaluation words unseen.

A question whose operands' hash falls into the evaluation part is never drawn while training data is generated; an
evaluation question draws its operands from that part only. The hash makes the split without a list to keep.
"""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=1 << 18)
def _bucket(text: str, parts: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % parts


def held_out(text: str, parts: int = 10) -> bool:
    """Whether text belongs to the evaluation part: one in `parts`, by hash of the lower-cased text."""
    return _bucket(text.lower(), parts) == 0


def _list(text: str) -> list[str]:
    return list(dict.fromkeys(text.split()))


def _lines(text: str) -> list[str]:
    return list(dict.fromkeys(line.strip() for part in text.strip().splitlines() for line in part.split(",") if line.strip()))


# Spelled ending -> words that rhyme because they end so. Words that only look alike (great, what, push) are left out.
RHYMES = {
    k: v.split()
    for k, v in (
        line.split(": ")
        for line in """
at: cat hat bat rat mat flat chat that brat fat
an: man can fan pan van plan tan clan ran scan
ap: cap map nap tap lap gap trap clap snap wrap
ack: back black track pack sack snack crack stack shack
ag: bag flag tag rag wag drag brag
am: ham jam clam slam swam gram
and: hand sand land band stand brand grand
ang: bang hang rang sang fang
ank: bank tank thank blank drank prank plank
ash: cash crash dash flash trash splash
ake: cake lake make snake take wake bake brake shake
ale: tale whale sale pale scale
ame: name game flame same frame fame blame
ane: lane plane cane crane mane
ape: tape cape grape shape drape
ate: gate late plate skate date state crate
ave: cave wave brave save grave shave
ay: day play way say stay clay tray gray spray
ail: mail tail snail rail sail nail trail
ain: rain train brain chain main plain drain
air: hair chair fair stair pair flair
all: ball call fall hall tall wall small
ar: car star far jar bar scar
ark: dark park shark mark bark spark
art: cart start smart chart part dart
ed: bed red sled shed fed sped
ell: bell shell well tell smell yell spell
en: pen hen ten men den then
end: bend send lend spend friend trend mend
ent: tent went sent bent cent rent spent
est: nest best test rest west chest guest quest
et: net pet wet jet vet
ee: bee tree see free three knee
eed: seed weed need feed speed bleed
eel: wheel feel steel heel peel
een: green queen screen seen teen
eep: sheep sleep deep keep jeep creep steep
eet: feet meet sweet street sheet greet
eam: dream cream team stream steam
eat: heat meat seat wheat treat cheat
ick: brick stick chick kick pick trick sick click
ig: big pig dig wig fig twig
ill: hill bill fill mill still spill grill chill
in: pin win fin chin thin skin spin twin
ing: king ring sing wing string spring thing swing
ink: pink drink sink think link blink
ip: ship lip tip trip zip hip chip flip
it: hit sit pit bit kit fit split
ice: mice rice dice nice price slice spice twice
ide: ride side hide wide slide bride pride guide
ike: bike like hike spike strike
ile: smile mile tile pile file while
ime: time lime crime chime prime
ine: line mine nine pine shine wine vine spine
ite: kite bite white site quite write
ive: five dive drive hive arrive
ight: light night right bright flight fight knight
ind: kind find blind mind grind
ock: clock rock sock lock block knock shock flock
og: dog frog fog log jog
op: top mop shop stop drop hop crop
ot: hot pot dot spot knot shot
oat: boat coat goat float throat
oil: soil boil coil foil spoil
old: gold cold fold hold told sold
ole: hole pole mole role whole
one: bone stone phone cone zone throne
ook: book look cook hook took
ool: pool cool school tool stool
oom: room broom bloom boom groom
oon: moon spoon soon noon balloon
oop: loop hoop troop scoop
ope: hope rope slope
ore: store more shore score core
orn: corn horn born thorn torn
ose: nose rose hose those close
ound: round sound ground found hound pound
ouse: house mouse blouse
out: shout scout trout about sprout
own: town down brown crown clown gown
ub: tub cub club rub scrub
uck: duck truck luck stuck pluck
ug: bug mug hug rug jug plug snug
um: drum plum gum hum
ump: jump bump lump pump stump
un: sun run fun bun
unk: trunk junk skunk bunk
ush: brush rush crush blush
ust: dust rust must trust crust
ut: nut cut hut shut
ute: flute cute
umble: tumble rumble crumble stumble humble
""".strip().splitlines()
    )
}

# Words that end in none of the endings above.
NO_RHYME = _list(
    """orange purple month silver window camera elephant umbrella pencil river computer hospital bottle breakfast dinosaur
    festival giraffe hamburger jungle kangaroo language octopus pyramid question radio sandwich uniform village whisper
    yellow zebra bicycle candle doctor furniture insect lemon salad tiger vegetable wizard"""
)

ANIMALS = _list(
    """cat dog rabbit hamster parrot horse turtle goldfish pony lizard snake ferret canary donkey goat sheep cow pig duck
    goose hen mouse rat frog toad tiger lion bear wolf fox deer moose camel giraffe zebra elephant monkey gorilla panda
    koala kangaroo penguin owl eagle falcon sparrow robin crow pigeon swan shark whale dolphin seal otter beaver badger
    hedgehog squirrel bat spider ant bee wasp butterfly beetle snail crab lobster octopus squid salmon trout"""
)
PETS = _list("cat dog rabbit hamster parrot horse turtle goldfish pony lizard snake ferret canary donkey goat duck mouse rat frog hen")
COLOURS = _list(
    """red blue green yellow orange purple pink brown black white grey silver gold violet turquoise beige crimson navy
    teal olive scarlet ivory lavender maroon amber coral indigo cyan magenta bronze"""
)
FOODS = _list(
    """pizza pasta rice bread soup salad cheese chocolate pancakes noodles curry sushi tacos burgers lasagne risotto
    dumplings omelette porridge yoghurt cake waffles biscuits pie stew chili popcorn falafel hummus toast sausages
    mushrooms beans tofu paella goulash ramen muffins pretzels"""
)
FRUITS = _list(
    """apple banana cherry grape lemon lime mango melon orange peach pear plum kiwi fig date apricot papaya coconut
    raspberry strawberry blueberry blackberry pineapple pomegranate grapefruit tangerine nectarine cranberry quince
    guava"""
)
VEGETABLES = _list(
    """carrot potato tomato onion garlic pepper cucumber lettuce spinach cabbage broccoli celery radish turnip pumpkin
    leek beetroot asparagus aubergine parsnip kale fennel artichoke"""
)
DRINKS = _list("coffee tea water milk lemonade cocoa juice cider beer wine cola smoothie espresso")
SPORTS = _list(
    """tennis football hockey golf rugby cricket basketball volleyball swimming running cycling rowing sailing skiing
    boxing judo karate fencing climbing surfing badminton archery skating handball"""
)
HOBBIES = _list(
    """painting knitting reading gardening cooking baking fishing dancing singing hiking drawing photography chess
    pottery sewing camping birdwatching writing juggling yoga woodwork origami"""
)
INSTRUMENTS = _list(
    """piano guitar violin flute drums trumpet cello harp clarinet saxophone banjo ukulele trombone organ oboe accordion
    viola harmonica"""
)
JOBS = _list(
    """teacher nurse doctor baker farmer pilot painter plumber carpenter chef dentist lawyer librarian mechanic
    journalist gardener electrician architect engineer musician photographer tailor waiter writer firefighter barber
    butcher cashier designer editor fisherman florist actor historian judge miner optician pharmacist programmer
    sailor scientist secretary singer soldier surgeon translator welder"""
)
SUBJECTS = _list("maths history biology chemistry physics geography music art latin economics astronomy")
SEASONS = _list("spring summer autumn winter")
MONTHS = _list("January February March April May June July August September October November December")
DAYS = _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
PLACES = _list(
    """drawer kitchen garage bathroom cupboard attic cellar bedroom hallway garden office shed wardrobe fridge basket
    backpack suitcase car box jacket bookshelf cabinet locker desk"""
)
THINGS = _list(
    """keys glasses phone wallet umbrella passport watch book camera laptop scarf hat gloves ticket notebook charger
    ring flute torch headphones map bag"""
)
OBJECTS = _list(
    """table chair lamp sofa mirror carpet pillow blanket candle clock vase shelf basket bucket ladder hammer screw
    nail saw rope chain brush paint glue paper pencil eraser ruler stapler folder envelope stamp letter magazine
    newspaper radio television keyboard screen printer speaker battery cable bulb switch plug kettle toaster oven
    stove plate bowl cup spoon fork knife pan pot jug bottle glass napkin towel soap shampoo comb razor button needle
    thread ribbon shirt trousers jumper dress skirt coat jacket sock shoe boot sandal belt tie helmet whistle ball
    racket kite puzzle doll robot rocket engine wheel brake pedal mirror anchor paddle tent compass lantern candle
    flag trophy medal crown sword shield castle bridge tower church temple palace windmill lighthouse harbour station
    airport tunnel market museum theatre library hospital factory bakery pharmacy restaurant hotel cinema stadium"""
)
NATURE = _list(
    """mountain river lake ocean forest desert valley island beach cliff cave volcano glacier waterfall meadow swamp
    jungle canyon storm thunder lightning rainbow cloud snow hail fog wind breeze sunrise sunset moon star planet comet
    galaxy stone sand pebble crystal diamond flower tulip daisy rose lily orchid sunflower oak maple birch willow cedar
    pine bamboo fern moss ivy mushroom seed leaf branch root thorn feather shell honey"""
)
VERBS = _list(
    """run walk jump swim climb read write draw paint sing dance cook bake eat drink sleep dream think learn teach build
    break repair open close push pull lift carry throw catch kick hit hold drop bring send receive buy sell pay borrow
    lend find lose search follow lead help save protect attack defend win travel drive ride fly sail arrive leave stay
    wait hurry rest laugh smile cry shout whisper speak listen hear watch look touch smell taste feel love hate like
    need want hope believe remember forget understand explain answer ask count measure weigh cut mix pour stir boil fry
    freeze melt burn shine glow grow plant water harvest pick feed wash clean sweep dust iron fold pack unpack"""
)
ADJECTIVES = _list(
    """big small tall short long wide narrow thick thin heavy light fast slow quick strong weak hard soft smooth rough
    hot cold warm cool wet dry clean dirty new old young ancient modern bright dark loud quiet sweet sour bitter salty
    spicy fresh rotten rich poor cheap expensive happy sad angry calm brave shy proud lazy busy tired hungry thirsty
    sleepy clever foolish wise funny serious kind cruel gentle fierce honest polite rude lucky famous strange normal
    simple difficult early late empty full open closed round square flat sharp curly straight gigantic tiny huge
    enormous wonderful terrible beautiful ugly delicious dangerous careful careless curious friendly generous grumpy
    jealous magical mysterious nervous patient peaceful perfect playful pleasant precious silent silly slippery"""
)
OTHER = _list(
    """time year week hour minute second morning evening night world country city street house family mother father
    sister brother baby child friend teacher student class school lesson question answer word sentence story poem song
    picture colour number letter name game music sport team player winner prize money coin price shop food meal lunch
    dinner breakfast sugar salt butter flour egg cream sauce body head face eye nose mouth tooth tongue neck shoulder
    arm elbow hand finger chest stomach back knee foot toe bone blood heart brain skin health medicine doctor accident
    weather season summer winter spring autumn nature animal plant earth water fire metal wood plastic cotton leather
    machine computer program language science history future past secret problem reason idea plan dream chance change
    beginning middle end journey holiday adventure mystery treasure pirate princess dragon monster ghost wizard giant
    banana strawberry mississippi pineapple elephant crocodile hippopotamus caterpillar butterfly dictionary
    encyclopedia keyboard umbrella sandwich chocolate birthday yesterday tomorrow something nothing everyone anywhere
    happiness friendship kindness knowledge darkness weakness childhood neighbourhood government environment
    information education population celebration decoration imagination conversation television temperature""")

NAMES = _list(
    """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Noah Olivia Paul Quinn Rosa Sam Tina Umar
    Vera Will Xenia Yara Zoe Adam Alice Amir Arthur Beatrice Bruno Carlos Cecilia Chloe Daniel Diana Dylan Edith Elena
    Eli Ella Elsa Erik Esther Ethan Eva Finn Fiona Frank Freya Gabriel George Gina Greta Hana Hannah Harry Hassan Hazel
    Helen Hugo Ines Ingrid Iris Isaac Ivan Ivy Jacob James Jan Jane Jasmine Jens Joan Johan John Jonas Josef Julia Jun
    Karen Karl Kenji Kim Kira Lars Laura Layla Lena Liam Lily Linda Lisa Liz Lotte Louis Luca Lucy Luis Luna Maja Malik
    Marco Margaret Mark Marta Martin Mary Matteo Max Maya Mei Mia Michael Mila Miriam Mohamed Molly Nadia Naomi Natalie
    Nick Nina Nora Oliver Omar Oscar Otto Pablo Patricia Pedro Peter Petra Philip Pia Priya Rachel Ravi Rebecca Robert
    Robin Ruth Ryan Sally Samira Sarah Scott Selma Simon Sofia Stefan Stella Susan Sven Tara Theo Thomas Tim Tom Tomas
    Ulla Uma Ursula Victor Viola Walter Wanda Wendy Yuki Yusuf Zara Albert Agnes Boris Bella Conrad Cora Dora Derek
    Edgar Elvira Fabian Flora Gustav Gloria Hector Hilda Igor Irene Jerome Judith Kevin Klara Lionel Lydia Magnus Mona
    Nestor Nelly Orlando Olga Percy Paula Quentin Ramona Rufus Silas Sonia Tobias Thelma Ugo Valerie Vincent Willow
    Xavier Yvonne Zeno Zelda"""
)
PET_NAMES = _list(
    """Milo Leo Luna Bella Max Rex Coco Daisy Rocky Molly Buddy Simba Nala Oreo Pepper Ginger Biscuit Shadow Smokey
    Tiger Whiskers Fluffy Felix Oscar Charlie Lucky Rusty Pumpkin Muffin Cookie Peanut Snowy Misty Bonnie Toffee Mocha
    Nugget Olive Waffles Ziggy Pablo Pixie Rolo Socks Sparky Spot Sunny Teddy Thunder Tofu Truffle Velvet Willow Yoda
    Zorro Bubbles Caramel Dobby Echo Fudge Gizmo Hazel Indy Jasper Kiki Loki Maple Noodle Onyx Paprika Quincy Raisin
    Saffron Turbo Umbra Vanilla Wasabi Button Clover Domino Figaro Hopper Jellybean Marble Nimbus Pickles Sprout"""
)
CITIES = _list(
    """Paris London Rome Berlin Madrid Oslo Vienna Prague Lisbon Dublin Athens Warsaw Helsinki Stockholm Copenhagen
    Brussels Amsterdam Zurich Geneva Milan Naples Florence Venice Barcelona Seville Valencia Porto Lyon Marseille Nice
    Hamburg Munich Cologne Dresden Krakow Budapest Bucharest Sofia Belgrade Zagreb Istanbul Ankara Cairo Tunis Lagos
    Nairobi Accra Dakar Casablanca Tokyo Kyoto Osaka Seoul Beijing Shanghai Singapore Bangkok Hanoi Jakarta Manila
    Delhi Mumbai Chennai Karachi Dhaka Tehran Baghdad Dubai Sydney Melbourne Perth Brisbane Auckland Wellington Toronto
    Montreal Vancouver Ottawa Boston Chicago Dallas Denver Seattle Miami Houston Phoenix Portland Atlanta Lima Bogota
    Quito Santiago Caracas Havana Montevideo Brasilia Recife Bergen Malmo Tampere Tallinn Riga Vilnius Bristol Leeds
    Glasgow Cardiff Belfast Cork Galway Basel Bern Graz Linz"""
)
COUNTRIES = _list(
    """France Germany Italy Spain Portugal Norway Sweden Finland Denmark Poland Austria Greece Turkey Egypt Kenya Ghana
    Nigeria Morocco Peru Chile Brazil Argentina Mexico Canada Cuba Japan China India Korea Vietnam Thailand Indonesia
    Australia Ireland Iceland Hungary Romania Bulgaria Croatia Serbia Ukraine Estonia Latvia Lithuania Bolivia Ecuador
    Colombia Venezuela Uruguay Paraguay Mongolia Nepal Pakistan Iran Iraq Jordan Lebanon Tunisia Senegal Ethiopia
    Tanzania Uganda Zambia Madagascar Malta Cyprus Belgium Switzerland Luxembourg"""
)
LANGUAGES = _list("French German Spanish Italian Dutch Polish Swedish Japanese Chinese Korean Arabic Hindi Russian Turkish Greek Finnish")

CATEGORIES = {
    "animals": ANIMALS, "colours": COLOURS, "foods": FOODS, "fruits": FRUITS, "vegetables": VEGETABLES,
    "sports": SPORTS, "jobs": JOBS, "objects": OBJECTS, "nature": NATURE, "verbs": VERBS, "adjectives": ADJECTIVES,
    "instruments": INSTRUMENTS, "hobbies": HOBBIES,
}

WORDS = list(
    dict.fromkeys(
        w
        for group in (*CATEGORIES.values(), OTHER, DRINKS, PLACES, THINGS, NO_RHYME, *RHYMES.values())
        for w in group
    )
)

_ONSETS = _list("b c d f g h j k l m n p r s t v w z br cl cr dr fl fr gl gr pl pr sh sl sm sn sp st th tr tw ch qu str")
_VOWELS = _list("a e i o u ai ea ee oa oo ou ie a e i o u a e i o")
_CODAS = ["", "", "", "n", "r", "t", "l", "s", "m", "d", "k", "p", "ck", "nd", "st", "ng", "rt", "ll", "x", "sh", "mp"]


def pseudo_word(rng, syllables: int) -> str:
    """An invented pronounceable word: what stands for every word and name that the lists lack."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))


class Split:
    """Draws for training (`train`), or for held-out questions only (`eval`).

    What is held out is the question: the word together with what is asked of it, the pair of a fact and its value, the
    operands of a sum, the order of a list. A word of the lists may be spelled in training and counted in the evaluation: the
    letters of a token can only be learnt. Invented words and names are held out altogether.
    pieces are the tokenizer's alphabetic pieces: joined at random they make words that teach every piece's letters.
    """

    def __init__(self, name: str, pieces: list[str] | None = None):
        assert name in ("train", "eval")
        self.name = name
        self.pieces = pieces or []

    def ok(self, *key) -> bool:
        """Whether a question with these operands belongs to this part."""
        return held_out("|".join(map(str, key))) == (self.name == "eval")

    def mine(self, text: str) -> bool:
        """The same for one in eight."""
        return held_out(text, 8) == (self.name == "eval")

    def pick(self, rng, items: list[str]) -> str:
        """Any entry: the question it goes into must be held out by ok or mine."""
        return rng.choice(items)

    def word(self, rng, asked: str, shortest: int = 3, longest: int = 12) -> str:
        """A word of which something is asked: half from the lists, else invented or glued from token pieces."""
        for _ in range(1000):
            r = rng.random()
            if r < 0.5:
                w = rng.choice(WORDS)
            elif r < 0.7 or not self.pieces:
                w = pseudo_word(rng, rng.randint(1, 3))
            elif r < 0.93:
                w = "".join(rng.choice(self.pieces) for _ in range(rng.randint(1, 3))).lower()
            else:
                w = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 7)))
            if shortest <= len(w) <= longest and self.mine(f"{asked}|{w}" if r < 0.5 else w) and (r < 0.5 or self.mine(f"{asked}|{w}")):
                return w
        raise RuntimeError("words: no word of the wanted length")

    def name_(self, rng, items: list[str] = NAMES) -> str:
        """A name: three in four from the list, else invented, so that any name can be copied."""
        if rng.random() < 0.75:
            return rng.choice(items)
        while True:
            w = pseudo_word(rng, rng.randint(1, 3))
            if 3 <= len(w) <= 10 and self.mine(w):
                return w.capitalize()
