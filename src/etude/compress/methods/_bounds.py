"""Bounds of what a method is told."""

from __future__ import annotations

from etude.compress.methods.base import Method
from etude.core.errors import UsageError


def require_least(method: Method, **least: float) -> None:
    """Raise UsageError where a field is less than it may be."""
    for name, bound in least.items():
        if not getattr(method, name) >= bound:
            raise UsageError(f"{method.name}.{name} = {getattr(method, name)} is too small: it is {bound} or more")


def require_over(method: Method, **under: float) -> None:
    """Raise UsageError where a field is not over a bound."""
    for name, bound in under.items():
        if not getattr(method, name) > bound:
            raise UsageError(f"{method.name}.{name} = {getattr(method, name)} is too small: it is over {bound}")


def autoencoder_bytes(width: int, latent: int, hidden: float, beside: int = 0) -> int:
    """Return the bytes of an autoencoder and of the checkpoints that stand while it is trained.

    Args:
        width: D.
        latent: R.
        hidden: width of its hidden layers, as a multiple of D.
        beside: numbers that are trained beside it.
    """
    inner = round(hidden * width) + 1
    held = 2 * (latent + inner + 1) * width + 2 * (inner + 1) * (latent + 1)
    return 4 * (held + 9 * (held + beside))  # itself, and three checkpoints, each with the two moments of Adam


def sparse_bytes(width: int, features: int) -> int:
    """Return the bytes of a sparse codec and of the checkpoints that stand while it is trained.

    Args:
        width: the greater of what it reads and what it writes.
        features: F.
    """
    held = 2 * features * (width + 1) + 2 * width
    return 4 * (held + 9 * held) + 64 * features  # the counts of silence, 8 bytes each, and rates with them
