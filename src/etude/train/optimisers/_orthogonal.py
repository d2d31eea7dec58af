"""Muon at work: matrices of equal shape are made orthogonal together, and AdamW moves what is no hidden matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x³ + c x⁵, chosen in Jordan et al. 2024 to lift small singular values fast; in five rounds it
brings all but tiny ones between about 0.7 and 1.2, which trains as well as exactly 1."""

EPSILON = 1e-7

TOGETHER = 1 << 20
"""Numbers in the matrices that are handled together: many small ones, since a product of its own for each takes up to
ten times as long, and large ones by themselves, which wins nothing from company and would cost memory."""


def orthogonalise(
    m: Float[Tensor, "N R C"], iterations: int, precision: torch.dtype = torch.bfloat16
) -> Float[Tensor, "N R C"]:
    """Return, for each matrix U S Vᵀ, something near U Vᵀ, by Newton and Schulz's method; zeros stay zeros.

    Coefficients and precision are those of Jordan et al. 2024.
    """
    a, b, c = COEFFICIENTS
    tall = m.shape[-2] > m.shape[-1]
    x = (m.mT if tall else m).to(precision).contiguous()  # the products are of the shorter side
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=EPSILON)
    alone = len(x) == 1  # a product of two matrices is faster than one of two lists of one
    x, plus = (x[0], torch.addmm) if alone else (x, torch.baddbmm)
    for _ in range(iterations):
        squared = x @ x.mT
        x = plus(x, plus(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    x = x[None] if alone else x
    return x.mT if tall else x


def as_matrices(weight: Tensor, written: bool, apart: bool) -> Float[Tensor, "N R C"]:
    """Return a view of a weight as matrices from what is read to what is written.

    Args:
        weight: [D F], or with heads [D H K], or [H K D] where `written`.
        written: whether it is W_O, which reads heads and writes the stream.
        apart: whether each head is a matrix of its own.
    """
    if weight.ndim == 2:
        return weight[None]
    if apart:
        return weight if written else weight.transpose(0, 1)
    return (weight.flatten(0, 1) if written else weight.flatten(1))[None]


def update_scale(scale: str, ways_in: int, ways_out: int) -> float:
    """Return what an orthogonal update is multiplied by; see `Muon.scale`."""
    if scale == "adamw":
        return 0.2 * math.sqrt(max(ways_in, ways_out))
    return math.sqrt(max(1.0, ways_out / ways_in))


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for some groups and PyTorch's AdamW for the others, with one state and one list of groups.

    Args:
        muon: groups with the fields of `Muon` and, for each parameter, whether it is `written`.
        adamw: groups for AdamW.
        betas: of AdamW.
        eps: of AdamW.
    """

    def __init__(
        self, muon: list[dict[str, Any]], adamw: list[dict[str, Any]], betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__([*muon, *adamw], {"lr": 0.0})
        self.adamw_options: dict[str, Any] = {"lr": 0.0, "betas": betas, "eps": eps, "fused": True}
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # loading puts other groups and another state in place
        self._share()

    def _share(self) -> None:
        """Give AdamW the groups that are its own, and the state of all."""
        groups = [group for group in self.param_groups if "iterations" not in group]
        self.adamw = torch.optim.AdamW(groups, **self.adamw_options) if groups else None
        if self.adamw is not None:
            self.adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "iterations" in group:
                self._step_matrices(group)
        if self.adamw is not None:
            self.adamw.step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for p, written in zip(group["params"], group["written"], strict=True):
            if p.grad is None:
                continue
            mean = self._mean(p).lerp_(p.grad, 1 - group["momentum"])
            step = p.grad.lerp(mean, group["momentum"]) if group["nesterov"] else mean
            p.mul_(1 - group["lr"] * group["weight_decay"])
            weight, update = (as_matrices(t, written, group["heads"] == "apart") for t in (p, step))
            alike.setdefault(tuple(update.shape[1:]), []).append((weight, update))
        precision = torch.bfloat16 if group["precision"] == "bf16" else torch.float32
        for (ways_in, ways_out), those in alike.items():
            size = group["lr"] * update_scale(group["scale"], ways_in, ways_out)
            most = max(1, TOGETHER // (ways_in * ways_out))
            for some in (those[i : i + most] for i in range(0, len(those), most)):
                stacked = torch.cat([update.to(precision) for _, update in some])
                steps = orthogonalise(stacked, group["iterations"], precision)
                for (weight, _), step in zip(some, steps.split([len(w) for w, _ in some]), strict=True):
                    weight.add_(step.to(weight.dtype), alpha=-size)

    def _mean(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        return state["momentum_buffer"]
