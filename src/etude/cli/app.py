"""The command `etude`: its verbs, and what a person sees when something goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

import etude
from etude.cli.complaints import complain, explain, help_style
from etude.core.errors import EtudeError

VERBS = {
    "list": "what there is: studies, recipes, families and their members, runs",
    "show": "one of them in full",
    "plan": "what a recipe or study would do: runs, parameters, FLOPs, time, what is done already",
    "run": "do it",
    "report": "build the page of a study's run again",
    "import": "bring in a model of the ecosystem",
    "export": "write a run's model for the ecosystem",
    "chat": "talk with a model, at a terminal or from programs",
    "play": "play GoalCycle at the keyboard, and record it for agents to learn from",
    "practice": "rebuild every part yourself, checked whenever you save, and know where you stand",
    "runs": "list, name, compare, move, check and remove runs",
    "doctor": "what this machine has, and what is missing",
}
"""Every verb, with its line of help. Each is `command` in a file of its name in this folder."""

WELCOME = """A laboratory for small transformers: build, train, look inside, compress, and report.

Begin with `etude list`, then `etude run progress-report --preset quick`.
`--debug` anywhere adds the traceback to an error."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit code: 0 done, 1 the work failed, 2 wrong use.

    Args:
        words: the command line after `etude`; by default this process's.
    """
    given, debug = _without_debug(sys.argv[1:] if words is None else words)
    try:
        command_line(wants_help=not given or not {"--help", "-h"}.isdisjoint(given))(
            given, exit_on_error=False, print_error=False, result_action="return_value"
        )
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone, as in `etude list | head`
        _silence()
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (whatever happens, a person sees one line)
        if debug:
            traceback.print_exc()
        message, code = _verdict(error)
        complain(message)
        return code
    return 0


def command_line(*, wants_help: bool = False) -> App:
    """Return the command with its verbs, none of which is imported yet."""
    style = help_style() if wants_help else {}
    app = App(
        "etude",
        help=WELCOME,
        version=etude.__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # it would leave with 130 and without a word
        **style,
    )
    for order, (verb, line) in enumerate(VERBS.items()):
        app.command(f"etude.cli.{verb}:command", name=verb, help=line, sort_key=order)
    app["--help"].group = app["--version"].group = "Flags"
    return app


def _without_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    given = list(words)
    kept = [word for word in given if word != "--debug"]
    return kept, len(kept) != len(given)


def _verdict(error: BaseException) -> tuple[str, int]:
    """Return what is said of an error, in one line, and the exit code."""
    match error:
        case EtudeError():
            return str(error), error.exit_code
        case CycloptsError():
            return explain(error, VERBS), 2
        case KeyboardInterrupt():
            return "stopped; the same command goes on from here", 1
        case OSError(strerror=str(reason), filename=name):
            return reason + (f": {name}" if name else "") + "; --debug shows where", 1
        case _:
            return f"{type(error).__name__}: {error} (a defect in Etude, it seems: --debug shows the traceback)", 1


def _silence() -> None:
    """Let the interpreter's last flush of standard output go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
