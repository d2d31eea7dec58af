"""The stepper that trains a model: one step is one batch of windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from etude.core.seeds import stream
from etude.nn.precision import autocast
from etude.text.batches import IGNORE, Examples, Sampler
from etude.train.checkpoint import State
from etude.train.recipes import Train


class Trainer:
    """Trains a model as a recipe says.

    Args:
        recipe: batch, schedule, optimiser, precision and seed.
        model: what is trained, on its device.
        examples: the training split.
        flops_per_token: forward FLOPs of one position, for the record.
    """

    def __init__(self, recipe: Train, model: nn.Module, examples: Examples, flops_per_token: float) -> None:
        self.recipe, self.model, self.examples = recipe, model, examples
        self.device = next(model.parameters()).device
        self.optimiser = recipe.optimiser.build(model)
        self.sampler = Sampler(len(examples), recipe.batch, stream(recipe.seed, "order"))
        self.flops_per_token = flops_per_token

    def step(self, number: int) -> dict[str, float]:
        """Take one step: gradient of the batch's mean loss, clipped; then the optimiser at the schedule's rate."""
        recipe = self.recipe
        inputs, targets = (torch.from_numpy(a).to(self.device) for a in self.batch(number))
        predicted = int((targets != IGNORE).sum())
        rate = recipe.schedule.rate(number, recipe.steps, recipe.model.width)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # What dropout drops follows from the step's number alone, on every device, whatever else drew random numbers.
        torch.manual_seed(stream(recipe.seed, "dropout", number))
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss, right, logged = 0.0, 0, recipe.is_logged(number + 1)
        for part, answers in zip(inputs.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True):
            with autocast(self.device, recipe.precision):
                logits = self.model(part)
            summed = recipe.objective.loss(logits, answers)
            (summed / predicted).backward()
            loss += summed.item() / predicted
            if logged:  # finding the likeliest token of each position takes a fifth of a small model's step
                right += int((logits.detach().argmax(-1) == answers).sum())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip or float("inf")))
        if np.isfinite(norm) and np.isfinite(loss):  # else the loop stops, and the weights are still the last good ones
            self.optimiser.step()
        done = 3.0 * self.flops_per_token * inputs.numel() * (number + 1)
        row = {"loss": loss, "gradient_norm": norm, "learning_rate": rate, "flops": done}
        return {**row, "accuracy": right / predicted} if logged else row

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and targets [B, T] of a step."""
        return self.examples.batch(self.sampler.indices(number))

    def state(self) -> State:
        """Return weights and optimiser state. The schedule, the batches and dropout follow from a step's number."""
        return State.of(self.optimiser, model=self.model)

    def load(self, state: State) -> None:
        """Go back to a state."""
        state.load_into(self.optimiser, model=self.model)
