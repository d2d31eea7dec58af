"""Whether an architecture can be said in a format: the first field that it cannot, named."""

from __future__ import annotations

from typing import Any

from etude.core.errors import UsageError
from etude.core.spec import label
from etude.core.values import written
from etude.models.architectures.base import Architecture

ACTIVATION_NAMES = {"gelu": "gelu", "gelu-tanh": "gelu_new", "relu": "relu", "silu": "silu"}
"""What transformers calls our activations."""


def require(spec: Architecture, target: str, kind: type[Architecture], **wanted: Any) -> None:
    """Raise UsageError where an architecture differs from what a format can say.

    Args:
        spec: the architecture.
        target: the class that it would be, as in `GPT2LMHeadModel`.
        kind: which architectures the format holds.
        wanted: fields with the value, or the tuple of values, that they must have.
    """
    if not isinstance(spec, kind):
        raise UsageError(f"a model of kind {label(type(spec))} cannot be a {target}")
    if spec.attention_only:
        raise UsageError(f"attention-only (feedforward = 0) cannot be a {target}")
    for name, value in {"mup_base": 0, "scaled_embeddings": False, **wanted}.items():
        choices = value if isinstance(value, tuple) else (value,)
        if (held := getattr(spec, name)) not in choices:
            raise UsageError(
                f"{name} = {written(held)} cannot be a {target}, which has {' or '.join(map(written, choices))}"
            )


def require_attention(spec: Architecture, target: str, *names: str) -> None:
    """Raise UsageError where attention is none of those that a format can say."""
    if spec.attention.name not in names:
        raise UsageError(f"attention = {spec.attention.name} cannot be a {target}, which has {' or '.join(names)}")


def own_keys(spec: Architecture) -> tuple[int, int]:
    """Return the values of `kv_heads` under which every head has its own keys and values."""
    return (0, spec.heads)
