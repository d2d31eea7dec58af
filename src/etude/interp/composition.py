"""How strongly one head reads what an earlier one writes, read off the weights alone.

A head's query, key or value may read what an earlier head wrote: Q-, K- and V-composition (Elhage et al. 2021, sections
"Three kinds of composition" and "Analyzing a two-layer model"). No two heads of a trained model miss each other quite,
so each score stands beside what heads of random weights would have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from etude.core.errors import UsageError, unknown
from etude.interp.circuits import ov_circuit, qk_circuit
from etude.interp.factored import Factored
from etude.models.decoder_model import DecoderModel


@dataclass(frozen=True, eq=False)
class Composition:
    """Composition of every head with every head of a later layer. Arrays are [L H L H], the earlier head first, and NaN
    where the second is in no later layer.

    With C the OV circuit of the earlier head and R what reads in the later one (for Q its QK circuit, for K that
    transposed, for V its OV circuit):

    Attributes:
        kind: Q, K or V.
        raw: ‖C R‖ / (‖C‖ ‖R‖) in Frobenius norms, from 0 to 1, as in the paper. 0 where a head writes or reads nothing.
            It is 1 only where all of both goes through one direction. Where r directions carry equal parts it is at
            most 1/√r, which may be no more than chance: look at `projected` too.
        baseline: the mean of `raw` over heads of random normal weights; about 1/√D.
        excess: raw - baseline.
        projected: ‖C P‖ / ‖C‖ less its mean over random heads (about √(K/D)), where P projects onto what the left
            factor of R reads (W_Q, W_K or W_V): how much of what the first head writes the second can read at all, all
            of its directions counted alike. The most is 1 less that mean.
    """

    kind: str
    raw: np.ndarray
    baseline: float
    excess: np.ndarray
    projected: np.ndarray


@torch.no_grad()
def composition(model: DecoderModel, kind: str, draws: int = 16, seed: int = 0) -> Composition:
    """Return how strongly later heads read what earlier heads write. No matrix of D x D is made.

    Norms are not in it: take `etude.interp.plain.plain(model)` first, which leaves them only to divide. With rotary
    positions the QK circuit is that of a query and a key at one place; `projected` is the same at any distance.

    Args:
        model: the model.
        kind: what reads: Q, K or V.
        draws: pairs of random heads that the baselines are means over.
        seed: of the random heads.

    Raises:
        UsageError: there is no such kind of composition, or no later layer.
    """
    spec, device = model.spec, model.embed.W_E.device
    if kind not in _READERS:
        raise unknown("kind of composition", kind, _READERS)
    if spec.layers < 2:
        raise UsageError(f"layers = {spec.layers}: a head composes with one of a later layer, and there is none")
    places = [(layer, head) for layer in range(spec.layers) for head in range(spec.heads)]
    writing = _stacked([ov_circuit(model, *place) for place in places])
    reading = _stacked([_READERS[kind](model, *place) for place in places])
    raw, share = _scores(writing, reading)
    chance, chance_share = _chance(spec.width, spec.head_width, draws, seed)
    later = torch.arange(spec.layers, device=device).repeat_interleave(spec.heads)
    hidden = later[:, None] >= later[None, :]
    shape = (spec.layers, spec.heads) * 2
    raw, share = (x.masked_fill(hidden, torch.nan).view(shape).cpu().numpy() for x in (raw, share))
    return Composition(kind, raw, chance, raw - chance, share - chance_share)


_READERS: dict[str, Callable[[DecoderModel, int, int], Factored]] = {
    "Q": qk_circuit,
    "K": lambda model, layer, head: qk_circuit(model, layer, head).T,
    "V": ov_circuit,
}


def _stacked(circuits: list[Factored]) -> Factored:
    return Factored(torch.stack([c.left for c in circuits]), torch.stack([c.right for c in circuits]))


def _scores(writing: Factored, reading: Factored) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
    """Return ‖C R‖ / (‖C‖ ‖R‖) and ‖C P‖ / ‖C‖ of N circuits C [D D] with M circuits R [D D]."""
    C, R = writing.gist(), reading.T.gist().mT  # [N K D] and [M D K]: Frobenius norms are those of the whole
    U, strength, _ = torch.linalg.svd(reading.left, full_matrices=False)
    rounding = strength[:, :1] * reading.shape[-1] * torch.finfo(strength.dtype).eps
    P = U * (strength > rounding)[:, None]  # the directions that are read, whatever their strength
    written, read = writing.norm()[:, None], reading.norm()
    return _share(_norms(C, R), written * read), _share(_norms(C, P), written)


def _norms(C: Float[Tensor, "N K D"], R: Float[Tensor, "M D J"]) -> Float[Tensor, "N M"]:
    """Return ‖C R‖ of every pair; one row of pairs is held at a time."""
    wide = R.movedim(1, 0).flatten(1)  # all that is read side by side, for one product instead of M
    return torch.stack([torch.linalg.matrix_norm((c @ wide).unflatten(1, (len(R), -1)), dim=(0, 2)) for c in C])


def _share(part: Float[Tensor, "N M"], whole: Float[Tensor, "N _"]) -> Float[Tensor, "N M"]:
    return (part / whole).masked_fill(whole == 0, 0.0)


@cache  # the three kinds are measured by the same random heads, which at a wide head take longer than the rest
def _chance(D: int, K: int, draws: int, seed: int) -> tuple[float, float]:
    """Return the mean scores of heads whose factors are drawn from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.randn(4, draws, D, K, generator=generator, dtype=torch.float64)
    raw, share = _scores(Factored(a, b.mT), Factored(c, d.mT))
    return float(raw.mean()), float(share.mean())
