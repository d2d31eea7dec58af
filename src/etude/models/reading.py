"""Texts that a model reads a token at a time, side by side, with what it has read kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.models.cache import Cache

Retrieve = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From chunks [B U M] of tokens to their neighbours [B U J R] and which of their tokens are there."""

Scored = Callable[..., Tensor]
"""A model, or what stands for it: from tokens, and by keyword what else it is given, to scores."""


class Reader:
    """The texts of one batch. Shorter ones are padded on the left, where nobody sees it, so that all grow at the right.

    A decoder reads the texts themselves. An encoder-decoder reads sources, and the texts are the targets so far.

    Args:
        model: from tokens to scores.
        context: positions that it can read.
        vocabulary: tokens that there are; a model may have more, in an embedding that was padded.
        device: where it is.
        sources: what an encoder-decoder reads.
        cache: makes what keeps the positions of the texts; None is a decoder's.
        retrieve: finds the neighbours of the chunks that the texts complete, for a model that reads them. Its texts are
            of one length.
        chunk: tokens in a chunk, where neighbours are retrieved.
    """

    def __init__(
        self,
        model: Scored,
        context: int,
        vocabulary: int,
        device: torch.device,
        sources: Sequence[Sequence[int]] | None = None,
        cache: Callable[[], Cache] | None = None,
        retrieve: Retrieve | None = None,
        chunk: int = 0,
    ) -> None:
        self.model, self.context, self.vocabulary, self.device = model, context, vocabulary, device
        self._make_cache = cache or partial(Cache, context)
        self._retrieve, self._chunk = retrieve, chunk
        self._cache = self._make_cache()
        self._tokens = self._present = torch.empty(0)
        self._padded = False
        self._source = self._source_present = None
        if sources is not None:
            self._source, there = self._side_by_side(sources, left=False)
            self._source_present = None if bool(there.all()) else there

    @property
    def length(self) -> int:
        """Positions that are taken, padding among them."""
        return self._cache.length

    @torch.inference_mode()
    def begin(self, texts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """Read texts, none of them empty, and return the scores of what follows each.

        A reader can begin again. Of one text, only what comes after the beginning that it shares with the last one is
        read then, where the cache can be cropped to it.
        """
        if self.length:
            shared = self._shared(texts)
            if shared and self._cache.crop(shared):
                return self._read_after(shared, texts[0])
            self.forget()
        return self._read(*self._side_by_side(texts, left=True))

    def forget(self) -> None:
        """Forget what was read, as has to be done when reading was broken off half-way or the model has changed."""
        self._cache = self._make_cache()

    @torch.inference_mode()
    def go_on(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Read one more token of each text and return the scores of what follows.

        Where the context is full, the first half of it is dropped and the rest read as a text of its own: its
        positions count from 0 again, as in any text that the model was trained on, whatever kind they are.
        """
        if self.length == self.context:
            kept = self.context - max(1, self.context // 2)
            self._cache = self._make_cache()
            tokens = torch.cat((self._tokens[:, self.context - kept : self.context], tokens[:, None]), dim=1)
            present = self._present[:, self.context - kept : self.context]
            return self._read(tokens, torch.cat((present, present.new_ones(len(present), 1)), dim=1))
        at = self.length
        self._tokens[:, at] = tokens
        given = {}
        if self._padded:
            given = {"present": self._present[:, : at + 1], "positions": self._places[:, None]}
            self._places = self._places + 1
        return self._scores(tokens[:, None], **given)

    @torch.inference_mode()
    def select(self, rows: Int[Tensor, " N"], sources: bool = True) -> None:
        """Go on with these texts alone, in this order; see `Cache.select`."""
        self._cache.select(rows, sources)
        self._tokens, self._present = self._tokens[rows], self._present[rows]
        if self._padded:
            self._places = self._places[rows]
        if self._source_present is not None and sources:
            self._source_present = self._source_present[rows]

    def _read(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Read the beginnings of texts: [B T] tokens and which of them are no padding."""
        rows, length = tokens.shape
        self._tokens = tokens.new_zeros(rows, self.context)
        self._present = present.new_ones(rows, self.context)
        self._tokens[:, :length], self._present[:, :length] = tokens, present
        self._padded = not bool(present.all())
        given = {}
        if self._padded:
            places = (present.cumsum(dim=1) - 1).clamp_(min=0)
            given = {"present": present, "positions": places}
            self._places = places[:, -1] + 1
        if self._source is not None:
            given["source"] = self._source
        return self._scores(tokens, **given)

    def _shared(self, texts: Sequence[Sequence[int]]) -> int:
        """Return how many positions of the last text begin the one that is to be read; its last token is read always,
        for the scores."""
        if len(texts) != 1 or len(self._tokens) != 1 or self._padded or self._source is not None:
            return 0
        before, now = self._tokens[0, : self.length].tolist(), list(texts[0])[:-1]
        pairs = enumerate(zip(before, now, strict=False))
        return next((at for at, (a, b) in pairs if a != b), min(len(before), len(now)))

    def _read_after(self, shared: int, text: Sequence[int]) -> Tensor:
        """Read the end of a text of which the beginning is kept."""
        self._tokens[0, shared : len(text)] = new = torch.tensor(text[shared:], device=self.device)
        return self._scores(new[None])

    def _scores(self, tokens: Tensor, **given: Tensor) -> Tensor:
        if self._source_present is not None:
            given["source_present"] = self._source_present
        if self._retrieve is not None:
            given |= self._neighbours(self._retrieve, tokens.shape[1])
        return self.model(tokens, past=self._cache, last=1, **given)[:, 0, : self.vocabulary].float()

    def _neighbours(self, retrieve: Retrieve, new: int) -> dict[str, Tensor]:
        """Return the neighbours of the chunks that so many new positions complete."""
        first, last = (n // self._chunk * self._chunk for n in (self.length, self.length + new))
        if first == last:
            return {}
        neighbours, present = retrieve(self._tokens[:, first:last].unflatten(1, (-1, self._chunk)))
        return {"neighbours": neighbours.to(self.device), "neighbours_present": present.to(self.device)}

    def _side_by_side(self, texts: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
        longest = max(map(len, texts))
        rows = [([0] * (longest - len(t)), [*t]) for t in texts]
        tokens = [pad + text if left else text + pad for pad, text in rows]
        there = [[False] * len(pad) + [True] * len(text) for pad, text in rows]
        present = torch.tensor([row if left else row[::-1] for row in there], device=self.device)
        return torch.tensor(tokens, device=self.device), present
