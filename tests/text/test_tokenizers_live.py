"""What is particular to single tokenizers; what all of them owe is in tests/contracts."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etude.core.errors import DamagedError, UsageError
from etude.text.pieces import pieces
from etude.text.tokenizers.bpe import BytePair, sample
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.gpt2 import Gpt2
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, ByteTokenizer, load_tokenizer
from etude.text.tokenizers.live.byte_pair import bytes_by_letter

WORDS = " ".join(f"word{n % 7} and other{n % 5} things." for n in range(500))


def words() -> Iterator[str]:
    return pieces([WORDS], 200)


def nothing() -> Iterator[str]:
    raise AssertionError("a tokenizer that is not trained must not read the text")


def test_bytes_are_their_own_ids():
    assert ByteTokenizer().encode("aé") == [97, 0xC3, 0xA9]
    assert ByteTokenizer().piece(0xC3) == "\\xc3"


def test_the_alphabet_is_a_bijection():
    assert sorted(bytes_by_letter().values()) == list(range(256))
    assert bytes_by_letter()["Ġ"] == ord(" ") and bytes_by_letter()["Ċ"] == ord("\n")


def test_bpe_learns_the_words_it_saw():
    tokenizer = BytePair(vocabulary=300).build(words)
    assert 270 <= tokenizer.vocabulary <= 300
    assert BytePair(vocabulary=265).build(words).vocabulary == 265
    assert [tokenizer.piece(id) for id in tokenizer.encode(" other and")] == [" other", " and"]


def test_bpe_of_a_small_text_stays_small():
    assert 257 <= BytePair(vocabulary=50_000).build(lambda: iter(["a b a b"])).vocabulary < 270


def test_bpe_is_the_same_on_one_thread(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from etude.text.corpora.fable import Fable;"
        "from etude.text.tokenizers.bpe import BytePair; corpus = Fable(stories=200);"
        "texts = lambda: (p for d in corpus.documents('train') for p in d.pieces);"
        "BytePair(vocabulary=600).build(texts).save(Path(sys.argv[1]))"
    )
    found = []
    for parallel in ("false", "true"):
        (tmp_path / parallel).mkdir()
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": parallel}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / parallel)], env=environment, check=True)
        found.append((tmp_path / parallel / TOKENIZER_FILE).read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(("field", "value"), [("vocabulary", 256), ("train_bytes", -1)])
def test_bpe_refuses(field: str, value: int):
    with pytest.raises(UsageError, match=rf"bpe.{field} = {value}"):
        BytePair(**{field: value})  # pyright: ignore[reportArgumentType] - one of its numbers


def test_a_sample_is_spread_over_the_whole_and_within_its_budget():
    texts = [f"{n:03}" for n in range(1000)]
    assert sample(iter(texts), 10_000) == texts
    for budget in (3, 100, 299, 2999):
        kept = sample(iter(texts), budget)
        assert budget / 2 - 3 <= sum(map(len, kept)) <= budget
        steps = {int(b) - int(a) for a, b in itertools.pairwise(kept)}
        assert len(steps) <= 1 and (len(kept) == 1 or int(kept[-1]) >= 1000 - 2 * steps.pop())


GPT2_KNOWN = {
    "Hello world": [15496, 995],
    "Hello, world!": [15496, 11, 995, 0],
    " It's 2024\n\n": [632, 338, 48609, 628],
    "": [],
}


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "gpt2-bpe"


def test_gpt2_gives_the_known_ids(folder: Path):
    tokenizer = Gpt2(path=str(folder)).build(nothing)
    assert (tokenizer.vocabulary, tokenizer.end) == (50257, 50256)
    assert {text: tokenizer.encode(text) for text in GPT2_KNOWN} == GPT2_KNOWN


@pytest.fixture(scope="module")
def hub(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files, named as the hub has them."""
    hub = tmp_path_factory.mktemp("hub")
    (hub / "vocab.json").write_bytes((folder / "encoder.json").read_bytes())
    (hub / "merges.txt").write_bytes((folder / "vocab.bpe").read_bytes())
    return hub


def test_gpt2_agrees_with_transformers(folder: Path, hub: Path):
    transformers = pytest.importorskip("transformers", reason="transformers is the independent judge here")
    theirs = transformers.GPT2TokenizerFast.from_pretrained(str(hub))
    texts = [WORDS, "  \n\t x  y\u3000漢字 é \U0001f600's  \n", *GPT2_KNOWN]
    ours = Gpt2(path=str(folder)).build(nothing)
    assert [theirs(text)["input_ids"] for text in texts] == ours.encode_batch(texts)


def test_gpt2_reads_each_layout(folder: Path, hub: Path, tmp_path: Path):
    first = Gpt2(path=str(folder)).build(nothing)
    (tmp_path / "saved").mkdir()
    first.save(tmp_path / "saved")
    others = [tmp_path / "saved", tmp_path / "saved" / TOKENIZER_FILE, hub]
    assert all(Gpt2(path=str(path)).build(nothing).encode(WORDS) == first.encode(WORDS) for path in others)
    assert Gpt2(path=str(hub)).resolve() == Gpt2(path=str(hub), sha256=Gpt2(path=str(folder)).resolve().sha256)


def small(folder: Path, vocabulary: object, merges: str) -> Gpt2:
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return Gpt2(path=str(folder))


LETTERS = {letter: id for id, letter in enumerate(bytes_by_letter())}


def test_a_tokenizer_without_the_separator_gets_it(tmp_path: Path):
    tokenizer = small(tmp_path, {**LETTERS, "ab": 256}, "#version: 0.2\na b\n").build(nothing)
    assert (tokenizer.vocabulary, tokenizer.end, tokenizer.encode("ab")) == (258, 257, [256])


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ({"a": 0, "b": 2}, "", "does not give each token one id"),
        ([1], "", "does not give each token one id"),
        (LETTERS, "a b c\n", "a line that is no pair: 'a b c'"),
        (LETTERS, "a b\n", "does not fit vocab.json"),
    ],
)
def test_damaged_vocabularies(tmp_path: Path, vocabulary: object, merges: str, message: str):
    with pytest.raises(DamagedError, match=message) as caught:
        small(tmp_path, vocabulary, merges).build(nothing)
    assert "\n" not in str(caught.value)


def test_a_changed_tokenizer_is_refused(tmp_path: Path):
    spec = small(tmp_path, {**LETTERS, "ab": 256}, "a b\n").resolve()
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(DamagedError, match="has changed: its sha256"):
        spec.build(nothing)


def test_where_there_is_no_tokenizer(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no tokenizer in .*: it needs encoder.json and vocab.bpe, or vocab.json"):
        Gpt2(path=str(tmp_path)).resolve()
    with pytest.raises(UsageError, match="needs the folder of its files"):
        Gpt2().resolve()
    with pytest.raises(UsageError, match="no tokenizer at"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TOKENIZER_FILE, "{", "is not a tokenizer of the tokenizers library"),
        (KIND_FILE, "{", "is damaged"),
        (KIND_FILE, '{"kind": "words", "vocabulary": 1, "end": 0}', "names the kind 'words'"),
        (KIND_FILE, '{"kind": "bpe", "vocabulary": 7, "end": 0}', "says 7 tokens"),
    ],
)
def test_damaged_folders(tmp_path: Path, file: str, content: str, message: str):
    BytePair(vocabulary=300).build(words).save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DamagedError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_gpt2_reads_its_own_kind_alone(tmp_path: Path):
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers

    other = Library(models.WordLevel({"a": 0}, unk_token="a"))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    other.save(str(tmp_path / TOKENIZER_FILE))
    with pytest.raises(UsageError, match=r"another kind than GPT-2's \(model WordLevel, pre-tokenizer Whitespace\)"):
        Gpt2(path=str(tmp_path)).build(nothing)


def test_special_tokens_stand_last(tmp_path: Path):
    plain, more = BytePair(vocabulary=265).build(words), BytePair(vocabulary=267, specials=("pad", "mask")).build(words)
    assert more.specials == {"pad": 265, "mask": 266} and more.vocabulary == 267
    assert more.encode(WORDS) == plain.encode(WORDS)
    small = BytePair(vocabulary=900, specials=("mask",)).build(words)  # the text has not so many pairs
    assert small.specials == {"mask": small.vocabulary - 1} and small.vocabulary < 300
    byte = Byte(specials=("mask",)).build(nothing)
    assert (byte.specials, byte.vocabulary, Byte(specials=("mask",)).expected_vocabulary()) == ({"mask": 257}, 258, 258)
    assert byte.decode([257]) == "<|mask|>" and byte.encode("<|mask|>") == list(b"<|mask|>")


@pytest.mark.parametrize("kind", [Byte, BytePair])
@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            ("mark",),
            r"unknown role in \w+.specials 'mark': did you mean 'mask'\? There are: first, mask, pad, separator",
        ),
        (("mask", "mask"), r"specials names mask twice"),
    ],
)
def test_roles_that_are_none(kind: type[Byte | BytePair], roles: tuple[str, ...], message: str):
    with pytest.raises(UsageError, match=message):
        kind(specials=roles)


def test_special_tokens_need_room():
    with pytest.raises(UsageError, match=r"give at least 258, for 256 bytes and a separator and 1 special"):
        BytePair(vocabulary=257, specials=("mask",))


def test_no_special_tokens_change_no_file(tmp_path: Path):
    BytePair(vocabulary=265).build(words).save(tmp_path)
    assert json.loads((tmp_path / KIND_FILE).read_text()) == {"kind": "bpe", "vocabulary": 265, "end": 0}


@pytest.mark.parametrize("specials", ['{"mask": 7}', '{"mask": 264, "pad": 265}', "[1]", '{"no": 257}'])
def test_special_tokens_that_are_not_there(tmp_path: Path, specials: str):
    BytePair(vocabulary=265, specials=("mask",)).build(words).save(tmp_path)
    (tmp_path / KIND_FILE).write_text(f'{{"kind": "bpe", "vocabulary": 265, "end": 0, "specials": {specials}}}')
    with pytest.raises(DamagedError, match="make the run again"):
        load_tokenizer(tmp_path)


def test_lower_case_reads_a_word_alike_wherever_it_stands(tmp_path: Path):
    spec = BytePair(vocabulary=300, lowercase=True)
    tokenizer = spec.build(lambda: iter(["The film, the FILM and the Film: ÉTUDE étude İ"] * 3))
    assert tokenizer.encode("THE Film É") == tokenizer.encode("the film é")
    assert tokenizer.decode(tokenizer.encode("The Film")) == "the film" and not tokenizer.lossless
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.encode("The FILM") == tokenizer.encode("the film") and not again.lossless and again.by_piece
