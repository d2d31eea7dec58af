"""Random numbers by address: what is random in a sample follows from the sample's number, whatever else is in its
batch and whoever asked before."""

from __future__ import annotations

import numpy as np

from etude.core.seeds import stream

_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, name: str, draw: int, indices: np.ndarray, count: int) -> np.ndarray:
    """Return numbers from 0 to below 1, evenly spread: float64 [B, count].

    Each is a hash of its address by the mixing function of SplitMix64 (Steele, Lea and Flood 2014, section 4), so that
    a batch of any samples costs a few operations on whole arrays, and is the same on every machine.

    Args:
        seed: other seeds give other numbers.
        name: of the use, so that two uses of one sample are independent.
        draw: number of the draw.
        indices: [B] numbers of the samples.
        count: how many for each.
    """
    key = np.uint64(stream(seed, name, draw))
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64
        rows = _mixed(key + _STEP * (np.asarray(indices).astype(np.uint64) + np.uint64(1)))
        found = _mixed(rows[:, None] + _STEP * np.arange(1, count + 1, dtype=np.uint64))
    return (found >> np.uint64(11)) * 2.0**-53


def below(bounds: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 to below each bound, from numbers of `uniform`: int64."""
    return (numbers * bounds).astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
