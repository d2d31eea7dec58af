"""Writes a report into a folder: the page, and the same as Markdown with pictures."""

from __future__ import annotations

from pathlib import Path

from etude.core.files import write_text
from etude.report.blocks import Report
from etude.report.html import html
from etude.report.markdown import markdown


def publish(report: Report, folder: Path | str) -> Path:
    """Write `report.html`, `report.md` and its pictures into a folder; return the path of the page.

    Each file is replaced in one step and the page last, so that a kill leaves the old page or the new one.
    """
    folder = Path(folder)
    page = html(report)
    markdown(report, folder)
    return write_text(folder / "report.html", page)
