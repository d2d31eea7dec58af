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
from etude.interp.circuits import copying_score, ov_circuit, qk_circuit
from etude.interp.factored import Factored
from etude.models.decoder_model import DecoderModel

RARE = 0.05
"""How often the greatest score of random heads is above what chance is said to come to."""

WRITERS = 64
"""Random heads whose singular values stand for those of all, fewer of wide heads, which hardly differ."""

WIDTHS = 4096
"""Singular values that are drawn at most."""

DRAWS = 40
"""Shares drawn for each pair of heads: of them, two are above what is passed with a chance of `RARE` / pairs."""

FEWEST = 200
"""Shares drawn for each of `WRITERS` at least, so that of a few pairs too the greatest is known."""

WIDE = 32
"""Rank from which on the deviation of copying scores is that of this rank times `WIDE` / rank, as for random matrices
in the limit."""


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
        projected_chance: what the greatest of `projected` over as many pairs of random heads stays below in 95 of 100
            models at least (Bonferroni). A pair above it is joined by more than chance.
    """

    kind: str
    raw: np.ndarray
    baseline: float
    excess: np.ndarray
    projected: np.ndarray
    projected_chance: float


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
    pairs = int((~hidden).sum())
    axes = spec.width - (spec.norm == "layer")  # it takes the mean out: one direction is neither written nor read
    most = _greatest_share(axes, spec.head_width, pairs, seed) - chance_share
    return Composition(kind, raw, chance, raw - chance, share - chance_share, most)


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


@cache
def _greatest_share(D: int, K: int, pairs: int, seed: int) -> float:
    """Return the share ‖C P‖ / ‖C‖ that one pair of random heads passes with a chance of `RARE` / pairs.

    No pair is made. Turned so that the reader sees the first K of the D axes, and the first head's factors A B so that
    A is diagonal, its singular values s, ‖A B P‖² is a sum of K chi-squares of K degrees of freedom, weighted by s²,
    and the rest of ‖A B‖² one of D - K.
    """
    if K >= D:
        return 1.0
    draw = np.random.Generator(np.random.PCG64(seed))
    writers = max(4, min(WRITERS, WIDTHS // K))
    weights = [np.linalg.svdvals(draw.standard_normal((D, K))) ** 2 for _ in range(writers)]
    each = max(FEWEST, pairs * DRAWS // writers)
    shares = []
    for weight in weights:
        read, rest = (draw.chisquare(freedom, (each, K)) @ weight for freedom in (K, D - K))
        shares.append(np.sqrt(read / (read + rest)))
    return float(np.quantile(shares, 1 - RARE / pairs))


def chance_of_copying(width: int, rank: int, heads: int, draws: int = 400, seed: int = 0) -> float:
    """Return what the greatest copying score of `heads` random heads stays below in 95 of 100 models; at most 1.

    Weights and embeddings are of normal numbers, and the vocabulary is large beside the width. Scores are taken as
    normal, which they nearly are of many eigenvalues; of few it says more than they come to, and of one or two always
    1: half the heads of rank 1 have that score.

    Args:
        width: of the stream.
        rank: of each circuit, the head width.
        heads: how many there are.
        draws: random heads that the deviation is taken over.
        seed: of the draw.
    """
    from scipy.special import ndtri

    draw, rank = np.random.Generator(np.random.PCG64(seed)), min(rank, width)
    shrunk = min(1.0, WIDE / rank)
    width, rank = round(width * shrunk), round(rank * shrunk)
    # Between W_O and W_V stand unembedding and embedding, turned to the axes that W_V reads.
    W_O, between, W_V = (draw.standard_normal((draws, width, rank)) for _ in range(3))
    circuits = W_O.swapaxes(1, 2) @ between @ np.linalg.qr(W_V).R
    scores = copying_score(Factored(torch.from_numpy(circuits), torch.eye(rank, dtype=torch.float64)))
    return min(1.0, float(ndtri(1 - RARE / heads) * shrunk * scores.square().mean().sqrt()))
