"""The stepper that trains a model: one step is one batch of samples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from etude.core.errors import UsageError
from etude.core.seeds import stream
from etude.core.site import Site
from etude.evals.loss import Live, live
from etude.models.saved import save_model, save_weights
from etude.models.transformer import Transformer
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Batch, Examples, Sampler
from etude.train.ahead import Ahead
from etude.train.checkpoint import State
from etude.train.objectives.base import Objective, Summed
from etude.train.recipes import Train
from etude.train.together import Together


class Loss(nn.Module):
    """A model with its loss as one module, so that a whole step is compiled, and gradients are shared out, at once."""

    def __init__(self, model: Transformer, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, inputs: Tensor, targets: Tensor, given: dict[str, Tensor], *, chunked: bool, count_right: bool
    ) -> Summed:
        return self.objective.summed(self.model, inputs, targets, given, chunked=chunked, count_right=count_right)


class Trainer:
    """Trains a model as a recipe says.

    Args:
        recipe: batch, schedule, optimiser, precision and seed.
        model: what is trained, on its device.
        examples: the training split.
        flops_per_token: forward FLOPs of one position, for the record.
        others: the processes that train it together, each on its share of every batch.

    Attributes:
        average: the running mean of the weights, as a model, or None where the recipe asks for none.
        sharded: whether the weights are divided among the processes.
    """

    def __init__(
        self,
        recipe: Train,
        model: Transformer,
        examples: Examples,
        flops_per_token: float,
        others: Together | None = None,
    ) -> None:
        self.recipe, self.model, self.examples = recipe, model, examples
        self.others = others or Together()
        self.device = next(model.parameters()).device
        self.average = copy.deepcopy(model).requires_grad_(False) if recipe.average else None
        self.sharded = self.others.size > 1 and recipe.spread == "shard"
        self._loss = self._spread(Loss(model, recipe.objective))
        self.optimiser = recipe.optimiser.build(model)
        self._parameters = list(model.parameters())  # finding them takes as long as the fused step over them
        self.sampler = Sampler(len(examples), recipe.batch, stream(recipe.seed, "order"))
        self.flops_per_token = flops_per_token
        self._ahead = Ahead(lambda number: self.batch(number), recipe.steps, apart=self.device.type != "cpu")

    def _spread(self, loss: Loss) -> Callable[..., Summed]:
        """Return the loss, compiled where asked, over as many processes as there are."""
        recipe, size = self.recipe, self.others.size
        if recipe.batch % (size * recipe.accumulate):
            raise UsageError(
                f"a batch of {recipe.batch} does not divide into {size} ranks of {recipe.accumulate} parts; choose a"
                f" multiple of {size * recipe.accumulate}"
            )
        if self.sharded:
            from etude.train.sharded import shard

            shard(self.model, self.device, size)
            if self.average is not None:
                shard(self.average, self.device, size)
        run: Any = torch.compile(loss) if recipe.compiled == "yes" else loss
        if size == 1 or self.sharded:
            return run
        here = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(run, device_ids=here, gradient_as_bucket_view=True)

    @property
    def given(self) -> Transformer:
        """The model that is evaluated and given in the end: the running mean where there is one."""
        return self.model if self.average is None else self.average

    def step(self, number: int) -> dict[str, Any]:
        """Take one step: gradient of the batch's mean loss, clipped; then the optimiser at the schedule's rate."""
        recipe, size = self.recipe, self.others.size
        share = self._ahead.take(number)
        (count,) = self.others.sums(float(np.count_nonzero(share.targets != IGNORE)))
        batch, count = live(share, self.device), max(1.0, count)
        rate = recipe.schedule.rate(number, recipe.steps, recipe.model.width)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("multiplier", 1.0)
        # What dropout drops follows from the step's number alone, on every device, whatever else drew random numbers.
        _seed(self.device, stream(recipe.seed, "dropout", number * size + self.others.rank))
        if not self.model.training:  # setting the mode of every part takes a twentieth of a small model's step
            self.model.train()
        for parameter in self._parameters:
            parameter.grad = None
        loss, right, logged = 0.0, 0, recipe.is_logged(number + 1)
        beside: dict[str, float] = {}
        pieces = parts(batch, recipe.accumulate)
        for part in pieces:
            with self._exchanging(part is pieces[-1]):
                with autocast(self.device, recipe.precision):
                    found = self._loss(*part, chunked=recipe.chunked == "yes", count_right=logged)
                found.loss.backward()  # of a sum: what makes a mean of it comes with the clipping, in one pass
            loss += found.loss.item() / count
            right += 0 if found.right is None else int(found.right)
            for name, value in ((found.beside or {}) if logged else {}).items():
                beside[name] = beside.get(name, 0.0) + float(value) / count
        loss, right, *others = self.others.sums(loss, float(right), *beside.values())
        norm = self._scale_gradients(size / count)  # what the processes exchange is the mean over them
        if np.isfinite(norm) and np.isfinite(loss):  # else the loop stops, and the weights are still the last good ones
            self.optimiser.step()
            self._move_average()
        done = 3.0 * self.flops_per_token * recipe.batch * batch.inputs.shape[1] * (number + 1)
        row: dict[str, Any] = {"loss": loss, "gradient_norm": norm, "learning_rate": rate, "flops": done}
        if not (np.isfinite(norm) and np.isfinite(loss)):
            row["where"] = self._first_broken()
        return {**row, "accuracy": right / count, **dict(zip(beside, others, strict=True))} if logged else row

    def _scale_gradients(self, factor: float) -> float:
        """Let the optimiser see the gradients times a factor, clipped, and return their norm before clipping.

        PyTorch's fused AdamW takes the factor along as it goes through the gradients; a pass of its own over those of a
        large vocabulary takes a twentieth of a step.
        """
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = whole(nn.utils.get_total_norm(gradients)) * factor
        if self.recipe.clip and norm > self.recipe.clip:
            factor *= self.recipe.clip / norm
        if not np.isfinite(norm):
            return norm
        if isinstance(self.optimiser, torch.optim.AdamW) and not self.sharded:
            held: Any = self.optimiser  # what torch.amp.GradScaler hands it
            held.grad_scale = torch.tensor(1 / factor, dtype=torch.float32, device=self.device)
            held.found_inf = torch.zeros((), device=self.device)
        else:
            for gradient in gradients:
                gradient.mul_(factor)
        return norm

    def batch(self, number: int) -> Batch:
        """Return this process's samples of a step."""
        return self.examples.batch(self.others.share(self.sampler.indices(number)), draw=number)

    def close(self) -> None:
        """Make no more batches. Steps can still be taken."""
        self._ahead.close()

    def _exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one part of a batch: gradients are exchanged after the last alone."""
        if isinstance(self._loss, DistributedDataParallel) and not last:
            return self._loss.no_sync()
        return nullcontext()

    def _first_broken(self) -> str:
        """Return where a number that is not finite came up first: in a weight, or, the weights being whole, in the
        backward pass, which goes through the model from its end."""
        named = list(self.model.named_parameters())
        weights = [name for name, p in named if not p.isfinite().all()]
        if weights:
            return f"the weight {Site.of(weights[0])}"
        gradients = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
        return f"the gradient of {Site.of(gradients[-1])}" if gradients else "the norm of all gradients together"

    @torch.no_grad()
    def _move_average(self) -> None:
        """Take the running mean of the weights a step on."""
        if self.average is not None:
            if self.sharded:
                from etude.train.sharded import let_go

                let_go(self.average)
            for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(weight, 1 - self.recipe.average)

    def save(self, folder: Path) -> None:
        """Write the model that is given into a folder, in the first process; all of them have to call."""
        if not self.sharded:
            if self.others.first:
                save_model(self.given, folder)
            return
        from etude.train.sharded import whole_weights

        weights = whole_weights(self.given)
        if self.others.first:
            save_weights(weights, self.given, folder)

    def put(self, weights: dict[str, Tensor]) -> None:
        """Put weights into the model that is given."""
        if not self.sharded:
            self.given.load_state_dict(weights)
            return
        from etude.train.sharded import put_weights

        put_weights(weights, self.given)

    def state(self) -> State:
        """Return weights and optimiser state. The schedule, the batches and dropout follow from a step's number."""
        if self.sharded:
            from etude.train.sharded import whole_state

            return whole_state(self.optimiser, model=self.model, **self._averaged)
        return State.of(self.optimiser, model=self.model, **self._averaged)

    def load(self, state: State) -> None:
        """Go back to a state."""
        if self.sharded:
            from etude.train.sharded import load_whole

            load_whole(state, self.optimiser, model=self.model, **self._averaged)
        else:
            state.load_into(self.optimiser, model=self.model, **self._averaged)

    @property
    def _averaged(self) -> dict[str, Transformer]:
        return {} if self.average is None else {"average": self.average}


def _seed(device: torch.device, seed: int) -> None:
    """Seed what draws on a device. `torch.manual_seed` seeds all devices there might be, and notes for those that are
    not awake yet who called it: a hundredth of a small model's step."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def parts(batch: Live, count: int) -> list[Live]:
    """Return a batch in so many parts of equally many samples."""
    if count == 1:
        return [batch]
    size = len(batch.inputs) // count
    rows = [slice(start, start + size) for start in range(0, len(batch.inputs), size)]
    return [Live(batch.inputs[r], batch.targets[r], {k: v[r] for k, v in batch.given.items()}) for r in rows]


def whole(norm: Tensor) -> float:
    """Return a norm as a number, also where the gradients are divided among processes."""
    gather = getattr(norm, "full_tensor", None)  # a DTensor has it, whose module takes half a second to import
    return float(norm if gather is None else gather())
