"""Muon: momentum whose update is made orthogonal (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from etude.core.errors import UsageError
from etude.core.machine import multiplies_bf16
from etude.core.spec import AUTO
from etude.train.optimisers.base import Optimiser, is_hidden, learning, mup_multiplier, parameter_groups

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Muon(Optimiser):
    """Orthogonalised momentum for the matrices between hidden layers; AdamW for embeddings, unembedding, norms and
    biases, as Jordan et al. 2024 advise.

    Attributes:
        momentum: decay of the mean of the gradients of hidden matrices.
        nesterov: whether a step looks ahead by one more step of the momentum.
        iterations: of Newton and Schulz's method, which brings all singular values near 1.
        scale: the size of an update. `adamw` multiplies it by 0.2 √(longer side), which gives it the root mean square
            of AdamW's updates, so that both share a rate and a decay (Liu et al. 2025, section 2.2); `original` by
            √(ways out / ways in) where that is over 1, for which a rate near 0.02 is usual.
        heads: whether the matrices of all heads are one (`joined`, [D, H K]), or each head is made orthogonal by itself
            (`apart`). Published implementations hold queries, keys and values as three matrices of all heads, and make
            each of the three orthogonal as a whole.
        precision: of the iterations. The original is bf16, to which they are robust; fp32 costs about six times as much
            where the machine multiplies bf16; `auto` is bf16 where this machine's processor does so, else fp32.
        others_rate: rate of what AdamW moves, as a multiple of the schedule's.
        beta1: for AdamW, decay of the mean of the gradients.
        beta2: for AdamW, decay of the mean of their squares.
        epsilon: for AdamW, added to the root of the latter.
        weight_decay: decay of all matrices; norms and biases do not decay.
    """

    whole: ClassVar[bool] = True

    momentum: float = 0.95
    nesterov: bool = True
    iterations: int = 5
    scale: Literal["adamw", "original"] = "adamw"
    heads: Literal["joined", "apart"] = "joined"
    precision: Literal["bf16", "fp32", "auto"] = AUTO
    others_rate: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def check(self) -> None:
        if not (0 <= self.momentum < 1 and 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UsageError(
                f"muon momentum {self.momentum}, betas {self.beta1}, {self.beta2}: each must be at least 0 and below 1"
            )
        if self.iterations < 1 or self.epsilon <= 0 or self.others_rate <= 0 or self.weight_decay < 0:
            raise UsageError(
                f"muon iterations {self.iterations}, epsilon {self.epsilon}, others' rate {self.others_rate}, weight"
                f" decay {self.weight_decay}: the first is 1 or more, the next two over 0, the last 0 or more"
            )

    def settle(self) -> Self:
        return replace(self, precision="bf16" if multiplies_bf16() else "fp32") if self.precision == AUTO else self

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Return one optimiser for all parameters. Under µP the rate of hidden matrices falls with the width where
        their updates are of AdamW's size; the original's √(ways out / ways in) keeps the effect of an update the same
        at every width by itself (Yang, Simon and Bernstein 2023, condition 1)."""
        from etude.train.optimisers._orthogonal import MuonAndAdamW

        hidden = {name: p for name, p in learning(model) if is_hidden(name)}
        groups: list[dict[str, Any]] = []
        if hidden:
            muon = {
                "params": list(hidden.values()),
                "written": [name.rpartition(".")[2] == "W_O" for name in hidden],
                "multiplier": mup_multiplier(model) if self.scale == "adamw" else 1.0,
            }
            names = ("momentum", "nesterov", "iterations", "scale", "heads", "weight_decay")
            precision = self.settle().precision
            groups.append({**muon, **{name: getattr(self, name) for name in names}, "precision": precision})
        others = [
            {**group, "multiplier": self.others_rate}
            for group in parameter_groups(model, self.weight_decay, hidden=False)
        ]
        return MuonAndAdamW(groups, others, betas=(self.beta1, self.beta2), eps=self.epsilon)
