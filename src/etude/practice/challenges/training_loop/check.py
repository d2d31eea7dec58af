"""Whether a training loop does each thing once for each batch, and in the right order."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from etude.practice.exam import Exam

RATE = 0.5

MISTAKES = {
    "gradients of earlier batches are added to this one's: they have to be zeroed before each backward": "no zero",
    "gradients from before the loop are added to the first batch's: they have to be zeroed before it too": "left over",
    "the gradient is clipped entry by entry: its direction changes. Clip the norm of all entries together": "value",
    "each parameter's gradient is clipped by itself: the norm is over all parameters together": "each",
    "the gradient is of the sum over the targets: the loss is their mean": "sum",
    "a gradient shorter than the limit is made longer: it is left as it is": "always",
}


class _Model(nn.Module):
    """A small model that notes in which mode it is run."""

    def __init__(self, exam: Exam, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(exam.normal(vocabulary, width))
        self.weight = nn.Parameter(exam.normal(width, vocabulary))
        self.bias = nn.Parameter(exam.normal(vocabulary))
        self.modes: list[bool] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.embedding[tokens].tanh() @ self.weight + self.bias


class _Optimiser(torch.optim.SGD):
    """Plain gradient descent that notes the gradients of each step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=RATE)
        self.seen: list[list[Tensor]] = []

    def step(self, closure: Any = None) -> None:
        held = self.param_groups[0]["params"]
        self.seen.append([torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in held])
        super().step(closure)


def check(theirs: Any, exam: Exam) -> None:
    """Ask with a limit that the first gradient passes and one that none does, and watch each step."""
    vocabulary, width, batch, length = exam.sizes(4, least=3)
    batches = [(exam.integers(vocabulary, batch, length), exam.integers(vocabulary, batch, length)) for _ in range(4)]
    start = _Model(exam, vocabulary, width)
    first = _norm(_run(start, batches, 1e9)[1][0])
    for limit, unit in ((0.05 * first, 0.05 * first), (1000.0 * first, first)):
        _watch(theirs, exam, start, batches, limit, unit)
    exam.same(theirs.train(copy.deepcopy(start), [], _Optimiser(start), 1.0), [], "train(model, [], optimiser, 1.0)")


def _watch(
    theirs: Any, exam: Exam, start: _Model, batches: list[tuple[Tensor, Tensor]], limit: float, unit: float
) -> None:
    model = copy.deepcopy(start).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser = _Optimiser(model)
    got = theirs.train(model, batches, optimiser, limit)
    exam.ask(isinstance(got, list), f"train returns a {type(got).__name__}: give a list with the loss of each batch")
    exam.ask(
        not any(isinstance(each, Tensor) for each in got),
        "an entry of the losses is a tensor, which keeps the graph of its step in memory: give a Python number",
    )
    count = len(batches)
    exam.ask(len(got) == count, f"for {count} batches there are {len(got)} losses: give one for each")
    exam.ask(bool(optimiser.seen), "the optimiser never makes a step")
    exam.ask(
        len(optimiser.seen) == count,
        f"for {count} batches the number of steps of the optimiser is {len(optimiser.seen)}: one follows each backward",
    )
    exam.ask(all(model.modes), "the model is run in evaluation mode, in which dropout and the like are off")
    exam.ask(
        any(bool(each.any()) for each in optimiser.seen[0]),
        "at the step every gradient is 0: they were zeroed between the backward and the step",
    )
    losses, steps, _ = _run(start, batches, limit)
    exam.same(
        got[0],
        losses[0],
        "the first loss",
        unless={
            "the loss is the sum over the targets: give their mean": losses[0] * batches[0][0].numel(),
            "a batch's loss is taken after its step: give the one before it": _loss(model, start, optimiser, batches),
        },
    )
    unless = {why: _run(start, batches, limit, wrong)[1] for why, wrong in MISTAKES.items()}
    clipped_late = all(_norm([p.grad]) <= limit * 1.001 for p in model.parameters() if p.grad is not None)
    late = "the gradient is clipped after the step, which has already used it: clip between backward and step"
    never = "the gradient is not clipped: at the step it is longer than the limit"
    unless[late if clipped_late else never] = _run(start, batches, limit, "no clip")[1]
    scaled = {why: _over(held, unit) for why, held in unless.items()}
    exam.same(
        _over(optimiser.seen, unit),
        _over(steps, unit),
        f"the list of gradients at each step, over {unit:.4g},",
        unless=scaled,
        tolerance=1e-3,
    )
    exam.same(got, losses, "your losses", tolerance=1e-3)


def _loss(model: _Model, start: _Model, optimiser: _Optimiser, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Return the first batch's loss after the step that was seen."""
    first = {
        name: value.detach() - RATE * grad
        for (name, value), grad in zip(start.named_parameters(), optimiser.seen[0], strict=True)
    }
    return float(_mean(model, first, *batches[0]))


def _mean(model: _Model, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss by logarithms taken at the targets."""
    logits = functional_call(model, parameters, (inputs,))
    return (logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]).mean()


def _over(steps: list[list[Tensor]], unit: float) -> list[list[Tensor]]:
    """Divide gradients by a length, so that a tolerance means the same whatever they are."""
    return [[each / unit for each in gradients] for gradients in steps]


def _norm(gradients: list[Tensor]) -> float:
    return float(torch.cat([each.flatten() for each in gradients]).norm())


def _run(
    start: _Model, batches: list[tuple[Tensor, Tensor]], limit: float, wrong: str = ""
) -> tuple[list[float], list[list[Tensor]], dict[str, Tensor]]:
    """Train without an optimiser, and return losses, the gradients of each step, and the parameters after the last."""
    model = copy.deepcopy(start)
    parameters = {name: value.detach().clone() for name, value in start.named_parameters()}
    held = [torch.ones_like(value) * (wrong in ("no zero", "left over")) for value in parameters.values()]
    losses, steps = [], []
    for inputs, targets in batches:
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        loss = _mean(model, leaves, inputs, targets)
        losses.append(float(loss.detach()))
        new = torch.autograd.grad(loss, list(leaves.values()))
        if wrong == "sum":
            new = [each * inputs.numel() for each in new]
        gradients = [one + other for one, other in zip(held, new, strict=True)]
        scale = min(1.0, limit / _norm(gradients))
        if wrong == "value":
            gradients = [each.clamp(-limit, limit) for each in gradients]
        elif wrong == "each":
            gradients = [each * min(1.0, limit / _norm([each])) for each in gradients]
        elif wrong != "no clip":
            gradients = [each * (limit / _norm(gradients) if wrong == "always" else scale) for each in gradients]
        steps.append(gradients)
        held = gradients if wrong == "no zero" else [torch.zeros_like(each) for each in gradients]
        with torch.no_grad():
            parameters = {
                name: value.detach() - RATE * each
                for (name, value), each in zip(parameters.items(), gradients, strict=True)
            }
    return losses, steps, parameters
