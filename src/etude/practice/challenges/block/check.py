"""Whether a block reads, adds and carries on in the right order."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from etude.practice.differences import close
from etude.practice.exam import TOLERANCE, Exam

Part = Callable[[Tensor], Tensor]
NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


def check(theirs: Any, exam: Exam) -> None:
    """Ask with PyTorch's attention and feed-forward network, with parts that write nothing, and for the gradient."""
    B, T, heads, K, hidden = exam.sizes(5)
    D = heads * K
    layer = _layer(exam, D, heads, hidden)
    attention, feed_forward = _parts(layer)
    for many, length in ((B, T), (1, 1)):
        x, norms = exam.normal(many, length, D, scale=1.5) + 0.5, _norms(exam, D)
        calls: list[str] = []
        got = theirs.block(x, _counted(attention, calls), _counted(feed_forward, calls), *norms)
        exam.shaped(got, x.shape, "your stream after the layer", ("text", "position", "width"))
        exam.same(
            got,
            _layer_of(layer, x, *norms),
            "your stream after the layer",
            unless=_mistakes(x, attention, feed_forward, norms) | _empty(theirs, x, norms, got),
        )
        exam.ask(len(calls) == 2, f"each part is called once; your block calls them {len(calls)} times in all")
    x, norms = exam.normal(B, T, D), _norms(exam, D)
    exam.same(theirs.block(x, torch.zeros_like, torch.zeros_like, *norms), x, "your stream after empty parts")
    exam.gradients(
        lambda *given: theirs.block(given[0], attention, feed_forward, *given[1:]),
        lambda *given: _layer_of(layer, *given),
        dict(zip(("x", "gain_1", "bias_1", "gain_2", "bias_2"), (x, *norms), strict=True)),
        "your block",
    )


def _layer(exam: Exam, D: int, heads: int, hidden: int) -> nn.TransformerEncoderLayer:
    """Return PyTorch's pre-norm layer, with fresh weights."""
    layer = nn.TransformerEncoderLayer(
        D, heads, hidden, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=True
    )
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(exam.normal(*weight.shape, scale=weight.shape[-1] ** -0.5))
    return layer.requires_grad_(False)


def _parts(layer: nn.TransformerEncoderLayer) -> tuple[Part, Part]:
    """Return a layer's two parts as functions."""

    def attention(x: Tensor) -> Tensor:
        return layer.self_attn(x, x, x, need_weights=False)[0]

    def feed_forward(x: Tensor) -> Tensor:
        return layer.linear2(F.gelu(layer.linear1(x)))

    return attention, feed_forward


def _layer_of(layer: nn.TransformerEncoderLayer, x: Tensor, *norms: Tensor) -> Tensor:
    """Return what the layer makes of a stream with these gains and biases."""
    return functional_call(layer, dict(zip(NORMS, norms, strict=True)), (x,))


def _norms(exam: Exam, D: int) -> list[Tensor]:
    return [exam.normal(D) + 1.5, exam.normal(D), exam.normal(D) - 1.5, exam.normal(D)]


def _counted(part: Part, calls: list[str]) -> Part:
    def counted(x: Tensor) -> Tensor:
        calls.append("called")
        return part(x)

    return counted


def _empty(theirs: Any, x: Tensor, norms: list[Tensor], got: Tensor) -> dict[str, Tensor]:
    """Return what is to be said of a block that changes the stream where nothing is written to it."""
    left = theirs.block(x, torch.zeros_like, torch.zeros_like, *norms)
    if close(left, x, TOLERANCE):
        return {}
    return {"your block changes the stream even where neither part writes anything: x runs straight through": got}


def _mistakes(x: Tensor, attention: Part, feed_forward: Part, norms: list[Tensor]) -> dict[str, Tensor]:
    """Return what the usual mistakes give."""
    shape = x.shape[-1:]

    def first(y: Tensor) -> Tensor:
        return F.layer_norm(y, shape, norms[0], norms[1])

    def second(y: Tensor) -> Tensor:
        return F.layer_norm(y, shape, norms[2], norms[3])

    attended = attention(first(x))
    m, after = x + attended, first(x + attention(x))
    turned = x + feed_forward(first(x))
    turned_too, normed = x + feed_forward(second(x)), first(x) + attended
    return {
        "this is post-norm, norm(x + part(x)): in pre-norm the part reads a normalised copy, and the sum is left as it"
        " is": second(after + feed_forward(after)),
        "the stream is not added back after attention: what attention writes is added to x": (
            attended + feed_forward(second(attended))
        ),
        "the stream is not added back after the feed-forward network: what it writes is added to m": (
            feed_forward(second(m))
        ),
        "no part's output is added to the stream: both are added, one after the other": feed_forward(second(attended)),
        "the feed-forward network reads x, as attention does: it reads m, to which attention has written": (
            m + feed_forward(second(x))
        ),
        "what the feed-forward network writes is added to x, and what attention wrote is lost": (
            x + feed_forward(second(m))
        ),
        "the second norm is made with gain_1 and bias_1: it has its own, gain_2 and bias_2": m + feed_forward(first(m)),
        "the two norms change places: the first is attention's": _swapped(x, attention, feed_forward, first, second),
        "the feed-forward network reads the stream without its norm": m + feed_forward(m),
        "attention reads the stream without its norm": (x + attention(x) + feed_forward(second(x + attention(x)))),
        "what attention writes is added to the normalised stream: it is added to x itself, and the norm is of a copy": (
            normed + feed_forward(second(normed))
        ),
        "what each part writes is added to the normalised stream: it is added to the stream itself": (
            second(normed) + feed_forward(second(normed))
        ),
        "what the feed-forward network writes is added to the normalised stream: it is added to m itself": (
            second(m) + feed_forward(second(m))
        ),
        "the feed-forward network comes before attention: attention is first": turned + attention(second(turned)),
        "the feed-forward network comes before attention, each with its own norm: attention is first": (
            turned_too + attention(first(turned_too))
        ),
    }


def _swapped(x: Tensor, attention: Part, feed_forward: Part, first: Part, second: Part) -> Tensor:
    m = x + attention(second(x))
    return m + feed_forward(first(m))
