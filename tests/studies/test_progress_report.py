"""The progress report: what it plans, and that its numbers are those of the runs behind it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from etude.compress import methods
from etude.compress.methods.infovae import Infovae
from etude.compress.recipes import Compress, Latents
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.evals.recipes import Heads
from etude.interp.recipes import Patterns
from etude.models.architectures.decoder import Decoder
from etude.studies.progress_report import ProgressReport
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train
from etude.train.schedule import Schedule

STUDY = ProgressReport(
    train=Train(
        data=Tokens(Fable(stories=40), Byte()),
        model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32),
        schedule=Schedule(peak=2e-2, warmup=5),
        batch=8,
        steps=20,
        evaluate_every=10,
        evaluate_tokens=640,
    ),
    sizes=(3, 20),
    codes=(4,),
    infovae=Infovae(steps=5, batch=32),
    fit_tokens=640,
    harm_tokens=640,
    shown=3,
    sample="A dog, a dog.",
)
QUICK = ProgressReport.preset("quick")


class Told:
    """A run that was never made: a result is all that planning reads."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result


def known(study: ProgressReport, **split: int) -> dict[Recipe, Run]:
    return {study.train.data: cast(Run, Told({"splits": {"train": split}}))}


def kinds(recipes: list[Recipe]) -> Counter[str]:
    return Counter(recipe.kind for recipe in recipes)


# Planning


def test_what_the_quick_preset_asks_for() -> None:
    asked = list(QUICK.plan({}))
    assert len(set(asked)) == len(asked)
    sites, sizes = 2 + 4, len([size for size in QUICK.sizes if size < QUICK.train.model.width])
    each = 4 * sizes + len(QUICK.codes) + 2  # infovae, pca, random and svd of each size; k-means; mean and zero
    found = kinds(asked)
    assert found.pop("tokens", 1) == 1
    assert found == {
        "train": 3,
        "baselines": 1,
        "heads": 3,
        "patterns": 2,
        "compress": sites * each,
        "latents": sites,
    }


def test_the_two_models_and_the_control_differ_in_what_they_are_named_for() -> None:
    models = QUICK.models({})
    bare, full, control = models["attention-only"], models["with feed-forward"], models["one layer"]
    assert full == QUICK.train
    assert bare == replace(full, model=replace(full.model, feedforward=0))
    assert control == replace(bare, model=replace(bare.model, layers=1))
    assert (bare.model.layers, full.model.layers) == (2, 2)


def test_a_wider_question_asks_only_for_what_is_missing() -> None:
    wide = replace(QUICK, sizes=(*QUICK.sizes, 30))
    new = set(wide.plan({})) - set(QUICK.plan({}))
    assert set(QUICK.plan({})) <= set(wide.plan({}))
    assert all(isinstance(recipe, Compress) and recipe.method.size == 30 for recipe in new)
    assert len(new) == 4 * 6
    assert len(set(replace(QUICK, codes=(*QUICK.codes, 16)).plan({})) - set(QUICK.plan({}))) == 6


def test_another_shown_size_asks_for_other_latents_alone() -> None:
    new = set(replace(QUICK, shown=10).plan({})) - set(QUICK.plan({}))
    assert new and all(isinstance(recipe, Latents) and recipe.of.method.size == 10 for recipe in new)


def test_sizes_that_are_no_smaller_than_the_component_are_left_out() -> None:
    study = replace(STUDY, sizes=(3, 16, 20))
    sizes = {c.method.size for m in study.compressed({}).values() for c in study.compressions(m)}
    assert sizes == {3, 4, 0}  # the width is 16; 4 codes; the floors have no size
    assert not replace(study, shown=16).latents(study.train)


def test_epochs_are_counted_once_the_text_is() -> None:
    by_epochs = replace(QUICK, epochs=2.0)
    assert list(by_epochs.plan({})) == [QUICK.train.data]
    data = known(by_epochs, tokens=QUICK.train.context * 1000 + 1, documents=77)
    models = {r for r in by_epochs.plan(data) if isinstance(r, Train)}
    assert {model.steps for model in models} == {round(2.0 * 1000 / QUICK.train.batch)}
    assert by_epochs.steps(known(by_epochs, tokens=200, documents=1)) == 1  # never none


def test_epochs_of_openings_count_documents() -> None:
    seed = ProgressReport.preset("seed")
    assert list(seed.plan({})) == [seed.train.data]
    assert seed.steps(known(seed, tokens=123_456, documents=9_999)) == round(2 * 9_999 / 64)


def test_the_seed_preset_is_the_original_experiment() -> None:
    train = ProgressReport.preset("seed").train
    shape = train.model
    assert (shape.width, shape.heads, shape.head_width, shape.feedforward) == (768, 12, 64, 3072)
    assert (shape.activation, shape.norm_at, shape.positions) == ("relu", "post", "sinusoidal")
    assert shape.scaled_embeddings and not shape.tied and shape.dropout == 0.1
    assert (train.context, train.batch, train.data.openings) == (20, 64, 20)
    assert (train.schedule.shape, train.schedule.warmup, train.schedule.peak) == ("noam", 4000, 1.0)
    assert (
        train.optimiser.to_json().items() >= {"beta1": 0.9, "beta2": 0.98, "epsilon": 1e-9, "weight_decay": 0.0}.items()
    )
    assert ProgressReport.preset("seed").epochs == 2
    assert {1, 5, 10, 20, 50, 100, 200} == set(ProgressReport.preset("seed").sizes)
    # Token and output embeddings, positions without parameters, attention and feed-forward with biases, two norms.
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 2 * 2 * 768
    assert shape.parameters(50_257) == 2 * 50_257 * 768 + 2 * layer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": replace(STUDY.train, model=replace(STUDY.train.model, feedforward=0))}, "feedforward = 0"),
        ({"shown": 7}, "shown = 7 is not among the sizes"),
        ({"sizes": (16, 20), "shown": 16}, r"sizes = \(16, 20\) are none under the width of 16"),
        ({"codes": (4, 641)}, r"codes = \(4, 641\) are more than the 640 positions that they are fitted to"),
        ({"codes": (70,), "fit_tokens": 70}, "are more than the 64 positions"),
        ({"harm_tokens": 63}, "harm_tokens = 63 is less than two samples of 32"),
        ({"train": replace(STUDY.train, evaluate_tokens=63)}, "train.evaluate_tokens = 63 is less than two samples"),
    ],
)
def test_what_cannot_be_asked_is_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        replace(STUDY, **change)
    assert "\n" not in str(caught.value)


# The answer


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def answer(lab: Lab) -> Run:
    return lab.run(STUDY)


def test_all_of_a_split_is_enough() -> None:
    read = replace(STUDY, harm_tokens=0, fit_tokens=0, codes=(9999,), train=replace(STUDY.train, evaluate_tokens=0))
    assert read.harm_tokens == 0


HALVES = '''
from dataclasses import dataclass
from typing import ClassVar
from etude.compress.methods.base import Method

@dataclass(frozen=True)
class Halves(Method):
    """A method that was dropped into the folder."""
    parts: int = 1
    sized: ClassVar[str] = "parts"
    label: ClassVar[str] = "halves"

    def fit(self, material, seed, run):
        from etude.compress.linear import constant
        return constant(material.values.double().mean(0).float())

    def codec(self, tensors):
        from etude.compress.linear import constant
        return constant(tensors["centre"])
'''


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halves.py").write_text(HALVES, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "halves", None, raising=False)  # so that what the import sets is taken away
    monkeypatch.delitem(sys.modules, "etude.compress.methods.halves", raising=False)


@pytest.mark.usefixtures("halves")
def test_a_method_that_is_dropped_in_and_named_is_swept_with_the_others(lab: Lab) -> None:
    study = replace(STUDY, sizes=(2, 3), compared=(*STUDY.compared, "halves"))
    asked = [c for c in study.compressions(study.train) if c.method.name == "halves"]
    assert {(c.site, c.method.size) for c in asked} == {(site, n) for site in study.sites(study.train) for n in (2, 3)}
    run = lab.run(study)
    assert sum(row["method"] == "halves" for row in run.result["compression"]) == 6 * 2
    assert ">halves</th>" in run.file("report.html").read_text(encoding="utf-8")


def test_the_studys_own_infovae_is_swept() -> None:
    assert [m for m in STUDY.methods(16) if isinstance(m, Infovae)] == [replace(STUDY.infovae, latent=3)]


@pytest.mark.parametrize("preset", ProgressReport.presets())
def test_each_presets_sample_works_for_its_context(preset: str, lab: Lab) -> None:
    """Also where it has more tokens than the context: after all training it would be late to refuse it."""
    study = ProgressReport.preset(preset)
    model = replace(STUDY.train.model, context=study.train.context)
    run = lab.run(Patterns(replace(STUDY.train, model=model, steps=0), study.sample))
    assert len(run.result["tokens"]) == study.train.context
    assert run.result["cut"] == len(study.sample) - study.train.context  # a byte is a token here


def test_numbers_are_those_of_the_runs(answer: Run, lab: Lab) -> None:
    told = answer.result
    for name, model in STUDY.models({}).items():
        run = lab.run(model)
        assert told["models"][name]["run"] == run.id
        for key in ("loss", "accuracy", "bits_per_byte"):
            assert told["models"][name][key] == run.result["validation"][key]
        assert told["models"][name]["untrained"] == run.result["untrained"]
        assert told["heads"][name]["heads"] == lab.run(Heads(model)).result["heads"]
    assert told["baselines"] == lab.run(STUDY.baselines).result["baselines"]
    rows = {row["run"]: row for row in told["compression"]}
    assert len(rows) == len(told["compression"]) == 6 * (4 + 1 + 2)
    for name, row in rows.items():
        run = Run(lab.root / name)
        recipe = cast(Compress, run.recipe)
        assert (row["site"], row["method"], row["size"]) == (recipe.site, recipe.method.name, recipe.method.size)
        assert all(row[key] == run.result["harm"][key] for key in ("increase", "kl", "accuracy", "explained"))
        assert all(row[key] == run.result["cost"][key] for key in ("dimensions", "bits", "parameters"))
        assert row["component"] == recipe.site.replace("W_O", "out").replace("W_out", "out")


def test_comparisons_are_paired_by_window(answer: Run, lab: Lab) -> None:
    pairs = {(row["of"], row["against"]): row for row in answer.result["comparisons"]}
    assert {
        ("attention-only", "bigram"),
        ("with feed-forward", "unigram"),
        ("with feed-forward", "attention-only"),
    } <= set(pairs)
    models = {name: lab.run(model).tensors("validation.safetensors") for name, model in STUDY.models({}).items()}
    base = lab.run(STUDY.baselines)
    for (one, other), row in pairs.items():
        a, b = (models[n] if n in models else base.tensors(f"{n}.safetensors") for n in (one, other))
        assert np.array_equal(a["count"], b["count"])
        assert row["mean"] == pytest.approx(float((a["loss"] - b["loss"]).sum() / a["count"].sum()))
        assert row["low"] <= row["mean"] <= row["high"] and row["n"] == len(a["count"])


def test_a_wider_question_redoes_nothing(answer: Run, lab: Lab) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in lab.root.iterdir() if not path.name.startswith(".")}
    wider = lab.run(replace(STUDY, sizes=(*STUDY.sizes, 1)))
    after = {path.name: path.stat().st_mtime_ns for path in lab.root.iterdir() if not path.name.startswith(".")}
    assert {name: after[name] for name in before} == before
    made = [
        Run(lab.root / name).recipe for name in set(after) - set(before) if (lab.root / name / "files.json").exists()
    ]
    assert kinds(made) == {"compress": 6 * 4, "progress-report": 1}
    assert wider.id != answer.id


def test_the_page_shows_attention_contexts_and_findings(answer: Run, lab: Lab) -> None:
    page = answer.file("report.html").read_text(encoding="utf-8")
    for run in (lab.run(STUDY.train), lab.run(Patterns(STUDY.train, STUDY.sample))):
        assert run.id in page
    assert len(answer.result["findings"]) >= 10
    assert {finding["strength"] for finding in answer.result["findings"]} <= {"clear", "uncertain", "none"}
    assert all(finding["text"].endswith((".", ")")) for finding in answer.result["findings"])


def test_the_seed_preset_shrunk_runs_on_short_articles(lab: Lab, tmp_path: Path) -> None:
    """Openings, padding, post-norm, noam and epochs, as the original; articles are often shorter than the opening."""
    for split, count in (("train", 48), ("valid", 12), ("test", 4)):
        said = ["the cat sat on a mat and so on"[: 3 + number * 5 % 27] for number in range(count)]
        rows = [{"text": f"_START_ARTICLE_\n{n}\n_START_PARAGRAPH_\n{words}"} for n, words in enumerate(said)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    seed = ProgressReport.preset("seed")
    shape = replace(seed.train.model, width=16, heads=2, feedforward=32)
    data = replace(seed.train.data, corpus=Files(path=str(tmp_path)), tokenizer=Byte())
    train = replace(seed.train, data=data, model=shape, batch=12)
    small = replace(STUDY, train=train, epochs=2.0, sizes=(2,), shown=2, sample="a cat")
    run = lab.run(small)
    made = [cast(Train, Run(lab.root / name).recipe) for name in run.inputs if name.startswith("train-")]
    assert {recipe.steps for recipe in made} == {2 * 48 // 12}
    trained = lab.run(next(recipe for recipe in made if recipe.model.feedforward))
    assert trained.result["epochs"] == 2
    last = trained.result["validation"]["last_position"]
    counted = trained.tensors("validation.safetensors")
    assert 0 < counted["last_count"].sum() < 12 and counted["count"].sum() < 12 * 20
    assert last["loss"]["mean"] == pytest.approx(counted["last_loss"].sum() / counted["last_count"].sum())
    assert run.file("report.html").exists()


def test_what_was_cut_and_what_was_replaced_is_said(lab: Lab, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_bytes(b"the cat sat on \xff a mat. " * 60)
    data = Tokens(Files(path=str(tmp_path)), Byte())
    study = replace(STUDY, train=replace(STUDY.train, data=data), sizes=(2,), shown=2, sample="a cat, " * 6)
    page = lab.run(study).file("report.html").read_text(encoding="utf-8")
    told = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    assert re.search(r"reading a sample, whose last 10 ?tokens were cut", told)
    assert re.search(r"Invalid bytes that were replaced in the text: 180 ?\.", told)
