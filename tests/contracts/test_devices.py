"""Sums are in float64, which MPS has not: nothing becomes a double before it is on the CPU.

There is no such device here, so a mode plays one: what comes of a model's weights, or of logits that are marked, counts
as being there until it is moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from etude.compress.codec import Codec, Factored, Linear
from etude.compress.compressor import Compressor
from etude.compress.linear import constant
from etude.compress.score import Host, harm
from etude.evals.behaviours import head_scores, repeats
from etude.evals.loss import tally
from etude.models.architectures.decoder import Decoder
from etude.models.transformer import Transformer
from etude.text.batches import Batch, Examples

MARK = "_is_far"


def far(tensor: Tensor) -> Tensor:
    setattr(tensor, MARK, True)
    return tensor


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


class NoDoubles(TorchFunctionMode):
    """Refuses float64 of whatever comes from a marked tensor, unless `.cpu()` was called before."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_far = any(getattr(tensor, MARK, False) for tensor in tensors([*args, *kwargs.values()]))
        if is_far and (func is Tensor.double or kwargs.get("dtype") is torch.float64):
            raise TypeError("the MPS framework doesn't support float64")
        found = func(*args, **kwargs)
        if func is Tensor.cpu:
            return found.clone() if is_far else found
        for tensor in tensors(found) if is_far else ():
            far(tensor)
        return found


@pytest.fixture
def model() -> Transformer:
    made = Decoder(layers=1, width=8, heads=2, feedforward=0, context=12).build(20).eval()
    for weight in made.parameters():
        far(weight)
    return made


class Drawn:
    """Samples of random tokens."""

    context, vocabulary = 12, 20

    def __len__(self) -> int:
        return 4

    def batch(self, indices: np.ndarray, draw: int = 0) -> Batch:
        tokens = np.random.default_rng(0).integers(20, size=(4, 13))[indices]
        return Batch(tokens[:, :-1], tokens[:, 1:])


def test_the_mode_refuses_what_the_device_would() -> None:
    with NoDoubles():
        x = far(torch.ones(2))
        with pytest.raises(TypeError, match="float64"):
            (x + 1).double()
        assert (x + 1).cpu().double().sum() == 4


def test_a_tally() -> None:
    with NoDoubles():
        found = tally(far(torch.randn(2, 3, 5)), far(torch.randint(5, (2, 3))))
    assert found.count.tolist() == [3, 3]


def test_heads(model: Transformer) -> None:
    with NoDoubles():
        found = head_scores(model, repeats(3, 12, 20, 0))
    assert np.isfinite(found.induction).all()


@pytest.mark.parametrize(
    ("site", "codec"),
    [
        ("L0.attn.out", constant(torch.zeros(8))),
        ("L0.attn.out", Linear(torch.zeros(8), torch.eye(8)[:, :2], torch.eye(8)[:2])),
        ("L0.attn.W_O", Factored(torch.zeros(8, 1), torch.zeros(1, 8))),
    ],
)
def test_harm(site: str, codec: Codec, model: Transformer) -> None:
    with NoDoubles():
        found = harm(Host(model, cast(Examples, Drawn()), np.arange(4)), Compressor.of(site, codec)).to_json()
    assert found["tokens"] == 48
