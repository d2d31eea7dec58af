"""`etude import`: brings in a model of the ecosystem as a run."""  # noqa: N999 (files of verbs have their names)

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from etude.cli.complaints import remark
from etude.cli.console import AsJson, RunsFolder, near, say, say_json
from etude.cli.results import aligned
from etude.core.lab import Lab
from etude.core.machine import cores
from etude.core.run import Run
from etude.core.shelf import Shelf, check_name

command = App("import", version_flags=[])


@command.default
def import_(
    path: Annotated[
        str, Parameter(help="a folder with config.json and safetensors, a .bin of llama2.c, or OWNER/NAME on the hub.")
    ],
    /,
    *,
    name: Annotated[str | None, Parameter(name="--name", help="a name of your own for the run.")] = None,
    dtype: Annotated[
        Literal["fp32", "bf16", "fp16", "file"],
        Parameter(name="--dtype", help="precision of the weights that are kept; `file` as they come."),
    ] = "fp32",
    runs: RunsFolder = None,
    quiet: Annotated[
        bool, Parameter(name="--quiet", negative=(), show_default=False, help="show no progress.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Bring in a model from outside: GPT-2, GPT-NeoX (Pythia), Llama, Mistral, BERT, DistilBERT, or llama2.c's.

    What it makes is a run of kind `imported`, which stands wherever a model's run does. `etude run imported --help`
    shows what else can be set, as the text on which instruments look at it. The last line of the answer is its path.
    """
    from etude.models.recipes import Imported  # not needed for help

    if name is not None:
        check_name(name)
    lab = Lab(runs, threads=cores(), quiet=quiet)
    recipe = Imported(path=path, dtype=dtype).resolve()
    done = lab.lookup(recipe)
    if done and not quiet:
        remark(f"{done.id} is there already")
    made = done or lab.run(recipe)
    if name is not None:
        Shelf(lab.root).name(made, name)
    if json:
        say_json({"id": made.id, "path": near(made.path), "result": made.result})
        return
    for line in aligned(_facts(made)):
        say(line)
    say(near(made.path))


def _facts(run: Run) -> list[tuple[str, str]]:
    """Return what a person wants to know of a model that was brought in."""
    result: dict[str, Any] = run.result
    spec = result["architecture"]
    shape = f"{spec['layers']} layers, width {spec['width']}, {spec['heads']} heads, context {spec['context']:,}"
    rows = [
        ("run", run.id),
        ("format", f"{result['format']} ({result['class']})"),
        ("architecture", f"{spec['member']}: {shape}"),
        ("parameters", f"{result['parameters']:,}"),
        ("vocabulary", f"{result['vocabulary']:,}"),
        ("licence", result["licence"]),
    ]
    return rows + [("note", remark) for remark in result["remarks"]]
