"""`etude export`: writes a run's model, or the sparse codec of a compression, in the ecosystem's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from etude.cli.console import AsJson, RunsFolder, near, say, say_json
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.shelf import Shelf

command = App("export", version_flags=[])


@command.default
def export(
    run: Annotated[str, Parameter(help="a run that holds a model, or a sparse codec.")],
    folder: Annotated[Path, Parameter(help="where to.")],
    /,
    *,
    to: Annotated[
        Literal["hf", "saelens"],
        Parameter(name="--to", help="hf: a model as transformers writes it; saelens: a sparse codec as SAELens does."),
    ] = "hf",
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        Parameter(name="--dtype", help="precision of the weights. By default the one they have."),
    ] = None,
    force: Annotated[
        bool,
        Parameter(name="--force", negative=(), show_default=False, help="write over what a folder holds."),
    ] = False,
    runs: RunsFolder = None,
    json: AsJson = False,
) -> None:
    """Write a run's model as a folder that transformers loads and goes on training: weights, configuration, tokenizer,
    and a card that says where it comes from. With `--to saelens`, write the sparse autoencoder that a compression
    fitted as a folder that SAELens loads. The last line of the answer is the folder.
    """
    shelf = Shelf(Lab(runs).root)
    found = shelf.find(run)
    if to == "saelens":
        _sparse(found, folder, dtype, force, json)
        return
    from etude.models.card import card  # with PyTorch, not needed for help
    from etude.models.load import load
    from etude.models.outgoing import export as write

    model, tokenizer = load(found)
    text = card(found, model.spec, model.vocabulary, shelf)
    config = write(model, tokenizer, folder, text, dtype, force)
    kind, count = config["architectures"][0], sum(parameter.numel() for parameter in model.parameters())
    if json:
        answer = {"run": found.id, "folder": near(folder), "class": kind, "parameters": count, "dtype": config["dtype"]}
        say_json(answer)
        return
    say(f"{found.id} as {kind}: {count:,} parameters in {config['dtype']}")
    say(near(folder))


def _sparse(run: Run, folder: Path, dtype: str | None, force: bool, json: bool) -> None:
    """Write the sparse codec of a compression, and say so."""
    from etude.compress.saelens import export_saelens  # with PyTorch, not needed for help

    if dtype not in (None, "fp32"):
        raise UsageError(f"--dtype {dtype}: a sparse codec is written as it is, in fp32; leave --dtype out")
    config = export_saelens(run, folder, force)
    kind, hook = config["architecture"], config["metadata"]["hook_name"]
    if json:
        say_json({"run": run.id, "folder": near(folder), "class": kind, "latents": config["d_sae"], "hook": hook})
        return
    say(f"{run.id} as {kind}: {config['d_sae']:,} latents at {hook}")
    say(near(folder))
