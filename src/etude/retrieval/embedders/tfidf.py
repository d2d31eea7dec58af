"""Word counts, weighted and projected: keys without a neural network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etude.core.errors import UsageError
from etude.retrieval.embedders.base import Embedder, Given, LiveEmbedder, State

if TYPE_CHECKING:
    from etude.text.chunks import Chunks


@dataclass(frozen=True)
class Tfidf(Embedder):
    """TF-IDF of a chunk's tokens, projected on the leading right singular vectors of the library's own (latent semantic
    analysis, Deerwester et al. 1990). Keys have length 1, so that the nearest is the one of greatest cosine.

    The separator counts for nothing: that two chunks open a document does not make them alike.

    Attributes:
        dimension: numbers in a key, at most: there are no more than chunks or tokens that it is fitted to.
        fitted_on: chunks, spread evenly over the library, that weights and projection are taken from, at most.
    """

    dimension: int = 128
    fitted_on: int = 65_536

    def check(self) -> None:
        for name, least in (("dimension", 1), ("fitted_on", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"tfidf.{name} = {getattr(self, name)} is too small: it is {least} or more")

    def fit(self, chunks: Chunks, say: Callable[[str], None] = lambda text: None) -> State:
        from etude.retrieval.embedders._latent import fitted

        state = fitted(chunks, self.dimension, self.fitted_on)
        if (found := len(state["components"])) < self.dimension:
            say(f"tfidf.dimension = {self.dimension}: the text has {found} directions, and a key as many numbers")
        return state

    def live(self, state: State, given: Given) -> LiveEmbedder:
        from etude.retrieval.embedders._latent import Latent

        return Latent(state)

    def expected_dimension(self) -> int:
        return self.dimension
