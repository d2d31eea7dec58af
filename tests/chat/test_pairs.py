"""Pairs of replies: blind, the same after a kill, read as a chat reads; and what a person chose, counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from etude.chat.blinded import masked, page, unmasked
from etude.chat.dialogue import Dialogue
from etude.chat.pairing import KEY, PAGE, _drawn, _Writer
from etude.chat.preferring import counted, read_choices
from etude.chat.prompts.none import Nothing
from etude.chat.recipes import Pairs, Preferences
from etude.chat.session import Session
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.sampling import Sampling
from etude.text.corpora.dialogues import Dialogues
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.splits import fraction
from etude.text.tokenizers.byte import Byte
from etude.text.visible import visible
from etude.train.recipes import Train

SHAPE = Decoder(layers=1, width=16, heads=2, feedforward=16, context=160, spread=0.5)
OF = Train(Tokens(Fable(stories=20), Byte()), SHAPE, steps=0, evaluate_every=0, evaluate_tokens=160, precision="fp32")
TUNED = replace(OF, seed=1)
SHORT = Sampling(max_tokens=8)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Dialogues:
    folder = tmp_path_factory.mktemp("talks")
    for split, count in (("train", 2), ("valid", 2), ("test", 12)):
        rows = (
            [{"role": "user", "content": f"What is {split} {n}?"}, {"role": "assistant", "content": f"A secret {n}."}]
            for n in range(count)
        )
        lines = [*map(json.dumps, rows)]
        if split == "test":
            long = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "No."}]
            lines.append(json.dumps(long))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return Dialogues(path=str(folder))


@pytest.fixture(scope="module")
def recipe(corpus: Dialogues) -> Pairs:
    return Pairs(OF, TUNED, Nothing(), corpus, pairs=10, sampling=SHORT)


@pytest.fixture(scope="module")
def made(lab: Lab, recipe: Pairs) -> Run:
    return lab.run(recipe)


def shown(run: Run) -> list[dict[str, Any]]:
    text = run.file(PAGE).read_text(encoding="utf-8")
    data = text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    return json.loads(data)["pairs"]


def test_each_side_has_the_reply_that_its_model_gives_in_a_chat(lab: Lab, made: Run, recipe: Pairs) -> None:
    key = json.loads(made.file(KEY).read_text())
    sides, pairs = unmasked(key), shown(made)
    assert len(pairs) == len(sides) == made.result["pairs"] == 10
    assert set(sides) == {"A", "B"}
    assert "secret" not in json.dumps(pairs), "what was answered in the corpus is not shown"
    order = sorted(recipe.corpus.talks("test"), key=lambda talk: fraction(talk.text))
    numbers = {talk.turns[0]: number for number, talk in enumerate(order)}
    assert len({str(pair["turns"]) for pair in pairs}) == 10
    writers = [Session(*load(lab.run(of)), Nothing(one_line=True), SHORT) for of in (OF, TUNED)]
    for pair, side in zip(pairs, sides, strict=True):
        (turn,) = pair["turns"]
        for session, where in zip(writers, ("B" if side == "A" else "A", side), strict=True):
            session.dialogue, session.drawn = Dialogue(), numbers[turn]
            assert pair[where] == visible("".join(session.say(turn)))


def test_a_dialogue_that_does_not_fit_whole_is_left_out(made: Run) -> None:
    assert made.result["unfit"] <= 1 and all("word word" not in str(pair["turns"]) for pair in shown(made))


def test_the_page_does_not_say_whose_is_whose(made: Run) -> None:
    text = made.file(PAGE).read_text(encoding="utf-8")
    key = json.loads(made.file(KEY).read_text())
    assert "tuned" not in text.lower() and "prompted" not in text.lower() and key["sides"] not in text
    assert "tuned" not in json.dumps(key) and set(key["sides"]) != {"A", "B"}
    assert made.result.keys() == {"pairs", "same", "unfit", "characters", "timing"}


def test_sides_come_of_the_seed_alone_and_are_even() -> None:
    assert _drawn(0, 400) == _drawn(0, 400) != _drawn(1, 400)
    assert binomtest(sum(_drawn(0, 400)), 400).pvalue > 0.001
    sides = ["A" if swap else "B" for swap in _drawn(3, 50)]
    assert unmasked({"pairs": "abc", **masked(sides, "abc")}) == sides


def test_what_is_answered_does_not_depend_on_what_was_answered_before(lab: Lab) -> None:
    """So that a run that was killed goes on as if it had not been."""
    made = lab.run(OF)
    sampling = Sampling(max_tokens=12)
    one, other = (_Writer(made, Nothing(one_line=True), sampling) for _ in range(2))
    first = [one.answer(("Hello.",), n) for n in range(4)]
    assert [other.answer(("Hello.",), n) for n in (3, 1)] == [first[3], first[1]]
    assert len(set(first)) > 1


def choose(path: Path, made: Run, choices: dict[str, str], **other: object) -> str:
    held = {"pairs": made.id, "choices": choices, **other}
    path.write_text(json.dumps(held))
    return str(path)


def test_choices_are_counted_as_scipy_does(lab: Lab, made: Run, recipe: Pairs, tmp_path: Path) -> None:
    sides = unmasked(json.loads(made.file(KEY).read_text()))
    choices = {str(n + 1): side for n, side in enumerate(sides)}  # the tuned one always
    choices |= {"2": "tie", "5": "A" if sides[4] == "B" else "B"}
    del choices["9"]
    run = lab.run(Preferences(recipe, choose(tmp_path / "choices.json", made, choices)))
    result = run.result
    assert (result["tuned"], result["prompted"], result["ties"]) == (7, 1, 1)
    assert (result["pairs"], result["judged"], result["people"]) == (10, 9, 1)
    theirs = binomtest(7, 8)
    wilson = theirs.proportion_ci(method="wilson")
    share = result["share_tuned"]
    assert (share["mean"], share["low"], share["high"]) == pytest.approx((7 / 8, wilson.low, wilson.high))
    assert result["chance_of_a_coin"] == pytest.approx(theirs.pvalue)
    assert [row["chosen"] for row in run.record][1] == "tie" and len(run.record) == 9


def test_all_ties_say_nothing() -> None:
    result = counted({1: "tie", 2: "tie"}, ["A", "B"])
    assert result["share_tuned"] is None and result["chance_of_a_coin"] is None and result["ties"] == 2


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("[]", "holds no choices: give what the page wrote"),
        ('{"pairs": "p"}', "holds no choices"),
        ('{"pairs": "q", "choices": {"1": "A"}}', "has the choices of 'q', and these pairs are 'p'"),
        ('{"pairs": "p", "choices": {"4": "A"}}', "has a choice for pair 4, and there are 3"),
        ('{"pairs": "p", "choices": {"1": "C"}}', "pair 1 has 'C', which is not one of A, B, tie"),
        ('{"pairs": "p", "choices": {"1": ["A"]}}', "pair 1 has"),
        ('{"pairs": "p", "choices": {}}', "holds no choice: judge at least one"),
    ],
)
def test_what_are_no_choices_is_said(held: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(held)
    with pytest.raises(UsageError, match=said):
        read_choices(tmp_path / "c.json", "p", 3)


def test_a_file_that_is_not_there_is_said(recipe: Pairs) -> None:
    with pytest.raises(UsageError, match=r"no file 'none.json': give what the page wrote with --choices FILE"):
        Preferences(recipe, "none.json").resolve()


def test_what_is_said_stands_in_the_page_as_text() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \u2028 \u202e \x1b[2J"
    text = page([{"turns": [evil], "A": evil, "B": "b"}], "name")
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<img" not in text
    assert 'http-equiv="Content-Security-Policy"' in text and "default-src &#39;none&#39;" in text
    assert "http:" not in text and "https:" not in text
