"""The words of the fable: its template, its distributions, and the regularities planted in them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from etude.text.grammar import ANY, Grammar, Pick, even, follows, free, weighted, zipf


@dataclass(frozen=True)
class Regularity:
    """Something in the stories that a model can learn, and that a person can look for inside it.

    Attributes:
        name: one word for tables.
        slots: the slots that show it; a mention with 0 bits there can be foreseen by whoever learned it.
        description: what returns, agrees or counts, and how far apart.
    """

    name: str
    slots: tuple[str, ...]
    description: str


def _mentions(*slots: str) -> str:
    return "".join(f"{{{slot}}}{{{slot}_does}}{{{slot}_where}}" for slot in slots)


TEMPLATE = (
    "One {weather} {time} {hero} the {animal} set out for the {goal} with {treasure}."
    " {Pronoun} hid {treasure} {hiding}." + _mentions("pause1", "pause2", "pause3", "pause4") + "\n"
    'On the way {pronoun} passed {path}. "{greeting}, {hero}," said {friend} the {other}. "{question}"\n'
    '"{answer}, {friend}," said {hero}, and {pronoun} {sound}. {hero} counted {things}: {count}.'
    + _mentions("gap1", "gap2") + "\n"
    'On the way back from the {goal} {pronoun} passed {back}. "{sight}!" {cry} {friend}.\n'
    "{Pronoun} looked {hiding}, and there was {treasure}. So {hero} and {friend} {ending}.\n"
)  # fmt: skip

_SHE = ("Anna", "Mira", "Tilda", "Ines", "Wanda", "Olga", "Petra", "Sefa", "Lucia", "Greta", "Dora", "Yara")
_HE = ("Tom", "Bruno", "Emil", "Oskar", "Felix", "Hugo", "Ivo", "Jonas", "Karl", "Nils", "Pavel", "Zeno")
_HEROES = tuple(itertools.chain.from_iterable(zip(_SHE, _HE, strict=True)))
_FRIENDS = (
    "Old Barnaby", "Aunt Clara", "Little Finn", "Gaspar", "Hester", "Rufus", "Selma", "Tobias", "Ursula", "Vera",
)  # fmt: skip

_SOUNDS = {
    "dog": "barked", "cat": "purred", "wolf": "howled", "cow": "mooed", "sheep": "bleated", "duck": "quacked",
    "lion": "roared", "mouse": "squeaked", "frog": "croaked", "owl": "hooted", "goose": "honked", "snake": "hissed",
    "horse": "neighed", "pig": "grunted", "bee": "hummed", "crow": "cawed",
}  # fmt: skip

_CRIES = {"owl": "hooted", "crow": "cawed", "goose": "honked", "frog": "croaked", "duck": "quacked", "bee": "hummed"}

_TREASURES = (
    "a silver key", "a red apple", "a brass bell", "a wooden flute", "a clay cup", "a glass bead", "a grey feather",
    "a long rope", "a small drum", "a blue ribbon", "a round mirror", "a honey cake", "a black stone", "a green bottle",
)  # fmt: skip

_HIDING = (
    "under a stone", "behind the door", "in a hollow tree", "beside the well", "beneath the stairs", "among the reeds",
    "below the bridge", "inside an old boot",
)  # fmt: skip

_PLACES = ("the mill", "the well", "the gate", "the orchard", "the chapel", "the ferry", "the quarry")
_PATHS = {
    f"{a}, {b} and {c}": f"{c}, {b} and {a}" for a, b, c in itertools.permutations(_PLACES, 3)
}  # what is passed last going out is passed first coming home

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
_COUNTS = {", ".join(_NUMBERS[:n]): 0.78**n for n in range(2, 9)}

_SUBJECTS = (
    "The wind", "A cloud", "The river", "An old song", "The grass", "A bell far away", "The dust", "A shadow",
    "The light", "A leaf", "The smoke", "A thin rain", "The moon", "A cold mist", "The evening", "A grey moth",
)  # fmt: skip
_VERBS = (
    "went over", "lay upon", "turned toward", "sang to", "bent across", "waited by", "crept along", "came down to",
    "rested near", "hung above", "moved past", "slept beside",
)  # fmt: skip
_SCENES = (
    "the hills", "the roofs", "the stubble fields", "the harbour", "the hedges", "the white road", "the dark houses",
    "the lake", "the empty market", "the birches", "the snow", "the vineyard",
)  # fmt: skip


def _pause(slot: str, on: str, goes_on: float) -> tuple[Pick, Pick, Pick]:
    """Return a sentence that may come, and only where the one before it came, so that the distance is geometric. It is
    one of 2,304: the noise through which things must be remembered."""
    subjects = even(*(f" {subject}" for subject in _SUBJECTS))
    some = {"": 1 - goes_on, **{subject: goes_on * p for subject, p in subjects.items()}}
    verbs, scenes = (even(*(f" {words}" for words in _VERBS)), even(*(f" {words}." for words in _SCENES)))
    none = {"": {"": 1.0}}
    return (
        Pick(slot, {**(none if on else {}), ANY: some}, on),
        Pick(f"{slot}_does", {**none, ANY: verbs}, slot),
        Pick(f"{slot}_where", {**none, ANY: scenes}, slot),
    )


FABLE = Grammar(
    TEMPLATE,
    (
        free("weather", zipf("bright", "rainy", "windy", "frosty", "misty", "warm", "golden", "silent")),
        free("time", zipf("morning", "evening", "afternoon", "night", "noon")),
        free("hero", zipf(*_HEROES)),
        follows("pronoun", "hero", {name: "she" if name in _SHE else "he" for name in _HEROES}),
        follows("Pronoun", "hero", {name: "She" if name in _SHE else "He" for name in _HEROES}),
        free("animal", zipf(*_SOUNDS)),
        follows("sound", "animal", _SOUNDS),
        free("goal", zipf("market", "castle", "forest", "sea", "city", "island", "mountain", "fair", "lighthouse")),
        free("treasure", even(*_TREASURES)),
        free("hiding", even(*_HIDING)),
        *_pause("pause1", "", 0.7),
        *_pause("pause2", "pause1", 0.7),
        *_pause("pause3", "pause2", 0.7),
        *_pause("pause4", "pause3", 0.7),
        free("path", even(*_PATHS)),
        follows("back", "path", _PATHS),
        free("greeting", zipf("Good day", "Welcome", "Hello", "Well met", "Peace", "Listen")),
        free("friend", zipf(*_FRIENDS)),
        free("other", zipf(*_CRIES)),
        follows("cry", "other", _CRIES),
        free("question", even("Where are you going?", "Who sent you?", "Will it rain?", "Are you not afraid?",
                              "May I come with you?", "What do you seek?", "Did you sleep well?")),
        free("answer", zipf("Perhaps", "Not yet", "Who can say", "Come and see", "I never know", "Soon enough")),
        free("things", even("the stars", "the boats", "the geese", "the steps", "the lamps", "the bells", "the carts")),
        free("count", weighted(_COUNTS)),
        *_pause("gap1", "", 0.6),
        *_pause("gap2", "gap1", 0.6),
        free("sight", zipf("Look", "A storm", "Home at last", "Such a day", "Mind the dog", "Quick")),
        free("ending", zipf("ate their supper", "sat by the fire", "told the tale", "parted as friends",
                            "laughed until dark", "shared the bread", "fell asleep", "promised to return")),
    ),
)  # fmt: skip

REGULARITIES = (
    Regularity("copy", ("hero", "friend"), "a name returns: the hero's eight sentences long, the friend's after it is"
               " first given; after `So` come both, in the order in which they came into the story"),
    Regularity("gender", ("Pronoun", "pronoun"), "she or he agrees with the hero's name, though no rule tells which"),
    Regularity("agreement", ("sound", "cry"), "the sound agrees with the animal, and the cry with the friend's kind,"
               " several sentences after they were named; six sounds serve both"),
    Regularity("memory", ("hiding", "treasure", "goal"), "a thing, the place where it is hidden and the goal are"
               " remembered over the pauses, whose number is drawn anew for each story"),
    Regularity("reversal", ("back",), "the three places passed are passed again in reverse"),
    Regularity("counting", ("count",), "number words go up by one from `one`; only where they stop is free"),
    Regularity("quotes", (), "every quotation mark that opens is closed in the same sentence"),
)  # fmt: skip
