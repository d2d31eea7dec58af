"""etude.load: a model and its tokenizer from whatever a person has in hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import etude
from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.core.shelf import Shelf
from etude.train.recipes import Train

Tiny = Callable[..., Train]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Run:
    """A run in a folder of runs, under the name `mine`."""
    lab = Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)
    run = lab.run(tiny(model={"dropout": 0.5}))
    Shelf(lab.root).name(run, "mine")
    return run


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / run.id))


def logits(source: Run | Path | str) -> torch.Tensor:
    model, tokenizer = etude.load(source)
    assert not model.training, "dropout is off"
    with torch.no_grad():
        return model(torch.tensor([tokenizer.encode("A fox met a")]))


def test_every_way_to_say_it(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ETUDE_RUNS", str(run.path.parent))
    expected = logits(run)
    for source in (run.path, str(run.path), run.id, run.id[:9], "mine", copy):
        assert torch.equal(logits(source), expected)
    (copy / "files.json").unlink()  # any folder with a model and its tokenizer
    assert torch.equal(logits(copy), expected)


def test_looking_at_what_was_loaded(run: Run):
    model, tokenizer = etude.load(run)
    tokens = torch.tensor([tokenizer.encode("A fox met a hen")])
    seen = etude.look(model, tokens, ["L*.attn.pattern", "logits"])
    assert seen[etude.Site("L0.attn.pattern")].shape == (1, 2, 15, 15)
    torch.testing.assert_close(seen[etude.Site("logits")], model(tokens).detach())
    assert {site.part for site in model.sites("L*.attn.W_*")} == {f"attn.W_{letter}" for letter in "QKVO"}


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "tokenizer.json", "tokenizer-kind.json"])
@pytest.mark.parametrize(("harm", "state"), [("flip", "changed"), ("cut", "cut short"), ("remove", "missing")])
def test_damage_is_noticed(copy: Path, name: str, harm: str, state: str):
    path = copy / name
    data = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-20] if harm == "cut" else data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    with pytest.raises(DamagedError, match=f"{name} is {state}: its hash is not the one in files.json"):
        etude.load(copy)


def test_damage_where_there_are_no_hashes(copy: Path):
    (copy / "files.json").unlink()
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(DamagedError, match=r"model\.safetensors cannot be read"):
        etude.load(copy)


def test_a_run_without_a_model(run: Run):
    with pytest.raises(UsageError, match=r"no model\.safetensors in .*tokens-"):
        etude.load(run.path.parent / run.inputs[0])


def test_a_name_that_nothing_has(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ETUDE_RUNS", str(run.path.parent))
    with pytest.raises(UsageError, match=f"unknown run 'mien': did you mean 'mine'.*{run.id}"):
        etude.load("mien")
    with pytest.raises(UsageError, match="unknown run"):
        etude.load(tmp_path / "nothing")
