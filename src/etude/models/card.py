"""A model card from a run's provenance: what the model is, how it did, what it was made from, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etude.core.errors import DamagedError
from etude.core.run import Run
from etude.core.shelf import Shelf
from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.models.recipes import Imported, ModelRecipe
from etude.models.sources import UNSAID

_LOAD = """```python
from transformers import AutoTokenizer, {auto}

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = {auto}.from_pretrained("FOLDER")
```

or, with Etude, `model, tokenizer = etude.load("FOLDER")`."""

_AUTO = {
    "text-generation": "AutoModelForCausalLM",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
}


def card(run: Run, spec: Architecture, vocabulary: int, shelf: Shelf) -> str:
    """Return the README.md of an exported model. Folders of the machine that it was made on are left out.

    Args:
        run: what is exported.
        spec: its architecture.
        vocabulary: rows of its embedding.
        shelf: where the runs are that it was made from.
    """
    task = _task(spec)
    recipe = run.recipe
    licence = run.result.get("licence") if isinstance(recipe, Imported) else None
    head = ["---", "library_name: transformers", f"pipeline_tag: {task}", "tags: [etude]"]
    head += [f"license: {json.dumps(licence)}"] if licence and licence != UNSAID else []
    parts = [
        "\n".join([*head, "---"]),
        f"# {run.id}",
        _what(spec, vocabulary),
        "## Load it",
        _LOAD.format(auto=_AUTO[task]),
        "## Data",
        _data(run, shelf),
        *_figures(run),
        "## Made by",
        _origin(run),
        "Saved as `recipe.json`, this makes the run again with `etude run recipe.json`:",
        f"```json\n{json.dumps(without_folders(run.recipe_data), indent=1, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _task(spec: Architecture) -> str:
    if not isinstance(spec, Encoder):
        return "text-generation"
    return "text-classification" if spec.classes else "fill-mask"


def _what(spec: Architecture, vocabulary: int) -> str:
    rows = {
        "kind": spec.name,
        "parameters": f"{spec.parameters(vocabulary):,}",
        "layers, width, heads": f"{spec.layers}, {spec.width}, {spec.heads}",
        "feed-forward width": str(spec.feedforward),
        "context": f"{spec.context:,}",
        "vocabulary": f"{vocabulary:,}",
        "positions, norm": f"{spec.positions}, {spec.norm}",
    }
    return _table(("", "value"), list(rows.items()))


def _data(run: Run, shelf: Shelf) -> str:
    """Return what the model read, with its licence as far as it is known."""
    recipe = run.recipe
    if isinstance(recipe, Imported):
        source = run.provenance.get("source", {})
        revision = source.get("revision")
        name = f"{source['path']} at {revision[:12]}" if revision else Path(source.get("path", "")).name
        return (
            f"Brought in from `{name}` (sha256 {recipe.sha256[:16]}), whose licence is: {run.result['licence']}. What"
            " it was trained on, its own card says."
        )
    if not isinstance(recipe, ModelRecipe):
        return "Not known."
    text = recipe.text
    said = f"Corpus `{text.corpus.name}`, sha256 {text.corpus.sha256[:16]}, tokenizer `{text.tokenizer.name}`"
    try:
        tokens = Run(shelf.root / text.id).result
    except DamagedError:
        return f"{said} (run {text.id}, which is no longer here: its licence has to be looked up)."
    read = f"{tokens['splits']['train']['tokens']:,} tokens in the training split"
    return f"{said} (run {text.id}): {read}. Licence: {tokens['licence']}."


def without_folders(data: Any) -> Any:
    """Return a recipe's data with every path cut to its last part, for others to read."""
    if isinstance(data, dict):
        return {
            key: Path(v).name if key == "path" and isinstance(v, str) else without_folders(v) for key, v in data.items()
        }
    return [without_folders(item) for item in data] if isinstance(data, list) else data


def _figures(run: Run) -> list[str]:
    rows = list(_estimates({k: v for k, v in run.result.items() if k in ("validation", "untrained")}, ""))
    plain = [(name, f"{run.result[name]:,.4g}") for name in ("flops", "epochs") if name in run.result]
    whole = [(name, f"{run.result[name]:,}") for name in ("steps", "tokens") if name in run.result]
    if not rows and not whole:
        return []
    note = "Means over the validation split with their 95% intervals; `untrained` is the same model before training."
    found = ["## Figures"]
    found += [note, _table(("figure", "mean [interval]"), rows)] if rows else []
    return [*found, _table(("training", ""), [*whole, *plain])] if whole or plain else found


def _estimates(data: Any, name: str) -> Iterator[tuple[str, str]]:
    if not isinstance(data, dict):
        return
    if {"mean", "low", "high"} <= data.keys():
        yield name, f"{data['mean']:.4g} [{data['low']:.4g}, {data['high']:.4g}]"
        return
    for key, inner in data.items():
        yield from _estimates(inner, f"{name}.{key}" if name else key)


def _origin(run: Run) -> str:
    came = run.provenance
    code = came["code"]
    at = ", ".join(f"{key} {code[key]}" for key in ("version", "source", "commit") if key in code)
    rows = [
        ("code", f"Etude {at}"),
        ("machine", str(came["machine"].get("processor", ""))),
        ("libraries", ", ".join(f"{name} {version}" for name, version in came["libraries"].items())),
        ("seed", str(came.get("seed"))),
        ("made from", ", ".join(run.inputs) or "nothing"),
    ]
    return _table(("", "value"), rows)


def _table(columns: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [" | ".join(columns), "--- | ---", *(f"{name} | {value}" for name, value in rows)]
    return "\n".join(f"| {line.replace(chr(10), ' ')} |" for line in lines)
