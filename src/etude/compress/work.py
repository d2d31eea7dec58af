"""The work of compression recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.contexts import responses
from etude.compress.linear import as_matrix, as_vectors
from etude.compress.recipes import Compress, Latents, Record
from etude.compress.score import harm
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.site import Site, match
from etude.evals.loss import batches, batch_for, chosen_windows
from etude.models.load import load
from etude.nn.look import look
from etude.text.batches import IGNORE
from etude.text.data import TextData

CODEC = "codec.safetensors"


def record(recipe: Record, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Record a site's activations on windows spread over the training split."""
    model, _ = load(inputs[recipe.of])
    (site,) = _sites_named(recipe.site, model.sites())
    data = TextData.open(inputs[recipe.of.text])
    examples = data.examples("train", recipe.of.context)
    windows = chosen_windows(examples, recipe.tokens)
    rows: list[Tensor] = []
    done = 0
    for tokens, targets in batches(examples, windows, torch.device("cpu"), batch_for(data.vocabulary, examples.context)):
        value = look(model, tokens, site)[site]
        real = targets != IGNORE
        rows.append(as_vectors(site, value)[real])
        done += len(tokens)
        run.progress(done, len(windows), unit="windows")
    activations = torch.cat(rows)
    if not activations.isfinite().all():
        bad = int((~activations.isfinite()).any(1).sum())
        raise UsageError(f"{bad} of {len(activations)} activations at {site} are not finite; the model has diverged")
    save_file({"activations": activations}, run.path / "activations.safetensors")
    return {"site": site, "tokens": len(activations), "width": activations.shape[1]}


def _sites_named(text: str, sites: Mapping[Site, Any]) -> list[Site]:
    found = match(text, sites)
    if len(found) != 1:
        raise UsageError(f"{text!r} means {len(found)} sites ({', '.join(found)}); name one")
    return found


def compress(recipe: Compress, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Fit a compressor, put it at its site and measure the harm on the validation split."""
    model, _ = load(inputs[recipe.of])
    (site,) = _sites_named(recipe.site, model.sites())
    torch.manual_seed(stream(recipe.seed, "fit"))
    codec = recipe.method.fit(_fitted_to(recipe, site, model, inputs), stream(recipe.seed, "fit"), run)
    data = TextData.open(inputs[recipe.of.text])
    examples = data.examples("valid", recipe.of.context)
    windows = chosen_windows(examples, recipe.evaluate_tokens)
    measured = harm(model, site, codec, examples, windows, lambda d, n: run.progress(d, n, unit="windows", note="scoring"))
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, run.path / CODEC)
    run.save("windows.safetensors", {"loss": measured.harmed.loss, "kl": measured.kl, "count": measured.harmed.count})
    return {
        "site": str(site),
        "method": recipe.method.name,
        "size": recipe.method.size,
        "cost": codec.cost().to_json(),
        "harm": measured.to_json(),
    }


def _fitted_to(recipe: Compress, site: Site, model: torch.nn.Module, inputs: Mapping[Recipe, Run]) -> Tensor:
    """Return the recorded activations [N, D], or the weight as a matrix."""
    if recipe.recording is None:
        return as_matrix(site, model.get_parameter(site.path).detach())
    return load_file(inputs[recipe.recording].file("activations.safetensors"))["activations"]


def load_codec(recipe: Compress, run: Run) -> Codec:
    """Return the codec that a compression fitted."""
    return recipe.method.codec(load_file(run.file(CODEC))).eval()


@torch.no_grad()
def latents(recipe: Latents, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Find the held-out contexts at which each latent is highest and lowest."""
    squeezed = recipe.of
    model, tokenizer = load(inputs[squeezed.of])
    codec = load_codec(squeezed, inputs[squeezed])
    if codec.cost().dimensions is None:
        raise UsageError(f"{squeezed.method.name} has a discrete code; latents are the numbers of a continuous one")
    data = TextData.open(inputs[squeezed.of.text])
    examples = data.examples("valid", squeezed.of.context)
    windows = chosen_windows(examples, recipe.evaluate_tokens)
    codes, texts = [], []
    site = Site(squeezed.site)
    for tokens, targets in batches(examples, windows, torch.device("cpu"), batch_for(data.vocabulary, examples.context)):
        code = codec.encode(as_vectors(site, look(model, tokens, site)[site]).float())
        codes.append(code.masked_fill((targets == IGNORE)[..., None], torch.nan))
        texts.append(tokens)
    found = responses(torch.cat(codes).numpy(), torch.cat(texts).numpy(), recipe, tokenizer)
    return {"latents": found, "of": len(np.atleast_1d(codes[0][0, 0])), "site": squeezed.site}
