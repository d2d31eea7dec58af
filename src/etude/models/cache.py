"""Keys and values of the positions that a model has read, kept so that the next token costs one position's work."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError

KeysValues = tuple[Tensor, Tensor]

FIRST = 64
"""Positions that there is room for at first."""

SLACK = 32
"""Places that a window has beside its own: so many tokens are written before the window is moved to the front again."""


class Kept:
    """The keys and values of one attention: its groups alone, not once for every head that shares them.

    Room for them doubles when it is full, so that a token costs no copy of all that came before it. Of a window no
    more is kept than its own length and SLACK; what it has left behind is written over.

    Args:
        window: how far the attention looks back; 0 is to the start.
        most: positions of the longest text, for which there is never more room than needed.
    """

    def __init__(self, window: int, most: int) -> None:
        self.window = min(window, most)
        self.most = self.window + SLACK if self.window else most
        self.start = self.end = 0
        self.keys = self.values = torch.empty(0, 0)

    def extend(self, k: Tensor, v: Tensor) -> KeysValues:
        """Keep the keys and values of new positions [B T G K], and return all that these may see [B S G K]."""
        new = k.shape[1]
        if self.window and new > 1:
            return self._extend_window(k, v)
        if self.end + new > self.keys.shape[1]:
            self._make_room(new, k)
        self.keys[:, self.end : self.end + new], self.values[:, self.end : self.end + new] = k, v
        self.end += new
        if self.window:
            self.start = max(self.start, self.end - self.window)
        return self.seen()

    def seen(self) -> KeysValues:
        """Return what is kept, as views that the next token writes behind."""
        return self.keys[:, self.start : self.end], self.values[:, self.start : self.end]

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Keep these rows alone, in this order; a row may come several times."""
        self.keys, self.values = self.keys[rows], self.values[rows]

    def crop(self, length: int) -> None:
        """Forget what came after so many positions, where there is no window. Their places are written over."""
        self.end = min(self.end, length)

    def _extend_window(self, k: Tensor, v: Tensor) -> KeysValues:
        """Take several positions at once: the first of them look further back than what is kept after the last."""
        if self.end:
            before = self.seen()
            k, v = torch.cat((before[0], k), dim=1), torch.cat((before[1], v), dim=1)
        last = k[:, -self.window :], v[:, -self.window :]
        self.start, self.end = 0, last[0].shape[1]
        self.keys, self.values = _room(last[0], self.most), _room(last[1], self.most)
        self.keys[:, : self.end], self.values[:, : self.end] = last
        return k, v

    def _make_room(self, new: int, like: Tensor) -> None:
        kept = self.end - self.start
        wanted = max(FIRST, kept + new, 2 * self.keys.shape[1])
        places = min(wanted, max(self.most, kept + new))
        if self.end:
            like = self.keys
        keys, values = _room(like, places), _room(like, places)
        if kept:
            keys[:, :kept], values[:, :kept] = self.seen()
        self.keys, self.values, self.start, self.end = keys, values, 0, kept


def _room(like: Tensor, places: int) -> Tensor:
    return like.new_empty((like.shape[0], places, *like.shape[2:]))


class Cache:
    """What attention keeps between the calls of one generation: `etude.nn.view.Past`. It keeps no graph, so the model
    is called under `torch.no_grad()` or `torch.inference_mode()`.

    Args:
        context: positions that the model can read.

    Attributes:
        length: positions read so far, those of padding among them.
        last: [B 1] the tokens at the last of them; None before the first, and after a crop.
    """

    def __init__(self, context: int) -> None:
        self.context, self.length = context, 0
        self.last: Int[Tensor, "B 1"] | None = None
        self._text: dict[nn.Module, Kept] = {}
        self._source: dict[nn.Module, KeysValues] = {}

    def positions(self, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """Return where new tokens stand: on from what was read."""
        stands = torch.arange(self.length, self.length + tokens.shape[1], device=tokens.device)
        return stands.expand(tokens.shape)

    def extend(
        self, owner: nn.Module, k: Float[Tensor, "B T G K"], v: Float[Tensor, "B T G K"], window: int
    ) -> tuple[Float[Tensor, "B S G K"], Float[Tensor, "B S G K"]]:
        """Keep the keys and values of new positions and return all that these may see, the new ones last.

        Raises:
            UsageError: a gradient is asked for.
        """
        if k.requires_grad and torch.is_grad_enabled():
            raise UsageError("a cache keeps no gradients: call the model under torch.no_grad(), or without past=")
        kept = self._text.get(owner)
        if kept is None:
            kept = self._text[owner] = Kept(window, self.context)
        return kept.extend(k, v)

    def source(self, owner: nn.Module) -> KeysValues | None:
        """Return what a cross-attention made of its source, or None before its first call."""
        return self._source.get(owner)

    def keep_source(self, owner: nn.Module, k: Float[Tensor, "B S G K"], v: Float[Tensor, "B S G K"]) -> None:
        """Keep the keys and values of a source, which does not grow."""
        self._source[owner] = k, v

    def select(self, rows: Int[Tensor, " N"], sources: bool = True) -> None:
        """Keep these rows alone, in this order; a row may come several times, as in beam search.

        Args:
            rows: their numbers.
            sources: whether the sources move too; not where rows only change places with others of the same source.
        """
        for kept in self._text.values():
            kept.select(rows)
        if self.last is not None:
            self.last = self.last[rows]
        if sources:
            self._source = {owner: (k[rows], v[rows]) for owner, (k, v) in self._source.items()}

    def crop(self, length: int) -> bool:
        """Forget all but the first so many positions, to go on from there in another way.

        Returns:
            Whether that could be: a window has left behind what the positions before would look back at, so that there
            nothing is forgotten and the text has to be read anew.
        """
        if length > self.length:
            raise UsageError(f"length = {length}: the cache has read {self.length} positions")
        if any(kept.window for kept in self._text.values()):
            return length == self.length
        for kept in self._text.values():
            kept.crop(length)
        if length < self.length:
            self.length, self.last = length, None
        return True

    @property
    def numbers(self) -> int:
        """How many numbers there is room for: what the cache costs in memory, times the bytes of one."""
        texts = sum(kept.keys.numel() + kept.values.numel() for kept in self._text.values())
        return texts + sum(k.numel() + v.numel() for k, v in self._source.values())
