"""A model is asked the items of a file: what is made of the answers, against a plain count; batches, order, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.run import Run
from etude.evals import prompting
from etude.evals.asking import Asker, ask_for
from etude.evals.evaluating import Kept, items_of
from etude.evals.prompting import Prompt
from etude.evals.task_recipes import Evaluate
from etude.evals.tasks.classification import Classification
from etude.evals.tasks.cloze import Cloze
from etude.evals.tasks.exact_match import ExactMatch
from etude.evals.tasks.multiple_choice import MultipleChoice
from etude.evals.tasks.perplexity import Perplexity
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.generation import generate
from etude.models.load import load
from etude.models.sampling import Sampling
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.masked import Masked
from etude.train.recipes import Train

SHAPE = Decoder(layers=2, width=16, heads=2, feedforward=24, context=96, positions="rotary", spread=0.6)
OF = Train(Tokens(Fable(stories=20), Byte()), SHAPE, steps=0, evaluate_every=0, evaluate_tokens=96, precision="fp32")
DRAW = random.Random(2)
WORDS = ("red", "blue", "a fox", "two", "often", "in the old wood", "é")
CHOICES = [
    {"query": f"Item {n} is", "choices": DRAW.sample(WORDS, 2 + n % 3), "gold": DRAW.randrange(2)} for n in range(30)
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runs"), threads=1, quiet=True)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def log_probability(run: Run, context: str, answer: str) -> float:
    """Sum what a plain pass over the text says of each byte of the answer."""
    model, tokenizer = load(run)
    whole, before = [*tokenizer.encode(context), *tokenizer.encode(answer)], len(tokenizer.encode(context))
    if not before:
        whole, before = [tokenizer.end, *whole], 1
    with torch.no_grad():
        logs = model(torch.tensor([whole[:-1]]))[0].double().log_softmax(-1)
    return sum(float(logs[at - 1, whole[at]]) for at in range(before, len(whole)))


def test_choices_are_scored_as_a_plain_count_does(lab: Lab, tmp_path: Path) -> None:
    task = MultipleChoice(path=written(tmp_path / "a.jsonl", CHOICES))
    run, made = lab.run(Evaluate(OF, task, bare=True)), lab.run(OF)
    right: dict[str, int] = dict.fromkeys(("accuracy", "by_characters", "by_bytes", "unconditional"), 0)
    mass = []
    for row in CHOICES:
        logs = np.array([log_probability(made, row["query"], " " + choice) for choice in row["choices"]])
        bare = np.array([log_probability(made, "", " " + choice) for choice in row["choices"]])
        characters = np.array([len(choice) for choice in row["choices"]])
        bytes = np.array([len(choice.encode()) for choice in row["choices"]])
        scored = {"accuracy": logs, "by_characters": logs / characters, "by_bytes": logs / bytes}
        for name, scores in {**scored, "unconditional": logs - bare}.items():
            right[name] += int(scores.argmax()) == row["gold"]
        mass.append(np.exp(logs)[row["gold"]] / np.exp(logs).sum())
    scores = run.result["scores"]
    assert {name: scores[name]["mean"] for name in right} == pytest.approx({n: k / 30 for n, k in right.items()})
    assert len({scores[name]["mean"] for name in right}) > 1  # else these could be one and the same
    assert scores["mass"]["mean"] == pytest.approx(np.mean(mass), abs=1e-5)
    assert scores["accuracy"]["chance"] == pytest.approx(np.mean([1 / len(row["choices"]) for row in CHOICES]))
    assert scores["accuracy"]["n"] == 30 and scores["accuracy"]["low"] < scores["accuracy"]["mean"]
    first = sum(row["gold"] == 0 for row in CHOICES)
    assert run.result["always_one"] == pytest.approx(max(first, 30 - first) / 30)
    assert [item["where"] for item in items_of(run)] == [f"a.jsonl, line {n + 1}" for n in range(30)]


def test_neither_batches_nor_the_order_of_items_matter(lab: Lab, tmp_path: Path) -> None:
    usual = lab.run(Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", CHOICES))))
    by_query = {CHOICES[n]["query"]: row for n, row in enumerate(items_of(usual))}
    for number, at_once in enumerate((1, 7 * 12, 64 * 12)):
        rows = random.Random(number).sample(CHOICES, 30)
        other = lab.run(Evaluate(OF, MultipleChoice(path=written(tmp_path / f"{number}.jsonl", rows)), at_once=at_once))
        assert other.id != usual.id  # another file, which nothing was answered of
        assert {n: s["mean"] for n, s in other.result["scores"].items() if n != "mass"} == {
            n: s["mean"] for n, s in usual.result["scores"].items() if n != "mass"
        }
        for row, item in zip(rows, items_of(other), strict=True):
            assert item["log_probabilities"] == pytest.approx(by_query[row["query"]]["log_probabilities"], abs=1e-4)


def test_examples_stand_before_the_question_and_never_show_it(lab: Lab, tmp_path: Path) -> None:
    rows = [{"query": f"Q{n}?", "choices": ["yes", "no"], "gold": n % 2} for n in range(4)]
    task = MultipleChoice(path=written(tmp_path / "a.jsonl", rows))
    made = lab.run(OF)
    for item, row in zip(items_of(lab.run(Evaluate(OF, task, Prompt(shots=2, seed=5)))), rows, strict=True):
        others = [other for other in rows if other != row]
        found = []
        for a in others:
            for b in others:
                if a != b:
                    shown = "".join(f"{s['query']} {s['choices'][s['gold']]}\n\n" for s in (a, b))
                    found.append(
                        [log_probability(made, shown + row["query"], f" {choice}") for choice in row["choices"]]
                    )
        assert any(item["log_probabilities"] == pytest.approx(logs, abs=1e-4) for logs in found)
    with pytest.raises(UsageError, match=r"shots = 4 and there are 4 items to show, one of which is asked"):
        lab.run(Evaluate(OF, task, Prompt(shots=4)))


def test_prompts_differ_by_seed_and_order(lab: Lab, tmp_path: Path) -> None:
    rows = [{"query": f"Q{n}?", "choices": ["yes", "no"], "gold": n % 2} for n in range(9)]
    task = MultipleChoice(path=written(tmp_path / "a.jsonl", rows))
    prompts = [Prompt(shots=3), Prompt(shots=3, seed=1), Prompt(shots=3, order=1), Prompt(shots=3, frame="story")]
    asked = [Evaluate(OF, task, prompt, too_long="shorten") for prompt in [*prompts, prompts[0]]]
    hashes = [lab.run(one).result["prompt"] for one in asked]
    assert len(set(hashes)) == 4 and hashes[0] == hashes[-1]


def test_what_does_not_fit_is_refused_shortened_or_left_out_and_counted(lab: Lab, tmp_path: Path) -> None:
    rows = [*CHOICES[:5], {"query": "long " * 40, "choices": ["a", "b"], "gold": 0}]
    asked = Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", rows)))
    with pytest.raises(
        UsageError, match="1 of 6 prompts do not fit the model's context of 96 tokens, the longest takes"
    ):
        lab.run(asked)
    shortened = lab.run(replace(asked, too_long="shorten"))
    left_out = lab.run(replace(asked, too_long="leave-out"))
    assert [run.result["too_long"] for run in (shortened, left_out)] == [1, 1]
    assert [run.result["n"] for run in (shortened, left_out)] == [6, 5]
    context = ("long " * 40)[:-1]
    tail = context[-(96 - 1) :]  # two bytes of the answer, of which the last is not read
    wanted = [log_probability(lab.run(OF), tail, f" {choice}") for choice in "ab"]
    assert items_of(shortened)[-1]["log_probabilities"] == pytest.approx(wanted, abs=1e-4)


def test_half_an_answer_is_never_scored(lab: Lab, tmp_path: Path) -> None:
    rows = [{"context": "A", "continuation": "b" * 200}, {"context": "x" * 150, "continuation": "b"}]
    asked = Evaluate(OF, Cloze(path=written(tmp_path / "a.jsonl", rows)), too_long="shorten")
    run = lab.run(asked)
    assert (run.result["n"], run.result["too_long"]) == (1, 2)
    assert [(row["tokens"], row["bytes"]) for row in items_of(run)] == [(2, 2)] or items_of(run)[0]["bytes"] == 1
    nothing = lab.run(Evaluate(OF, Cloze(path=written(tmp_path / "b.jsonl", rows[:1])), too_long="leave-out"))
    assert (nothing.result["n"], nothing.result["too_long"], nothing.result["scores"]) == (0, 1, {})


def test_what_a_model_wrote_may_hold_any_end_of_a_line(lab: Lab, tmp_path: Path) -> None:
    rows = [{**row, "part": f"x\u2028y\x85{n % 2}"} for n, row in enumerate(CHOICES[:6])]
    run = lab.run(Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", rows), group_field="part")))
    assert len(items_of(run)) == 6 and set(run.result["groups"]) == {"x\u2028y\x850", "x\u2028y\x851"}


def test_equal_answers_share_what_is_right(lab: Lab, tmp_path: Path) -> None:
    rows = [{"query": "Say", "choices": ["a", "a"], "gold": 1}, {"query": "Say", "choices": ["a", "a"], "gold": [0, 1]}]
    run = lab.run(Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", rows))))
    assert [row["accuracy"] for row in items_of(run)] == [0.5, 1.0]


def test_a_spoiled_row_harms_no_other(lab: Lab, tmp_path: Path) -> None:
    usual = lab.run(Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", CHOICES))))
    path = tmp_path / "b.jsonl"
    written(path, CHOICES)
    path.write_text("{broken\n" + path.read_text() + '{"query": "?", "choices": ["a", "b"], "gold": 2}\n')
    run = lab.run(Evaluate(OF, MultipleChoice(path=str(path))))
    assert run.result["scores"] == usual.result["scores"]
    assert run.result["spoiled"] == 2
    assert "b.jsonl, line 1 is not JSON" in run.result["spoiled_shown"][0]
    assert "b.jsonl, line 32: the answer 2 is not among the 2 choices" in run.result["spoiled_shown"][1]


def test_continuations_texts_and_answers_in_writing(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lab.run(OF)
    model, tokenizer = load(made)
    cloze = [{"context": "Once upon", "continuation": "a time"}, {"context": "The end", "continuation": "."}]
    tried = ["".join(DRAW.choices("abcdefgh", k=4)) for _ in range(3000)]
    went_on = generate(model, tokenizer, tried, Sampling(temperature=0.0, max_tokens=2), batch=500)
    found = ((a, b.text) for a, b in zip(tried, went_on, strict=True))
    context, text = next(pair for pair in found if len(pair[1]) == 2 and pair[1].isascii())
    cloze.append({"context": context, "continuation": text})
    monkeypatch.setitem(prompting.WORDINGS, "plain", prompting.Wording("{question}", delimiter=""))
    run = lab.run(Evaluate(OF, Cloze(path=written(tmp_path / "a.jsonl", cloze))))
    logs = [log_probability(made, row["context"], row["continuation"]) for row in cloze]
    assert [item["log_probability"] for item in items_of(run)] == pytest.approx(logs, abs=1e-4)
    assert items_of(run)[-1]["accuracy"] == 1.0 and run.result["scores"]["accuracy"]["mean"] < 1

    texts = [{"text": "A fox. " * 40}, {"text": "é"}]
    run = lab.run(Evaluate(OF, Perplexity(path=written(tmp_path / "b.jsonl", texts))))
    rows = items_of(run)
    assert rows[1]["log_probability"] == pytest.approx(log_probability(made, "", "é"), abs=1e-4)
    assert [row["bytes"] for row in rows] == [280, 2] and [row["tokens"] for row in rows] == [280, 2]
    sums = [sum(row[name] for row in rows) for name in ("log_probability", "bytes")]
    assert run.result["scores"]["bits_per_byte"]["mean"] == pytest.approx(-sums[0] / sums[1] / np.log(2))

    said = generate(model, tokenizer, ["Why?"], Sampling(temperature=0.0, max_tokens=6, stop=("\n",)))[0].text
    asks = [{"context": "Why?", "answer": said.strip() or "x"}, {"context": "Who?", "answer": "nobody at all"}]
    run = lab.run(Evaluate(OF, ExactMatch(path=written(tmp_path / "c.jsonl", asks), max_tokens=6)))
    assert items_of(run)[0]["written"] == said
    assert run.result["scores"]["accuracy"]["mean"] == (0.5 if said.strip() else 0.0)


def test_labels_have_a_macro_f1(lab: Lab, tmp_path: Path) -> None:
    rows = [{"text": f"{word} and {other}", "label": (len(word) + len(other)) % 3} for word in WORDS for other in WORDS]
    task = Classification(path=written(tmp_path / "a.jsonl", rows), labels=("low", "middle", "high"))
    run = lab.run(Evaluate(OF, task))
    given = [int(np.argmax(item["log_probabilities"])) for item in items_of(run)]
    assert run.result["macro_f1"] == pytest.approx(f1_score([row["label"] for row in rows], given, average="macro"))
    assert 0 < run.result["macro_f1"] < 1
    bins = run.result["calibration"]["bins"]
    assert sum(one["n"] for one in bins) == len(rows)
    error = sum(abs(one["probability"] - one["share"]) * one["n"] for one in bins) / len(rows)
    assert run.result["calibration"]["error"] == pytest.approx(error)


def test_a_model_without_a_head_for_it_is_refused() -> None:
    shape = Encoder(layers=1, width=16, heads=2, feedforward=24, context=96)
    encoder = Train(Tokens(Fable(stories=20), Byte(specials=("mask",))), shape, Masked(), steps=0)
    with pytest.raises(UsageError, match="tasks are asked of models that predict the next token"):
        Evaluate(encoder)


# Interrupted


def test_what_was_answered_is_not_asked_again(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", CHOICES[:20])), at_once=30)
    usual = lab.run(asked)
    other, calls, real = Lab(tmp_path / "runs", threads=1, quiet=True), [0], Asker.answer

    def failing(self: Asker, groups: Any, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return real(self, groups, batch)

    monkeypatch.setattr(Asker, "answer", failing)
    with pytest.raises(BaseException):  # noqa: B017 (however the lab says it)
        other.run(asked)
    (kept,) = (tmp_path / "runs").glob("evaluate-*.partial/scratch/items.jsonl")
    whole = len(kept.read_text().splitlines())
    assert whole == 5
    with kept.open("a") as file:
        file.write('{"7 0": [[-1.0, tr')  # a line that a kill cut off
    calls[0] = 100
    again = other.run(asked)
    assert calls[0] - 100 == len(Asker(load(lab.run(OF))[0], 30).batches(_groups(lab, asked))) - 5
    assert again.result["scores"] == usual.result["scores"]
    assert again.file("items.jsonl").read_bytes() == usual.file("items.jsonl").read_bytes()


def _groups(lab: Lab, asked: Evaluate) -> Any:
    tokenizer = load(lab.run(OF))[1]
    return [
        [ask_for(tokenizer, row["query"], f" {choice}") for choice in row["choices"]]
        for row in (json.loads(line) for line in Path(asked.task.path).read_text().splitlines())
    ]


def test_answers_survive_a_cut_in_their_last_line(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "items.jsonl")
    kept.add({"0 0": [[-1.5, True, 2]], "1 0": [[-2.0, False, 1]]})
    with (tmp_path / "items.jsonl").open("ab") as file:
        file.write('{"2 0": "é'.encode()[:-1])
    again = Kept(tmp_path / "items.jsonl")
    assert len(again) == 2 and again["0 0"] == [[-1.5, True, 2]]
    again.add({"2 0": []})
    assert "2 0" in Kept(tmp_path / "items.jsonl")


SLOWED = """
import sys, time
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.evals.asking import Asker
from etude.core.files import read_json
from pathlib import Path
real = Asker.answer
def slow(self, groups, batch):
    time.sleep(0.05)
    return real(self, groups, batch)
Asker.answer = slow
Lab(sys.argv[1], threads=1, quiet=True).run(Recipe.from_json(read_json(Path(sys.argv[2]))))
"""


@pytest.mark.kill
def test_killed_thrice_it_says_the_same(lab: Lab, tmp_path: Path) -> None:
    rows = [{**row, "query": f"{row['query']} {n}"} for n in range(6) for row in CHOICES]
    asked = Evaluate(OF, MultipleChoice(path=written(tmp_path / "a.jsonl", rows)), at_once=20)
    usual = lab.run(asked)
    (tmp_path / "asked.json").write_text(json.dumps(asked.to_json()))
    other, kills = Lab(tmp_path / "runs", threads=1, quiet=True), 0
    other.run(OF)
    while kills < 3:
        words = [sys.executable, "-c", SLOWED, str(other.root), str(tmp_path / "asked.json")]
        process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
        before, started = answered(tmp_path), time.monotonic()
        while answered(tmp_path) < before + 10 and process.poll() is None and time.monotonic() - started < 60:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert answered(tmp_path) >= before + 10, "what was answered before is gone"
        kills += 1
    again = other.run(asked)
    assert again.result["scores"] == usual.result["scores"]
    assert again.file("items.jsonl").read_bytes() == usual.file("items.jsonl").read_bytes()


def answered(folder: Path) -> int:
    kept = list((folder / "runs").glob("evaluate-*.partial/scratch/items.jsonl"))
    return len(kept[0].read_text().splitlines()) if kept else 0
