"""The work of steering: a direction between prompts, added at a site, with random directions beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.interp.directions import difference_of_means
from etude.interp.metrics import LogitDifference
from etude.interp.recipes import Steer
from etude.interp.steering import dose_response
from etude.interp.subject import Subject, subject
from etude.nn.look import look


def steered(recipe: Steer, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the direction from one group of prompts to the other, add it to other texts, and measure an answer."""
    on = subject(inputs[recipe.of])
    towards, away = (_at_the_end(on, recipe.site, prompts) for prompts in (recipe.towards, recipe.away))
    direction = difference_of_means(towards, away)
    texts = torch.tensor(_as_long(on, recipe.texts))
    right = on.token(recipe.right)
    metric = LogitDifference(right, on.token(recipe.wrong) if recipe.wrong else "mean")
    found = dose_response(
        on.model, texts, recipe.site, direction, metric, recipe.strengths, placebos=recipe.placebos, seed=recipe.seed
    )
    run.save("direction.safetensors", {"direction": direction.numpy(), "placebos": found.placebo_changes.numpy()})
    rows = zip(found.strengths, found.effects, found.placebos, found.placebo_changes, found.p, strict=True)
    return {
        "site": recipe.site,
        "norm": float(direction.norm()),
        "texts": len(texts),
        "placebos": recipe.placebos,
        "doses": [
            {
                "strength": strength,
                "change": effect.to_json(),
                "placebo": placebo.to_json(),
                "placebo_least": float(each.min()),
                "placebo_most": float(each.max()),
                "p": p,
            }
            for strength, effect, placebo, each, p in rows
        ],
        "notices": list(on.notices),
    }


def _at_the_end(on: Subject, site: str, prompts: Sequence[str]) -> Float[Tensor, "N D"]:
    """Return a site's vector at the last position of each prompt.

    Raises:
        UsageError: it is several sites, or one that holds no vector at each position.
    """
    sites = on.model.sites(site)
    axes = [" ".join(axis.name for axis in shape) for shape in sites.values()]
    if len(sites) != 1 or not axes[0].startswith("B T ") or axes[0].count(" ") != 2:
        raise UsageError(f"{site!r} is {', '.join(axes[:3])}: steer at one activation B T D, as L1.resid.pre")
    rows = [look(on.model, torch.tensor([on.tokens(prompt, "prompt")]), site, positions=-1) for prompt in prompts]
    return torch.stack([next(iter(seen.values()))[0, 0] for seen in rows])


def _as_long(on: Subject, texts: Sequence[str]) -> list[list[int]]:
    """Return the texts' tokens.

    Raises:
        UsageError: they are not all as long, so that they cannot be read at once.
    """
    every = [on.tokens(text) for text in texts]
    lengths = sorted({len(ids) for ids in every})
    if len(lengths) > 1:
        raise UsageError(f"the texts have {lengths[0]} to {lengths[-1]} tokens: give texts of as many tokens each")
    return every
