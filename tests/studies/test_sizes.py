"""The table of sizes: its numbers are the shapes', and it says where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.models.shapes import SHAPES, families, named
from etude.studies.sizes import Sizes, is_close, row


def test_nothing_is_asked_for() -> None:
    assert list(Sizes().plan({})) == []


def test_every_shape_once_with_its_own_count(tmp_path: Path) -> None:
    run = Lab(tmp_path, threads=1, quiet=True).run(Sizes())
    rows = [each for family in families() for each in run.result[family]]
    assert [each["name"] for each in rows] == [shape.name for shape in SHAPES]
    small = next(each for each in rows if each["name"] == "gpt2")
    # token and position embeddings; 12 blocks of four maps, two wide ones and two norms; the last norm
    block = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert small["parameters"] == 768 * (50_257 + 1024) + 12 * block + 2 * 768 == 124_439_808
    assert small["difference"] == pytest.approx(124_439_808 / 117e6 - 1)
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "124,439,808" in page and "the paper&#39;s count is too low" in page


def test_what_differs_from_its_paper_is_said_with_its_reason() -> None:
    far = [shape for shape in SHAPES if not is_close(shape)]
    assert far and all(shape.remark for shape in far), "a count that is far off needs a remark in models/shapes.py"
    assert all(abs(row(shape)["difference"]) > 0.03 for shape in far)


def test_one_family_alone(tmp_path: Path) -> None:
    run = Lab(tmp_path, threads=1, quiet=True).run(Sizes("gpt2"))
    assert set(run.result) - {"timing"} == {"gpt2"} and named("gpt2").name == run.result["gpt2"][0]["name"]


def test_a_family_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="unknown family of shapes 'gpt9'"):
        Sizes("gpt9")
