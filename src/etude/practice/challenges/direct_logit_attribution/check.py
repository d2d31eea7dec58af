"""Whether contributions of components are those of the model with its norm held, and add up to the logits."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, shown
from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask of several components, of one alone, and of one that wrote a constant."""
    C, T, V = exam.sizes(3, least=3)
    D, epsilon = 11, 0.05
    for count, positions in ((C, T), (1, 1), (C, 1)):
        components = exam.normal(count, positions, D) + exam.normal(count, positions, 1, scale=2.0)
        gain, W_U = exam.uniform(D, low=0.5, high=2.0), exam.normal(D, V)
        right, wrong = exam.permutation(V)[:2].tolist()
        got = theirs.attribute(components, gain, W_U, right, wrong, epsilon)
        exam.shaped(got, (count, positions), "your table of contributions", axes=("C", "T"))
        want = _held(components, gain, W_U[:, right] - W_U[:, wrong], epsilon)
        unless = _mistakes(components, gain, W_U, right, wrong, epsilon)
        logits = torch.nn.functional.layer_norm(components.sum(0), (D,), gain, None, epsilon) @ W_U
        total, whole = got.sum(0), logits[:, right] - logits[:, wrong]
        if not close(total, whole, 1e-3):
            at = int((total - whole).abs().argmax())
            unless[
                f"the contributions at position {at} add up to {shown(total[at])}, and the difference of the logits"
                f" there is {shown(whole[at])}"
            ] = got
        axes = ("component", "position")
        exam.same(got, want, "your table of contributions", unless=unless, axes=axes, tolerance=1e-3)
        level = torch.cat((components, exam.normal(1, positions, 1).expand(1, positions, D)))
        last = theirs.attribute(level, gain, W_U, right, wrong, epsilon)[-1]
        zero = torch.zeros(positions)
        exam.same(last, zero, "the contribution of a component that adds a constant to all entries", tolerance=1e-3)


def _held(components: Tensor, gain: Tensor, direction: Tensor, epsilon: float) -> Tensor:
    """Return the contributions as differences: what is lost where one component is left out, with the norm held."""
    stream = components.double().sum(0)
    deviation = (stream.var(-1, correction=0, keepdim=True) + epsilon).sqrt()

    def read(x: Tensor) -> Tensor:
        return ((x - x.mean(-1, keepdim=True)) / deviation * gain.double()) @ direction.double()

    return torch.stack([read(stream) - read(stream - each) for each in components.double()]).float()


def _mistakes(
    components: Tensor, gain: Tensor, W_U: Tensor, right: int, wrong: int, epsilon: float
) -> dict[str, Tensor]:
    """Return what known mistakes give, by what is said of them."""
    direction, ones = W_U[:, right] - W_U[:, wrong], torch.ones_like(gain)
    want = _held(components, gain, direction, epsilon)
    stream = components.sum(0)
    deviation = (stream.var(-1, correction=0) + epsilon).sqrt()
    own = (components.var(-1, correction=0) + epsilon).sqrt()
    mean = components.mean(-1) * (gain @ direction) / deviation
    return {
        "each component is divided by its own deviation: the model divides their sum, so all are divided by the"
        " deviation of the stream": want * deviation / own,
        "the mean of each component's entries is not taken away: the norm centres before it divides": want + mean,
        "the gain of the final norm is missing": _held(components, ones, direction, epsilon),
        "the division by the deviation of the stream is missing": want * deviation,
        "the sign is turned: it is the logit of `right` less that of `wrong`": -want,
        "this is the logit of `right` alone: that of `wrong` is to be taken away": (
            _held(components, gain, W_U[:, right], epsilon)
        ),
        "the variance is divided by D - 1: a layer norm divides by D": (
            want * deviation / (stream.var(-1) + epsilon).sqrt()
        ),
        "epsilon is missing under the root": want * deviation / stream.std(-1, correction=0),
        "the components are divided by the root mean square of the stream, not by its deviation from the mean": (
            want * deviation / (stream.square().mean(-1) + epsilon).sqrt()
        ),
    }
