"""llama2.c's tokenizer file, against its own way of joining pieces, written out here."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import DamagedError
from etude.text.tokenizers.live import Tokenizer, load_tokenizer
from etude.text.tokenizers.live.reading import read_tokenizer

Scored = list[tuple[bytes, float]]


def read(path: Path) -> Scored:
    data, at, found = path.read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        found.append((data[at + 8 : at + 8 + length], score))
        at += 8 + length
    return found


def greedily(text: str, scored: Scored) -> list[int]:
    """Encode as llama2.c does: a space before, characters or else bytes, then the best pair until none is left."""
    ids_of = {piece: id for id, (piece, _) in enumerate(scored)}
    ids: list[int] = []
    for character in (f" {text}" if text else "").encode().decode():
        known = ids_of.get(character.encode())
        ids += [known] if known is not None else [byte + 3 for byte in character.encode()]
    while True:
        best: tuple[float, int, int] | None = None
        for place in range(len(ids) - 1):
            joint = ids_of.get(scored[ids[place]][0] + scored[ids[place + 1]][0])
            if joint is not None and (best is None or scored[joint][1] > best[0]):
                best = (scored[joint][1], place, joint)
        if best is None:
            return ids
        ids[best[1] : best[1] + 2] = [best[2]]


def write(path: Path, pieces: list[tuple[str, float]]) -> Path:
    """Write a file with these pieces after the special tokens and the bytes."""
    before = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    content = struct.pack("<i", 7)
    for piece, score in [*((name, 0.0) for name in before), *pieces]:
        content += struct.pack("<fi", score, len(piece.encode())) + piece.encode()
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "weights" / "stories260K"


@pytest.fixture(scope="module")
def scored(folder: Path) -> Scored:
    return read(folder / "tok512.bin")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


longer = [" the", "ing", "Once upon a time", "<s>", "\n</s>\n", "<0x0A>", "<unk>", "  "]
parts = st.sampled_from([*" \n\tetaoinshrdlu.,\"'!?▁é™漢\U0001f600\x01", *longer])
texts = st.lists(parts, max_size=30).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_it_is_llama2cs_own_algorithm(tokenizer: Tokenizer, scored: Scored, text: str):
    ids = tokenizer.encode(text)
    assert ids == greedily(text, scored)
    assert tokenizer.decode(ids) == text and tokenizer.decode_bytes(ids) == text.encode()


def test_on_real_text(tokenizer: Tokenizer, scored: Scored, shared: Path):
    lines = (shared / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8").split("\n\n")[:150]
    german = (shared / "wiki40b" / "wiki40b_seeds.json").read_text(encoding="utf-8").split("\\n")[:30]
    assert [tokenizer.encode(text) for text in lines + german] == [greedily(text, scored) for text in lines + german]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_on_random_vocabularies(tmp_path_factory: pytest.TempPathFactory, seed: int):
    """Few letters, so that pieces overlap themselves in every way."""
    draw = random.Random(seed)
    words = {"".join(draw.choices("ab ", k=draw.randint(2, 5))) for _ in range(12)}
    names = [*"ab ", *sorted(words)]
    draw.shuffle(names)
    path = write(tmp_path_factory.mktemp("made") / "tok.bin", [(name, -float(n)) for n, name in enumerate(names)])
    tokenizer, scored = read_tokenizer(path), read(path)
    for _ in range(20):
        text = "".join(draw.choices("abc ", k=draw.randint(0, 24)))
        assert tokenizer.encode(text) == greedily(text, scored)


def test_its_marks(tokenizer: Tokenizer):
    """The models saw stories with `<s>` between them, and the program stops at it."""
    assert (tokenizer.vocabulary, tokenizer.end, tokenizer.specials) == (512, 1, {"first": 1})
    assert [tokenizer.piece(id) for id in (0, 1, 2, 13, 258, 259)] == ["<unk>", "<s>", "</s>", "\\n", "\\xff", " t"]
    assert tokenizer.lossless and not tokenizer.by_piece


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "is cut short, or token 259 is damaged"),
        (lambda data: data[:-4], "is cut short"),
        (lambda data: data[4:], "is cut short"),
        (lambda data: data.replace(b"<0x41>", b"<0x42>"), "its tokens 3 to 258 are not the bytes"),
        (lambda data: data.replace(b"\n<s>\n", b"\n<t>\n"), "its first tokens are not <unk>, <s> and </s>"),
        (lambda data: data[:-2] + b"\xff\xff", "token 259 that is not UTF-8"),
        (lambda data: data + data[-10:], "has the piece 'ab' twice"),
    ],
)
def test_damaged_files(tmp_path: Path, change: Callable[[bytes], bytes], message: str):
    path = write(tmp_path / "tok.bin", [("ab", -1.0)])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
