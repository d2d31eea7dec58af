"""The work of compressing: fit codecs, put them into the model, and measure what that does to it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from etude.compress.checks import no_numbers
from etude.compress.codec import Codec, Text
from etude.compress.compressor import Compressor, Part, weights_of
from etude.compress.enough import warning_of
from etude.compress.linear import as_matrix
from etude.compress.material import Material
from etude.compress.recipes import Composed, Compress
from etude.compress.rounded import Rounded
from etude.compress.saved import load_compressor, save_compressor
from etude.compress.score import Harm, Host, harm
from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.core.site import Site, match
from etude.evals.behaviours import tokens_in
from etude.evals.loss import chosen_windows
from etude.evals.recording import Recording
from etude.evals.splits import windows_of
from etude.evals.token_classes import token_classes
from etude.models.decoder_model import DecoderModel
from etude.models.load import load
from etude.models.recipes import ModelRecipe
from etude.models.transformer import Transformer
from etude.text.data import TextData
from etude.text.tokenizers.live import Tokenizer

WINDOWS = "windows.safetensors"
"""Loss, KL and tokens of each window that harm was measured on."""

TIMED = 4096
"""Tokens that a codec is timed on."""


def compress(recipe: Compress, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Fit compressors, put them at their sites and measure the harm on the validation split."""
    began = time.monotonic()
    host = host_of(recipe.of, inputs, recipe.evaluate_tokens, recipe.sequences)
    first, *others = recipe.sites(inputs)
    if others:
        fitted = together([load_compressor(inputs[part]) for part in recipe.alone(inputs)])
    else:
        fitted = _fitted(recipe, first, host, inputs, run)
    seconds = time.monotonic() - began
    found = measured(host, fitted, run)
    return {
        "site": recipe.site,
        "method": recipe.method.name,
        "size": recipe.method.size,
        "training": _last_row(run),
        **found,
        "timing": {"fit": seconds, **found["timing"]},
    }


def _last_row(run: Draft) -> dict[str, Any]:
    """Return what a method that takes steps said at its end; empty where it takes none."""
    rows = run.rows()
    return {name: value for name, value in rows[-1].items() if name not in ("step", "timing")} if rows else {}


def composed(recipe: Composed, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Measure compressions together."""
    host = host_of(recipe.of, inputs, recipe.evaluate_tokens, recipe.sequences)
    return measured(host, together([load_compressor(inputs[part]) for part in recipe.parts]), run)


def together(compressors: list[Compressor]) -> Compressor:
    """Return compressors of one model as one.

    Raises:
        UsageError: they were fitted to different models.
    """
    models = {one.model for one in compressors}
    if len(models) > 1:
        raise UsageError(f"compressors of {len(models)} models cannot stand in one: fit them to the same weights")
    parts = {site: part for one in compressors for site, part in one.parts.items()}
    return Compressor(dict(sorted(parts.items(), key=lambda entry: _order(entry[0]))), models.pop())


def _order(site: Site) -> tuple[int, str]:
    return (-1 if site.layer is None else site.layer, str(site))


def measured(host: Host, compressor: Compressor, run: Draft, inside: Transformer | None = None) -> dict[str, Any]:
    """Measure the harm of a compressor, keep it and the compressor, and return what is told of both. It stands in the
    host, or `inside` another model that was made of it."""

    def progress(done: int, total: int) -> None:
        run.progress(done, total, unit="windows", note="scoring")

    found = harm(host, compressor, progress, inside=inside)
    save_compressor(compressor, run.path)
    keep_windows(found, run)
    cost = compressor.cost().to_json()
    return {
        "sites": [str(site) for site in compressor.parts],
        "cost": cost,
        "saved": saved_by(compressor, host.model),
        "explained": {str(site): share for site, share in found.explained.items()},
        "harm": found.to_json(),
        "timing": {"seconds_per_million_tokens": _seconds(compressor, host.model)},
    }


def keep_windows(measured: Harm, run: Draft) -> None:
    """Keep the sums of each window, so that compressions can be compared in pairs."""
    sums = {"loss": measured.harmed.sum(1), "clean": measured.clean.sum(1), "kl": measured.kl, "count": measured.count}
    run.save(WINDOWS, sums)


def saved_by(compressor: Compressor, model: DecoderModel) -> dict[str, int]:
    """Return the parameters that a model would no longer need with the compressors built into it, and the FLOPs a token
    that it would no longer spend on them, two for each: what attention does between tokens is left out, and a row of an
    embedding is only looked up. Activations are made as before: nothing is saved. What the compressors themselves take
    is told in their cost."""
    parameters, looked_up = 0, 0
    for site, part in compressor.parts.items():
        if site.is_weight:
            parameters += model.get_parameter(site.path).numel()
            looked_up += model.get_parameter(site.path).numel() if site.startswith("embed.") else 0
        elif part.reads is not None:
            component = model.get_submodule(site.path.rpartition(".")[0])
            parameters += sum(weight.numel() for weight in component.parameters())
    return {"parameters": parameters, "flops": 2 * (parameters - looked_up)}


@torch.no_grad()
def _seconds(compressor: Compressor, model: DecoderModel) -> float:
    """Return how long the codecs take for a million tokens, on random numbers, on this machine now."""
    total = 0.0
    for site, part in compressor.parts.items():
        if site.is_weight:
            continue  # it is in the model's own product
        width = _width(part.reads or site, model)
        x = torch.randn(TIMED, width, generator=torch.Generator().manual_seed(0))
        text = (Text.of(torch.zeros(1, TIMED, dtype=torch.long)),) if part.codec.reads_text else ()
        x = x[None] if text else x
        began = time.perf_counter()
        part.codec(x, *text)
        total += time.perf_counter() - began
    return total * 1e6 / TIMED


def _width(site: Site, model: DecoderModel) -> int:
    """Return how many numbers a token has at a site, heads and head width together."""
    sizes = [axis.size for axis in model.sites(site)[site] if axis.name not in ("B", "T")]
    return int(torch.tensor([size or 1 for size in sizes]).prod())


def host_of(of: ModelRecipe, inputs: Mapping[Recipe, Run], tokens: int, sequences: int) -> Host:
    """Return a model with the validation windows that compressors in it are judged on."""
    return _host(of, inputs[of].path, inputs[of.text].path, tokens, sequences)


@functools.lru_cache(maxsize=1)
def _host(of: ModelRecipe, model: Path, data: Path, tokens: int, sequences: int) -> Host:
    """A process that compresses many components of one model opens it once: a run never changes."""
    opened, text = _opened(model), TextData.open(Run(data))
    examples = windows_of(of, text, "valid")
    among = tokens_in(text) if sequences else None
    classes = token_classes(opened.tokenizer, opened.model.vocabulary)
    return Host(opened.model, examples, chosen_windows(examples, tokens), classes, sequences, among)


class _Opened(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer
    identity: str


@functools.lru_cache(maxsize=1)
def _opened(path: Path) -> _Opened:
    """Return the model of a run in fp32, its tokenizer and the SHA-256 of its weights."""
    model, tokenizer = load(Run(path))
    return _Opened(model.float(), tokenizer, weights_of(model))


def _fitted(recipe: Compress, site: Site, host: Host, inputs: Mapping[Recipe, Run], run: Draft) -> Compressor:
    """Return the compressor of one site."""
    match(site, host.model.sites())  # a name within a part is the live model's to check
    reads = recipe.reads(site, inputs)
    seed = stream(recipe.seed, "fit")
    torch.manual_seed(seed)
    material = material_of(recipe, site, host.model, inputs)
    codec = recipe.method.fit(material, seed, run).eval()
    _warn(recipe, material, codec, run)
    stands_for = reads if recipe.method.target == "component" else None
    if recipe.precision < 32:
        codec = _rounded(codec, material, recipe)
    part = Part(codec, stands_for, recipe.method, recipe.precision)
    return Compressor({site: part}, _opened(inputs[recipe.of].path).identity)


def _warn(recipe: Compress, material: Material, codec: Codec, run: Draft) -> None:
    """Say where a codec was fitted to too little. A floor fits nothing, nor does what is made of a weight alone."""
    read = material.inputs if recipe.method.target == "weight" else material.values
    if read is None or recipe.method.group == "floor":
        return
    warning = warning_of(len(read), codec.cost().parameters, material.values.shape[1])
    if warning:
        run.note(few_tokens=warning)
        run.say(f"{recipe.id}: {warning}")


@torch.no_grad()
def _rounded(codec: Codec, material: Material, recipe: Compress) -> Codec:
    """Return a codec whose code is held in fewer bits.

    Raises:
        UsageError: its code is not made of numbers, or it reads more than activations.
    """
    if codec.cost().dimensions is None or recipe.method.target == "weight" or codec.reads_text:
        raise no_numbers(recipe.precision, recipe.method)
    read = material.inputs if recipe.method.target == "component" else material.values
    if read is None:
        raise UsageError(f"{recipe.method.name} stands for a component and has nothing to read")
    return Rounded.fitted(
        codec, torch.cat([codec.encode(piece.float()) for piece in read.split(8192)]), recipe.precision
    )


def material_of(recipe: Compress, site: Site, model: DecoderModel, inputs: Mapping[Recipe, Run]) -> Material:
    """Return what the compressor of a site is fitted to.

    Raises:
        UsageError: the recorded activations are too few to say anything.
    """
    examples = windows_of(recipe.of, TextData.open(inputs[recipe.of.text]), "train")
    windows = chosen_windows(examples, recipe.fit_tokens)
    reads = recipe.reads(site, inputs)
    read = Recording.open(inputs[recipe.recording(reads)]) if reads is not None else None
    inner = None if read is None or reads is None else read.activations(reads)
    given: dict[str, Any] = {"site": site, "inputs": inner, "model": model, "examples": examples, "windows": windows}
    given |= {"heads": heads_at(site, model), "tokenizer": _opened(inputs[recipe.of].path).tokenizer}
    if site.is_weight:
        matrix = as_matrix(site, model.get_parameter(site.path).detach())
        return Material(matrix, rows=None if read is None else read.rows, **given)
    recorded = Recording.open(inputs[recipe.recording(site)])
    return Material(recorded.activations(site).float(), rows=recorded.rows, **given)


def heads_at(site: Site, model: DecoderModel) -> int:
    """Return how many heads the vector of a token is divided among at a site; 1 where it is not."""
    sizes = {axis.name: axis.size for axis in model.sites(site)[site]}
    return int(sizes.get("H") or sizes.get("G") or 1)


def load_codec(recipe: Compress, run: Run) -> Codec:
    """Return the codec that a compression of one site fitted."""
    (part,) = load_compressor(run).parts.values()
    return part.codec
