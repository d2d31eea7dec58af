"""`etude list`, `show` and `doctor`: what there is."""

from __future__ import annotations

import pytest

from etude.cli.describe import first_sentence
from etude.core.family import families
from etude.core.recipe import kinds
from etude.models.architectures.decoder import Decoder


def test_everything_is_listed_with_its_line(etude):
    found = etude("list", "--json").json
    assert "progress-report" in found["studies"]
    assert found["recipes"]["train"] == "Train a model on a corpus."
    assert set(found) == {"studies", "recipes", *families()}
    assert set(found["compress/methods"]) >= {"pca", "infovae", "svd", "kmeans"}
    assert all(line for section in found.values() for name, line in section.items() if not name.startswith("toy-"))
    assert "compress/methods\n  activation-svd  " in etude("list").out


@pytest.mark.parametrize("word", ["text/corpora", "corpora", "corpus"])
def test_a_family_is_listed_under_each_of_its_names(etude, word):
    assert list(etude("list", word, "--json").json) == ["text/corpora"]


def test_what_is_not_there_is_answered_with_the_nearest(etude):
    answer = etude("list", "corpra")
    assert answer.code == 2 and "did you mean 'text/corpora'?" in answer.err
    answer = etude("show", "infovea")
    assert answer.code == 2 and answer.err.startswith("etude: unknown name 'infovea': did you mean 'infovae'?")


def test_families_are_listed(etude):
    assert set(etude("list", "families", "--json").json["families"]) == set(families())


@pytest.mark.parametrize(
    ("word", "lines"),
    [
        ("pca", ["compress/methods/pca", "dimensions  how many directions. [20]"]),
        ("compress/methods/pca", ["compress/methods/pca"]),
        ("compress/methods", ["compress/methods", "pca                    Keep the coordinates"]),
        ("train", ["train", "--batch            samples in a step, over all devices together. [32]"]),
        ("progress-report", ["Preset quick: etude run progress-report --preset quick"]),
    ],
)
def test_one_thing_is_shown(etude, word, lines):
    shown = etude("show", word).out.splitlines()
    assert all(any(found.startswith(line) for found in shown) for line in lines), shown


HOUSE = [name for name, kind in kinds().items() if kind.__module__.startswith("etude.")]  # no other test's toys


@pytest.mark.parametrize("word", ["pca", "nn/attention", "progress-report", *HOUSE])
def test_one_thing_is_shown_as_json(etude, word):
    shown = etude("show", word, "--json").json
    assert shown["name"] and shown["about"]


def test_sites_of_a_model(etude, monkeypatch):
    model = Decoder(layers=1, width=8, heads=2, feedforward=0, context=4).build(vocabulary=11)
    monkeypatch.setattr("etude.core.shelf.Shelf.find", lambda shelf, text: text)
    monkeypatch.setattr("etude.models.load.load", lambda run: (model, None))
    shown = etude("show", "any", "--sites", "--json").json
    assert shown["L0.attn.W_Q"] == "D=8 H=2 K=4"
    assert "L0.attn.pattern" in shown
    assert "L0.attn.pattern" in etude("show", "any", "--sites").out


def test_the_doctor_says_what_is_there(etude, here):
    checks = {check["what"]: check for check in etude("doctor", "--json").json}
    assert checks["torch"]["state"] == checks["python"]["state"] == checks["runs folder"]["state"] == "ok"
    assert {"devices", "bf16", "cores", "memory", "free disk", "faiss", "ray", "pyarrow", "browser"} <= set(checks)
    assert all(check["remedy"] for check in checks.values() if check["state"] != "ok")
    answer = etude("doctor")
    assert (answer.code, answer.err) == (0, "")
    assert all(line.split()[0] in ("ok", "missing", "optional") for line in answer.out.splitlines())
    assert not any(here.iterdir())


def test_the_doctor_fails_where_nothing_can_be_written(etude, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    answer = etude("doctor", "--json")
    assert answer.code == 1
    assert answer.err == "etude: Etude cannot work here without: runs folder\n"
    assert answer.json


def test_a_summary_does_not_end_in_a_citation():
    assert first_sentence("Dense and banded, by turns (Brown et al. 2020). More.") == (
        "Dense and banded, by turns (Brown et al. 2020)."
    )
