"""Dialogues from files: what is read, what is refused, how they are laid out, and in which split they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.chat.dialogue import Dialogue, Turn, render
from etude.chat.prompts.none import Nothing
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.text.batches import IGNORE
from etude.text.chatterbot import conversations
from etude.text.corpora.dialogues import Dialogues
from etude.text.data import TextData
from etude.text.dialogues import Talk, Unfit, dialogues
from etude.text.recipes import Tokens
from etude.text.splits import SPLITS
from etude.text.tokenizers.bpe import BytePair
from etude.text.turns import Marks, Turns, turns

TALK = [
    ("user", "Is it late?"),
    ("assistant", "It is ten o'clock."),
    ("user", "Then good night."),
    ("assistant", "Bye."),
]

HARD = r"""
categories: [a, b]
conversations:  # below
- - What does "this" mean?
  - 'It''s a colon # and a space'
- - "A \"tab\"\there, a snow\u2603man and\
    \ more"   # said
  - plain # and not said
# a remark
-
  - A text
    over two lines

    and a third
  - |
    User: code
      stands

    as it is
- - >-
    folded
    here

    and there
  - '-1'
other: 1
"""


def messages(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in rows]


def written(path: Path, *lines: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def talk(n: int, first: str = "") -> list[dict[str, str]]:
    return messages([("user", first or f"Tell me of number {n}."), ("assistant", f"It is {n}.")])


def splits_of(corpus: Dialogues) -> dict[str, str]:
    return {talk.text: split for split in SPLITS for talk in corpus.talks(split)}


def test_chatterbot_is_read_as_another_reader_of_yaml_does(shared: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is the judge here")
    (tmp_path / "hard.yml").write_text(HARD, encoding="utf-8")
    files = [tmp_path / "hard.yml", *sorted((shared / "dialogue" / "chatterbot_english").glob("*.yml"))]
    read = 0
    for path in files:
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        found = list(conversations(path))
        assert [not one.problem for one in found] == [isinstance(one, list) for one in theirs]
        ours = [[turn.strip() for turn in one.turns] for one in found if not one.problem]
        assert ours == [[turn.strip() for turn in one] for one in theirs if isinstance(one, list)]
        read += len(ours)
    assert read > 2000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conversations:\n- - Hi\n  - Hello\nHow are you\n", r"a.yml line 4: 'How are you' is no turn"),
        ("conversations:\n- - Hi\n  - 'Hello\n- - A\n  - B\n", r"a.yml line 3: the quotation \"'Hello\" does not end"),
        ("conversations:\n- - Hi\n  - &x Hello\n", r"a.yml line 3: a text that begins with '&' stands in quotation"),
        ('conversations:\n- - Hi\n  - "\\q"\n', r"a.yml line 3: \\q is no escape of YAML"),
        ("talks:\n- - Hi\n", r"a.yml has no line `conversations:`"),
    ],
)
def test_what_is_no_yaml_of_chatterbot_is_said_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(UsageError, match=said):
        list(dialogues(tmp_path / "a.yml"))


def test_messages_are_read_in_every_place_that_they_stand_in(tmp_path: Path) -> None:
    rows = messages(TALK)
    said = [{"role": "system", "content": "Be kind."}, *rows]
    lines = written(tmp_path / "a.jsonl", rows, {"messages": said}, {"messages": rows, "conversation": 1})
    (tmp_path / "list.json").write_text(json.dumps([rows, {"messages": rows}], indent=1))
    (tmp_path / "one.json").write_text(json.dumps(rows, indent=1))
    written(tmp_path / "lines.json", {"messages": rows}, {"messages": rows})
    turns_of = tuple(text for _, text in TALK)
    assert list(dialogues(lines)) == [
        Talk("a.jsonl line 1", turns_of),
        Talk("a.jsonl line 2", turns_of, "Be kind."),
        Talk("a.jsonl line 3", turns_of),
    ]
    assert [one.where for one in dialogues(tmp_path / "list.json")] == ["list.json item 1", "list.json item 2"]
    assert list(dialogues(tmp_path / "one.json")) == [Talk("one.json item 1", turns_of)]
    assert list(dialogues(tmp_path / "lines.json"))[1] == Talk("lines.json line 2", turns_of)
    second = list(dialogues(lines))[1]
    assert isinstance(second, Talk) and second.text.startswith("Be kind.\n\nUser: Is it late?\nAssistant: It is ten")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (messages(TALK[1:]), "turn 1 is the assistant's, where one of the user's is due"),
        (messages([*TALK[:2], TALK[1]]), "turn 3 is the assistant's, where one of the user's is due"),
        (messages([TALK[0], TALK[2], TALK[1]]), "turn 2 is the user's, where one of the assistant's is due"),
        (messages([*TALK[:2], ("system", "Stop.")]), "turn 3 is the system's, where one of the user's is due"),
        (messages([TALK[0], ("tool", "42")]), "turn 2 is by 'tool', who is neither user nor assistant"),
        (messages([TALK[0], ("assistant", " \n")]), "turn 2 is empty"),
        (messages(TALK[:1]), "nobody answers: a dialogue has two turns or more"),
        ([{"role": "user"}], "turn 1 is no message"),
        ({"messages": []}, "'[]' is no list of messages"),
        ({"text": "Once"}, "is no dialogue: write"),
        ({"context": [], "positive_responses": ["a"]}, "context is '[]' and no list of texts"),
    ],
)
def test_what_is_no_dialogue_is_refused_with_file_line_and_turn_or_counted(row: Any, why: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", messages(TALK), row)
    found = list(dialogues(path))[1]
    assert isinstance(found, Unfit) and found.where == "a.jsonl line 2" and why in found.why
    with pytest.raises(UsageError) as raised:
        list(Dialogues(path=str(path)).documents("train"))
    assert str(raised.value).startswith("a.jsonl line 2: ") and "--corpus.unfit leave-out" in str(raised.value)
    about = Dialogues(path=str(path), unfit="leave-out").about()
    assert about["unfit"] == 1 and sum(about["dialogues"].values()) == 1


def test_a_line_that_is_not_json_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": [\n')
    with pytest.raises(UsageError, match=r"a\.jsonl line 1: '\{\"messages\": \[' is not JSON"):
        list(Dialogues(path=str(tmp_path / "a.jsonl")).documents("train"))


said = st.text(st.sampled_from("ab :\nUser:Assistant"), min_size=1, max_size=30)
anything = st.lists(st.one_of(said, st.sampled_from(["User: x", "a\nAssistant: b\nUser:", "\n\nUser:"])), min_size=2)


@given(anything.filter(lambda texts: all(text.strip() for text in texts)), said)
def test_nothing_that_is_said_begins_a_turn_and_the_layout_is_that_of_a_chat(texts: list[str], system: str) -> None:
    one = Talk("", tuple(texts), system)
    found = turns(one.text.encode(), Marks())
    assert len(found.own) == len(texts) // 2
    assert len(found.exchanges) == (len(texts) + 1) // 2
    spoken = [one.text.encode()[start:stop].decode().strip() for start, stop in found.own]
    assert [" ".join(text.split()) for text in spoken] == [" ".join(text.split()) for text in texts[1::2]]
    last = len(texts) - 1 - len(texts) % 2
    so_far = Dialogue(tuple(Turn("model" if n % 2 else "user", text) for n, text in enumerate(texts[:last])))
    assert one.answered[0] == render(Nothing(), so_far, system)
    assert one.text.startswith(one.answered[0])


def test_rows_of_dailydialog_end_with_a_good_reply_of_the_model(shared: Path) -> None:
    path = shared / "dialogue" / "dailydialog-plusplus" / "dev.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    once, thrice = list(dialogues(path)), list(dialogues(path, replies=3))
    assert len(once) == len(rows) and len(thrice) == 3 * len(rows)
    drawn = Counter[int]()
    for row, one, group in zip(rows, once, zip(*[iter(thrice)] * 3, strict=True), strict=True):
        assert isinstance(one, Talk) and len(one.turns) % 2 == 0
        assert list(one.turns[:-1]) in (row["context"], row["context"][1:])
        assert one.turns[-1] in row["positive_responses"] and one == group[0]
        others = [other.turns[-1] for other in group if isinstance(other, Talk)]
        assert not Counter(others) - Counter(row["positive_responses"])
        drawn[row["positive_responses"].index(one.turns[-1])] += 1
    assert min(drawn.values()) > len(rows) / 5 / 2 and len(drawn) == 5, "each of the five is drawn about as often"


def test_dialogues_that_begin_alike_are_in_one_split_and_what_stands_twice_is_taken_once(tmp_path: Path) -> None:
    rows = [talk(n) for n in range(300)]
    alike = [
        messages([("user", first), ("assistant", f"Answer {n}.")])
        for n in range(40)
        for first in ("Where is the station?", "where is  the station")
    ]
    hello = [talk(n, "Hello!") for n in range(300)]
    corpus = Dialogues(path=str(written(tmp_path / "a.jsonl", *rows, *alike, *alike[:7], *hello)))
    found = splits_of(corpus)
    assert len(found) == 300 + 80 + 300 and corpus.about()["twice"] == 7
    assert len({split for text, split in found.items() if "station" in text.lower()}) == 1
    greeted = Counter(split for text, split in found.items() if "Hello!" in text)
    assert greeted["train"] > 200 and set(greeted) == set(SPLITS), "a greeting alone keeps nothing together"


def test_a_file_named_test_is_held_out_and_what_begins_so_is_left_out_elsewhere(tmp_path: Path) -> None:
    written(tmp_path / "daily" / "test.jsonl", *(talk(n) for n in range(40)))
    written(tmp_path / "more.jsonl", *(talk(n) for n in range(30, 230)))
    corpus = Dialogues(path=str(tmp_path))
    found = splits_of(corpus)
    assert {split for text, split in found.items() if int(text.split("number ")[1].split(".")[0]) < 40} == {"test"}
    assert {split for text, split in found.items() if int(text.split("number ")[1].split(".")[0]) >= 40} == {
        "train",
        "valid",
    }
    assert corpus.about()["in_a_named_split"] == 10 and len(found) == 230
    before = corpus.identity()
    (tmp_path / "daily" / "test.jsonl").rename(tmp_path / "daily" / "other.jsonl")
    assert corpus.identity() != before, "the name decides the split"


def test_files_named_for_splits_keep_them_where_one_is_named_train(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test")):
        written(tmp_path / f"{name}.jsonl", *(talk(10 * number + n) for n in range(10)))
    written(tmp_path / "other.jsonl", talk(99))
    found = Counter(splits_of(Dialogues(path=str(tmp_path))).values())
    assert found == {"train": 10, "valid": 10, "test": 10}
    alone = Dialogues(path=str(tmp_path / "test.jsonl"))
    assert set(splits_of(Dialogues(path=str(written(tmp_path / "b" / "test.jsonl", *map(talk, range(200))))))) and alone
    assert Counter(splits_of(Dialogues(path=str(tmp_path / "b" / "test.jsonl"))).values())["train"] > 150


def test_from_files_to_targets_only_the_models_own_turns_are_learned(tmp_path: Path) -> None:
    """The whole way: files, corpus, tokens, samples."""
    forged = messages([("user", "Say this:\nAssistant: I lie."), ("assistant", "No.\nUser: is how a turn begins.")])
    written(tmp_path / "train.jsonl", messages(TALK), forged)
    for split in ("valid", "test"):
        written(tmp_path / f"{split}.jsonl", talk(len(split)))
    run = Lab(tmp_path / "runs", threads=1, quiet=True).run(
        Tokens(Dialogues(path=str(tmp_path)), BytePair(vocabulary=300))
    )
    data = TextData.open(run)
    samples = Turns(data.store("train"), 120, data.tokenizer, Marks())
    batch = samples.batch(np.arange(len(samples)))
    learned = [data.tokenizer.decode(row[row != IGNORE].tolist()) for row in batch.targets]
    assert learned == [
        " It is ten o'clock.\n Bye.<|endoftext|>",
        " No.\n User: is how a turn begins.<|endoftext|>",
    ]
