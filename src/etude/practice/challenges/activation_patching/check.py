"""Whether each place of the clean stream is patched into the corrupted run, and its effect is normalised."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

Metric = Callable[[Tensor], Tensor]
AXES = ("layer", "position")


class _Model:
    """A small causal network of random weights, whose layers move vectors forward."""

    def __init__(self, exam: Exam, layers: int, length: int, width: int, vocabulary: int) -> None:
        self.embedding = exam.normal(vocabulary, width)
        moves = exam.uniform(layers, length, length, low=0.2, high=1.0).tril()
        self.moves = moves / moves.sum(-1, keepdim=True)
        self.weights = exam.normal(layers, width, width, scale=2 * width**-0.5)
        self.unembedding = exam.normal(width, vocabulary)

    def layer(self, number: int, x: Tensor) -> Tensor:
        """Return the stream behind a layer."""
        return x + (self.moves[number] @ x @ self.weights[number]).tanh()

    def __call__(self, tokens: Tensor, patch: tuple[int, int, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x, stream = self.embedding[tokens], []
        for number in range(len(self.weights)):
            if patch is not None and patch[0] == number:
                x = x.clone()
                x[patch[1]] = patch[2]
            stream.append(x)
            x = self.layer(number, x)
        return x @ self.unembedding, torch.stack(stream)

    def resumed(self, number: int, x: Tensor) -> Tensor:
        """Return the logits of a stream before some layer."""
        for later in range(number, len(self.weights)):
            x = self.layer(later, x)
        return x @ self.unembedding


def check(theirs: Any, exam: Exam) -> None:
    """Ask of models of several layers and positions, and of one layer and one position."""
    L, T = exam.sizes(2, least=3, most=6)
    for layers, length in ((L, T), (1, 1), (2, 4)):
        V = length + layers + 4
        run = _Model(exam, layers, length, 6, V)
        clean = exam.integers(V, length)
        changed = exam.random.randrange(max(1, length - 1))  # what is last is moved nowhere
        corrupted = clean.clone()
        corrupted[changed] = (clean[changed] + 1 + exam.random.randrange(V - 1)) % V
        apart = (run(clean)[0] - run(corrupted)[0])[-1]
        right, wrong = int(apart.argmax()), int(apart.argmin())
        got = theirs.patch_effects(run, clean, corrupted, right, wrong)
        exam.ask(
            not isinstance(got, Tensor) or got.shape != (length, layers) or length == layers,
            f"your table of effects has shape [{length}, {layers}]: layers are its rows, so it should be [{layers},"
            f" {length}]",
        )
        exam.shaped(got, (layers, length), "your table of effects", axes=("L", "T"))
        want = _normalised(run, clean, corrupted, _difference(right, wrong))
        unless = _mistakes(run, clean, corrupted, right, wrong)
        exam.same(got, want, "your table of effects", unless=unless, axes=AXES, tolerance=1e-3)


def _difference(right: int, wrong: int) -> Metric:
    return lambda logits: logits[-1, right] - logits[-1, wrong]


def _patched(run: _Model, base: Tensor, source: Tensor, metric: Metric) -> Tensor:
    """Return the metric with each vector of one text's stream in the other's, resumed from there."""
    (_, into), (_, other) = run(base), run(source)
    table = torch.zeros(into.shape[:2])
    for layer in range(len(into)):
        for t in range(into.shape[1]):
            there = (torch.arange(into.shape[1]) == t)[:, None]
            table[layer, t] = metric(run.resumed(layer, torch.where(there, other[layer], into[layer])))
    return table


def _normalised(run: _Model, clean: Tensor, corrupted: Tensor, metric: Metric) -> Tensor:
    start, goal = metric(run(corrupted)[0]), metric(run(clean)[0])
    return (_patched(run, corrupted, clean, metric) - start) / (goal - start)


def _mistakes(run: _Model, clean: Tensor, corrupted: Tensor, right: int, wrong: int) -> dict[str, Tensor]:
    """Return what known mistakes give, by what is said of them."""
    metric = _difference(right, wrong)
    start, goal = metric(run(corrupted)[0]), metric(run(clean)[0])
    effects = _normalised(run, clean, corrupted, metric)
    turned = _patched(run, clean, corrupted, metric)
    said = {
        "the corrupted stream is patched into the clean run: it is the clean vector that goes into the corrupted run": (
            (turned - start) / (goal - start)
        ),
        "the corrupted stream is patched into the clean run, and its damage measured: it is the clean vector that goes"
        " into the corrupted run": (goal - turned) / (goal - start),
        "the effects are not normalised: this is the patched run's difference of logits itself": (
            effects * (goal - start) + start
        ),
        "the effects are not divided by what the clean run has above the corrupted one": effects * (goal - start),
        "the corrupted run's metric is not taken away above: a patch that changes nothing has to have effect 0": (
            effects + start / (goal - start)
        ),
        "the scale is turned: 1 is to restore the clean answer and 0 to change nothing": 1 - effects,
        "the effects have the wrong sign: the clean run is above, the corrupted one below": -effects,
        "no patch has any effect: the corrupted run's own vectors are put back": torch.zeros_like(effects),
        "every patch has effect 1: the clean run's own vectors are put back": torch.ones_like(effects),
        "this measures the logit of `right` alone: that of `wrong` is to be taken away": (
            _normalised(run, clean, corrupted, lambda logits: logits[-1, right])
        ),
        "this measures probabilities: the metric is a difference of logits": (
            _normalised(run, clean, corrupted, lambda logits: metric(logits.softmax(-1)))
        ),
    }
    if len(clean) > 1:
        said["the metric is a mean over positions: the answer is at the last one alone"] = _normalised(
            run, clean, corrupted, lambda logits: metric(logits.mean(0, keepdim=True))
        )
        said["the metric is taken at position 0: the answer is at the last one"] = _normalised(
            run, clean, corrupted, lambda logits: metric(logits[:1])
        )
    return said
