"""`etude doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App

import etude
from etude.cli.console import AsJson, RunsFolder, near, say, say_json
from etude.core.errors import EtudeError
from etude.core.files import bytes_of
from etude.core.lab import Lab
from etude.core.machine import cores, machine, multiplies_bf16
from etude.core.provenance import LIBRARIES

ENOUGH_MEMORY, ENOUGH_DISK = 4e9, 5e9
"""Bytes under which the demo is cramped."""

EXTRAS = {
    "faiss": ("retrieval", "searching a large library"),
    "datasketch": ("retrieval", "finding near-duplicates"),
    "lance": ("lance", "searching a library on disk"),
    "ray": ("ray", "more than one machine"),
    "huggingface_hub": ("hub", "models and data sets from the hub"),
    "pyarrow": ("hub", "parquet files"),
    "lm_eval": ("lm-eval", "the field's evaluation tasks"),
    "optuna": ("sweep", "sweeps that learn where to look"),
    "tensorboard": ("tensorboard", "metrics in TensorBoard"),
    "mlflow": ("mlflow", "metrics in MLflow"),
    "gymnasium": ("rl", "the field's environments"),
    "pettingzoo": ("rl", "environments of several agents"),
    "playwright": ("dev", "the tests of pages in a browser"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

command = App("doctor", version_flags=[])


@dataclass(frozen=True)
class Check:
    """One thing that a machine has or lacks.

    Attributes:
        what: its name.
        state: `ok`, `missing` where nothing works without it, or `optional` where something does.
        found: what is there.
        remedy: how to get it.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


@command.default
def doctor(*, json: AsJson = False, runs: RunsFolder = None) -> None:
    """Say what this machine has and what is missing, with the remedy. The exit code is 1 where Etude cannot work."""
    checks = [*_software(), *_torch(), *_hardware(), *_folders(Lab(runs).root), *_extras()]
    if json:
        say_json([vars(check) for check in checks])
    else:
        width = max(len(check.what) for check in checks)
        for check in checks:
            remedy = f"  ({check.remedy})" if check.remedy else ""
            say(f"{check.state:<8}  {check.what:<{width}}  {check.found}{remedy}".rstrip())
    broken = [check.what for check in checks if check.state == "missing"]
    if broken:
        raise EtudeError(f"Etude cannot work here without: {', '.join(broken)}")


def _software() -> Iterator[Check]:
    yield Check("etude", "ok", f"{etude.__version__} in {Path(etude.__file__).parent}")
    new_enough = sys.version_info >= (3, 11)
    remedy = "" if new_enough else "Etude needs Python 3.11 or newer"
    yield Check("python", "ok" if new_enough else "missing", f"{platform.python_version()} in {sys.prefix}", remedy)
    for name in LIBRARIES:
        version = _version(name)
        remedy = "" if version else f"pip install {name}"
        yield Check(name, "ok" if version else "missing", version or "not installed", remedy)


def _torch() -> Iterator[Check]:
    """Yield what PyTorch can use. It is imported here, which takes seconds."""
    if not importlib.util.find_spec("torch"):
        return
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Check("torch build", "ok", f"{build}, {torch.get_num_threads()} threads")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    yield Check("devices", "ok", ", ".join(devices), "" if len(devices) > 1 else "the demo needs no more than this")
    fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else multiplies_bf16()
    remedy = "" if fast else "precision fp32 is quicker here"
    yield Check("bf16", "ok" if fast else "optional", "in hardware" if fast else "only emulated", remedy)
    from etude.nn.peak import peak_flops

    device, precision = "cuda" if torch.cuda.is_available() else "cpu", "bf16" if fast else "fp32"
    peak = peak_flops(torch.device(device), precision) / 1e9
    yield Check("peak", "ok", f"{peak:,.0f} GFLOP/s of matrix products, {precision} on {device}")


def _hardware() -> Iterator[Check]:
    about = machine()
    yield Check("processor", "ok", f"{about['processor']}, {about['system']}")
    yield Check("cores", "ok", f"{cores()} of {os.cpu_count()}")
    memory = about["memory_gb"] * 1e9
    short = 0 < memory < ENOUGH_MEMORY
    remedy = f"under {bytes_of(ENOUGH_MEMORY)}: run studies with -j 1" if short else ""
    yield Check("memory", "optional" if short else "ok", bytes_of(memory) if memory else "unknown", remedy)


def _folders(root: Path) -> Iterator[Check]:
    standing = next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(standing).free
    remedy = "" if free >= ENOUGH_DISK else f"under {bytes_of(ENOUGH_DISK)}: make room, or choose another with --runs"
    yield Check("free disk", "ok" if not remedy else "optional", f"{bytes_of(free)} for {near(root)}", remedy)
    try:
        with tempfile.TemporaryFile(dir=standing):
            pass
    except OSError as error:
        remedy = "choose a folder of your own with --runs, or set ETUDE_RUNS"
        yield Check("runs folder", "missing", f"{near(root)}: {error.strerror}", remedy)
    else:
        yield Check("runs folder", "ok", near(root) + ("" if root.exists() else ", made by the first run"))


def _extras() -> Iterator[Check]:
    for module, (extra, purpose) in EXTRAS.items():
        here = importlib.util.find_spec(module) is not None
        remedy = "" if here else f"pip install 'etude[{extra}]'"
        yield Check(
            module, "ok" if here else "optional", f"for {purpose}" + ("" if here else ": not installed"), remedy
        )
    browser = _browser()
    remedy = "" if browser else "install chromium, or: playwright install chromium"
    yield Check("browser", "ok" if browser else "optional", browser or "none for the tests of pages", remedy)


def _browser() -> str | None:
    """Return the path of a Chromium, installed by the system or by playwright."""
    kept = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    fetched = sorted(map(str, kept.glob("chromium*"))) if kept.is_dir() else []
    return next(filter(None, map(shutil.which, BROWSERS)), None) or next(iter(fetched), None)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
