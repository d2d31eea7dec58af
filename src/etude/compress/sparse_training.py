"""The training of sparse codecs: a decoder whose rows have norm 1, and latents that are brought back when they die."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import embedding_bag, mse_loss, normalize

from etude.compress.explained import Explained
from etude.compress.fitting import Objective, Steps, fit, some
from etude.compress.sparse import Sparse, greatest
from etude.core.run import Draft
from etude.core.seeds import stream

REVIVAL = 1 / 32
"""Weight of what dead latents make of the error (Gao et al. 2024, appendix A.2)."""

START = 1 / 32
"""Norm of the encoder's columns at the start. At 1, latents that overlap make several times too much of a token, and
at a rate that suits the decoder the columns turn slowly."""

FALL, BETA2 = 0.4, 0.99
"""How the steps are taken (see `Steps`): the rate falls late, and the squares of a latent's gradients, of which most
are zero, are averaged over about 100 steps."""


class Choices(NamedTuple):
    """What a sparse codec is to be like.

    Attributes:
        features: latents in all.
        k: how many are kept for a token; 0 all over 0.
        penalty: weight of the sum of the latents, in units of the root of the mean squared norm of what is written,
            against the share of variance that is lost: for a code whose k is not set.
        revive: tokens without its firing after which a latent is dead.
    """

    features: int
    k: int = 0
    penalty: float = 0.0
    revive: int = 16384


class LearnSparse(Objective):
    """Lose little of the variance with few latents.

    Besides the share that is lost and the penalty, latents that have long been zero are asked to make what the others
    leave, as the share of that which they miss (the auxiliary loss of Gao et al. 2024, appendix A.2, with D/2 latents).

    Args:
        codec: what is trained.
        penalty: see `Choices`.
        revive: tokens after which a latent is dead.
    """

    def __init__(self, codec: Sparse, penalty: float, revive: int) -> None:
        super().__init__()
        self.codec, self.penalty, self.revive = codec, penalty, revive
        self.register_buffer("silent", torch.zeros(len(codec.b_enc), dtype=torch.long))

    def forward(self, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"], draw: torch.Generator) -> dict[str, Tensor]:
        pre = self.codec.pre(x)
        made, kept, fired = self._made(pre)
        lost = mse_loss(made, y)  # 1 is the variance
        dead = self._note(fired, len(x))
        told = {"lost": lost, "active": torch.count_nonzero(kept) / len(x), "dead": dead.sum()}
        loss = lost
        if self.penalty:
            sparsity = kept.sum(1).mean() / y.shape[1] ** 0.5
            loss, told = loss + self.penalty * sparsity, {**told, "sparsity": sparsity}
        if dead.any():
            loss = loss + REVIVAL * self._missed(pre, dead, (y - made).detach())
        return {"loss": loss, **told}

    def _made(self, pre: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N K"], Bool[Tensor, " F"]]:
        """Return what is written, the latents that are kept, and which of all are not zero for some row."""
        codec = self.codec
        if not codec.k:
            code = pre.relu()
            return codec.decode(code), code, (code.detach() > 0).any(0)
        # The product with a code that is mostly zeros would take most of a step, there and back.
        kept, where = greatest(pre, codec.k)
        made = embedding_bag(where, codec.W_dec, per_sample_weights=kept, mode="sum") + codec.b_dec
        fired = torch.zeros(pre.shape[1], dtype=torch.bool)
        fired[where[kept > 0]] = True
        return made, kept, fired

    def _note(self, fired: Bool[Tensor, " F"], tokens: int) -> Bool[Tensor, " F"]:
        """Take note of which latents fired, and return which have not for long."""
        silent = self.get_buffer("silent")
        silent.add_(tokens).masked_fill_(fired, 0)
        return silent >= self.revive

    def _missed(self, pre: Tensor, dead: Tensor, error: Tensor) -> Tensor:
        """Return the share of the error that the dead latents do not make of it."""
        among = dead.nonzero().squeeze(1)
        values, where = pre[:, among].topk(min(len(among), max(1, error.shape[1] // 2)), dim=1, sorted=False)
        made = embedding_bag(among[where], self.codec.W_dec, per_sample_weights=values, mode="sum")
        return mse_loss(made, error) / error.square().mean().clamp_min(1e-12)

    @torch.no_grad()
    def before_update(self) -> None:
        """Leave of the decoder's gradients what does not change a norm."""
        rows, grad = self.codec.W_dec, self.codec.W_dec.grad
        if grad is not None:
            grad.sub_((grad * rows).sum(1, keepdim=True) * rows)

    @torch.no_grad()
    def after_update(self) -> None:
        self.codec.W_dec.copy_(normalize(self.codec.W_dec, dim=1))

    def found(self, x: Float[Tensor, "N M"], y: Float[Tensor, "N D"]) -> dict[str, float]:
        """Return how many latents there are, how many of them are never used, and how many fire for a token."""
        explained, codec = Explained(), self.codec
        explained.add(some(y), codec(some(x)))
        codec.measure_rate(x)
        share = {} if explained.share is None else {"explained_fitted": explained.share}
        return {**share, "active_fitted": codec.active, "dead_fitted": codec.dead, "features": len(codec.b_enc)}


def train_sparse(
    x: Float[Tensor, "N M"], y: Float[Tensor, "N D"], choices: Choices, steps: Steps, seed: int, run: Draft
) -> Sparse:
    """Return a sparse codec trained to make `y` of `x`, which may be the same.

    Both are seen about their means and in units in which their dimensions vary by 1 on average. The encoder begins as
    the decoder turned round where they are the same, and by itself where they are not. The codec's latents are in the
    units of `y`: a row of its decoder has norm 1.

    Args:
        x: [N, M].
        y: [N, D].
        choices: what it is to be like.
        steps: how it is trained.
        seed: of the weights and batches.
        run: where the steps are logged and checkpointed.
    """
    codec = Sparse(x.shape[1], choices.features, y.shape[1], choices.k)
    read, centre_read, scale_read = standardised(x)
    write, centre, scale = (read, centre_read, scale_read) if y is x else standardised(y)
    start(codec, torch.Generator().manual_seed(stream(seed, "weights")), tied=y is x)
    steps = steps._replace(fall=FALL, beta2=BETA2)
    fit(LearnSparse(codec, choices.penalty, choices.revive), steps, read, write, seed, run)
    if not codec.active:  # gone on with after its last row, in which `found` measures it, was written
        codec.measure_rate(read)
    with torch.no_grad():
        codec.get_buffer("centre").copy_(centre_read)
        codec.W_enc.mul_(scale / scale_read)
        codec.b_enc.mul_(scale)
        codec.b_dec.mul_(scale).add_(centre)
    return codec.requires_grad_(False)


@torch.no_grad()
def start(codec: Sparse, draw: torch.Generator, *, tied: bool) -> None:
    """Draw the decoder's rows from all directions, and the encoder's columns along them or by themselves, shorter."""
    codec.W_dec.copy_(normalize(torch.randn(codec.W_dec.shape, generator=draw), dim=1))
    columns = codec.W_dec if tied else normalize(torch.randn(codec.W_enc.T.shape, generator=draw), dim=1)
    codec.W_enc.copy_(START * columns.T)


def standardised(x: Float[Tensor, "N M"]) -> tuple[Float[Tensor, "N M"], Float[Tensor, " M"], float]:
    """Return rows about their mean in units of the root of their mean variance, that mean, and that unit."""
    centre = x.mean(0, dtype=torch.float64).float()
    away = x - centre
    scale = float(away.square().mean(dtype=torch.float64).sqrt()) or 1.0
    return away / scale, centre, scale
