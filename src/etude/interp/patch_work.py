"""The work of patching: maps of what each activation carries from one run to another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.interp.gradients import attribution_patching
from etude.interp.metrics import Divergence, LogitDifference, LogProbability, Metric
from etude.interp.patching import PatchMap as Map
from etude.interp.patching import patch_map
from etude.interp.path_patching import Node, path_map
from etude.interp.recipes import PatchMap, PathPatches
from etude.interp.resumed import stream_site
from etude.interp.subject import Subject, decoder_of, subject
from etude.models.decoder_model import DecoderModel


class Prompts(NamedTuple):
    """A clean and a corrupted prompt as tokens, and the two answers.

    Attributes:
        clean: [1 T].
        corrupted: [1 T].
        right: the token that answers the clean one.
        wrong: the token that answers the corrupted one.
    """

    clean: Tensor
    corrupted: Tensor
    right: int
    wrong: int


def prompts_of(on: Subject, recipe: PatchMap | PathPatches) -> Prompts:
    """Return a recipe's prompts as tokens.

    Raises:
        UsageError: the model is no decoder, the prompts have not as many tokens, or the answers are the same.
    """
    decoder_of(on.model)  # before anything is said of the prompts
    clean, corrupted = on.tokens(recipe.clean, "clean prompt"), on.tokens(recipe.corrupted, "corrupted prompt")
    if len(clean) != len(corrupted):
        cut = [" ".join(map(repr, on.pieces(ids))) for ids in (clean, corrupted)]
        raise UsageError(
            f"the clean prompt has {len(clean)} tokens and the corrupted one {len(corrupted)}: give as many in both"
            f" ({cut[0]} / {cut[1]})"
        )
    texts = torch.tensor([clean]), torch.tensor([corrupted])
    likeliest = [on.likeliest(text) for text in texts]
    right = on.token(recipe.right) if recipe.right else likeliest[0]
    wrong = on.token(recipe.wrong) if recipe.wrong else likeliest[1]
    if right == wrong and getattr(recipe, "measure", "difference") == "difference":
        if recipe.right and recipe.wrong:
            raise UsageError(f"--right and --wrong are both {on.piece(right)!r}: name two tokens")
        raise UsageError(
            f"both prompts are answered with {on.piece(right)!r}, so nothing tells the runs apart: choose"
            " prompts that the model answers differently, or name --right and --wrong"
        )
    return Prompts(*texts, right, wrong)


def mapped(recipe: PatchMap, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Exchange one activation after the other, and where it is asked for estimate the map from one gradient too."""
    on = subject(inputs[recipe.of])
    prompts = prompts_of(on, recipe)
    metric = _metric(on.decoder, prompts, recipe.measure)
    found = patch_map(
        on.decoder,
        prompts.clean,
        prompts.corrupted,
        metric,
        recipe.what,
        noising=recipe.noising,
        progress=lambda done, total: run.progress(done, total, unit="layers"),
    )
    recovered = found.recovered()
    arrays = {"recovered": recovered, "values": found.values.mean(-1)}
    if recipe.estimated:
        arrays["estimate"] = _estimate(on.decoder, prompts, metric, recipe, found)
    run.save("patches.safetensors", {name: value.contiguous().numpy() for name, value in arrays.items()})
    return {**_of_prompts(on, prompts, found), "axes": {name: list(labels) for name, labels in found.axes.items()}}


@torch.no_grad()
def _metric(model: DecoderModel, prompts: Prompts, measure: str) -> Metric:
    if measure == "kl":
        return Divergence(model(prompts.clean, last=1))
    if measure == "probability":
        return LogProbability(prompts.right)
    return LogitDifference(prompts.right, prompts.wrong)


def _estimate(model: DecoderModel, prompts: Prompts, metric: Metric, recipe: PatchMap, exact: Map) -> Tensor:
    """Return what a gradient foretells of the same map, as shares of the same way."""
    sites = {
        "resid": [stream_site(model.spec.layers, layer) for layer in range(model.spec.layers + 1)],
        "attn": ["L*.attn.out"],
        "mlp": ["L*.mlp.out"],
        "head": ["L*.attn.z"],
        "head-position": ["L*.attn.z"],
    }[recipe.what]
    direction = "noising" if recipe.noising else "denoising"
    found = attribution_patching(model, prompts.clean, prompts.corrupted, metric, sites, direction)
    each = torch.stack([value[0].sum(-1) for value in found.values()])  # [L T], or of heads [L T H]
    if recipe.what == "head":
        each = each.sum(1)
    elif recipe.what == "head-position":
        each = each.mT
    way = (exact.clean - exact.corrupted).mean() * (-1 if recipe.noising else 1)
    return each / way


def paths(recipe: PathPatches, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Exchange what each head wrote on its way to one reader alone."""
    on = subject(inputs[recipe.of])
    prompts = prompts_of(on, recipe)
    found = path_map(
        on.decoder,
        prompts.clean,
        prompts.corrupted,
        LogitDifference(prompts.right, prompts.wrong),
        [receiver(recipe.receiver, on.decoder)],
        noising=recipe.noising,
        progress=lambda done, total: run.progress(done, total, unit="layers"),
    )
    run.save("patches.safetensors", {"recovered": found.recovered().numpy(), "values": found.values.mean(-1).numpy()})
    return {**_of_prompts(on, prompts, found), "axes": {name: list(labels) for name, labels in found.axes.items()}}


def receiver(name: str, model: DecoderModel) -> Node:
    """Return the reader that is meant by `L1H0.k`, or `logits`; of a head that shares its keys and values, the group.

    Raises:
        UsageError: it is neither, or the model has no such head.
    """
    if name == "logits":
        return Node("logits")
    parts = re.fullmatch(r"L(\d+)H(\d+)\.([qkv])", name)
    if parts is None:
        raise UsageError(f"receiver {name!r} is none: write q, k or v of a head as in L1H0.k, or logits")
    head, heads = int(parts[2]), model.spec.heads
    if head >= heads:
        raise UsageError(f"receiver {name!r} is none: the model has {heads} heads in a layer, counted from 0")
    groups = model.spec.kv_heads or heads
    return Node(f"L{parts[1]}.attn.{parts[3]}", head if parts[3] == "q" else head * groups // heads)


def _of_prompts(on: Subject, prompts: Prompts, found: Map) -> dict[str, Any]:
    clean, corrupted = prompts.clean[0].tolist(), prompts.corrupted[0].tolist()
    return {
        "clean": on.pieces(clean),
        "corrupted": on.pieces(corrupted),
        "changed": [place for place, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b],
        "right": on.piece(prompts.right),
        "wrong": on.piece(prompts.wrong),
        "clean_value": float(found.clean.mean()),
        "corrupted_value": float(found.corrupted.mean()),
        "notices": list(on.notices),
    }
