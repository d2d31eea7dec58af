"""Prompted against tuned: what is learned, what is asked, and that differences are those of a plain count."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from etude.chat.dialogue import Dialogue as Said
from etude.chat.dialogue import Turn, render
from etude.chat.prompts.short import Short
from etude.chat.prompts.story import Story
from etude.cli.app import main
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals.items import items_of
from etude.evals.tasks.replies import Replies
from etude.evals.tasks.reply_choice import ReplyChoice
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.studies.dialogue import Dialogue
from etude.text.corpora.dialogues import Dialogues
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import TOKENIZER_FILE
from etude.train.recipes import Train

MADE = Path(__file__).parent / "made"
STUDY = Dialogue(
    Train(
        data=Tokens(Fable(stories=40), BytePair(vocabulary=300)),
        model=Decoder(layers=1, width=16, heads=2, feedforward=16, context=700),
        batch=2,
        steps=2,
        evaluate_every=0,
        evaluate_tokens=700,
        precision="fp32",
    ),
    corpus=Dialogues(path=str(MADE / "dialogues")),
    choices=ReplyChoice(path=str(MADE / "replies.jsonl")),
    steps=30,
    batch=4,
    peak=1e-2,
    pairs=0,
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    return lab.run(STUDY)


def bits(made: Run, context: str, reply: str) -> float:
    """Return what a plain pass over the text, opened by the separator, says of the reply."""
    model, tokenizer = load(made)
    before, whole = tokenizer.encode(context), tokenizer.encode(f"{context} {reply}")
    ids = [tokenizer.end, *whole]
    with torch.no_grad():
        logs = model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    return -sum(float(logs[at - 1, ids[at]]) for at in range(1 + len(before), len(ids))) / math.log(2)


def test_likelihoods_and_differences_are_those_of_a_plain_count(lab: Lab, run: Run) -> None:
    rows = [json.loads(line)["messages"] for line in (MADE / "dialogues" / "test.jsonl").read_text().splitlines()]
    told = {"vanilla": np.zeros(3), "prompted": np.zeros(3), "tuned": np.zeros(3)}
    counts = np.array([len(row[-1]["content"].encode()) for row in rows])
    for n, row in enumerate(rows):
        said = Said(tuple(Turn("user" if m["role"] == "user" else "model", m["content"]) for m in row[:-1]))
        prompted = render(Short(), said)
        plain = prompted.removeprefix(Short().text + "\n")
        for way, of, context in (
            ("vanilla", STUDY.of, plain),
            ("prompted", STUDY.of, prompted),
            ("tuned", STUDY.model, plain),
        ):
            told[way][n] = bits(lab.run(of), context, row[-1]["content"])
    replies = run.result["replies"]
    assert (replies["n"], replies["bytes"], replies["too_long"]) == (3, counts.sum(), 0)
    means = {way: each.sum() / counts.sum() for way, each in told.items()}
    assert {way: row["bits_per_byte"]["mean"] for way, row in replies["ways"].items()} == pytest.approx(means, rel=1e-5)
    apart = {(row["of"], row["less"]): row["mean"] for row in replies["differences"]}
    assert apart[("tuned", "vanilla")] == pytest.approx(means["tuned"] - means["vanilla"], abs=1e-5)
    assert apart[("tuned", "prompted")] == pytest.approx(means["tuned"] - means["prompted"], abs=1e-5)
    assert means["tuned"] < means["vanilla"] - 1, "thirty steps on such dialogues are enough to tell"


def test_it_is_tuned_from_the_models_weights_in_the_models_own_tokens(lab: Lab, run: Run) -> None:
    of, tuned = lab.run(STUDY.of), lab.run(STUDY.model)
    assert of.files[TOKENIZER_FILE]["sha256"] == tuned.files[TOKENIZER_FILE]["sha256"]
    unmoved = lab.run(replace(STUDY, steps=0).model)
    for name, weights in of.tensors("model.safetensors").items():
        assert np.array_equal(weights, unmoved.tensors("model.safetensors")[name])


def test_choices_have_chance_and_the_good_reply_at_every_place(run: Run, shared: Path) -> None:
    assert run.result["choices"]["random"]["chance"] == pytest.approx(1 / 3)
    task = ReplyChoice(path=str(shared / "dialogue" / "dailydialog-plusplus" / "test.json"), against="adversarial")
    read = task.read()
    assert len(read.items) == 1142 and not read.spoiled
    places = np.bincount([item.right[0] for item in read.items], minlength=6)  # type: ignore[attr-defined]
    assert places.min() > 1142 / 6 - 50 and len(places) == 6
    assert all(item.question.endswith("\nAssistant:") for item in read.items)  # type: ignore[attr-defined]


def test_replies_are_those_of_the_split_and_the_last_of_each_dialogue(tmp_path: Path) -> None:
    corpus = Dialogues(path=str(MADE / "dialogues"))
    items = Replies(path=corpus.path, split="test", before="Listen.\n").read().items
    assert [item.where for item in items] == [talk.where for talk in corpus.talks("test")]
    assert items[0].question == (  # type: ignore[attr-defined]
        "Listen.\nUser: Where is the duck?\nAssistant: The duck is by the river.\nUser: Is the duck well?\nAssistant:"
    )
    assert items[0].continuation == "Very well, thank you."  # type: ignore[attr-defined]
    assert Replies(path=corpus.path).identity() == corpus.identity()


def test_dialogues_that_do_not_fit_are_left_out_for_all_three(lab: Lab) -> None:
    short = replace(STUDY, of=replace(STUDY.of, model=Decoder(layers=1, width=8, heads=2, feedforward=8, context=300)))
    short = replace(short, steps=1, choices=None)
    with pytest.raises(UsageError, match="none of the dialogues fits the context of all three"):
        lab.run(short)
    long = replace(STUDY, prompt=Short(), items=2)
    replies = lab.run(long).result["replies"]
    held = {way: items_of(lab.run(asked)) for way, asked in long.asked["replies"].items()}
    assert replies["n"] == 2 and {len(rows) for rows in held.values()} == {2}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="prompt story has no turns to answer"):
        replace(STUDY, prompt=Story())
    with pytest.raises(UsageError, match="the prompt has other marks"):
        replace(STUDY, prompt=Short(user_mark="Human:"))


def test_a_training_is_tuned_by_the_command_in_the_docs(lab: Lab, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    of, tokens = lab.run(STUDY.of), lab.run(STUDY.of.text)
    words = f"--start {of.id} --objective dialogue --data.corpus dialogues --data.corpus.path {MADE / 'dialogues'}"
    more = f"--data.like {tokens.id} --steps 1 --runs {lab.root} --quiet --json"
    assert main(["run", of.id, *words.split(), *more.split()]) == 0
    made = Run(lab.root / json.loads(capsys.readouterr().out)["id"])
    assert isinstance(made.recipe, Train) and made.recipe.start == STUDY.of.resolve()
    assert made.files[TOKENIZER_FILE]["sha256"] == of.files[TOKENIZER_FILE]["sha256"]
