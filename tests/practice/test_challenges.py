"""Every challenge of the house can be trusted: starters are blank, solutions pass, each mutant gets its own message."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from etude.practice.challenge import FEWEST_MUTANTS, HOUSE, PARTS, Challenge, Course, Mutant
from etude.practice.judging import judge
from etude.practice.proving import SEEDS, complaints

COURSE = Course.load()
NAMES = [each.name for each in COURSE]


@pytest.mark.parametrize("name", NAMES)
def test_a_blank_starter_a_solution_that_passes_and_an_answer_for_each_mutant(name: str) -> None:
    trains = name == "train_one"  # seconds for each, and its numbers matter less
    assert list(complaints(COURSE[name], (0,) if trains else SEEDS)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_message_names_the_mistake_and_not_numbers_alone(name: str) -> None:
    """The sentence that a mutant is told by is one of the check, not of the differing entries that follow it."""
    generic = ("is not right", "and should be", "entries differ", "should have")
    assert [mutant.says for mutant in COURSE[name].mutants if any(words in mutant.says for words in generic)] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_learner_is_given_is_short_and_says_what_is_asked(name: str) -> None:
    challenge = COURSE[name]
    tree = ast.parse(challenge.starter)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions and len(challenge.starter.splitlines()) <= 60
    for node in functions:
        assert len(ast.get_docstring(node) or "") > 50, f"{node.name} does not say what is asked"
        assert ast.unparse(node.body[-1]).startswith("raise NotImplementedError") and len(node.body) == 2
        solved = next(n for n in ast.parse(challenge.solution).body if getattr(n, "name", "") == node.name)
        assert isinstance(solved, ast.FunctionDef)
        assert ast.unparse(node.args) == ast.unparse(solved.args), f"{node.name} has other parameters in the solution"


@pytest.mark.parametrize("name", [each.name for each in COURSE if each.further])
def test_the_grown_up_version_exists(name: str) -> None:
    further = COURSE[name].further
    if further.startswith("etude run "):
        from etude.core.recipe import kinds

        assert further.split()[2] in kinds()
    else:
        module, _, attribute = further.partition(":")
        assert importlib.util.find_spec(module) is not None and not attribute


def test_there_are_enough_and_in_order() -> None:
    assert len(COURSE) >= 45
    assert set(COURSE.tracks) == {each.track for each in COURSE}
    folders = {path.name for path in HOUSE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(NAMES), "a folder that the manifest does not name, or the other way round"
    assert min(len(each.mutants) for each in COURSE) >= FEWEST_MUTANTS
    twice = [title for title, count in Counter(each.title for each in COURSE).items() if count > 1]
    assert not twice


def test_a_track_brings_what_it_builds_on() -> None:
    for track in COURSE.tracks:
        along = COURSE.along(track)
        names = {each.name for each in along}
        assert {each.name for each in COURSE if each.track == track} <= names
        assert all(set(each.after) <= names for each in along)
        assert [each.name for each in along] == [name for name in NAMES if name in names]


# The proof proves


@pytest.fixture
def softmax() -> Challenge:
    return COURSE["softmax"]


def test_a_mutant_that_passes_is_reported(softmax: Challenge) -> None:
    equal = Mutant("no mistake at all", "import torch\n", "import torch\n\n", "whatever")
    said = list(complaints(replace(softmax, mutants=(*softmax.mutants, equal))))
    assert said == ["softmax: the mutant 'no mistake at all', seed 0, passes"]


def test_a_mutant_with_another_message_is_reported(softmax: Challenge) -> None:
    first, *rest = softmax.mutants
    other = replace(first, says="something else")
    (said,) = complaints(replace(softmax, mutants=(other, *rest)))
    assert "which does not say 'something else'" in said
    same = replace(first, says="sum")
    assert any("is answered as" in each for each in complaints(replace(softmax, mutants=(first, same, *rest))))


def test_a_mutant_of_nothing_or_too_few_are_reported(softmax: Challenge) -> None:
    lost = replace(softmax.mutants[0], old="not there")
    said = list(complaints(replace(softmax, mutants=(lost,))))
    assert said[0] == "softmax has 1 mutants: give 5 or more" and "stands 0 times in the solution" in said[1]


def test_a_solution_that_fails_and_a_starter_that_does_not_are_reported(tmp_path: Path, softmax: Challenge) -> None:
    for part in PARTS:
        (tmp_path / part).write_text((softmax.folder / part).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "starter.py").write_text(softmax.solution, encoding="utf-8")
    (tmp_path / "solution.py").write_text(softmax.solution.replace("dim=-1", "dim=0"), encoding="utf-8")
    said = list(complaints(replace(softmax, folder=tmp_path, mutants=())))
    assert any("the starter is passed" in each for each in said)
    assert any("the solution is wrong with seed 0" in each for each in said)


def test_a_check_leaves_no_trace_in_the_process(softmax: Challenge) -> None:
    import torch

    before, modules = torch.random.get_rng_state(), set(sys.modules)
    judge(softmax, softmax.solution, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert "softmax" not in set(sys.modules) - modules
