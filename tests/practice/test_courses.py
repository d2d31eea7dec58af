"""Courses of one's own: scaffolds that prove, and manifests and descriptions that say where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude.core.errors import UsageError
from etude.practice import practising
from etude.practice.challenge import Course
from etude.practice.judging import judge
from etude.practice.practising import Practice
from etude.practice.proving import complaints
from etude.practice.scaffolding import scaffold


def test_a_scaffold_proves_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practising, "judged", judge)
    ours, here = tmp_path / "ours", tmp_path / "desk"
    here.mkdir()
    scaffold("row-means", ours)
    scaffold("second", ours)
    course = Course.load(ours)
    assert [each.name for each in course] == ["row_means", "second"] and list(course.tracks) == ["own"]
    for challenge in course:
        assert list(complaints(challenge)) == []
    practice = Practice.begin(here, course=ours)
    means = course["row_means"]
    practice.desk.path(means).write_text(means.solution, encoding="utf-8")
    assert practice.check(means).passed
    assert Practice(here).course["second"].track == "own"  # found again from the notebook


@pytest.mark.parametrize(
    ("name", "words"),
    [("Upper", "no name for a challenge"), ("2nd", "no name"), ("class", "no name"), ("taken", "exists already")],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match=words):
        scaffold(name, tmp_path)
    assert not (tmp_path / "manifest.toml").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (("manifest.toml", "order = ['own/none']\n[tracks]\nown = 'x'"), "has no challenge.toml"),
        (("manifest.toml", "order = ['chess/a']\n[tracks]\nown = 'x'"), "unknown track"),
        (("manifest.toml", "order = ['own/a', 'own/a']\n[tracks]\nown = 'x'"), "names 'a' twice"),
        (("manifest.toml", "order = []\n[tracks]\nown = 'x'"), "orders no challenge"),
        (("manifest.toml", "order ="), "is not TOML"),
        (("a/challenge.toml", "title = 'x'"), "has no 'minutes'"),
        (("a/challenge.toml", "titel = 'x'"), "did you mean 'title'"),
    ],
)
def test_a_course_that_is_malformed_says_where(tmp_path: Path, damage: tuple[str, str], words: str) -> None:
    scaffold("a", tmp_path)
    (tmp_path / damage[0]).write_text(damage[1], encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        Course.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("minutes = [5, 20]", "minutes = [20, 5]", r"minutes = \[20, 5\]: give \[least, most\]"),
        ("after = []", "after = ['b']", "'a' comes after 'b', which the manifest has later or not at all"),
        ('    "Almost the code; a line is left to write.",\n', "", "has 2 hints: give 3"),
    ],
)
def test_a_description_that_is_malformed_says_where(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = scaffold("a", tmp_path) / "challenge.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        Course.load(tmp_path)
