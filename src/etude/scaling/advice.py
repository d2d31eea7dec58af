"""How many parameters and tokens a budget should buy: what was fitted here beside what was published."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from etude.core.errors import UsageError
from etude.scaling.law import CHINCHILLA, PER_TOKEN, Optimum, Power

PF_DAY = 1e15 * 24 * 60 * 60
"""FLOPs of a petaflop/s for a day."""

TOKENS_PER_PARAMETER = 20.0
"""Tokens for each parameter that Hoffmann et al. 2022, table 3, come to: 20.2 at a billion parameters, 22.4 at 67."""

KAPLAN = Power(a=0.73, b=0.27, k_N=1.3e9 * PF_DAY**-0.73, k_D=PF_DAY**0.73 / (PER_TOKEN * 1.3e9))
"""N = 1.3e9 (C / PF-day)^0.73 parameters without embeddings (Kaplan et al. 2020, table 6 and figure 14), and the tokens
that the rest of the budget buys, C / 6N, with the exponent 0.27 of the same table.

The table's own 2e10 tokens at a PF-day spend twice the budget, being for training at the critical batch size; equation
6.7 has 4e10 and 0.26 for the same quantity, which does not follow from the table's N."""

TWENTY = Power(
    a=0.5,
    b=0.5,
    k_N=(PER_TOKEN * TOKENS_PER_PARAMETER) ** -0.5,
    k_D=TOKENS_PER_PARAMETER * (PER_TOKEN * TOKENS_PER_PARAMETER) ** -0.5,
)
"""Equal exponents and 20 tokens for each parameter: how Hoffmann et al. 2022 are usually quoted."""


@dataclass(frozen=True)
class Advice:
    """What one way of reckoning says for a budget.

    Attributes:
        source: whose it is.
        params: parameters.
        tokens: tokens.
        loss: the loss that it expects, in nats a token of its own text, or None where it expects none.
        embeddings: whether its parameters count embeddings; None for fits here, which count as their points do.
    """

    source: str
    params: float
    tokens: float
    loss: float | None
    embeddings: bool | None

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens for each parameter."""
        return self.tokens / self.params


def advice(flops: float, fits: Mapping[str, Callable[[float], Optimum]]) -> list[Advice]:
    """Return what fits made here say for a budget, then what is published.

    The published ones are for other text, another tokenizer and models far larger: they are a comparison, and their
    losses are none at all.

    Args:
        flops: the budget C.
        fits: by name, what tells the best for a budget, as `Approach2.optimum` or `Law.optimum`.

    Raises:
        UsageError: the budget is not a finite number above 0.
    """
    if not (math.isfinite(flops) and flops > 0):
        raise UsageError(f"a budget of {flops:g} FLOPs: give a finite number above 0, such as 1e15")
    ours = [(name, optimum(flops)) for name, optimum in fits.items()]
    law = CHINCHILLA.optimum(flops)
    return [
        *(Advice(name, best.params, best.tokens, best.loss, None) for name, best in ours),
        Advice("Kaplan et al. 2020", KAPLAN.params(flops), KAPLAN.tokens(flops), None, False),
        Advice("Hoffmann et al. 2022, 20 tokens a parameter", TWENTY.params(flops), TWENTY.tokens(flops), None, True),
        Advice("Hoffmann et al. 2022, approach 3", law.params, law.tokens, law.loss, True),
    ]


def preferred(told: Mapping[str, Any]) -> str:
    """Return the approach whose size for a budget is taken: the second, which needs no law to hold, else the
    third, else the first.

    Args:
        told: what a fit's result says for the budget: None for an approach that could not be fitted.
    """
    return next(name for name in ("approach_2", "approach_3", "approach_1") if told[name])
