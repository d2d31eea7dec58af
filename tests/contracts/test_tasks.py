"""What every task owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from etude.core.errors import DamagedError, UsageError
from etude.core.family import Family, member
from etude.evals.items import Choice, Cloze, Passage, Written
from etude.evals.prompting import FRAMES, WORDINGS, Prompt, Prompter
from etude.evals.recognised import recognised
from etude.evals.tasks.base import Task

FAMILY = Family("evals/tasks")
KINDS = {"choice": Choice, "cloze": Cloze, "written": Written, "passage": Passage}


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


TRUTH = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
WRITTEN = {
    "multiple-choice": (
        "a.jsonl",
        jsonl(
            {"query": "Two and two are", "choices": ["four", "five"], "gold": 0},
            {"query": "Snow is", "choices": ["black", "white", "red"], "gold": "white"},
            {"query": "Even numbers are", "choices": ["2", "3", "4"], "gold": [0, 2]},
        ),
        '{"query": "Alone", "choices": ["one"], "gold": 0}\n',
        "line 4: 1 choice leaves nothing to choose",
    ),
    "classification": (
        "a.csv",
        "text,label\nA joy,1\nA bore,0\nFine,positive\n",
        "Odd,7\n",
        "row 4: the answer 7 is not",
    ),
    "mmlu": (
        "anatomy_test.csv",
        'Which bone?,Ulna,Radius,Tibia,Femur,C\n"Where, and why?",Here,There,"Both, and",None,A\nHow?,1,2,3,4,D\n',
        "How?,1,2,3,4,E\n",
        "row 4: the answer 'E' is not among A, B, C, D",
    ),
    "bigbench": (
        "task.json",
        json.dumps(
            {
                "task_prefix": "Is it so?",
                "append_choices_to_input": False,
                "examples": [
                    {"input": "Water is wet.", "target_scores": {"True": 1, "False": 0}},
                    {"input": "Fire is wet.", "target_scores": {"True": 0, "False": 1}},
                    {"input": "Some say either.", "target_scores": {"a": 1, "b": 1, "c": 0}},
                    {"input": "Broken", "target_scores": ["True"]},
                ],
            }
        ),
        "",
        "item 4: target_scores is",
    ),
    "truthfulqa": (
        "TruthfulQA.csv",
        TRUTH + "A,Law,May I?,You may,You may; Certainly,You may not; Never,x\nA,Food,Eat?,Yes,Yes,No,x\n"
        "A,Law,When?,Now,Now,Then; Later,x\n",
        "A,Law,Why?,Because,Because,,x\n",
        "row 4: 1 choice leaves nothing to choose",
    ),
    "cloze": (
        "a.jsonl",
        jsonl(
            {"context": "1 + 1 =", "continuation": " 2"},
            {"context": "The sky is", "continuation": "blue"},
            {"context": "", "continuation": "Once"},
        ),
        '{"context": "To be"}\n',
        "line 4:",
    ),
    "replies": (
        "talks.jsonl",
        jsonl(
            *(
                {"messages": [{"role": "user", "content": f"Is {n} odd?"}, {"role": "assistant", "content": said}]}
                for n, said in enumerate(("No.", "Yes, it is.", "No, for\nit is even."))
            )
        ),
        jsonl({"messages": [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hello"}]}),
        "line 4: turn 1 is the assistant's, where one of the user's is due",
    ),
    "reply-choice": (
        "daily.jsonl",
        jsonl(
            *(
                {
                    "context": ["Hello.", "Good day.", f"Have you {n} hens?"],
                    "positive_responses": ["I have.", "No, sir."],
                    "adversarial_negative_responses": ["Hens have feathers."],
                    "random_negative_responses": ["Tomorrow, then.", "Black, please."],
                }
                for n in range(3)
            )
        ),
        '{"context": [1], "positive_responses": ["I have."], "random_negative_responses": ["Two."]}\n',
        "line 4: context is '[1]' and no list of texts",
    ),
    "exact-match": (
        "a.jsonl",
        jsonl(
            {"context": "Capital of France?", "answer": "Paris"},
            {"context": "1 + 1", "answer": 2},
            {"context": "Who?", "answer": "Me", "aliases": ["I", "Myself"]},
        ),
        '{"context": "Why?", "answer": null}\n',
        "line 4: the answer is 'None'",
    ),
    "perplexity": (
        "a.jsonl",
        jsonl({"text": "Long ago."}, {"text": "A tale of two\ncities."}, {"text": "é"}),
        '{"text": ""}\n',
        "line 4: the text is empty",
    ),
}
"""Of each member a small file of three items, a fourth row that is none, and what is said of it."""


def made(name: str, folder: Path, **fields: Any) -> Task:
    file, rows, bad, _ = WRITTEN[name]
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(rows + bad, encoding="utf-8")
    return cast(Task, member("evals/tasks", name, path=str(folder / file), **fields))


def test_every_member_is_here() -> None:
    assert set(WRITTEN) == set(FAMILY.names())


@pytest.mark.parametrize("name", WRITTEN)
def test_items_are_read_and_the_spoiled_row_is_said(name: str, tmp_path: Path) -> None:
    task = made(name, tmp_path)
    read = task.read()
    assert [type(item) for item in read.items] == [KINDS[task.measure]] * 3
    assert [item.number for item in read.items] == [1, 2, 3]
    assert all(item.where.startswith(WRITTEN[name][0]) for item in read.items)
    assert len(read.spoiled) == 1
    assert WRITTEN[name][3] in read.spoiled[0]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_is_recognised_by_one_member_alone(name: str, tmp_path: Path) -> None:
    task = made(name, tmp_path)
    assert recognised(task.chosen) == type(task)(path=str(task.chosen))


@pytest.mark.parametrize("name", WRITTEN)
def test_the_content_and_not_the_path_is_the_identity(name: str, tmp_path: Path) -> None:
    task = made(name, tmp_path / "here").resolve()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = made(name, tmp_path / "there").resolve()
    assert moved.fingerprint() == task.fingerprint()
    there = Path(moved.path)
    there.write_text(there.read_text().replace("a", "o", 1))
    assert type(task)(path=str(there)).resolve().fingerprint() != task.fingerprint()
    with pytest.raises(DamagedError, match="has changed"):
        moved.read()


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("frame", FRAMES)
def test_items_are_put_in_every_wording_and_frame(name: str, wording: str, frame: str, tmp_path: Path) -> None:
    items = made(name, tmp_path).read().items
    prompter = Prompter(Prompt(wording, frame=frame), "plain", items)
    for item in items:
        asked = prompter.asked(item)
        if isinstance(item, Choice):
            assert len(asked.pairs()) == len(item.choices)
            listed = WORDINGS[wording].letters
            assert asked.answers == tuple(f" {c}" for c in ("ABCDEF"[: len(item.choices)] if listed else item.choices))
        if not isinstance(item, Passage):
            assert all(question.strip() in "".join(asked.contexts) for question in [getattr(item, "question", "")])
            assert not any("{" in context for context in asked.contexts)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    task = cast(Task, FAMILY.member("mmlu")())
    with pytest.raises(UsageError, match=r"task mmlu needs a file or folder .* give --task\.path FILE"):
        task.read()
    with pytest.raises(UsageError, match="no file or folder"):
        type(task)(path=str(tmp_path / "none.csv")).read()
    for name in ("b.csv", "c.csv"):
        (tmp_path / name).write_text("How?,1,2,3,4,D\n")
    with pytest.raises(UsageError, match=r"holds 2 files of items: name one with --task.file, as b.csv, c.csv"):
        type(task)(path=str(tmp_path)).read()
    assert len(type(task)(path=str(tmp_path), file="c.csv").read().items) == 1
    (tmp_path / "d.jsonl").write_text('{"query": "x"}\n[1]\nnot json\n')
    with pytest.raises(UsageError, match=r"no item that task multiple-choice can ask: .* d\.jsonl, line 1"):
        cast(Task, member("evals/tasks", "multiple-choice", path=str(tmp_path / "d.jsonl"))).read()
    with pytest.raises(UsageError, match=r"no task reads d\.jsonl"):
        recognised(tmp_path / "d.jsonl")


def test_a_question_may_hold_what_looks_like_a_place_in_a_wording(tmp_path: Path) -> None:
    row = {"query": "What is {listed} and {prompt}?", "choices": ["{question}", "b"], "gold": 0}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (item,) = cast(Task, member("evals/tasks", "multiple-choice", path=str(tmp_path / "a.jsonl"))).read().items
    asked = Prompter(Prompt("listed", frame="story"), "plain", [item]).asked(item)
    assert "What is {listed} and {prompt}?\nA. {question}\nB. b" in asked.contexts[0]
