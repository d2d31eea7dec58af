"""What another machine wrote may show late in a folder on a network."""

from __future__ import annotations

import os
import time
from pathlib import Path

from etude.core.errors import EtudeError
from etude.core.run import MANIFEST, Run

PATIENCE = 90.0
"""Seconds that it may take to show. NFS clients keep what they know of a folder for up to 60 by default."""


def appears(path: Path, within: Path, patience: float = PATIENCE) -> bool:
    """Wait for a file that is known to be written, and return whether it shows here.

    Args:
        path: the file.
        within: a folder above it that is here already.
        patience: seconds.
    """
    until = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > until:
            return False
        os.listdir(within)  # opening a folder makes an NFS client ask again what is in it
        time.sleep(0.2)
    return True


def require_shown(path: Path, patience: float = PATIENCE) -> None:
    """Wait for a file that another machine wrote into a folder that is here.

    Raises:
        EtudeError: it does not show.
    """
    if not appears(path, path.parent, patience):
        raise EtudeError(
            f"{path.name} was made on another machine and does not show in {path.parent}: name a folder that all"
            " machines of the cluster share with --runs"
        )


def arrived(root: Path, name: str, patience: float = PATIENCE) -> Run:
    """Return a run that is known to be made, as soon as it shows here.

    Raises:
        EtudeError: it does not show.
    """
    if not appears(root / name / MANIFEST, root, patience):
        raise EtudeError(
            f"{name} was made on another machine and does not show in {root}: name a folder that all machines of"
            " the cluster share with --runs"
        )
    return Run(root / name)
