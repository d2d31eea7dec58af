"""Whether a compressor was fitted to enough text to be believed on other text."""

from __future__ import annotations

import math

TOKENS = 10
"""Tokens for each parameter of an output dimension under which a fit is warned of. A rule of thumb: on other text
a regression on p numbers has about 1 + p / (tokens - p) times the least squared error that one can have, a ninth more
here."""


def warning_of(tokens: int, parameters: int, width: int) -> str | None:
    """Return one line where a compressor has more parameters than the text that it was fitted to can settle, else None.

    Each of the D outputs is fitted to as many numbers as there are tokens, with its share of the parameters.

    Args:
        tokens: that it was fitted to.
        parameters: that it holds.
        width: D.
    """
    wanted = math.ceil(TOKENS * parameters / width)
    if tokens >= wanted:
        return None
    return (
        f"fitted to {tokens} tokens, few for {parameters} parameters of {width} outputs: {TOKENS} for each parameter of"
        f" an output are {wanted}; raise fit_tokens, or take a smaller size"
    )
