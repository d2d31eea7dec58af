"""A library at hand while a model writes: each chunk that is complete is embedded, and its neighbours are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.models.generation import generate
from etude.models.load import load
from etude.retrieval.exact import Keys, exact
from etude.retrieval.libraries import chunks_of, database_of, embedder_of
from etude.retrieval.recipes import Consult, Library
from etude.retrieval.same_tokens import hash_of
from etude.text.data import TextData
from etude.text.neighbours import check_k


@dataclass
class Asked:
    """A chunk, and what was found for it.

    Attributes:
        tokens: [m] of the chunk.
        numbers: [k] its neighbours' numbers.
        distances: [k] squared Euclidean.
    """

    tokens: Int[np.ndarray, " m"]
    numbers: Int[np.ndarray, " k"]
    distances: np.ndarray


@dataclass
class Searcher:
    """Finds the neighbours of chunks in a library, exactly. It is what `etude.models.generation` takes as `retrieve`.

    Args:
        library: the recipe.
        done: the runs at hand: those of `library.needs`.
        k: neighbours of each chunk.

    Attributes:
        asked: every chunk so far, in the order in which they were complete.
    """

    library: Library
    done: Mapping[Recipe, Run]
    k: int
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chunks, self._embedder = chunks_of(self.library, self.done), embedder_of(self.library, self.done)
        database = database_of(self.library, self.done)
        self._keys = Keys([keys for _, keys in database.shards()])
        check_k(self.k, len(self._keys))

    def __call__(self, chunks: Int[Tensor, "B U M"]) -> tuple[Int[Tensor, "B U J R"], Bool[Tensor, "B U J R"]]:
        """Return the neighbours of chunks, each with its continuation, and which of their tokens are there."""
        tokens = chunks.cpu().numpy().reshape(-1, chunks.shape[-1])
        queries = self._embedder(tokens, np.ones(tokens.shape, dtype=bool))
        found = exact(self._keys, queries, self.k)
        self.asked += [Asked(*each) for each in zip(tokens, found.numbers, found.distances, strict=True)]
        read, present = self.chunks.read(found.numbers, pieces=2)
        lots = chunks.shape[:2]
        return torch.from_numpy(read).unflatten(0, lots), torch.from_numpy(present).unflatten(0, lots)


def consulted(recipe: Consult, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Write the texts, and keep what was looked up for them."""
    model, tokenizer = load(inputs[recipe.of])
    library = recipe.searched
    if hash_of(tokenizer) != hash_of(TextData.open(inputs[library.data]).tokenizer):
        raise UsageError("the library is in other tokens than the model's: make it of --library.data in those")
    searcher = Searcher(library, inputs, recipe.k)
    written = generate(
        model,
        tokenizer,
        [recipe.prompt] * recipe.texts,
        recipe.sampling,
        batch=recipe.batch,
        retrieve=searcher,
        progress=run.progress,
    )

    def told(asked: Asked) -> dict[str, Any]:
        tokens, present = searcher.chunks.read(asked.numbers, pieces=2)
        near = [tokenizer.decode(row[there].tolist()) for row, there in zip(tokens, present, strict=True)]
        return {
            "chunk": tokenizer.decode(asked.tokens.tolist()),
            "neighbours": [
                {"number": int(number), "distance": float(away), "text": text}
                for number, away, text in zip(asked.numbers, asked.distances, near, strict=True)
            ],
        }

    return {
        "prompt": recipe.prompt,
        "texts": [
            {"log_probability": text.log_probability, "text": text.text, "stopped": text.stopped, "ids": list(text.ids)}
            for text in written
        ],
        "looked_up": [told(asked) for asked in searcher.asked],
    }
