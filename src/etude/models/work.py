"""The work of making a model without training: bringing one in, or writing a known one by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.core.errors import DamagedError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.models.incoming import check_tokenizer, model_from
from etude.models.load import load
from etude.models.planted import planted
from etude.models.recipes import Imported, OnText, Planted
from etude.models.saved import save_model


def planted_model(recipe: Planted, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Write a known circuit's weights, and keep the model beside its tokenizer."""
    tokenizer = recipe.data.tokenizer.build(lambda: iter(()))
    model = planted(tokenizer.vocabulary, recipe.length, recipe.back)
    save_model(model, run.path)
    tokenizer.save(run.path)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": tokenizer.vocabulary,
        "context": recipe.length,
        "previous_token_head": "L0H0",
        "induction_head": "L1H0",
    }


def on_text(recipe: OnText, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Keep a model beside its tokenizer, as it is: what is new is the text that its recipe names."""
    model, tokenizer = load(inputs[recipe.of])
    save_model(model, run.path)
    tokenizer.save(run.path)
    return {"parameters": sum(p.numel() for p in model.parameters()), "corpus": recipe.corpus.name}


def imported(recipe: Imported, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read a model from outside and keep it as one of ours, beside its tokenizer."""
    source = recipe.source()
    found = source.identity()
    if found != recipe.sha256:
        raise DamagedError(
            f"the model at {recipe.path!r} has changed: its sha256 is {found[:12]} and the recipe's is"
            f" {recipe.sha256[:12]}; put the old files back, or leave sha256 out to use the new ones"
        )
    reading = source.reading
    tokenizer = recipe.data.tokenizer.build(lambda: iter(()))
    padded = check_tokenizer(tokenizer, reading.vocabulary, recipe.path)
    remarks = [*reading.remarks, *([padded] if padded else [])]
    for remark in remarks:
        run.say(remark)
    run.note(source={"path": recipe.path, "revision": source.revision, "sha256": recipe.sha256})
    model = model_from(source, recipe.dtype, lambda done, total: run.progress(done, total, unit="numbers"))
    save_model(model, run.path)
    tokenizer.save(run.path)
    return {
        "format": source.format.name,
        "class": (source.config.get("architectures") or [source.format.name])[0],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": reading.vocabulary,
        "tokenizer_vocabulary": tokenizer.vocabulary,
        "context": reading.spec.context,
        "licence": source.licence,
        "architecture": reading.spec.to_json(),
        "remarks": remarks,
    }
