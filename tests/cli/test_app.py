"""The command as a whole: its verbs, quick help, and errors of one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from etude.cli import app
from etude.core.errors import EtudeError, Interrupted, UsageError

VERBS = ["list", "show", "plan", "run", "report", "import", "export", "chat", "play", "practice", "runs", "doctor"]
UNWANTED = ["torch", "numpy", "altair", "scipy", "tokenizers", "etude.core.lab", "etude.cli.run", "etude.studies"]


def in_own_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_these_verbs_exist_and_no_others():
    assert list(app.VERBS) == VERBS
    commands = {name for name in app.command_line() if not name.startswith("-")}
    assert commands == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(etude, verb):
    answer = etude(verb, "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: etude {verb}")
    assert "--debug" not in answer.out


def test_help_imports_nothing_heavy_and_is_quick(record_property):
    done = in_own_process(f"""
import json, sys, time
from etude.cli.app import main
code = main(["--help"])
heavy = [name for name in {UNWANTED} if name in sys.modules]
print(json.dumps([code, heavy, time.process_time()]), file=sys.stderr)
""")
    code, heavy, seconds = json.loads(done.stderr)
    record_property("processor_seconds_of_help", seconds)
    assert (code, heavy) == (0, [])
    assert all(f"  {verb}: " in done.stdout for verb in VERBS)


@pytest.mark.parametrize(
    "words", [["list"], ["run", "train", "--help"], ["plan", "train", "--data.corpus", "fable"], ["show", "pca"]]
)
def test_torch_is_not_imported_to_look_or_plan(words):
    done = in_own_process(
        f"import sys; from etude.cli.app import main; main({words}); sys.exit('torch' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_python_m_etude_is_the_command():
    done = subprocess.run([sys.executable, "-m", "etude", "lisst"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("etude: unknown verb 'lisst': did you mean 'list'?")
    assert done.stderr.count("\n") == 1


def test_version(etude):
    assert etude("--version").out.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("wrong"), 2, "etude: wrong"),
        (EtudeError("failed\nin two lines"), 1, "etude: failed in two lines"),
        (Interrupted("stopped; run again"), 1, "etude: stopped; run again"),
        (KeyboardInterrupt(), 1, "etude: stopped; the same command goes on from here"),
        (OSError(28, "No space left on device", "runs/x"), 1, "etude: No space left on device: runs/x; --debug"),
        (ZeroDivisionError("division by zero"), 1, "etude: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(etude, monkeypatch, error, code, line):
    def fail(*_):
        raise error

    monkeypatch.setattr("etude.cli.list._sections", fail)
    answer = etude("list")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(line)
    assert answer.err.count("\n") == 1
    debugged = etude("list", "--debug")
    assert debugged.code == code
    assert "Traceback" in debugged.err and debugged.err.splitlines()[-1] == answer.err.strip()


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m etude list | head -n 1"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("studies\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("runs nmae a b", "unexpected 'nmae'. See: etude runs --help"),
        ("runs name a", "NAME is missing. See: etude runs name --help"),
        ("runs list --jsn", "unknown flag --jsn: did you mean --json? See: etude runs list --help"),
        ("list --runs", "--runs needs a value. See: etude list --help"),
        ("doctor --runs a --runs b", "--runs is given more than once. See: etude doctor --help"),
        ("run train -j x", 'Invalid value for -j: unable to convert "x" into int. See: etude run train --help'),
        ("run train -j 0", "--jobs 0 is too few: give 1 or more, or leave it out"),
        ("run", "nothing to run: write etude run NAME, the name of a recipe or study. See: etude list"),
        ("run --steps 3 train", "--steps stands before a name: write etude run NAME first, then --steps."),
        ("run trian", "unknown recipe or study 'trian': did you mean 'train'? There are: "),
        ("run train tests", "unexpected 'tests'. See: etude run train --help"),
        ("run train -x", "unknown flag -x. See: etude run train --help"),
        ("plan train --preset quick", "unknown preset of train 'quick': There are: none."),
        ("plan progress-report --preset quik", "unknown preset of progress-report 'quik': did you mean 'quick'?"),
    ],
)
def test_wrong_use_is_one_line_with_the_remedy(etude, words, line):
    answer = etude(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"etude: {line}")
    assert answer.err.count("\n") == 1
