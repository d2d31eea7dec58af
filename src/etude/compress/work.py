"""The work of compression recipes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.contexts import responses
from etude.compress.linear import as_matrix, as_vectors
from etude.compress.recipes import Compress, Latents, Record
from etude.compress.score import Host, harm
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.site import Site, match
from etude.evals.loss import batch_for, batches, chosen_windows
from etude.models.load import load
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import IGNORE, Examples
from etude.text.data import TextData

CODEC = "codec.safetensors"


def record(recipe: Record, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Record a site's activations on windows spread over the training split."""
    model, _ = load(inputs[recipe.of])
    (site,) = match(recipe.site, model.sites())
    data = TextData.open(inputs[recipe.of.text])
    examples = data.examples("train", recipe.of.context)
    windows = chosen_windows(examples, recipe.tokens)
    rows = []
    done = 0
    for value, _, targets in _values(model, site, examples, windows):
        rows.append(value[targets != IGNORE])
        done += len(value)
        run.progress(done, len(windows), unit="windows")
    activations = torch.cat(rows)
    if not activations.isfinite().all():
        bad = int((~activations.isfinite()).any(1).sum())
        raise UsageError(f"{bad} of {len(activations)} activations at {site} are not finite; the model has diverged")
    save_file({"activations": activations}, run.path / "activations.safetensors")
    return {"site": site, "tokens": len(activations), "width": activations.shape[1]}


def _values(
    model: Transformer, site: Site, examples: Examples, windows: np.ndarray
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield a site's vectors [B, T, D] on the windows, with the tokens and the targets [B, T]."""
    size = batch_for(examples.vocabulary, examples.context)
    for tokens, targets, _ in batches(examples, windows, next(model.parameters()).device, size):
        yield as_vectors(site, look(model, tokens, site)[site]), tokens, targets


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
    latent = codec.cost().dimensions
    if not latent:
        kind = "a discrete code" if latent is None else "no code"
        raise UsageError(
            f"{squeezed.method.name} has {kind}; latents are the numbers of a continuous one, as of infovae"
        )
    examples = TextData.open(inputs[squeezed.of.text]).examples("valid", squeezed.of.context)
    windows = chosen_windows(examples, recipe.evaluate_tokens)
    codes, texts = [], []
    for value, tokens, targets in _values(model, Site(squeezed.site), examples, windows):
        codes.append(codec.encode(value.float()).masked_fill((targets == IGNORE)[..., None], torch.nan))
        texts.append(tokens)
    found = responses(torch.cat(codes).numpy(), torch.cat(texts).numpy(), recipe, tokenizer)
    return {"latents": found, "of": latent, "site": squeezed.site}
