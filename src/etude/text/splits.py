"""The three splits, and how a text finds its own: by a hash of what it is, the same on every machine."""

from __future__ import annotations

import hashlib

from etude.core.errors import unknown

SPLITS = ("train", "valid", "test")

TRAIN_SHARE, VALID_SHARE = 0.90, 0.05
"""Shares of the splits by number of documents (or by length, for one long text); `test` has what is left."""


def check_split(split: str) -> str:
    """Return the split's name.

    Raises:
        UsageError: there is no such split.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split


def fraction(key: str | bytes) -> float:
    """Return a number in [0, 1) that depends on the key alone and is spread evenly over keys."""
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big") / 2**48


def split_of(share: float) -> str:
    """Return the split that a number in [0, 1) falls in: train below 0.90, valid below 0.95, then test."""
    if share < TRAIN_SHARE:
        return "train"
    return "valid" if share < TRAIN_SHARE + VALID_SHARE else "test"
