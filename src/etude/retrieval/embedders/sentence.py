"""A sentence encoder from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from etude.core.errors import DamagedError, EtudeError, UsageError
from etude.core.spec import AUTO, cosmetic
from etude.models.sources import Source, opened
from etude.retrieval.embedders.base import Embedder, Given, LiveEmbedder, State, identity_of
from etude.text.tokenizers.live.reading import identity, tokenizer_file


@dataclass(frozen=True)
class Sentence(Embedder):
    """The last vectors of a BERT-like encoder, averaged over a chunk's tokens, as in RETRO (Borgeaud et al. 2021,
    section 2.3). The chunk is decoded and read in the encoder's own tokens, cut at its context.

    What a folder asks for beyond that mean (`modules.json`: another pooling, a dense layer, a norm) is not done.

    Attributes:
        path: a Hugging Face folder with safetensors, or the name of one on the hub. It does not enter the fingerprint:
            the content does.
        sha256: identity of configuration, weights and tokenizer. Left at auto, it is taken from what is there; set,
            what is there must have it.
    """

    path: str = cosmetic("")
    sha256: str = AUTO

    def settle(self) -> Self:
        return self if self.sha256 != AUTO else replace(self, sha256=_identity(self._source()))

    def live(self, state: State, given: Given) -> LiveEmbedder:
        from etude.retrieval.embedders._averaged import SentenceVectors

        found = _identity(self._source())
        if self.sha256 not in (AUTO, found):
            raise DamagedError(
                f"the encoder at {self.path!r} has changed: its sha256 is {found[:12]} and the recipe's is"
                f" {self.sha256[:12]}; put the old files back, or leave sha256 out to use the new ones"
            )
        return SentenceVectors(self.path, identity_of("sentence 1", found), given.tokenizer)

    def expected_dimension(self) -> int:
        try:
            return self._source().reading.spec.width
        except EtudeError:  # the files may be gone from where a library was made with them
            return 0

    def _source(self) -> Source:
        if not self.path:
            raise UsageError("embedder sentence needs its encoder: --embedder.path FOLDER, or OWNER/NAME on the hub")
        return opened(self.path)


def _identity(source: Source) -> str:
    """Return a hash of what decides the vectors, the tokenizer among it."""
    return identity_of(source.identity(), identity(tokenizer_file(source.folder)))
