"""Features of a token that a person can name: its class, which token it is, where it stands, how far it lies along a
direction of what a component reads. They are what an expert's tree asks about."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from etude.compress.codec import Text
from etude.evals.recording import Rows
from etude.evals.token_classes import CLASSES

KINDS = ("token class", "previous token class", "token", "previous token", "position", "direction")
"""What can be asked of a token. The first four are true (1) or false (0), the position is a whole number from 0, and a
direction is a number."""

TRUTHS = 4
"""How many of the kinds are true or false."""


class Features(NamedTuple):
    """Some features, and what it takes to work them out.

    Attributes:
        asked: [A 2] of each feature the number of its kind, and which class, token or direction.
        classes: [V] the class of each token.
        centre: [M] from where directions are measured.
        directions: [M P].
    """

    asked: Int[Tensor, "A 2"]
    classes: UInt8[Tensor, " V"]
    centre: Float[Tensor, " M"]
    directions: Float[Tensor, "M P"]

    def only(self, wanted: Int[Tensor, " W"]) -> Features:
        """Return some of the features, without the directions and classes that none of them needs."""
        asked = self.asked[wanted].clone()
        along = asked[:, 0] == KINDS.index("direction")
        used, renumbered = asked[along, 1].unique(return_inverse=True)
        asked[along, 1] = renumbered
        classed = (asked[:, 0] <= KINDS.index("previous token class")).any()
        classes = self.classes if classed else self.classes[:0]
        return Features(asked, classes, self.centre if len(used) else self.centre[:0], self.directions[:, used])


def all_features(
    tokens: Int[Tensor, " N"],
    classes: UInt8[Tensor, " V"],
    centre: Float[Tensor, " M"],
    directions: Float[Tensor, "M P"],
    frequent: int,
) -> Features:
    """Return every feature that may be asked about.

    Args:
        tokens: of the training split.
        classes: of each token of the vocabulary.
        centre: from where directions are measured.
        directions: of what the component reads.
        frequent: how many of the most frequent tokens can be asked for by name.
    """
    counts = tokens.long().bincount()
    most = counts.argsort(descending=True, stable=True)[: min(frequent, int(counts.count_nonzero()))].tolist()
    numbers = (range(len(CLASSES)), range(len(CLASSES)), most, most, [0], range(directions.shape[1]))
    asked = [(kind, which) for kind, several in enumerate(numbers) for which in several]
    return Features(torch.tensor(asked), classes, centre, directions)


def values_of(features: Features, x: Float[Tensor, "*N M"], text: Text) -> Float[Tensor, "*N A"]:
    """Return the value of each feature at each token.

    Args:
        features: which.
        x: what the component reads.
        text: the tokens that it is of, with the same leading axes.
    """
    along = (x - features.centre) @ features.directions if features.directions.shape[1] else x[..., :0]
    first, known = text.before < 0, text.before.clamp_min(0).long()
    of: dict[str, Callable[[int], Tensor]] = {
        "token class": lambda which: features.classes[text.tokens.long()] == which,
        "previous token class": lambda which: (features.classes[known] == which) & ~first,
        "token": lambda which: text.tokens == which,
        "previous token": lambda which: text.before == which,
        "position": lambda which: text.position,
        "direction": lambda which: along[..., which],
    }
    found = [of[KINDS[kind]](which).float() for kind, which in features.asked.tolist()]
    return torch.stack(found, -1) if found else x.new_zeros(*x.shape[:-1], 0)


def text_of_rows(rows: Rows) -> Text:
    """Return what is known of the tokens of a recording. A window's first token has none before it."""
    tokens, position = rows.tokens.long(), rows.position.long()
    follows = torch.zeros_like(tokens, dtype=torch.bool)
    follows[1:] = (rows.window[1:] == rows.window[:-1]) & (position[1:] == position[:-1] + 1)
    return Text(tokens, torch.where(follows, tokens.roll(1), -1), position)
