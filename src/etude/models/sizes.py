"""Parameters and FLOPs by arithmetic, before anything is built.

The convention for FLOPs: the matrix products of a forward pass are counted, exactly, a multiplication and an addition
as two. Attention counts the whole square of scores, the masked half too (so do Hoffmann et al. 2022, appendix F, and
PyTorch's `FlopCounterMode`). The unembedding counts; looking up an embedding, norms, softmax and activations do not.
A backward pass costs twice the forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etude.models.architectures.base import Architecture


def embeddings(spec: Architecture, vocabulary: int) -> int:
    """Return the parameters of token and position embeddings and of the unembedding. Tied ones are counted once."""
    return token_embeddings(spec, vocabulary) + (0 if spec.tied else spec.width * vocabulary)


def token_embeddings(spec: Architecture, vocabulary: int) -> int:
    """Return the parameters of token and position embeddings."""
    return spec.width * (vocabulary + (spec.context if spec.positions == "learned" else 0))


def layer(spec: Architecture, cross: bool = False) -> int:
    """Return the parameters of one block, with cross-attention or without."""
    held = spec.attention.parameters(spec.attention_shape()) + norm(spec)
    if cross:
        held += spec.attention.parameters(spec.attention_shape(cross=True)) + norm(spec)
    return held if spec.attention_only else held + feedforward(spec) + norm(spec)


def norm(spec: Architecture) -> int:
    """Return the parameters of one norm."""
    vectors = {"none": 0, "rms": 1, "layer": 2 if spec.biases else 1}
    return vectors[spec.norm] * spec.width


def final_norm(spec: Architecture) -> int:
    """Return the parameters of the norm at the end of a stack, which pre-norm has."""
    return norm(spec) if spec.norm_at == "pre" else 0


def feedforward(spec: Architecture) -> int:
    """Return the parameters of one feed-forward network."""
    maps_in = 2 if spec.gated else 1
    biases = maps_in * spec.feedforward + spec.width if spec.biases else 0
    return (maps_in + 1) * spec.width * spec.feedforward + biases


def layer_flops(spec: Architecture, context: int, source: int = 0) -> int:
    """Return the forward FLOPs of one block for one token of a text of `context` tokens.

    Args:
        spec: the architecture.
        context: length of the text.
        source: length of the source that the block attends to; 0 is a block without cross-attention.
    """
    flops = spec.attention.flops(spec.attention_shape(), context)
    if source:
        flops += spec.attention.flops(spec.attention_shape(cross=True), context, source)
    return flops + 2 * (3 if spec.gated else 2) * spec.width * spec.feedforward
