"""`etude export`: writes a run's model in the ecosystem's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from etude.cli.console import AsJson, RunsFolder, near, say, say_json
from etude.core.lab import Lab
from etude.core.shelf import Shelf

command = App("export", version_flags=[])


@command.default
def export(
    run: Annotated[str, Parameter(help="a run that holds a model.")],
    folder: Annotated[Path, Parameter(help="where to.")],
    /,
    *,
    to: Annotated[Literal["hf"], Parameter(name="--to", help="hf: a folder as transformers writes it.")] = "hf",
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
    and a card that says where it comes from. The last line of the answer is the folder.
    """
    from etude.models.card import card  # with PyTorch, not needed for help
    from etude.models.load import load
    from etude.models.outgoing import export as write

    shelf = Shelf(Lab(runs).root)
    found = shelf.find(run)
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
