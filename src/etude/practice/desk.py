"""The folder in which somebody practises: one plain file a challenge, and copies of what was written, never lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from etude.core.errors import EtudeError, UsageError
from etude.core.files import write_text
from etude.practice.challenge import Challenge, Course
from etude.practice.notebook import FOLDER

LARGEST = 1_000_000
"""Bytes of an answer that are read."""


class Desk:
    """The files of a course in a folder.

    Args:
        folder: where somebody practises.
        course: the challenges.
    """

    def __init__(self, folder: Path, course: Course) -> None:
        self.folder, self.course = folder, course
        self.kept = folder / FOLDER / "kept"

    def lay_out(self) -> list[str]:
        """Write the starter of every challenge that has no file, and return their names."""
        new = [each for each in self.course if not self.path(each).exists()]
        for challenge in new:
            write_text(self.path(challenge), challenge.starter)
        return [each.name for each in new]

    def path(self, challenge: Challenge) -> Path:
        """Return the file of a challenge."""
        return self.folder / challenge.file

    def read(self, challenge: Challenge) -> str:
        """Return what stands in the file of a challenge.

        Raises:
            EtudeError: it is gone, or no text.
        """
        path = self.path(challenge)
        try:
            if path.stat().st_size > LARGEST:
                raise EtudeError(f"{challenge.file} has {path.stat().st_size:,} bytes: an answer is a page of Python")
            return path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise EtudeError(self._gone(challenge)) from None
        except IsADirectoryError:
            raise EtudeError(f"{challenge.file} is a folder: move it away, and save the answer there") from None
        except UnicodeDecodeError as error:
            raise EtudeError(f"{challenge.file} is not text in UTF-8 ({error.reason}): save it as UTF-8") from None

    def _gone(self, challenge: Challenge) -> str:
        own = {self.path(each) for each in self.course}
        strays = sorted(p.name for p in self.path(challenge).parent.glob("*.py") if p not in own)
        renamed = f" ({strays[0]} beside it is no challenge: was it renamed?)" if strays else ""
        last = self.kept / f"{challenge.name}.py"
        copy = f"; what was last checked is in {last.relative_to(self.folder)}" if last.exists() else ""
        return f"{challenge.file} is gone{renamed}: `etude practice reset {challenge.name}` writes a new one{copy}"

    def keep(self, challenge: Challenge, source: str, stage: str = "") -> Path:
        """Keep a copy of an answer: the last that was checked, or that of a stage, as in `solved-1`."""
        return write_text(self.kept / f"{challenge.name}{'-' if stage else ''}{stage}.py", source)

    def reset(self, challenge: Challenge) -> Path | None:
        """Write the starter anew, and return where what stood there was kept, if anything did."""
        path, kept = self.path(challenge), None
        if path.exists():
            stamp = datetime.now(UTC).strftime("before-reset-%Y%m%dT%H%M%S%f")
            kept = self.kept / f"{challenge.name}-{stamp}.py"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(path.read_bytes())
        write_text(path, challenge.starter)
        return kept


def refuse_foreign(folder: Path) -> None:
    """Refuse to lay challenges out in a folder that holds something else.

    Raises:
        UsageError: it holds more than hidden files, a virtual environment and a README.
    """
    harmless = {"readme", "license"}
    others = [
        path.name
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.stem.lower() not in harmless and not (path / "pyvenv.cfg").exists()
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UsageError(
            f"{folder.absolute()} holds {others[0]}{more}: make an empty folder (mkdir practice && cd practice), or add"
            " --here"
        )
