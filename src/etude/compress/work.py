"""The work of compression recipes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.contexts import responses
from etude.compress.linear import as_matrix
from etude.compress.recipes import Compress, Latents
from etude.compress.score import Host, harm
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.site import Site, match
from etude.evals.loss import chosen_windows
from etude.evals.recording import Recording, passing
from etude.models.load import load
from etude.text.batches import IGNORE
from etude.text.data import TextData

CODEC = "codec.safetensors"


def compress(recipe: Compress, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Fit a compressor, put it at its site and measure the harm on the validation split."""
    host = _host(inputs[recipe.of].path, inputs[recipe.of.text].path, recipe.of.context, recipe.evaluate_tokens)
    (site,) = match(recipe.site, host.model.sites())
    torch.manual_seed(stream(recipe.seed, "fit"))
    codec = recipe.method.fit(_fitted_to(recipe, site, host.model, inputs), stream(recipe.seed, "fit"), run)

    def progress(done: int, total: int) -> None:
        run.progress(done, total, unit="windows", note="scoring")

    measured = harm(host, site, codec, progress)
    save_file({name: tensor.contiguous().clone() for name, tensor in codec.state_dict().items()}, run.path / CODEC)
    harmed, clean = measured.harmed, measured.clean
    run.save(
        "windows.safetensors", {"loss": harmed.loss, "clean": clean.loss, "kl": measured.kl, "count": harmed.count}
    )
    return {
        "site": str(site),
        "method": recipe.method.name,
        "size": recipe.method.size,
        "cost": codec.cost().to_json(),
        "harm": measured.to_json(),
    }


@functools.lru_cache(maxsize=1)
def _host(model: Path, data: Path, context: int, tokens: int) -> Host:
    """Return a model and its validation windows. A process that compresses many components of one model opens it once:
    a run never changes."""
    loaded, _ = load(Run(model))
    examples = TextData.open(Run(data)).examples("valid", context)
    return Host(loaded, examples, chosen_windows(examples, tokens))


def _fitted_to(recipe: Compress, site: Site, model: torch.nn.Module, inputs: Mapping[Recipe, Run]) -> Tensor:
    """Return the recorded activations [N, D], or the weight as a matrix."""
    if recipe.recording is None:
        return as_matrix(site, model.get_parameter(site.path).detach())
    return Recording.open(inputs[recipe.recording]).activations(site)


def load_codec(recipe: Compress, run: Run) -> Codec:
    """Return the codec that a compression fitted."""
    return recipe.method.codec(load_file(run.file(CODEC))).eval()


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
