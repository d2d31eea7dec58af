"""What a unit does to the model: its number moved while the model reads, and exchanged between two prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from etude.compress.compressor import Part
from etude.compress.units import decoded, encoded
from etude.core.site import Site
from etude.evals.loss import batch_for, batches
from etude.evals.recording import as_vectors
from etude.evals.statistics import ratio
from etude.models.decoder_model import DecoderModel
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples

OFFSETS = (-3, -2, -1, 1, 2, 3)
"""How far a number is moved, in its standard deviations."""

ENDS = (-2, 2)
"""Between these the change of each token's logit is told."""

TOLD = 5
"""Tokens that are named at each end."""

Moved = Callable[[Shaped[Tensor, "B T R"]], Shaped[Tensor, "B T R"]]
"""What is done to a code before it is decoded."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Text that a model reads with a codec in it.

    Attributes:
        tokens: [B T].
        real: [B T] false where there is padding.
        code: [B T R] at the site, of the unharmed model.
        stream: [B T D] before the site's layer; None where the model reads from its start.
        layer: of the site.
        given: what else the model is called with, as which documents do not see each other.
    """

    tokens: Int[Tensor, "B T"]
    real: Bool[Tensor, "B T"]
    code: Shaped[Tensor, "B T R"]
    stream: Float[Tensor, "B T D"] | None
    layer: int
    given: Mapping[str, Tensor] = field(default_factory=dict)


class Traveller:
    """Changes the code at one site of a decoder and tells what the model then says.

    Args:
        model: in evaluation mode, with nothing at its sites.
        site: where the codec stands.
        part: the codec.
    """

    def __init__(self, model: DecoderModel, site: Site, part: Part) -> None:
        self.model, self.site, self.part = model, site, part

    @torch.no_grad()
    def read(self, tokens: Int[Tensor, "B T"], real: Bool[Tensor, "B T"] | None = None, **given: Any) -> Reading:
        """Return what there is before the codec; `given` is what else the model is called with."""
        layer = self.site.layer or 0
        before = f"L{layer - 1}.resid.post"
        reads = self.part.reads or self.site
        seen = look(self.model, tokens, [reads, before] if layer else [reads], **given)
        code = encoded(self.part, as_vectors(reads, seen[reads]), tokens)
        whole = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
        return Reading(tokens, whole, code, seen[Site(before)] if layer else None, layer, given)

    @torch.no_grad()
    def logits(self, reading: Reading, code: Shaped[Tensor, "B T R"]) -> Float[Tensor, "B T V"]:
        """Return what the model says with a code in the place of its own."""
        made = decoded(self.part, code)
        given: dict[str, Any] = dict(reading.given)
        given |= {} if reading.stream is None else {"stream": reading.stream, "layer": reading.layer}
        with self.model.tapped({self.site: lambda value: made.reshape(value.shape).to(value.dtype)}):
            return self.model(reading.tokens, **given).float()

    def readings(self, examples: Examples, windows: np.ndarray) -> Iterator[Reading]:
        """Yield windows of text, a batch at a time."""
        device = next(self.model.parameters()).device
        size = batch_for(examples.vocabulary, examples.context)
        for tokens, targets, given in batches(examples, windows, device, size):
            yield self.read(tokens, targets != IGNORE, **given)

    def traverse(self, reading: Reading, moves: list[Moved], ends: tuple[int, int]) -> Traversed:
        """Return what each of several moves does, against the code as it is.

        Args:
            reading: the text.
            moves: what is done to the code.
            ends: numbers of the two moves between which the change of logits is told; -1 is the code as it is.
        """
        plain = self.logits(reading, reading.code)
        surely = plain.log_softmax(-1)
        divergence, said = [], {-1: plain}
        for number, move in enumerate(moves):
            logits = self.logits(reading, move(reading.code))
            each = (surely.exp() * (surely - logits.log_softmax(-1))).sum(-1)
            divergence.append((each * reading.real).double().sum(1))
            if number in ends:
                said[number] = logits
        change = ((said[ends[1]] - said[ends[0]]) * reading.real[..., None]).double().sum((0, 1))
        return Traversed(torch.stack(divergence, 1).numpy(), change.numpy(), reading.real.double().sum(1).numpy())


@dataclass(frozen=True, eq=False)
class Traversed:
    """What moves do to a model. N counts windows, M moves.

    Attributes:
        divergence: [N M] summed Kullback–Leibler divergence, from the predictions with the code as it is, in nats.
        change: [V] summed change of each logit between the two ends.
        count: [N] positions.
    """

    divergence: Float[np.ndarray, "N M"]
    change: Float[np.ndarray, " V"]
    count: Float[np.ndarray, " N"]

    @staticmethod
    def joined(parts: list[Traversed]) -> Traversed:
        """Return what batches came to together."""
        divergence, count = (np.concatenate([getattr(p, name) for p in parts]) for name in ("divergence", "count"))
        return Traversed(divergence, np.sum([p.change for p in parts], 0), count)

    def to_json(self, names: list[Any], piece: Callable[[int], str], among: Int[np.ndarray, " A"]) -> dict[str, Any]:
        """Return the divergence of each move, and the tokens whose logits rise and fall most, about the mean change.

        Args:
            names: of the moves.
            piece: writes a token.
            among: tokens that may be named. Those that no text holds are never trained, and move the most.
        """
        change = self.change[among] / self.count.sum()
        change = change - change.mean()
        order = np.argsort(-change, kind="stable")
        few = min(TOLD, len(order) // 2)

        def named(tokens: np.ndarray) -> list[dict[str, Any]]:
            return [{"token": piece(int(among[t])), "change": float(change[t])} for t in tokens]

        kl = [ratio(column, self.count).to_json() for column in self.divergence.T]
        moves = [{"at": name, "kl": each} for name, each in zip(names, kl, strict=True)]
        return {"moves": moves, "rises": named(order[:few]), "falls": named(order[::-1][:few])}


def shifted(column: int, by: float, lowest: float | None) -> Moved:
    """Return the move of one number by so much at every position, not below `lowest`; of whole numbers, to the next."""

    def move(code: Tensor) -> Tensor:
        column_now = code[..., column].float() + by
        if lowest is not None:
            column_now = column_now.clamp(min=lowest)
        if not code.is_floating_point():
            ends = torch.iinfo(code.dtype)
            column_now = column_now.round().clamp(ends.min, ends.max)
        found = code.clone()
        found[..., column] = column_now.to(code.dtype)
        return found

    return move


def settled(column: int, entry: int) -> Moved:
    """Return the move that sets one number of a discrete code everywhere."""

    def move(code: Tensor) -> Tensor:
        found = code.clone()
        found[..., column] = entry
        return found

    return move


def exchanged(
    traveller: Traveller, clean: Int[Tensor, "1 T"], corrupted: Int[Tensor, "1 S"], right: int | None, wrong: int | None
) -> dict[str, Any]:
    """Return what becomes of an answer where one number of the code at the last position of a prompt is that of another
    prompt: the logit of the right answer less that of the wrong one.

    Args:
        traveller: the model and the codec.
        clean: one prompt.
        corrupted: the other; its length may be another.
        right: the token that answers the first; None is the likeliest there, with the codec in place.
        wrong: the token that answers the second; None is the likeliest there.

    Returns:
        `right` and `wrong`; the difference in the first prompt (`clean`), in the second (`corrupted`), in the first
        with the whole code of the other's last position (`all`), and with each number of it alone (`columns`).
    """
    mine, other = traveller.read(clean), traveller.read(corrupted)
    plain, foreign = traveller.logits(mine, mine.code)[0, -1], traveller.logits(other, other.code)[0, -1]
    good = int(plain.argmax()) if right is None else right
    bad = int(foreign.argmax()) if wrong is None else wrong

    def gap(logits: Tensor) -> float:
        return float(logits[good] - logits[bad])

    def with_numbers(columns: slice) -> float:
        code = mine.code.clone()
        code[0, -1, columns] = other.code[0, -1, columns]
        return gap(traveller.logits(mine, code)[0, -1])

    each = [with_numbers(slice(n, n + 1)) for n in range(mine.code.shape[-1])]
    found = {"right": good, "wrong": bad, "clean": gap(plain), "corrupted": gap(foreign)}
    return {**found, "all": with_numbers(slice(None)), "columns": each}
