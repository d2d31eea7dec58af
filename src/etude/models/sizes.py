"""Parameters and FLOPs by arithmetic, before anything is built.

The convention for FLOPs: the matrix products of a forward pass are counted, exactly, a multiplication and an addition
as two. Attention counts the whole square of scores, the masked half too (so do Hoffmann et al. 2022, appendix F, and
PyTorch's `FlopCounterMode`). The unembedding counts; looking up an embedding, norms, softmax and activations do not.
A backward pass costs twice the forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etude.models.decoder import Decoder


def parameters(spec: Decoder, vocabulary: int) -> int:
    """Return how many numbers a decoder learns, embeddings included. Tied embeddings are counted once."""
    positions = spec.context * spec.width if spec.positions == "learned" else 0
    unembedding = 0 if spec.tied else spec.width * vocabulary
    final_norm = norm_parameters(spec) if spec.norm_at == "pre" else 0
    layer = spec.attention.parameters(spec.attention_shape) + norm_parameters(spec)
    if not spec.attention_only:
        layer += feedforward_parameters(spec) + norm_parameters(spec)
    return vocabulary * spec.width + positions + spec.layers * layer + final_norm + unembedding


def norm_parameters(spec: Decoder) -> int:
    """Return the parameters of one norm."""
    vectors = {"none": 0, "rms": 1, "layer": 2 if spec.biases else 1}
    return vectors[spec.norm] * spec.width


def feedforward_parameters(spec: Decoder) -> int:
    """Return the parameters of one feed-forward network."""
    biases = spec.feedforward + spec.width if spec.biases else 0
    return 2 * spec.width * spec.feedforward + biases


def flops_per_token(spec: Decoder, vocabulary: int, context: int) -> int:
    """Return the FLOPs of one token's forward pass in a text of `context` tokens.

    Raises:
        UsageError: the model cannot read so long a text.
    """
    spec.fits(context)
    layer = spec.attention.flops(spec.attention_shape, context) + 2 * 2 * spec.width * spec.feedforward
    return spec.layers * layer + 2 * spec.width * vocabulary
