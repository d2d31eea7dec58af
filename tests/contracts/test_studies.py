"""What every study owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import cast

import pytest

from etude.chat.prompts.story import Story
from etude.compress.methods.infovae import Infovae
from etude.core.done import Done
from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.recipe import Recipe, kind_named
from etude.core.run import Run
from etude.evals.listed import Listed
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.reply_choice import ReplyChoice
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.architectures.retro import Retro
from etude.models.recipes import Planted
from etude.models.sampling import Sampling
from etude.report.blocks import Report
from etude.studies.base import Study
from etude.studies.build_up import BuildUp
from etude.studies.circuits import Circuits
from etude.studies.compress_map import CompressMap
from etude.studies.dialogue import Dialogue
from etude.studies.family import Family as FamilyOfModels
from etude.studies.fit_scaling import FitScaling
from etude.studies.follow import Follow
from etude.studies.gopher import Gopher
from etude.studies.induction import Induction
from etude.studies.isoflop import Isoflop
from etude.studies.ladder import Ladder
from etude.studies.leakage import Leakage
from etude.studies.look import Look
from etude.studies.medal import Medal
from etude.studies.patch import Patch
from etude.studies.progress_report import ProgressReport
from etude.studies.prompts import Prompts
from etude.studies.retrieval import Retrieval
from etude.studies.risks import Risks
from etude.studies.scale_family import ScaleFamily
from etude.studies.sizes import Sizes
from etude.studies.squeeze import Squeeze
from etude.studies.sweep import Sweep
from etude.studies.toxicity import Toxicity
from etude.studies.translation import Translation
from etude.text.corpora.ag_news import AgNews
from etude.text.corpora.canaries import Canaries
from etude.text.corpora.dialogues import Dialogues
from etude.text.corpora.fable import Fable
from etude.text.corpora.facts import Facts
from etude.text.corpora.labelled import Labelled
from etude.text.corpora.multi30k import Multi30k
from etude.text.corpora.repetition import Repetition
from etude.text.corpora.rt_polarity import RtPolarity
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.retrieval import Retrieval as RetrievalObjective
from etude.train.recipes import Train

FAMILY = Family("studies")

MADE = Path(__file__).parents[1] / "studies" / "made"

FAMILY_OF = tuple(
    Train(
        data=Tokens(Fable(stories=20), Byte()),
        model=Decoder(layers=1, width=width, heads=2, feedforward=16, context=160),
        batch=2,
        steps=1,
        evaluate_every=0,
        evaluate_tokens=320,
        precision="fp32",
    )
    for width in (8, 16)
)
CHOICES = MultipleChoice(path=str(MADE / "choices.jsonl"))

SMALL: dict[str, Study] = {
    "family": FamilyOfModels(
        FAMILY_OF, (Listed("one", "choices", CHOICES), Listed("two", "the same again", CHOICES)), draws=200
    ),
    "prompts": Prompts(
        FAMILY_OF[0], CHOICES, shots=(0, 1), crossed=2, wordings=("plain", "qa"), seeds=2, orders=2, frames=("story",)
    ),
    "build-up": BuildUp(
        reviews=RtPolarity(path=str(MADE / "reviews")),
        news=AgNews(path=str(MADE / "news")),
        vocabulary=300,
        news_vocabulary=300,
        language_vocabulary=300,
        width=8,
        classifier_width=8,
        heads=2,
        steps=3,
        batch=8,
        review_tokens=24,
        news_tokens=24,
        language_width=8,
        language_layers=1,
        language_steps=3,
    ),
    "circuits": Circuits(
        Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=2, width=16, heads=2, feedforward=0, context=32),
            batch=4,
            steps=2,
            evaluate_tokens=320,
        ),
        pairs=2,
        sequences=4,
        windows=2,
    ),
    "compress-map": CompressMap(
        Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32),
            batch=4,
            steps=4,
            keep_every=2,
            evaluate_tokens=320,
        ),
        methods=("infovae", "kmeans", "pca"),
        sizes=(2, 8),
        seeds=2,
        steps=2,
        fit_tokens=640,
        evaluate_tokens=320,
        sequences=4,
        budgets=(16,),
        checkpoints=1,
        tuned=1,
        tuned_sizes=(2,),
        tuned_steps=2,
    ),
    "gopher": Gopher(
        tuple(
            replace(one, data=Tokens(Fable(stories=60), Byte()), model=replace(one.model, context=800))
            for one in FAMILY_OF
        ),
        (Listed("one", "choices", CHOICES),),
        corpus=Dialogues(path=str(MADE / "dialogues")),
        choices=ReplyChoice(path=str(MADE / "replies.jsonl")),
        steps=1,
        labelled=Labelled(path=str(MADE / "remarks.csv"), classes=("civil", "rude"), held_out=0.2),
        toxic=("rude",),
        prompts=6,
        each=1,
        pairs=2,
    ),
    "dialogue": Dialogue(
        Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=1, width=8, heads=2, feedforward=8, context=800),
            batch=4,
            steps=2,
            evaluate_tokens=800,
        ),
        corpus=Dialogues(path=str(MADE / "dialogues")),
        choices=ReplyChoice(path=str(MADE / "replies.jsonl")),
        steps=2,
        batch=4,
        pairs=2,
        sampling=Sampling(max_tokens=6),
    ),
    "fit-scaling": FitScaling(str(MADE / "points.csv"), flops="flops", draws=20),
    "isoflop": Isoflop(
        (4e8, 8e8, 1.6e9),
        corpus=Fable(stories=60),
        tokenizer=Byte(),
        model=Decoder(context=32),
        batch=2,
        sizes=3,
        spread=1.5,
        ratio=0.1,
        draws=20,
        held_out=2.4e9,
        oversized=1.5,
    ),
    "induction": Induction(
        data=Tokens(Repetition(problems=200, symbols=16, shortest=4, longest=6, total=20, spaced=False), Byte()),
        model=Decoder(layers=2, width=16, heads=2, feedforward=0, context=16, positions="rotary"),
        steps=4,
        batch=4,
        warmup=2,
        checkpoints=2,
        seeds=2,
        sequences=4,
    ),
    "follow": Follow(
        goals=2, colours=3, updates=2, worlds=8, steps=4, width=4, seeds=2, measured=4, probes=2, episodes=1
    ),
    "medal": Medal(
        goals=(2,),
        updates=(2,),
        colours=2,
        worlds=8,
        steps=4,
        width=4,
        seeds=1,
        measured=4,
        probes=2,
        episodes=1,
        neurons=4,
    ),
    "ladder": Ladder(steps=400, seeds=2, episodes=5),
    "leakage": Leakage(
        of=Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=1, width=8, heads=2, feedforward=8, context=32),
            batch=4,
            steps=2,
            evaluate_tokens=320,
        ),
        split="valid",
        shown=3,
    ),
    "retrieval": Retrieval(
        Train(
            data=Tokens(Facts(subjects=40, facts=2, lead=8), Byte()),
            model=Retro(layers=1, width=16, heads=2, feedforward=16, context=32, chunk=16, cross_from=0),
            objective=RetrievalObjective(),
            batch=4,
            steps=2,
            evaluate_tokens=320,
        ),
        stored=2,
        k=1,
        ks=(2,),
        retrofit=2,
        knn=128,
        sizes=(2.0,),
    ),
    "look": Look(Planted(length=12, data=Tokens(Fable(stories=40), Byte())), "abcdabc", sequences=4),
    "patch": Patch(Planted(length=12, data=Tokens(Fable(stories=40), Byte())), "abcdab", "abxdab"),
    "progress-report": ProgressReport(
        train=Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32),
            batch=4,
            steps=3,
            evaluate_tokens=320,
        ),
        sizes=(2, 20),
        codes=(3,),
        infovae=Infovae(steps=3, batch=32),
        fit_tokens=320,
        harm_tokens=320,
        shown=2,
        sample="A dog, a dog.",
    ),
    "risks": Risks(
        Train(
            data=Tokens(Canaries(of=Fable(stories=40), digits=1, repeats=(1, 2), each=1, controls=2), Byte()),
            model=Decoder(layers=1, width=8, heads=2, feedforward=8, context=128),
            batch=4,
            steps=2,
            evaluate_tokens=320,
        ),
        languages=Multi30k(path=str(MADE / "pairs")),
    ),
    "scale-family": ScaleFamily(
        Train(
            data=Tokens(Fable(stories=60), Byte()),
            model=Decoder(context=32),
            batch=2,
            steps=4,
            evaluate_tokens=320,
        ),
        sizes=(15_000, 25_000),
        evaluate_tokens=640,
    ),
    "sweep": Sweep(
        ("schedule.peak=1e-3,1e-2,1e-1", "model.feedforward=0,32"),
        of=Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=32),
            batch=4,
            steps=3,
            evaluate_tokens=320,
        ),
        seeds=2,
    ),
    "sizes": Sizes("gpt2"),
    "squeeze": Squeeze(
        Train(
            data=Tokens(Fable(stories=40), Byte()),
            model=Decoder(layers=1, width=8, heads=2, feedforward=16, context=16),
            batch=4,
            steps=2,
            evaluate_tokens=320,
        ),
        methods=("pca", "kmeans:3", "svd"),
        size=2,
        seeds=2,
        fit_tokens=320,
        evaluate_tokens=512,
        shown=2,
    ),
    "toxicity": Toxicity(
        FAMILY_OF,
        FAMILY_OF[:1],
        Labelled(path=str(MADE / "remarks.csv"), classes=("civil", "rude"), held_out=0.2),
        ("rude",),
        prompt=Story(opening="Be kind."),
        prompts=6,
        each=2,
        bins=3,
        sampling=Sampling(max_tokens=4),
    ),
    "translation": Translation(
        pairs=Multi30k(path=str(MADE / "pairs")),
        vocabulary=300,
        model=EncoderDecoder(layers=1, width=8, heads=2, feedforward=16, context=32),
        steps=3,
        batch=8,
        sentences=4,
        untrained=2,
        drawn=("A dog sits.", "Ein Hund sitzt."),
    ),
}
"""An instance of each study that runs in seconds."""


@pytest.fixture(params=FAMILY.names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def kind(name: str) -> type[Study]:
    return cast(type[Study], FAMILY.member(name))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def test_the_family_has_its_members() -> None:
    assert "progress-report" in FAMILY.names()
    assert FAMILY.base() is Study
    assert set(FAMILY.names()) == set(SMALL), "give the new study a small instance in SMALL"


def test_it_asks_a_question_and_explains_its_fields(kind: type[Study]) -> None:
    assert kind.__doc__ and "?" in kind.__doc__.partition("\n\n")[0]
    assert all(f"{field.name}: " in kind.__doc__ for field in fields(kind))


def test_it_is_a_recipe(name: str, kind: type[Study]) -> None:
    assert kind.kind == kind.name == name
    assert kind_named(name) is kind
    study = SMALL[name]
    assert Recipe.from_json(json.loads(json.dumps(study.to_json()))) == study
    assert study.resolve().id == Recipe.from_json(study.resolve().to_json()).id
    assert study.resolve().id.startswith(f"{name}-")


def test_presets_build_read_back_and_plan(name: str, kind: type[Study]) -> None:
    for preset in kind.presets():
        study = kind.preset(preset)
        assert isinstance(study, kind)
        assert Recipe.from_json(json.loads(json.dumps(study.to_json()))) == study
        assert list(study.plan({}))
    with pytest.raises(UsageError, match=f"unknown preset of {name} 'nonsense'"):
        kind.preset("nonsense")


def test_a_plan_asks_once_and_always_the_same(name: str, kind: type[Study]) -> None:
    for study in (SMALL[name], *kind.presets().values()):
        asked = list(study.plan({}))
        assert len(set(asked)) == len(asked)
        assert list(study.plan({})) == asked
        assert study not in asked


def test_it_runs_from_end_to_end_and_again_for_nothing(name: str, lab: Lab) -> None:
    run = lab.run(SMALL[name])
    assert run.recipe == SMALL[name].resolve()
    page = run.file("report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>") and len(page) < 1_500_000
    json.loads(run.file("result.json").read_text(encoding="utf-8"), parse_constant=_refused)
    for needed in run.inputs:
        assert needed in page, f"{needed} has no card"

    before = _touched(lab.root)
    again = Lab(lab.root, threads=1, quiet=True).run(SMALL[name])
    assert again.path == run.path
    assert _touched(lab.root) == before


def test_it_asks_for_nothing_new_once_all_is_done(name: str, lab: Lab) -> None:
    study = SMALL[name].resolve()
    done = Done()
    for needed in lab.run(study).inputs:
        done.add(Run(lab.root / needed).recipe, Run(lab.root / needed))
    asked = [recipe.resolve() for recipe in study.plan(done)]
    assert set(asked) <= set(done)
    assert [recipe.resolve() for recipe in study.plan(done)] == asked and len(set(asked)) == len(asked)


def test_telling_changes_nothing_and_says_the_same_again(name: str, lab: Lab) -> None:
    study = SMALL[name].resolve()
    run = lab.run(study)
    done = Done()
    for needed in run.inputs:
        done.add(Run(lab.root / needed).recipe, Run(lab.root / needed))
    kept = {recipe: json.dumps(each.result) for recipe, each in done.items()}
    before = _touched(lab.root)
    report = study.tell(done)
    assert isinstance(report, Report) and report.question
    assert {card.id for card in report.runs} == set(run.inputs)
    told = json.loads(json.dumps(study.answer(done)))
    told.pop("timing", None)
    assert told == {key: value for key, value in run.result.items() if key != "timing"}
    assert told == {k: v for k, v in json.loads(json.dumps(study.answer(done))).items() if k != "timing"}
    assert {recipe: json.dumps(each.result) for recipe, each in done.items()} == kept
    assert _touched(lab.root) == before


def test_parameters_of_another_study_are_another_run(name: str) -> None:
    study = SMALL[name]
    changed = replace(study, harm_tokens=640) if hasattr(study, "harm_tokens") else study
    assert changed is study or changed.resolve().id != study.resolve().id


def _touched(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
