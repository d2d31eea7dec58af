"""Ray on this machine, for tests: labs in processes of their own, and a cluster of two nodes, one of which may die.

A lab's process and Ray's workers import the test's file from the checkout, by the name that it has here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[1]

PAUSE = "ETUDE_TEST_PAUSE"
"""Variable with the seconds that a step takes. It is in no recipe, and it goes along to the workers."""

ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Variables with which Ray listens on this machine alone, and tells nobody."""

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
one = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
second = cluster.add_node(**one)
print(cluster.address, second.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
Begin = Callable[..., subprocess.Popen[str]]


@contextmanager
def sessions_folder() -> Iterator[Path]:
    """Give Ray a folder for its sessions that is not kept. Its sockets need a short path."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which Ray's workers find the tests, and know of no other cluster."""
    paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **ALONE, **own, **more}


@contextmanager
def labs(script: str, root: Path) -> Iterator[Begin]:
    """Give a function that starts a lab in a process of its own, which is killed in the end.

    Args:
        script: Python that finds the folder of runs, a recipe and a cluster's address (or nothing) in `sys.argv[1:]`.
        root: the folder of runs.
    """
    begun: list[subprocess.Popen[str]] = []

    def begin(recipe: str, address: str = "", pause: float = 0.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(root), recipe, address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(**{PAUSE: str(pause)}),
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        with process:
            process.kill()


@dataclass(frozen=True)
class Two:
    """Two nodes of a cluster on this machine: where it is, and the process of the second node's raylet."""

    address: str
    raylet: int

    def workers(self) -> set[int]:
        """Return the processes that the second node's raylet started."""
        return {int(pid) for pid in Path(f"/proc/{self.raylet}/task/{self.raylet}/children").read_text().split()}

    def kill_second(self) -> set[int]:
        """Kill the second node, and return the workers that died with it."""
        workers = self.workers()
        for pid in (self.raylet, *workers):
            os.kill(pid, signal.SIGKILL)
        return workers


@contextmanager
def two_nodes(answer_ms: int) -> Iterator[Two]:
    """Start two nodes, and skip the test where they cannot be told apart.

    Args:
        answer_ms: a node that three times did not answer within so long is given up: after seconds, where Ray's own
            settings take half a minute.
    """
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc tells which processes are a node's")
    checks = {
        "RAY_health_check_initial_delay_ms": "500",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": str(answer_ms),
        "RAY_health_check_failure_threshold": "3",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(**checks),
    )
    assert process.stdout is not None
    address, raylet = process.stdout.readline().split()
    yield Two(address, int(raylet))
    process.communicate(timeout=60)


def tell(root: Path, *numbers: int) -> None:
    """Tell of a step outside the folder of runs: its numbers, and the process that takes it."""
    with (root.parent / "told.txt").open("a") as file:
        print(*numbers, os.getpid(), file=file)


def told(root: Path) -> list[tuple[int, ...]]:
    """Return numbers and process of every step that was begun anywhere, in order."""
    path = root.parent / "told.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def wait_for(condition: Callable[[], Any], seconds: float = 240.0) -> None:  # Ray takes long to start on a busy machine
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
