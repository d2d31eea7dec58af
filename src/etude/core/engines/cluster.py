"""A Ray cluster: one that is joined, or one that is started on this machine and ended again."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from etude.core.errors import UsageError
from etude.core.signals import put_off, stopped_by_termination

LOCAL = "local"
"""The address of a cluster that is started here."""

STORE_BYTES = 80 * 2**20
"""Memory of the object store of one that is started here, nearly the least that Ray takes: next to nothing goes through
it."""

QUIET = "critical"
"""The level of what Ray logs by itself. It would tell of lost workers too, which are told here."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What makes a cluster that is started here listen to this machine alone. It is named after the systems on which it is
the default."""

IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "2"}
"""How often Ray tries to join where something answers that may be no Ray: 40 seconds each, and 20 times by itself."""


def address_of(address: str | None = None) -> str:
    """Return where the cluster is: the address given, else `$RAY_ADDRESS`, else one is started here."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


@contextmanager
def joined(address: str, room: int) -> Iterator[Any]:
    """Join or start a cluster for the block, unless this process is in one already. SIGTERM stops the block as Ctrl-C
    does.

    Args:
        address: what `address_of` returned.
        room: cores of a cluster that is started here.

    Yields:
        The module `ray`.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """
    ray = _imported(local=address == LOCAL)
    with ExitStack() as within:
        within.enter_context(stopped_by_termination())
        if not ray.is_initialized():
            _join(ray, address, room, within)
        yield ray


def for_tasks() -> dict[str, Any]:
    """Return the options by which a task or an actor is given the variables that begin with `ETUDE_`."""
    said = {name: value for name, value in os.environ.items() if name.startswith("ETUDE_")}
    return {"runtime_env": {"env_vars": said}} if said else {}


def lack(wanted: Mapping[str, float], machines: Sequence[Mapping[str, float]]) -> str:
    """Return what no machine has enough of, in words, or nothing where one has it all."""
    if any(all(has.get(name, 0) >= least for name, least in wanted.items()) for has in machines):
        return ""
    asked = " and ".join(f"{least:g} {name}" for name, least in wanted.items())
    most = " and ".join(f"{max((has.get(name, 0) for has in machines), default=0):g} {name}" for name in wanted)
    return f"needs {asked} on one machine, and the most on any is {most}"


def require_answer(address: str, patience: float = 5.0) -> None:
    """Make sure that something answers at `HOST:PORT`, since Ray itself would try for minutes.

    Raises:
        UsageError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto", or a form that Ray itself refuses
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from None


def _join(ray: Any, address: str, room: int, within: ExitStack) -> None:
    """Join or start a cluster, and leave it with the stack."""
    local = address == LOCAL
    options: dict[str, Any] = {"address": address, "logging_level": QUIET, "log_to_driver": False}
    if local:
        options |= {"num_cpus": room, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    else:
        require_answer(address)
    try:
        with put_off() if local else nullcontext():  # what is half started here would live on without an owner
            found = ray.init(**options)
            within.enter_context(stopped_by_termination())  # once more: Ray took the signal for itself
            within.callback(_leave, ray, found, local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error).strip().partition("\n")[0]) from None
    except SystemExit:  # Ray's own answer to SIGTERM
        raise KeyboardInterrupt from None


def _leave(ray: Any, found: Any, local: bool) -> None:
    """Leave the cluster. One that was started here is ended, and its logs, which Ray would keep for ever, go."""
    ray.shutdown()
    if local:
        shutil.rmtree(found.address_info["session_dir"], ignore_errors=True)


def _unreachable(address: str, reason: str) -> UsageError:
    return UsageError(
        f"no Ray cluster could be joined at {address!r} ({reason}); give the address that `ray start --head` printed,"
        " or leave out --address and unset RAY_ADDRESS to start one here"
    )


def _imported(*, local: bool) -> Any:
    """Import Ray, told by its environment to report to nobody, and to stay on this machine where it is started here."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is asked for and is not installed: pip install 'etude[ray]'")
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", **(LOOPBACK if local else IMPATIENT)}.items():
        os.environ.setdefault(name, value)
    return importlib.import_module("ray")
