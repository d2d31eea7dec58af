"""Parameters and FLOPs by arithmetic, against the built model, PyTorch's counter and a count by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from etude.models.architectures.decoder import Decoder

SEED = Decoder(
    layers=2,
    width=768,
    heads=12,
    feedforward=3072,
    context=20,
    positions="sinusoidal",
    norm_at="post",
    activation="relu",
    scaled_embeddings=True,
    dropout=0.1,
)
"""The original experiment's shape. Its vocabulary is GPT-2's."""

GPT2 = Decoder(layers=12, width=768, heads=12, feedforward=3072, context=1024, activation="gelu-tanh", tied=True)


def built(spec: Decoder, vocabulary: int) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in spec.build(vocabulary).parameters())


def test_arithmetic_counts_what_is_built(spec: Decoder) -> None:
    assert spec.parameters(31) == built(spec, 31)


def test_the_seed_experiments_model_by_hand() -> None:
    embedding = 50_257 * 768  # 38,597,376; the sinusoids are not learned
    attention = 4 * (768 * 768 + 768)  # 2,362,368: W_Q, W_K, W_V and W_O with their biases
    feed_forward = 768 * 3072 + 3072 + 3072 * 768 + 768  # 4,722,432
    norms = 2 * (768 + 768)  # 3,072
    layer = attention + feed_forward + norms
    unembedding = 768 * 50_257  # untied, no bias
    assert embedding + 2 * layer + unembedding == 91_370_496
    assert SEED.parameters(50_257) == built(SEED, 50_257) == 91_370_496


def test_gpt2_has_its_published_size() -> None:
    assert GPT2.parameters(50_257) == built(GPT2, 50_257) == 124_439_808


@pytest.mark.parametrize("context", [1, 8])
def test_flops_are_those_of_the_matrix_products(spec: Decoder, context: int) -> None:
    model = spec.build(31).eval()
    # The counter does not know the CPU's fused kernel; the plain one is made of products that it does know.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(3, context, dtype=torch.long))
    assert counter.get_total_flops() == spec.flops_per_token(31, context) * 3 * context


def test_flops_take_the_longest_text_unless_told() -> None:
    assert GPT2.flops_per_token(50_257) == GPT2.flops_per_token(50_257, 1024) > GPT2.flops_per_token(50_257, 1)
