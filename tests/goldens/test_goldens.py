"""What a recipe comes to does not change unless a version says so; and a change that is forgotten is found."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etude.compress.material import Material
from etude.compress.methods import pca
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.recipe import Recipe, kinds
from etude.train.optimisers.adamw import AdamW
from etude.train.recipes import Train


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("goldens_rewrite", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rewrite = loaded(Path(__file__).with_name("rewrite.py"))
CASES: dict[str, Recipe] = rewrite.cases()
STORED: dict[str, dict[str, Any]] = rewrite.load()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.mark.parametrize("name", CASES)
def test_nothing_moved_without_a_version(name: str, lab: Lab) -> None:
    assert name in STORED, f"{name} is new; {rewrite.REMEDY}"
    said = rewrite.complaint(name, STORED[name], rewrite.observe(lab, CASES[name]))
    assert not said, said


def test_every_kind_and_every_method_has_a_golden() -> None:
    assert set(STORED) <= set(CASES), "a case is gone: take its golden out of goldens.json"
    house = {name for name, kind in kinds().items() if kind.__module__.startswith("etude.")}  # no other test's toys
    assert {recipe.kind for recipe in CASES.values()} == house, "give the new kind a case in rewrite.py"
    methods = {name.removeprefix("compress ") for name in CASES if name.startswith("compress ")}
    assert methods == set(Family("compress/methods").names()), "give the new method a case in rewrite.py"


# What is forgotten is found


def defaulted(monkeypatch: pytest.MonkeyPatch, cls: Any, name: str, value: Any) -> None:
    """Change the default of a field, as an edit to the class would."""
    names = [f.name for f in dataclasses.fields(cls)]
    defaults = list(cls.__init__.__defaults__)
    defaults[names.index(name) - len(names)] = value
    monkeypatch.setattr(cls.__init__, "__defaults__", tuple(defaults))
    monkeypatch.setattr(cls.__dataclass_fields__[name], "default", value)


def seen(recipe: Recipe, outcome: dict[str, Any]) -> dict[str, Any]:
    settled = recipe.resolve()
    return {"recipe": settled.to_json(), "fingerprint": settled.fingerprint(), "outcome": outcome}


def test_a_default_that_changed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaulted(monkeypatch, AdamW, "beta2", 0.5)
    assert AdamW().beta2 == 0.5
    found = rewrite.observe(Lab(tmp_path, threads=1, quiet=True), rewrite.cases()["train"])
    assert found["fingerprint"] == STORED["train"]["fingerprint"]  # the name stays, and would now promise another run
    said = rewrite.complaint("train", STORED["train"], found)
    assert "optimiser.beta2 was 0.95 and is 0.5" in said and "Bump the `version`" in said
    assert list(rewrite.outcome_moved(STORED["train"]["outcome"], found["outcome"]))  # the numbers tell too


def test_a_default_that_moves_no_number_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    defaulted(monkeypatch, Train, "evaluate_every", 100)
    found = seen(rewrite.cases()["heads"], STORED["heads"]["outcome"])
    assert "of.evaluate_every was 250 and is 100" in rewrite.complaint("heads", STORED["heads"], found)


def test_code_that_changed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = pca.Pca.fit

    def uncentred(self: pca.Pca, material: Material, *rest: Any) -> Any:
        codec = fit(self, material, *rest)
        codec.get_buffer("centre").mul_(0.9)
        return codec

    monkeypatch.setattr(pca.Pca, "fit", uncentred)
    name = "compress pca"
    said = rewrite.complaint(name, STORED[name], rewrite.observe(Lab(tmp_path, threads=1, quiet=True), CASES[name]))
    assert said.startswith("compress pca: the outcome moved and no version says so (")
    assert "explained.L0.attn.out" in said or "codec.safetensors:L0.attn.out/centre" in said
    assert "Bump the `version` of adamw or byte or compress or decoder" in said


def test_a_version_that_was_bumped_asks_for_new_goldens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Train, "version", Train.version + 1)
    moved = {**STORED["heads"]["outcome"], "gain.mean": 99.0}
    said = rewrite.complaint("heads", STORED["heads"], seen(CASES["heads"], moved))
    assert said == f"heads: the version or content of train changed; {rewrite.REMEDY}"
    assert rewrite.complaint("tokens byte", STORED["tokens byte"], seen(CASES["tokens byte"], {})).startswith(
        "tokens byte: the outcome moved"
    )


def test_a_field_that_was_taken_away_is_found() -> None:
    stored = copy.deepcopy(STORED["train"])
    stored["recipe"]["model"]["experts"] = 1
    assert "has no field 'experts'" in rewrite.complaint("train", stored, STORED["train"])


def test_a_field_that_was_added_and_changes_nothing_is_no_change() -> None:
    stored = copy.deepcopy(STORED["train"])
    del stored["recipe"]["model"]["rotary_base"]
    assert rewrite.complaint("train", stored, STORED["train"]) == ""


def test_a_fingerprint_that_moved_is_found() -> None:
    stored = {**STORED["train"], "fingerprint": "0" * 64}
    assert "its fingerprint was 000000000000 and is" in rewrite.complaint("train", stored, STORED["train"])


@pytest.mark.parametrize(
    ("then", "now", "moved"),
    [
        (2.0, 2.0001, False),
        (2.0, 2.01, True),
        (0.0, 1e-6, False),
        (0.0, 1e-4, True),
        (640, 640, False),
        (640, 641, True),
        (640, 640.0, True),
        (1.0, None, True),
        (None, 1.0, True),
    ],
)
def test_how_far_a_number_may_move(then: Any, now: Any, moved: bool) -> None:
    pairs = [{key: value for key, value in {"x": each}.items() if value is not None} for each in (then, now)]
    assert bool(list(rewrite.outcome_moved(*pairs))) == moved


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Goldens of a folder of their own, and one quick case."""
    monkeypatch.setattr(rewrite, "STORED", tmp_path / "goldens.json")
    monkeypatch.setattr(rewrite, "cases", lambda: {"tokens byte": CASES["tokens byte"]})
    return tmp_path / "goldens.json"


def test_rewriting(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rewrite.main([]) == 0  # a new case is written
    assert rewrite.load() == {"tokens byte": STORED["tokens byte"]}
    written = few.read_text(encoding="utf-8")
    assert rewrite.main([]) == 0 and few.read_text(encoding="utf-8") == written
    few.write_text(written.replace('"vocabulary": 257', '"vocabulary": 258'), encoding="utf-8")
    changed = few.read_text(encoding="utf-8")
    capsys.readouterr()
    assert rewrite.main([]) == 1 and few.read_text(encoding="utf-8") == changed  # refused, and left as it was
    assert "vocabulary was 258 and is 257" in capsys.readouterr().out
    assert rewrite.main(["--all"]) == 0 and few.read_text(encoding="utf-8") == written


def test_rewriting_after_a_version_was_bumped(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from etude.text.recipes import Tokens

    assert rewrite.main([]) == 0
    monkeypatch.setattr(Tokens, "version", Tokens.version + 1)
    assert rewrite.main([]) == 0
    assert rewrite.load()["tokens byte"]["recipe"]["version"] == Tokens.version


def test_no_golden_holds_what_the_clock_decides() -> None:
    timed = [(case, name) for case in STORED for name in STORED[case]["outcome"] if "timing" in name.split(".")]
    assert not timed, f"a study put a run's whole result into its own: give `run.outcome` instead, for {timed}"
