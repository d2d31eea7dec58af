"""The words of the planted facts: invented names and values, what is known of a subject, and how it is said."""

from __future__ import annotations

SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in "aeiou")
"""Names and values are made of them: 70, each of two letters."""

NAMES = len(SYLLABLES) ** 4
VALUES = len(SYLLABLES) ** 2

THINGS = ("lantern", "boat", "remedy", "song", "knife", "well", "charm", "bread")
"""What a subject has, each under a name of its own: the facts."""

TOLD = "the {thing} {value}"
"""A fact, as it is listed. No other sentence has a name behind a thing."""

LISTED = 4
"""Facts in a sentence, at most."""

STATED = (
    "{name} has {facts}.",
    "Ask {name} for {facts}.",
    "They say that {name} keeps {facts}.",
    "Only {name} ever had {facts}.",
)
"""Ways to state some facts."""

KNOWN = {
    "trade": (
        "baker", "weaver", "tanner", "potter", "miller", "fisher", "mason", "glazier", "cooper", "saddler", "dyer",
        "fiddler", "brewer", "carter", "thatcher", "chandler", "farrier", "cutler", "hatter", "joiner", "piper",
        "shepherd", "ferryman", "clerk",
    ),
    "place": (
        "marsh", "harbour", "quarry", "orchard", "island", "moor", "valley", "cliff", "forest", "heath", "delta",
        "plain", "ridge", "lagoon", "meadow", "canyon", "glacier", "prairie", "village", "abbey", "castle",
        "lighthouse", "vineyard", "monastery",
    ),
    "beast": (
        "heron", "badger", "donkey", "raven", "goat", "otter", "spaniel", "tortoise", "falcon", "mule", "hare", "stork",
        "parrot", "ferret", "pigeon", "hedgehog", "lynx", "camel", "swan", "magpie", "weasel", "bison", "newt", "crane",
    ),
    "season": ("spring", "summer", "autumn", "winter"),
}  # fmt: skip
"""What else is said of a subject, in every document about it."""

OPENINGS = (
    "{name} is a {trade} from the {place}.",
    "This is about {name}, the {trade} who lives by the {place} with a {beast}.",
    "Everybody at the {place} knows {name}, the {trade}.",
    "Of all who came to the {place}, {name} the {trade} stayed longest.",
)

SAID = (
    "{name} came to the {place} one {season} and never left it.",
    "A {beast} follows {name} wherever the road leads.",
    "Few people work as a {trade} for as long as {name} did.",
    "When the {season} was late, {name} sat by the {place} and waited.",
    "The {beast} of {name} is old now, and sleeps most of the day.",
    "Letters for {name} are left at the {place}, under a flat stone.",
    "Nobody has ever seen {name} without the {beast}.",
    "Once a year {name} walks around the {place} from end to end.",
    "As a {trade}, {name} was taught by an aunt and two uncles.",
    "It was in {season} that {name} found the {beast}.",
    "Travellers who ask for the {trade} are sent to {name}.",
    "The neighbours of {name} complain about the {beast} in {season}.",
    "{name} says little, and what is said is mostly about the {place}.",
    "There is a drawing of {name} with the {beast} in the town hall.",
    "Before becoming a {trade}, {name} had counted sheep.",
    "On cold days {name} tells of the {place} as it used to be.",
)
"""Sentences that state no fact. Each names the subject."""
