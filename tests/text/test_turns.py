"""Dialogues: which tokens are the model's own, and where long ones are cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.text.batches import IGNORE
from etude.text.store import TokenStore
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import ByteTokenizer, Tokenizer, load_tokenizer
from etude.text.turns import Marks, Turns, packed, turns

TALK = "User: Hi.\nAssistant: Hello, you.\nUser: Bye.\nAssistant: Good bye."
OWN = [" Hello, you.\n", " Good bye."]
MARKS = Marks()
BYTES = ByteTokenizer()
Stored = Callable[..., TokenStore]


def samples(stored: Stored, texts: list[str], context: int, tokenizer: Tokenizer = BYTES) -> Turns:
    return Turns(stored([tokenizer.encode(text) for text in texts], tokenizer), context, tokenizer, MARKS)


def learned(found: Turns, tokenizer: Tokenizer = BYTES) -> list[str]:
    """Return what the targets of each sample say."""
    targets = found.batch(np.arange(len(found))).targets
    return [tokenizer.decode(row[row != IGNORE].tolist()) for row in targets]


def test_the_models_own_turns_are_found() -> None:
    text = TALK.encode()
    found = turns(text, MARKS)
    assert [text[a:b].decode() for a, b in found.own] == OWN
    assert found.own[-1][1] == len(text) + 1, "and the separator after the last"
    assert [text[at:][:9].decode() for at in found.exchanges] == ["User: Hi.", "User: Bye"]


@pytest.mark.parametrize("tokenizer", [BYTES, "bpe"], ids=["byte", "bpe"])
def test_only_own_turns_are_learned_and_all_is_read(stored: Stored, tokenizer: Tokenizer | str) -> None:
    live = BytePair(vocabulary=300).build(lambda: iter([TALK] * 9)) if isinstance(tokenizer, str) else tokenizer
    found = samples(stored, [TALK], 80, live)
    batch = found.batch(np.array([0]))
    assert learned(found, live) == ["".join(OWN) + "<|endoftext|>"]
    ids = live.encode(TALK)
    assert batch.inputs[0, : len(ids) + 1].tolist() == [live.end, *ids]
    assert (batch.inputs[0, len(ids) + 1 :] == live.end).all() and not batch.given
    learns = batch.targets[0] != IGNORE
    assert (batch.targets[0, learns] == np.append(ids, live.end)[learns[: len(ids) + 1].nonzero()[0]]).all()


def test_a_space_that_the_tokenizer_puts_first_moves_no_turn(stored: Stored, shared: Path) -> None:
    live = load_tokenizer(shared / "weights" / "stories260K")
    assert live.lossless and live.decode_bytes(live.encode("a b")[-1:]) == b"b", "alone, a token loses its space"
    talk = "User: Where is my hat?\nAssistant: I do not know.\nUser: Look again.\nAssistant: It is on your head."
    own = [" I do not know.\n", " It is on your head."]
    (said,) = learned(samples(stored, [talk], 200, live), live)
    assert said == "".join(own)[1:] + live.decode([live.end])  # of what is decoded, the first space is none of it
    cut = samples(stored, [talk], 30, live)
    assert learned(cut, live)[0].startswith("I do not")
    assert live.decode(cut.batch(np.array([1])).inputs[0][1:]).startswith("User: Look again.")


def test_a_long_dialogue_is_cut_between_exchanges(stored: Stored) -> None:
    exchange = "User: {n}\nAssistant: {n}!\n"
    talk = "Be brief.\n" + "".join(exchange.format(n=n) for n in range(7))
    found = samples(stored, [talk], 2 * len(exchange.format(n=0)) + 1)
    batch = found.batch(np.arange(len(found)))
    read = [BYTES.decode(row[row != IGNORE].tolist()) for row in np.where(batch.inputs == 256, IGNORE, batch.inputs)]
    assert [text.count("Assistant:") for text in read] == [1, 2, 2, 2]
    assert all(text.startswith("User:") for text in read[1:]) and read[0].startswith("Be brief.")
    assert learned(found) == [" 0!\n", " 1!\n 2!\n", " 3!\n 4!\n", " 5!\n 6!\n<|endoftext|>"]
    assert (found.cut, found.left_out) == (0, 0)


def test_an_exchange_that_is_too_long_loses_its_end_and_silence_is_left_out(stored: Stored) -> None:
    found = samples(
        stored, ["User: a\nAssistant: " + 50 * "b", "User: " + 50 * "c" + "\nAssistant: d", "User: only"], 30
    )
    assert learned(found) == [" " + 11 * "b"]
    assert (found.cut, found.left_out) == (2, 2)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    talks=st.lists(
        st.lists(st.tuples(st.booleans(), st.text("ab \n:", max_size=12)), min_size=1, max_size=6),
        min_size=1,
        max_size=3,
    ),
    context=st.integers(20, 60),
)
def test_every_own_token_that_is_kept_is_learned_once(
    stored: Stored, talks: list[list[tuple[bool, str]]], context: int
) -> None:
    talks = [*talks, [(False, "q"), (True, "r")]]
    texts = ["\n".join(f"{'Assistant:' if own else 'User:'}{said}" for own, said in talk) for talk in talks]
    found = samples(stored, texts, context)
    spoken = "".join(
        said + ("\n" if n < len(talk) - 1 else "<|endoftext|>")
        for talk in talks
        for n, (own, said) in enumerate(talk)
        if own
    )
    told = "".join(learned(found))
    assert told == spoken if not found.cut else len(told) <= len(spoken)
    assert (found.batch(np.arange(len(found))).targets != IGNORE).any(axis=1).all()


def test_pieces_are_packed() -> None:
    assert list(packed([0, 3, 5, 9, 20, 21], 6)) == [(0, 5), (5, 9), (9, 20), (20, 21)]
    assert list(packed([4, 6], 100)) == [(4, 6)]


def test_what_holds_no_turns(stored: Stored) -> None:
    with pytest.raises(UsageError, match=r"the model says nothing in train.tokens: no line begins with 'Assistant:'"):
        samples(stored, ["Once upon a time"], 20)
    with pytest.raises(UsageError, match="make the tokens with openings 0"):
        Turns(stored([[1]], BYTES, openings=4), 8, BYTES, MARKS)
