"""How much each unit matters (a head, a neuron, a number of a weight), so that the others can be pruned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.compress.linear import as_matrix
from etude.compress.material import Material
from etude.compress.pruned import Masked, kept_units
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.loss import Live, batch_for, batches, tally
from etude.evals.recording import as_vectors
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.train.checkpoint import State
from etude.train.loop import advance


@dataclass(frozen=True, eq=False)
class Reader:
    """A model and the windows of the training split on which units are scored."""

    model: Transformer
    examples: Examples
    windows: np.ndarray

    @staticmethod
    def of(material: Material, tokens: int) -> Reader:
        """Return the material's model and about so many tokens of its windows, evenly spread; 0 is all of them.

        Raises:
            UsageError: the material is of numbers alone.
        """
        model, examples, windows = material.model, material.examples, material.windows
        if model is None or examples is None or windows is None:
            raise UsageError("by = gradient or ablation asks a model, and none was given: choose by = magnitude")
        wanted = max(1, min(len(windows), tokens // examples.context)) if tokens else len(windows)
        return Reader(model, examples, windows[np.linspace(0, len(windows) - 1, wanted).round().astype(np.int64)])

    def __iter__(self) -> Iterator[Live]:
        device = next(self.model.parameters()).device
        size = batch_for(self.examples.vocabulary, self.examples.context)
        return batches(self.examples, self.windows, device, size)


@dataclass(frozen=True, eq=False)
class Units:
    """The units of an activation, and what a pruned one is set to.

    Attributes:
        material: what they are of; its D numbers are divided evenly among them.
        count: how many.
        fill: [D] in place of what is pruned.
    """

    material: Material
    count: int
    fill: Float[Tensor, " D"]

    def each(self, values: Float[Tensor, "*N D"]) -> Float[Tensor, "*N U"]:
        """Return the sum over the numbers of each unit."""
        return values.unflatten(-1, (self.count, -1)).sum(-1)


def pruned(material: Material, units: int, percent: int, by: str, to: str, tokens: int, run: Draft) -> Masked:
    """Return what keeps the units of an activation that matter most.

    Args:
        material: the activation.
        units: how many it is divided into.
        percent: of them that are kept.
        by: as in `scores_of`.
        to: `mean` or `zero`, in place of the others.
        tokens: as in `scores_of`.
        run: as in `scores_of`.

    Raises:
        UsageError: as for `scores_of`.
    """
    values = material.values
    fill = values.mean(0, dtype=torch.float64).float() if to == "mean" else torch.zeros(values.shape[1])
    scores = scores_of(Units(material, units, fill), by, tokens, run)
    return Masked.keeping(kept_units(scores, percent), fill, units)


def scores_of(units: Units, by: str, tokens: int, run: Draft) -> Float64[Tensor, " U"]:
    """Return how much each unit of an activation matters.

    Args:
        units: which.
        by: `magnitude`, `gradient` or `ablation`: see the functions of these names.
        tokens: how many the last two are measured on.
        run: where ablations, which take long, are logged and checkpointed.

    Raises:
        UsageError: the last two are asked of material without a model.
    """
    if by == "magnitude":
        return magnitude(units)
    reader = Reader.of(units.material, tokens)
    return gradient(units, reader) if by == "gradient" else ablation(units, reader, run)


def magnitude(units: Units) -> Float64[Tensor, " U"]:
    """Return the root of the mean squared distance of each unit from what it would be set to."""
    squares = torch.zeros(units.count, dtype=torch.float64)
    for piece in units.material.values.split(8192):
        squares += units.each((piece.double() - units.fill) ** 2).sum(0)
    return (squares / len(units.material.values)).sqrt()


def gradient(units: Units, reader: Reader) -> Float64[Tensor, " U"]:
    """Return the first-order estimate of what pruning a unit changes: |(a - fill) · dL/da|, averaged over tokens.

    With the fill at 0 it is the score of heads of Michel et al. 2019 (section 4.1), which sum over a text where we take
    the absolute value of each token, and of Molchanov et al. 2017 (section 2.2). L is the summed loss of a text, so a
    token's gradient holds what it does to later ones.
    """
    site = units.material.site
    total, count = torch.zeros(units.count, dtype=torch.float64), 0
    for batch in reader:
        value, slope = _slope(reader.model, site, batch)
        estimate = units.each(((as_vectors(site, value) - units.fill) * as_vectors(site, slope)).cpu().double())
        scored = (batch.targets != IGNORE).cpu()
        total += estimate[scored].abs().sum(0)
        count += int(scored.sum())
    return total / count


def ablation(units: Units, reader: Reader, run: Draft) -> Float64[Tensor, " U"]:
    """Return the rise of the mean loss, in nats, when each unit alone is set to its fill."""
    stepper = Ablations(units, reader)
    advance(stepper, run, steps=units.count, log_every=max(1, units.count // 20))
    return stepper.rise


class Ablations:
    """Ablates one unit a step. What comes before the layer of the site is computed once.

    Args:
        units: which.
        reader: the model and its text.
    """

    def __init__(self, units: Units, reader: Reader) -> None:
        self.units, self.model = units, reader.model
        self.rise = torch.zeros(units.count, dtype=torch.float64)
        self.passages = [(batch, self._before(batch)) for batch in reader]
        self.clean = self._loss()

    def step(self, number: int) -> dict[str, float]:
        """Ablate unit `number`."""
        with self._without(number):
            loss = self._loss()
        self.rise[number] = loss - self.clean
        return {"loss": loss}

    def state(self) -> State:
        return State({"rise": self.rise})

    def load(self, state: State) -> None:
        self.rise = state.tensors["rise"]

    @torch.no_grad()
    def _loss(self) -> float:
        found = [tally(self.model(b.inputs, **b.given, **before).float(), b.targets) for b, before in self.passages]
        return float(sum(s.loss.sum() for s in found) / sum(s.count.sum() for s in found))

    def _before(self, batch: Live) -> dict[str, Any]:
        layer = self.units.material.site.layer
        if layer is None:
            return {}
        site = f"L{layer}.resid.pre"
        given: dict[str, Any] = batch.given
        return {"stream": look(self.model, batch.inputs, site, **given)[site], "layer": layer}

    def _without(self, number: int) -> AbstractContextManager[None]:
        fill, site = self.units.fill, self.units.material.site
        pruned = torch.arange(len(fill)) // (len(fill) // self.units.count) == number

        def ablate(value: Tensor) -> Tensor:
            x = as_vectors(site, value)
            return torch.where(pruned.to(x.device), fill.to(x), x).reshape(value.shape)

        return self.model.tapped({site: ablate})


def scores_of_weight(material: Material, by: str, tokens: int) -> Float64[Tensor, "M N"]:
    """Return how much each number of a weight matters: |w|, or by the gradient |w · dL/dw| with L the mean loss on so
    many tokens, the first-order estimate of what setting it to 0 changes (Molchanov et al. 2017, section 2.2).

    Raises:
        UsageError: the gradient is asked of material without a model.
    """
    weight = material.values.double()
    if by == "magnitude":
        return weight.abs()
    reader, site = Reader.of(material, tokens), material.site
    total, count = torch.zeros_like(weight), 0
    for batch in reader:
        total += as_matrix(site, _slope(reader.model, site, batch)[1]).cpu().double()
        count += int((batch.targets != IGNORE).sum())
    return (weight * total / count).abs()


def _slope(model: Transformer, site: Site, batch: Live) -> tuple[Tensor, Tensor]:
    """Return what was at a site, an activation or a weight, and the gradient of the summed loss there."""
    leaf: list[Tensor] = []

    def begin(value: Tensor) -> Tensor:
        leaf[:] = [value.detach().clone().requires_grad_()]
        return leaf[0]

    with torch.enable_grad(), model.tapped({site: begin}):
        logits = model(batch.inputs, **batch.given).float()
        loss = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")
        (slope,) = torch.autograd.grad(loss, leaf)
    return leaf[0].detach(), slope
