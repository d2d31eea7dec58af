"""A whole study, killed again and again, comes to the same result as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etude.core.run import Run
from etude.core.shelf import Shelf, differences

pytestmark = pytest.mark.kill

STUDY = " ".join(
    (
        "run progress-report --preset quick --quiet -j 2",
        "--train.data.corpus fable --train.data.corpus.stories 300 --train.data.tokenizer byte",
        "--train.model.width 16 --train.model.heads 2 --train.model.feedforward 32 --train.model.context 32",
        "--train.steps 300 --train.evaluate-every 100 --train.evaluate-tokens 1024 --train.model.dropout 0.1",
        "--sizes 2,5 --codes 4 --infovae.steps 60 --fit-tokens 1024 --harm-tokens 1024 --sample Once.",
    )
).split()


def study(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ETUDE_RUNS": str(folder), "ETUDE_SAVE_SECONDS": "0.2"}
    return subprocess.Popen([sys.executable, "-m", "etude", *STUDY], env=environment, stdout=subprocess.DEVNULL)


def finished(folder: Path) -> dict[str, Run]:
    return {run.id: run for run in Shelf(folder)}


def test_a_study_killed_again_and_again_ends_as_one_left_alone(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert study(whole).wait(300) == 0
    kills = 0
    for patience in (4.0, 5.0, 6.0, 7.0, 9.0, 12.0):
        process = study(broken)
        try:
            assert process.wait(patience) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.2)
    else:
        assert study(broken).wait(300) == 0
    assert kills >= 2, "the study ended before it could be killed twice"
    ours, theirs = finished(whole), finished(broken)
    assert set(ours) == set(theirs)
    assert len(ours) > 40
    assert not Shelf(broken).unfinished()
    for name, run in ours.items():
        assert differences(run, theirs[name]) == {}, name
