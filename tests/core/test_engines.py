"""What an engine on a Ray cluster is made of, without a cluster: what is asked for, told and refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etude.core.done import Done
from etude.core.engines import cluster
from etude.core.engines.arrival import arrived
from etude.core.engines.cluster import lack, require_answer
from etude.core.engines.on_ray import OnRay, needs
from etude.core.engines.post import check_shared, opened_post, writer
from etude.core.engines.ray_task import make_in_task
from etude.core.errors import BusyError, EtudeError, Interrupted, UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run


@dataclass(frozen=True)
class Dice(Recipe, kind="toy-dice", does=f"{__name__}:throw"):
    """One throw."""

    number: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Usurped(Recipe, kind="toy-usurped", does=f"{__name__}:be_usurped"):
    """A run that another process takes over while it is made."""


def throw(recipe: Dice, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    return {"count": recipe.number}


def be_usurped(recipe: Usurped, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    Draft(run.path, recipe).stopwatch.path.write_text("the other's")
    run.log(step=0)
    return {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_without_ray_the_remedy_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name, *rest))
    with pytest.raises(UsageError, match=r"pip install 'etude\[ray\]'"):
        Lab(root, engine="ray", quiet=True).run(Dice())
    assert not list(root.glob("*"))


def test_what_is_done_needs_no_cluster(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Lab(root, quiet=True).run(Dice())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    assert Lab(root, engine="ray", quiet=True).run(Dice()).path == made.path


def test_an_engine_that_is_none_and_an_address_that_leads_nowhere_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'rya': did you mean 'ray'"):
        Lab(root, engine="rya")
    with pytest.raises(UsageError, match=r"'10\.0\.0\.1:6379' is that of a Ray cluster: add --engine ray"):
        Lab(root, address="10.0.0.1:6379")


def test_a_recipe_asks_for_its_threads_and_its_gpu() -> None:
    assert needs(Dice(), 3) == {"CPU": 3.0}
    assert needs(Dice(device="cuda"), 2) == {"CPU": 2.0, "GPU": 1.0}
    assert needs(Dice(2), 1) == {"CPU": 1.0}


def test_what_no_machine_has_is_told() -> None:
    machines = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 16.0}]
    assert lack({"CPU": 16.0}, machines) == lack({"CPU": 4.0, "GPU": 1.0}, machines) == ""
    assert lack({"CPU": 8.0, "GPU": 1.0}, machines) == (
        "needs 8 CPU and 1 GPU on one machine, and the most on any is 16 CPU and 1 GPU"
    )
    assert lack({"CPU": 1.0}, []) == "needs 1 CPU on one machine, and the most on any is 0 CPU"


def test_no_cluster_at_an_address_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster could be joined at '127\.0\.0\.1:1'"):
        require_answer("127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_answer(f"127.0.0.1:{server.getsockname()[1]}")


def test_lines_of_tasks_are_said_once_and_whole(root: Path) -> None:
    said: list[str] = []
    with opened_post(root) as post:
        writer(post.folder, "a")("alike")
        writer(post.folder, "b")("alike")
        (post.folder / "c.txt").write_text("one\nha")
        post.pass_on(said.append)
        assert said == ["alike", "one"]
        with (post.folder / "c.txt").open("a") as file:
            file.write("lf\n")
        post.pass_on(said.append)
        assert said == ["alike", "one", "half"]
        post.clear("a")
        assert sorted(path.name for path in post.folder.glob("*.txt")) == ["b.txt", "c.txt"]
        writer(post.folder, "a")("more, of a worker that lives on")
        post.pass_on(said.append)
        assert said[3:] == ["more, of a worker that lives on"]
        kept = post.folder
    writer(kept, "a")("nobody reads this")
    assert not list(root.glob("*")), "nothing is left behind"


def test_another_folder_and_locks_that_do_not_reach_are_found(root: Path) -> None:
    said: list[str] = []
    with opened_post(root) as post:
        check = (
            "import sys; from pathlib import Path; from etude.core.engines.post import check_shared\n"
            "check_shared(Path(sys.argv[1]), print)"
        )
        there = subprocess.run(
            [sys.executable, "-c", check, str(post.folder)], capture_output=True, text=True, check=True
        )
        assert there.stdout == "", "another process sees that the lock is held"
        with pytest.raises(UsageError, match="name one that all machines of the cluster share"):
            check_shared(root / "elsewhere" / ".post" / "word", said.append)
        folder = post.folder.with_name("unheld")
        folder.mkdir()
        (folder / "lab.lock").touch()
        check_shared(folder, said.append)
        assert len(said) == 1 and "file locks on" in said[0]


def test_another_etude_on_the_machine_is_refused(root: Path) -> None:
    with opened_post(root) as post, pytest.raises(UsageError, match="install the same Etude on every machine"):
        make_in_task(root, "toy-dice-000000000000", Dice(), Done(), 1, post.folder)


def test_a_run_may_show_late(root: Path) -> None:
    made = Lab(root, quiet=True).run(Dice())
    hidden = made.path.rename(root / "hidden")
    threading.Timer(0.3, lambda: hidden.rename(made.path)).start()
    assert arrived(root, made.id).result == made.result
    with pytest.raises(EtudeError, match="toy-none was made on another machine and does not show in"):
        arrived(root, "toy-none", patience=0.0)


def test_who_was_given_up_leaves_a_draft_that_was_taken_over(root: Path) -> None:
    """The case in which no lock helps: both believe that they hold it."""
    zombie = Draft(root / f"{Dice(1).id}.partial", Dice(1))
    zombie.log(step=0)
    newcomer = Draft(zombie.path, Dice(1))
    for write in (
        lambda: zombie.log(step=1),
        lambda: zombie.progress(2, 2),
        lambda: zombie.finish({}, {}),
        zombie.require_ours,
    ):
        with pytest.raises(BusyError, match="was taken over by another process"):
            write()
    newcomer.log(step=1)
    newcomer.progress(2, 2)
    made = newcomer.finish({"count": 1}, {})
    assert [row["step"] for row in made.record] == [0, 1]
    with pytest.raises(BusyError):
        zombie.progress(2, 2)
    made.verify()


def test_who_was_given_up_leaves_the_others_clock_alone(root: Path) -> None:
    with pytest.raises(BusyError, match="was taken over by another process"):
        Lab(root, quiet=True).run(Usurped())
    assert (root / f"{Usurped().id}.partial" / "scratch" / "clock.json").read_text() == "the other's"


# --- with what stands for Ray


def stand_in(monkeypatch: pytest.MonkeyPatch, init: Callable[[], Any]) -> list[str]:
    """Put what stands for Ray in its place, and return what becomes of it."""
    became: list[str] = []

    def begin(**options: Any) -> Any:
        became.append("begun")
        answer = init()
        became.append("joined")
        return answer

    ray = SimpleNamespace(is_initialized=lambda: False, init=begin, shutdown=lambda: became.append("ended"))
    monkeypatch.setattr(cluster, "_imported", lambda local: ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return became


def test_an_interrupt_while_ray_starts_waits_for_it_and_ends_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "session"
    session.mkdir()

    def init() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return SimpleNamespace(address_info={"session_dir": str(session)})

    became = stand_in(monkeypatch, init)
    with pytest.raises(Interrupted):
        Lab(root, engine="ray", quiet=True).run(Dice())
    assert became == ["begun", "joined", "ended"]
    assert not session.exists(), "Ray's logs of a cluster that is gone"


def test_a_termination_while_ray_starts_is_told_and_its_signal_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        os.kill(os.getpid(), signal.SIGTERM)

    before, became = signal.getsignal(signal.SIGTERM), stand_in(monkeypatch, init)
    with pytest.raises(Interrupted):
        Lab(root, engine="ray", quiet=True).run(Dice())
    assert became == ["begun"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_defect_in_a_task_says_where(root: Path) -> None:
    class RayTaskError(Exception):
        cause = KeyError("deep")

    def get(ref: str) -> None:
        raise RayTaskError("in the task, line 12")

    engine = OnRay(Lab(root, quiet=True)._setting(print))
    engine.ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayTaskError=RayTaskError, RayError=OSError))
    with pytest.raises(KeyError, match="deep") as caught:
        engine._is_made("ref")
    assert "line 12" in str(caught.value.__cause__)
