"""The work of showing what latents respond to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from etude.compress.contexts import responses
from etude.compress.recipes import Latents
from etude.compress.work import load_codec
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.site import Site
from etude.evals.loss import chosen_windows
from etude.evals.recording import passing
from etude.models.load import load
from etude.text.batches import IGNORE
from etude.text.data import TextData


@torch.no_grad()
def latents(recipe: Latents, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the held-out contexts at which each latent is highest and lowest."""
    squeezed = recipe.of
    model, tokenizer = load(inputs[squeezed.of])
    codec = load_codec(squeezed, inputs[squeezed])
    latent = codec.cost().dimensions
    if not latent:
        kind = "a discrete code" if latent is None else "no code"
        raise UsageError(
            f"{squeezed.method.name} has {kind}; latents are the numbers of a continuous one, as of infovae"
        )
    examples = TextData.open(inputs[squeezed.of.text]).examples("valid", squeezed.of.context)
    windows = chosen_windows(examples, recipe.evaluate_tokens)
    site = Site(squeezed.site)
    codes, texts = [], []
    for values, tokens, targets in passing(model, examples, windows, [site]):
        value = values[site]
        codes.append(codec.encode(value.float()).masked_fill((targets == IGNORE)[..., None], torch.nan))
        texts.append(tokens)
    found = responses(torch.cat(codes).numpy(), torch.cat(texts).numpy(), recipe, tokenizer)
    return {"latents": found, "of": latent, "site": squeezed.site}
