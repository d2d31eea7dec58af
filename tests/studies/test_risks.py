"""The risk ledger: that it is the paper's, that it claims what was run and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from etude.chat.prompts.story import Story
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import kinds
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.perplexity import Perplexity
from etude.evals.tasks.truthfulqa import Truthfulqa
from etude.models.architectures.decoder import Decoder
from etude.models.sampling import Sampling
from etude.report.blocks import Table, Text, Value, walk
from etude.studies.look import Look
from etude.studies.risks import Risks
from etude.studies.sections.risks_findings import FIGURES
from etude.studies.sections.risks_ledger import figures, risks
from etude.studies.toxicity import Toxicity
from etude.text.corpora.canaries import Canaries
from etude.text.corpora.fable import Fable
from etude.text.corpora.labelled import Labelled
from etude.text.corpora.multi30k import Multi30k
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

PLAIN = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=8, heads=2, feedforward=8, context=160),
    batch=4,
    steps=2,
    evaluate_tokens=320,
    precision="fp32",
)
WITH_SECRETS = replace(
    PLAIN, data=Tokens(Canaries(of=Fable(stories=40), digits=2, repeats=(1, 4), each=2, controls=4), Byte())
)
MADE = Path(__file__).with_name("made") / "remarks.csv"
NASTY = "<script>alert(1)</script> <b>he</b> & she"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind that the study can be given, with HTML in its texts."""
    folder = tmp_path_factory.mktemp("files")
    for split in ("train", "val", "test_2016_flickr"):
        for side, text in (("en", "A dog runs"), ("de", "Ein Hund läuft")):
            (folder / f"{split}.{side}").write_text("".join(f"{text} {n} times.\n" for n in range(20)))
    rows = [{"text": f"{NASTY} {n}.", "of": f"<i>group {n % 2}</i>"} for n in range(6)]
    (folder / "groups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"query": f"{NASTY} {n}. He is", "choices": ["a<b", "b>a"], "gold": n % 2} for n in range(4)]
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"]
    lines += [f"A,{c},May I {n}?,Yes {n},Yes {n},No {n},x" for c in ("Law", "<u>Myths</u>") for n in range(3)]
    (folder / "TruthfulQA.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def given(files):
    return Risks(
        WITH_SECRETS,
        truthfulqa=Truthfulqa(path=str(files / "TruthfulQA.csv")),
        winogender_male=MultipleChoice(path=str(files / "people.jsonl")),
        languages=Multi30k(path=str(files)),
        groups=Perplexity(path=str(files / "groups.jsonl"), group_field="of"),
        watts=50.0,
    )


def by_risk(run):
    return {row["risk"]: row for row in run.result["ledger"]}


def test_the_ledger_has_the_papers_areas_and_risks_and_every_probe_exists():
    areas = Counter(risk.area for risk in risks())
    assert list(areas.values()) == [4, 3, 3, 4, 3, 4] and len({risk.name for risk in risks()}) == 21
    assert {name for risk in risks() for name in risk.figures} == set(figures()) == set(FIGURES)
    assert {figure.probe for figure in figures().values()} - {""} <= set(kinds())
    assert all(risk.about.endswith(".") and risk.beyond.endswith(".") for risk in risks())


def test_nothing_is_claimed_that_was_not_run(lab):
    run = lab.run(Risks(PLAIN))
    rows = by_risk(run)
    measured = {name for name, row in rows.items() if row["status"] == "measured"}
    assert measured == {
        "Social stereotypes and unfair discrimination",
        "Lower performance by social group",
        "Environmental harms from operating LMs",
    }
    leaks = rows["Compromise privacy by leaking private information"]
    assert leaks["status"] == "not measured"
    assert {one["how"] for one in leaks["missing"]} == {"train with --data.corpus canaries"}
    assert rows["Toxic language"]["status"] == "not measured"
    assert rows["Illegitimate surveillance and censorship"]["status"] == "not measurable here"
    assert run.result["counts"] == dict(Counter(row["status"] for row in rows.values()))
    claimed = {name for row in rows.values() for one in row["figures"] for name in one["runs"]}
    assert claimed <= set(run.inputs)
    assert "Energy is not measured" in run.file("report.html").read_text()


def test_what_is_given_is_measured_and_each_figure_names_its_run(lab, given):
    run = lab.run(given)
    rows = by_risk(run)
    assert run.result["counts"] == {"measured": 7, "not measured": 1, "not measurable here": 13}
    assert [name for name, row in rows.items() if row["status"] == "not measured"] == ["Toxic language"]
    for row in rows.values():
        for one in row["figures"]:
            assert {name.rpartition("-")[0] for name in one["runs"]} == {one["probe"] or "train"}
    probes = run.result["probes"]
    assert probes["truthfulqa"]["all"]["n"] == 6 and probes["truthfulqa"]["advice"]["n"] == 3
    assert probes["winogender"]["n"] == 4 and probes["pronouns"]["n"] == 24
    english, german = probes["languages"]["languages"]
    assert english["more"] is None and probes["languages"]["texts"] == 20
    apart = german["bits_per_text"]["mean"] - english["bits_per_text"]["mean"]
    assert german["more"]["mean"] == pytest.approx(apart)
    assert [group["exposure"]["n"] for group in probes["exposure"]["groups"]] == [4, 2, 2]


def test_operations_are_counted_from_the_shape(lab):
    held = lab.run(Risks(PLAIN)).result["probes"]["compute"]
    assert held["flops_per_token"] == PLAIN.model.flops_per_token(257)
    assert held["parameters"] == lab.run(PLAIN).result["parameters"] and held["flops"] == lab.run(PLAIN).result["flops"]


def test_energy_is_an_estimate_of_what_was_given_and_stands_with_the_clock(lab, given):
    spent = lab.run(given).result["timing"]["training"]
    seconds = lab.run(WITH_SECRETS).result["timing"]["seconds"]
    assert spent["estimated_kwh"] == pytest.approx(seconds * 50 / 3_600_000)
    assert spent["estimated_price"] == pytest.approx(0.30 * spent["estimated_kwh"])
    assert "estimated_kwh" not in lab.run(Risks(PLAIN)).result["timing"]["training"]
    assert "An estimate, from 50 watts that were given" in lab.run(given).file("report.html").read_text()


def test_the_page_is_harmless_and_every_number_in_the_ledger_has_its_run(lab, given):
    run = lab.run(given)
    page = run.file("report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<u>Myths" not in page and "<i>group" not in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;u&gt;Myths&lt;/u&gt;" in page
    done = {recipe.resolve(): lab.run(recipe.resolve()) for recipe in run.recipe.plan({})}
    told = run.recipe.tell(done)
    ledger = next(section for section in told.sections if section.title == "The ledger")
    table = ledger.blocks[0]
    assert isinstance(table, Table)
    numbers = [part for node in walk(table) if isinstance(node, Text) for part in node.parts if isinstance(part, Value)]
    assert len(numbers) > 20 and all(number.runs for number in numbers)
    assert sum(row[2] != "" for row in table.rows) == 21 and sum(row[0] != "" for row in table.rows) == 6


def test_a_model_that_reads_too_little_is_told_so(lab):
    short = replace(PLAIN, model=replace(PLAIN.model, context=16))
    rows = by_risk(lab.run(Risks(short)))
    row = rows["Social stereotypes and unfair discrimination"]
    assert row["status"] == "not measured" and row["missing"][0] == {"figure": "leaning", "how": ""}


def test_a_study_of_toxicity_of_this_model_is_taken_and_of_another_refused(lab):
    study = Toxicity(
        (PLAIN,),
        labelled=Labelled(path=str(MADE), classes=("civil", "rude"), held_out=0.2),
        toxic=("rude",),
        prompt=Story(opening="Be kind."),
        prompts=6,
        each=2,
        bins=3,
        sampling=Sampling(max_tokens=4),
    )
    run = lab.run(Risks(PLAIN, toxicity=study))
    row = by_risk(run)["Toxic language"]
    assert row["status"] == "measured" and row["figures"][0]["runs"] == [lab.run(study).id]
    told = {one["condition"]: one["toxicity"]["mean"] for one in lab.run(study).result["members"]}
    assert {one["condition"]: one["toxicity"]["mean"] for one in run.result["probes"]["toxicity"]["conditions"]} == told
    with pytest.raises(
        UsageError, match="toxicity is of another model: give a run of `etude run toxicity` of this one"
    ):
        Risks(replace(PLAIN, seed=1), toxicity=study)


def test_what_cannot_be_asked_is_refused_in_one_line():
    with pytest.raises(
        UsageError, match="corpus fable has texts of one language: give one whose texts come in several"
    ):
        Risks(PLAIN, languages=Fable())
    with pytest.raises(UsageError, match=r"groups has texts and no groups: name the field with --groups.group-field"):
        Risks(PLAIN, groups=Perplexity())
    with pytest.raises(UsageError, match=r"risks.toxicity = .* is not toxicity"):
        Risks(PLAIN, toxicity=Look(PLAIN, "A dog."))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="none is below 0"):
        Risks(PLAIN, watts=-1.0)
