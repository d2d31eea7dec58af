"""Whether steps with a cache give what attention over the whole text gives at once."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Step through texts from an empty cache; ask for the cache first, then for what comes out, then for gradients."""
    for batch in (1, exam.random.randint(2, 4)):
        length, width, inner = exam.sizes(3, least=3)
        weights = [exam.normal(width, inner, scale=1.2 * width**-0.5) for _ in range(3)]
        W_Q, W_K, W_V = weights
        W_O = exam.normal(inner, width, scale=inner**-0.5)
        text = exam.normal(batch, length, width)
        want = _whole(text, W_Q, W_K, W_V, W_O)
        keys = values = torch.zeros(batch, 0, inner)
        outs, mistakes = [], []
        for t in range(length):
            x = text[:, t]
            got = theirs.step(x, W_Q, W_K, W_V, W_O, keys, values)
            exam.ask(
                isinstance(got, tuple | list) and len(got) == 3,
                "step has to return three things: what comes out, the keys and the values",
            )
            out, new_keys, new_values = got
            _cache(exam, new_keys, keys, x, "keys", W_K, {"W_Q": W_Q, "W_V": W_V})
            _cache(exam, new_values, values, x, "values", W_V, {"W_Q": W_Q, "W_K": W_K})
            exam.ask(
                not isinstance(out, Tensor) or out.shape != (batch, inner),
                "what comes out has K entries, not D: what is gathered is to be multiplied by W_O",
            )
            exam.shaped(out, (batch, width), "what comes out", ("text", "dimension"))
            outs.append(out)
            mistakes.append(_mistakes(x, W_Q, W_K, W_V, W_O, new_keys, new_values))
            keys, values = new_keys.detach(), new_values.detach()
        axes = ("later step", "text", "dimension")
        later = {why: torch.stack([each[why] for each in mistakes[1:]]) for why in mistakes[0]}
        exam.same(
            torch.stack(outs[1:]),
            want[:, 1:].transpose(0, 1),
            "what comes out after the first step",
            unless=later,
            axes=axes,
        )
        exam.same(outs[0], want[:, 0], "what comes out at position 0, where the cache is empty")
    width, inner = exam.sizes(2, least=3)
    maps = {name: exam.normal(width, inner, scale=width**-0.5) for name in ("W_Q", "W_K", "W_V")}
    past = {name: exam.normal(2, 3, inner) for name in ("keys", "values")}
    given = {"x": exam.normal(2, width), **maps, "W_O": exam.normal(inner, width), **past}
    exam.gradients(lambda *inputs: theirs.step(*inputs)[0], _step, given, "what comes out")


def _cache(
    exam: Exam, got: Tensor, before: Tensor, x: Tensor, what: str, weight: Tensor, others: dict[str, Tensor]
) -> None:
    """Ask that a cache is the one before with one entry more."""
    batch, length, inner = before.shape
    exam.ask(
        not isinstance(got, Tensor) or got.shape != before.shape,
        f"the {what} returned are no more than those given, {length}: the newest position's are to be kept for the next"
        " step",
    )
    exam.shaped(got, (batch, length + 1, inner), f"the {what} returned", ("text", "position", "dimension"))
    want = torch.cat([before, (x @ weight)[:, None]], dim=1)
    mistakes = {
        f"the newest {what} stand first: positions are in order, oldest first": want.roll(1, dims=1),
        **{
            f"the newest of the {what} are made with {name}": torch.cat([before, (x @ other)[:, None]], dim=1)
            for name, other in others.items()
        },
    }
    exam.same(got, want, f"the {what} returned", unless=mistakes, axes=("text", "position", "dimension"))


def _mistakes(
    x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, keys: Tensor, values: Tensor
) -> dict[str, Tensor]:
    """Return what known mistakes come to, given the right cache."""
    query, inner = (x @ W_Q)[:, None], keys.shape[-1]

    def attend(k: Tensor, v: Tensor, scale: float) -> Tensor:
        return scaled_dot_product_attention(query, k, v, scale=scale)[:, 0] @ W_O

    scale = inner**-0.5
    scores = (query @ keys.transpose(1, 2))[:, 0] * scale
    return {
        "the newest position does not attend to itself: its own key and value are among those that it sees": (
            attend(keys[:, :-1], values[:, :-1], scale)
        ),
        "it attends to itself alone: the past in the cache is not seen": attend(keys[:, -1:], values[:, -1:], scale),
        "the scores are not divided by sqrt(K)": attend(keys, values, 1.0),
        "the scores are divided by sqrt(T + 1): it is sqrt(K), the length of the vectors that are multiplied": (
            attend(keys, values, keys.shape[1] ** -0.5)
        ),
        "the scores are divided by K, not by its root": attend(keys, values, 1 / inner),
        "the scores are divided by sqrt(D): it is sqrt(K), the length of the vectors that are multiplied": (
            attend(keys, values, len(W_Q) ** -0.5)
        ),
        "the shares are not of the positions: the softmax runs over the texts": (
            (torch.softmax(scores, dim=0)[:, None] @ values)[:, 0] @ W_O
        ),
        "the scores are weights as they are: there is a softmax over the positions": (
            (scores[:, None] @ values)[:, 0] @ W_O
        ),
        "all positions count the same: the shares are a softmax of the scores": values.mean(1) @ W_O,
    }


def _whole(text: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    """Return causal attention over whole texts."""
    return scaled_dot_product_attention(text @ W_Q, text @ W_K, text @ W_V, is_causal=True) @ W_O


def _step(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return what comes out, by sums over positions one at a time."""
    query, every_key = x @ W_Q, [*keys.unbind(1), x @ W_K]
    powers = [((query * key).sum(-1, keepdim=True) / math.sqrt(query.shape[-1])).exp() for key in every_key]
    gathered = sum(power * value for power, value in zip(powers, [*values.unbind(1), x @ W_V], strict=True))
    return gathered / torch.stack(powers).sum(0) @ W_O
