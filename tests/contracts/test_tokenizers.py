"""What every tokenizer owes, asked of each file in the family's folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.text.pieces import pieces
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import END, ROLES, Tokenizer, load_tokenizer

FAMILY = Family("text/tokenizers")
SAMPLE = (
    "The quick brown fox, it's said, jumps over the lazy dog's 12 boxes.\n\n"
    "\tdef f(x):\n        return x ** 2  # twice\n"
) * 20


def other_pattern(folder: Path) -> dict[str, Any]:
    """Make a byte-level BPE that takes line ends together with the punctuation before them, as Llama 3's does."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Library

    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts(), trainer)
    library.add_special_tokens(["<|end_of_text|>"])
    library.save(str(folder / "tokenizer.json"))
    return {"path": str(folder)}


def wordpiece(folder: Path) -> dict[str, Any]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'():*#<|>[]"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "the", "##ox"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return {"path": str(folder)}


def llama2c(folder: Path) -> dict[str, Any]:
    tokens = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = ["th", "he", " t", "the", " the", "fo", "fox", *(chr(byte) for byte in range(32, 127))]
    content = struct.pack("<i", 4)
    for number, token in enumerate(tokens + pieces):
        content += struct.pack("<fi", -float(number), len(token.encode())) + token.encode()
    (folder / "tok.bin").write_bytes(content)
    return {"path": str(folder / "tok.bin")}


Arguments = Callable[[pytest.FixtureRequest], dict[str, Any]]


def shared_gpt2(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"path": str(request.getfixturevalue("shared") / "gpt2-bpe")}


def made(make: Callable[[Path], dict[str, Any]]) -> Arguments:
    return lambda request: make(request.getfixturevalue("tmp_path_factory").mktemp(make.__name__))


ARGUMENTS: dict[str, dict[str, Arguments]] = {
    "byte": {"byte": lambda request: {}, "byte with specials": lambda request: {"specials": ROLES}},
    "bpe": {
        "bpe": lambda request: {"vocabulary": 400},
        "bpe with specials": lambda request: {"vocabulary": 400, "specials": ("pad", "mask")},
        "bpe in lower case": lambda request: {"vocabulary": 400, "lowercase": True, "specials": ("mask",)},
    },
    "gpt2": {"gpt2": shared_gpt2},
    "file": {
        "file, another pattern": made(other_pattern),
        "file, wordpiece": made(wordpiece),
        "file, llama2.c": made(llama2c),
    },
}
"""How a test makes some of a member; those left out need nothing, and are made once."""

CASES = {case: name for name in FAMILY.names() for case in ARGUMENTS.get(name, {name: None})}

anything = st.text(st.characters(exclude_categories=["Cs"]))
parts = st.sampled_from([*"ab9.'s \n\t\r\x0b\x1c\x85\xa0\u2028\u3000\ufeffé漢", END, "'ll", "  "])
spaced = st.lists(parts).map("".join)


def texts() -> Iterator[str]:
    return iter([SAMPLE])


@pytest.fixture(params=CASES, scope="module")
def spec(request: pytest.FixtureRequest) -> TokenizerSpec:
    name = CASES[request.param]
    arguments = ARGUMENTS[name][request.param](request) if name in ARGUMENTS else {}
    return cast(TokenizerSpec, FAMILY.member(name)(**arguments))


@pytest.fixture(scope="module")
def tokenizer(spec: TokenizerSpec) -> Tokenizer:
    return spec.build(texts)


def test_the_family_has_its_members():
    assert {"byte", "bpe", "gpt2", "file"} <= set(FAMILY.names())
    assert FAMILY.base() is TokenizerSpec


@settings(max_examples=150, deadline=None)
@given(text=anything | spaced)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    marks = {tokenizer.end, *tokenizer.specials.values()}
    assert all(0 <= id < tokenizer.vocabulary and id not in marks for id in ids)
    assert tokenizer.decode_bytes(ids).decode("utf-8", "replace") == tokenizer.decode(ids)
    if tokenizer.lossless:
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()


@settings(max_examples=150, deadline=None)
@given(text=spaced | anything, size=st.integers(1, 5))
def test_pieces_have_the_tokens_of_the_whole(tokenizer: Tokenizer, text: str, size: int):
    apart = tokenizer.encode_batch(list(pieces([text], size)))
    if tokenizer.by_piece:
        assert [id for ids in apart for id in ids] == tokenizer.encode(text)


def test_one_that_does_not_work_by_pieces_has_a_reason(tokenizer: Tokenizer):
    cut = [tokenizer.encode(text) for text in ("(fox).", "\n the fox")]
    assert tokenizer.by_piece == (cut[0] + cut[1] == tokenizer.encode("(fox).\n the fox"))


def test_one_that_loses_something_does_so(tokenizer: Tokenizer):
    assert tokenizer.lossless == (tokenizer.decode(tokenizer.encode("The  É\n")) == "The  É\n")


def test_a_batch_is_its_texts(tokenizer: Tokenizer):
    several = ["", "one", "two words", SAMPLE, "é"]
    assert tokenizer.encode_batch(several) == [tokenizer.encode(text) for text in several]


def test_special_tokens_are_no_text(tokenizer: Tokenizer):
    assert set(tokenizer.specials) <= set(ROLES)
    for id in (tokenizer.end, *tokenizer.specials.values()):
        letters = tokenizer.piece(id)
        assert id not in tokenizer.encode(f"a{letters}b {letters}")
        assert tokenizer.decode([id]) == letters
        if tokenizer.lossless:
            assert tokenizer.decode(tokenizer.encode(letters)) == letters


def test_every_token_has_a_readable_piece(tokenizer: Tokenizer):
    for id in range(tokenizer.vocabulary):
        piece = tokenizer.piece(id)
        assert piece and piece.isprintable()
    if tokenizer.lossless:
        assert tokenizer.piece(tokenizer.encode("\n")[-1]) == "\\n"


def test_half_a_character_is_shown_as_such(tokenizer: Tokenizer):
    ids = tokenizer.encode("\U00012345")  # too rare to be one token anywhere that has bytes
    if tokenizer.lossless:
        assert len(ids) > 1
        assert "\ufffd" in tokenizer.decode(ids[:-1])


def test_an_id_beyond_the_vocabulary(tokenizer: Tokenizer):
    for id in (tokenizer.vocabulary, -1):
        for asked in (tokenizer.decode, tokenizer.decode_bytes):
            with pytest.raises(UsageError, match=f"no token has the id {id}"):
                asked([id])
        with pytest.raises(UsageError, match=f"no token has the id {id}"):
            tokenizer.piece(id)


def test_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    same = ("vocabulary", "end", "specials", "by_piece", "lossless")
    assert [getattr(loaded, name) for name in same] == [getattr(tokenizer, name) for name in same]
    text = f"{SAMPLE} {END} \x00 é漢\n{' '.join(map(tokenizer.piece, tokenizer.specials.values()))}"
    ids = tokenizer.encode(text)
    assert loaded.encode(text) == ids
    assert loaded.decode_bytes(ids) == tokenizer.decode_bytes(ids)
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    for file in ("tokenizer.json", "tokenizer-kind.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / file).read_bytes()


def test_the_ecosystem_reads_it(tokenizer: Tokenizer, tmp_path: Path):
    from tokenizers import Tokenizer as Library

    tokenizer.save(tmp_path)
    theirs = Library.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(SAMPLE + "é漢", add_special_tokens=False).ids == tokenizer.encode(SAMPLE + "é漢")
    for id in (tokenizer.end, *tokenizer.specials.values()):
        assert theirs.encode(tokenizer.piece(id), add_special_tokens=False).ids == [id]
    assert theirs.decode(tokenizer.encode("it is so.")) == "it is so."
    assert theirs.get_vocab_size() == tokenizer.vocabulary


def test_building_again_gives_the_same(spec: TokenizerSpec, tmp_path: Path):
    files = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        spec.build(texts).save(folder)
        files.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert files[0] == files[1]


def test_spec_survives_json(spec: TokenizerSpec, tokenizer: Tokenizer):
    settled = spec.resolve()
    assert type(settled).from_json(json.loads(json.dumps(settled.to_json()))) == settled
    assert settled.expected_vocabulary() >= tokenizer.vocabulary
