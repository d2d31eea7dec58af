"""What a model writes after prompts, judged: the numbers by hand, kills, and texts that would do harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals import continuing
from etude.evals.continuing import measured, prompts
from etude.evals.judge_recipes import Continuations, Judge
from etude.evals.judges import open_judge, plain
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.generation import generate
from etude.models.load import load
from etude.models.sampling import Sampling
from etude.text.corpora.fable import Fable
from etude.text.corpora.labelled import Labelled
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.classification import Classification
from etude.train.recipes import Train

MADE = Path(__file__).parents[1] / "studies" / "made" / "remarks.csv"
JUDGE = Judge(Labelled(path=str(MADE), classes=("civil", "rude"), held_out=0.2), ("rude",), least=2)
SHAPE = Decoder(layers=1, width=16, heads=2, feedforward=24, context=96, positions="rotary", spread=0.6)
OF = Train(Tokens(Fable(stories=20), Byte()), SHAPE, steps=0, evaluate_every=0, evaluate_tokens=96, precision="fp32")
ASKED = Continuations(OF, JUDGE, prompts=12, each=3, bins=3, sampling=Sampling(max_tokens=8), batch=8)


JUDGED = Tokens(JUDGE.corpus, Byte())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def texts_of(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.file("continuations.jsonl").read_text(encoding="ascii").splitlines()]


def test_scores_are_those_of_the_texts_that_are_kept(lab: Lab) -> None:
    run = lab.run(ASKED)
    judge, rows = open_judge(lab.run(JUDGE), {}), texts_of(run)
    scores = np.array([judge.score([one["text"] for one in row["continuations"]]) for row in rows])
    assert scores == pytest.approx(np.array([[one["score"] for one in row["continuations"]] for row in rows]))
    assert [row["score"] for row in rows] == pytest.approx(judge.score([row["prompt"] for row in rows]).tolist())
    result = run.result
    assert result["toxicity"]["mean"] == pytest.approx(scores.mean())
    assert result["expected_maximum"]["mean"] == pytest.approx(scores.max(1).mean())
    assert result["any_toxic"]["mean"] == pytest.approx((scores.max(1) >= 0.5).mean())
    assert result["toxicity"]["n"] == len(rows) == result["prompts"] == sum(row["prompts"] for row in result["bins"])
    for number, held in enumerate(result["bins"]):
        mine = np.array([row["bin"] == number for row in rows])
        assert held["prompts"] == mine.sum()
        assert not mine.any() or held["toxicity"]["mean"] == pytest.approx(scores[mine].mean())
    card = {key: value for key, value in lab.run(JUDGE).result.items() if key != "timing"}
    assert result["judge"] == card  # no score stands without it


def test_a_share_of_none_is_not_certain() -> None:
    found = measured(np.full((10, 2), 0.1))
    assert found["any_toxic"]["mean"] == 0 and 0.2 < found["any_toxic"]["high"] < 0.35


def test_prompts_are_halves_of_held_out_texts_spread_over_bins(lab: Lab) -> None:
    judge = open_judge(lab.run(JUDGE), {})
    chosen = prompts(ASKED, judge)
    held = {plain(document.text()) for document in JUDGE.corpus.documents("test")}
    for one in chosen:
        assert any(text.startswith(f"{one.prompt} {one.rest}") for text in held)
        assert abs(len(one.prompt.split()) - len(one.rest.split())) <= 0
        assert one.bin == min(int(one.score * 3), 2)
    assert max(np.bincount([one.bin for one in chosen])) <= 4
    assert len({one.prompt + one.rest for one in chosen}) == len(chosen)
    more = prompts(replace(ASKED, prompts=24), judge)
    assert {one.prompt for one in chosen} <= {one.prompt for one in more}
    assert all(len(one.prompt.split()) <= 2 for one in prompts(replace(ASKED, words=2), judge))


def test_a_preamble_stands_before_and_words_around(lab: Lab) -> None:
    asked = replace(ASKED, preamble="Be kind.", around="A: {prompt}\nB:", each=1, prompts=4, bins=1)
    rows = texts_of(lab.run(asked))
    model, tokenizer = load(lab.run(OF))
    before = [tokenizer.encode(f"Be kind.\n\nA: {row['prompt']}\nB:") for row in rows]
    alone = generate(model, tokenizer, before, asked.sampling)
    assert [row["continuations"][0]["text"] for row in rows] == [one.text for one in alone]


def test_killed_it_goes_on_and_says_the_same(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = lab.run(ASKED)
    other, calls, real = Lab(tmp_path / "runs", threads=1, quiet=True), [0], continuing.generate
    other.run(OF)
    other.run(JUDGE)

    def failing(*args: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(continuing, "generate", failing)
    with pytest.raises(BaseException):  # noqa: B017 (however the lab says it)
        other.run(ASKED)
    (kept,) = (tmp_path / "runs").glob("continuations-*.partial/scratch/continuations.jsonl")
    assert len(kept.read_text().splitlines()) == 2
    with kept.open("a") as file:
        file.write('{"16": "cut of')
    calls[0] = 100
    again = other.run(ASKED)
    batches = -(-usual.result["prompts"] * 3 // 8)
    assert calls[0] - 100 == batches - 2
    assert again.file("continuations.jsonl").read_bytes() == usual.file("continuations.jsonl").read_bytes()
    assert {k: v for k, v in again.result.items() if k != "timing"} == {
        k: v for k, v in usual.result.items() if k != "timing"
    }


def test_a_resumed_work_may_have_another_batch(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls, real = lab.run(ASKED), [0], continuing.generate
    other = Lab(tmp_path / "runs", threads=1, quiet=True)

    def failing(*args: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(continuing, "generate", failing)
    with pytest.raises(BaseException):  # noqa: B017 (however the lab says it)
        other.run(ASKED)
    again = other.run(replace(ASKED, batch=5))
    assert [row["continuations"] for row in texts_of(again)] == [row["continuations"] for row in texts_of(usual)]


def test_bad_text_is_harmless(tmp_path: Path) -> None:
    rows = "text,label\n" + "".join(
        f'"<script>alert({n})</script> \x1b[2J {{prompt}} \u202e row {n} ends",{n % 2}\n' for n in range(120)
    )
    path = tmp_path / "a.csv"
    path.write_bytes(rows.encode() + b'"caf\xe9 \xff\xfe is not UTF-8 here",1\n')
    judge = Judge(Labelled(path=str(path), classes=("civil", "rude"), held_out=0.2), ("rude",), least=2)
    asked = Continuations(
        OF, judge, prompts=4, each=1, bins=1, sampling=Sampling(max_tokens=3), around="{prompt} {prompt}"
    )
    found = texts_of(Lab(tmp_path / "runs", threads=1, quiet=True).run(asked))
    assert len(found) == 4 and all("alert(" in row["prompt"] for row in found)


def test_wrong_use_is_said(lab: Lab) -> None:
    encoder = Train(JUDGED, Encoder(context=96, classes=2), Classification())
    for fields, said in (
        ({"prompts": 1}, "prompts = 1 is too small"),
        ({"bins": 13}, "fewer than bins"),
        ({"around": "no place"}, r"has no \{prompt\} in it"),
        ({"sampling": Sampling()}, "continuations end"),
        ({"sampling": Sampling(temperature=0, max_tokens=4)}, "each = 3 would be the same"),
        ({"of": encoder}, "an encoder goes on from no text"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(ASKED, **fields)
    with pytest.raises(UsageError, match="the model reads 96: set fewer --words"):
        lab.run(replace(ASKED, preamble="x" * 90))
