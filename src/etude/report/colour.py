"""The few colours of a report, chosen to be told apart by everybody, in print too.

Source: the qualitative palette of Okabe and Ito (2008), "Color Universal Design", without its yellow and black, which
vanish on white and on dark pages.
"""

from __future__ import annotations

import numpy as np

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A", "#5B3A8E", "#8B5A2B")
"""Colours of the series of a chart, in the order they are given out. There is one more than there are shapes of marks,
so that no two of 72 series have both in common."""

MORE, LESS = "#0B5FA5", "#C2540A"
"""The shade of a matrix at its strongest, and at its most negative. Weaker values are the same, more transparent, so
that one picture suits a light and a dark page."""

INK, SOFT, LINE, GROUND = "#1F2328", "#59616B", "#E4E3DE", "#FFFFFF"
"""Words, lesser words, hairlines and paper of pictures that stand alone."""


def shade(values: np.ndarray, signed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return each value's opacity from 0 to 1, and whether it is negative in a signed matrix.

    Unsigned matrices run from their least to their greatest value; signed ones from zero outward on both sides alike.
    NaN is fully transparent.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros(values.shape), np.zeros(values.shape, dtype=bool)
    least = 0.0 if signed else float(known.min())
    reach = float(np.abs(known).max()) if signed else float(known.max()) - least
    size = np.abs(values) if signed else values - least
    opacity = np.where(np.isfinite(values), size / (reach or 1.0), 0.0)
    return opacity.clip(0, 1), (values < 0) & signed


def legible(ground: str) -> str:
    """Return the one of paper and ink that stands out more on a colour (WCAG 2.2, contrast ratio)."""

    def light(colour: str) -> float:
        shares = (part / 255 for part in rgb(colour))
        linear = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
        return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05

    return GROUND if light(GROUND) / light(ground) > light(ground) / light(INK) else INK


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the three bytes of `#RRGGBB`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
