"""What every tokenizer owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.text.pieces import pieces
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import END, Tokenizer, load_tokenizer

FAMILY = Family("text/tokenizers")
SAMPLE = (
    "The quick brown fox, it's said, jumps over the lazy dog's 12 boxes.\n\n"
    "\tdef f(x):\n        return x ** 2  # twice\n"
) * 20

ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "bpe": lambda shared: {"vocabulary": 400},
    "gpt2": lambda shared: {"path": str(shared / "gpt2-bpe")},
}
"""How a test makes one of a member; those left out need nothing."""

anything = st.text(st.characters(exclude_categories=["Cs"]))
parts = st.sampled_from([*"ab9.'s \n\t\r\x0b\x1c\x85\xa0\u2028\u3000\ufeffé漢", END, "'ll", "  "])
spaced = st.lists(parts).map("".join)


def texts() -> Iterator[str]:
    return iter([SAMPLE])


@cache
def spec(name: str, shared: Path) -> TokenizerSpec:
    arguments = ARGUMENTS.get(name, lambda shared: {})(shared)
    return cast(TokenizerSpec, FAMILY.member(name)(**arguments))


@cache
def built(name: str, shared: Path) -> Tokenizer:
    return spec(name, shared).build(texts)


@pytest.fixture(params=FAMILY.names(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name: str, shared: Path) -> Tokenizer:
    return built(name, shared)


def test_the_family_has_its_members():
    assert {"byte", "bpe", "gpt2"} <= set(FAMILY.names())
    assert FAMILY.base() is TokenizerSpec


@settings(max_examples=150, deadline=None)
@given(text=anything | spaced)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert all(0 <= id < tokenizer.vocabulary and id != tokenizer.end for id in ids)


@settings(max_examples=150, deadline=None)
@given(text=spaced | anything, size=st.integers(1, 5))
def test_pieces_have_the_tokens_of_the_whole(tokenizer: Tokenizer, text: str, size: int):
    apart = tokenizer.encode_batch(list(pieces([text], size)))
    assert [id for ids in apart for id in ids] == tokenizer.encode(text)


def test_a_batch_is_its_texts(tokenizer: Tokenizer):
    several = ["", "one", "two words", SAMPLE, "é"]
    assert tokenizer.encode_batch(several) == [tokenizer.encode(text) for text in several]


def test_the_separator_is_no_text(tokenizer: Tokenizer):
    assert tokenizer.end not in tokenizer.encode(f"a{END}b {END}")
    assert tokenizer.decode([tokenizer.end]) == END
    assert tokenizer.piece(tokenizer.end) == END


def test_every_token_has_a_readable_piece(tokenizer: Tokenizer):
    for id in range(tokenizer.vocabulary):
        piece = tokenizer.piece(id)
        assert piece and piece.isprintable()
    assert [tokenizer.piece(id) for id in tokenizer.encode("\n")] == ["\\n"]


def test_half_a_character_is_shown_as_such(tokenizer: Tokenizer):
    ids = tokenizer.encode("\U00012345")  # too rare to be one token anywhere
    assert len(ids) > 1
    assert "\ufffd" in tokenizer.decode(ids[:1])


def test_an_id_beyond_the_vocabulary(tokenizer: Tokenizer):
    for id in (tokenizer.vocabulary, -1):
        with pytest.raises(UsageError, match=f"no token has the id {id}"):
            tokenizer.decode([id])


def test_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.vocabulary, loaded.end) == (tokenizer.vocabulary, tokenizer.end)
    text = f"{SAMPLE} {END} \x00 é漢\n"
    assert loaded.encode(text) == tokenizer.encode(text)


def test_the_ecosystem_reads_it(tokenizer: Tokenizer, tmp_path: Path):
    from tokenizers import Tokenizer as Library

    tokenizer.save(tmp_path)
    theirs = Library.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(SAMPLE + "é漢").ids == tokenizer.encode(SAMPLE + "é漢")
    assert theirs.encode(END).ids == [tokenizer.end]
    assert theirs.decode(tokenizer.encode("It is so.")) == "It is so."
    assert theirs.get_vocab_size() == tokenizer.vocabulary


def test_building_again_gives_the_same(name: str, shared: Path, tmp_path: Path):
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        spec(name, shared).build(texts).save(folder)
        files.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert files[0] == files[1]


def test_spec_survives_json(name: str, shared: Path):
    settled = spec(name, shared).resolve()
    assert type(settled).from_json(json.loads(json.dumps(settled.to_json()))) == settled
    assert settled.expected_vocabulary() >= built(name, shared).vocabulary
