"""How fast a training goes on this machine, from a few of its steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.scaling.recipes import Calibrate
from etude.text.data import TextData
from etude.train.trainer import Trainer
from etude.train.work import new_model

UNTIMED = 2
"""Steps at first that fill caches and choose kernels, and say nothing of the others."""


def calibrate(recipe: Calibrate, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Take a few steps of a training and say how long one takes, in seconds of the median one."""
    train, data = recipe.of, TextData.open(inputs[recipe.of.data], inputs)
    model = new_model(train, data, inputs)
    examples = train.objective.examples(data, "train", train.context)
    forward = float(train.objective.flops_per_token(train.model, data.vocabulary, examples.context))
    steps = min(UNTIMED + recipe.steps, train.steps)
    taken = []
    with closing(Trainer(train, model, examples, forward)) as trainer:
        for number in range(steps):
            began = time.perf_counter()
            trainer.step(number)
            taken.append(time.perf_counter() - began)
            run.progress(number + 1, steps)
    each = statistics.median(taken[UNTIMED:] or taken)
    tokens = train.batch * examples.context
    flops = 3.0 * forward * tokens
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "step_tokens": tokens,
        "step_flops": flops,
        "timing": {"step_seconds": each, "tokens_per_second": tokens / each, "flops_per_second": flops / each},
    }
