"""What a score says of planted answers alone: how many a model knows, and what they cost it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.sliding_work import losses_in, right_in
from etude.evals.statistics import ratio
from etude.retrieval.recipes import Answers
from etude.text.data import TextData

BY_DOCUMENT = "answers.safetensors"
"""`right`, `count` and `nats` [N] of each document's answers."""


def answers(recipe: Answers, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Count the answers whose every token was the likeliest one where it stood, which is what writing greedily would
    have given, and sum what they cost."""
    score, corpus = recipe.of, recipe.corpus
    data = TextData.open(inputs[score.of.text])
    store, pieces = data.store(score.split), _Pieces(data)
    losses, rights = losses_in(inputs[score]), right_in(inputs[score])
    bounds = np.asarray(store.documents).astype(np.int64).tolist()
    sums = np.zeros((len(bounds) - 1, 3))
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        for first, last in corpus.places(pieces.of(store.tokens[start : stop - 1].tolist())):
            at = slice(start + first, start + last)
            sums[number] += (bool(rights[at].all()), 1, float(losses[at].sum(dtype=np.float64)))
    right, count, nats = sums.T
    run.save(BY_DOCUMENT, {"right": right, "count": count, "nats": nats})
    return {
        "right": ratio(right, count).as_share().to_json(),
        "bits": ratio(nats, count).scaled(1 / math.log(2)).to_json(),
        "entropy": corpus.bits_per_answer,
        "n": int(count.sum()),
        "documents": len(count),
    }


class _Pieces:
    """The bytes of each token, made once."""

    def __init__(self, data: TextData) -> None:
        self._tokenizer, self._known = data.tokenizer, dict[int, bytes]()

    def of(self, ids: Sequence[int]) -> list[bytes]:
        """Return the bytes of tokens."""
        for id in set(ids) - self._known.keys():
            self._known[id] = self._tokenizer.decode_bytes([id])
        return [self._known[id] for id in ids]
