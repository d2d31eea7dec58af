"""Tokenizers that others made: what their files say is what is done, and transformers does the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.core.errors import DamagedError, UsageError
from etude.core.lab import Lab
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.pieces import pieces
from etude.text.recipes import Tokens
from etude.text.tokenizers.file import File
from etude.text.tokenizers.live import BytePairTokenizer, EcosystemTokenizer, Tokenizer, load_tokenizer

TEXT = "It's the 12 Zebras' café, naïve: we met there.  And the\n\n  others, too (in the end)!\tThe end. " * 8
ODD = [
    "",
    " ",
    "\n",
    " x",
    "x ",
    "  \n\t x  y\u3000漢字 é \U0001f600's  \n",
    "<s>a</s> [SEP] <|endoftext|>",
    "e\u0301 ǅ İ",
]


def train(inner: Any, trainer: Any, folder: Path, **config: Any) -> Path:
    """Let a tokenizer of the library learn TEXT, and save it as a folder of the ecosystem."""
    inner.train_from_iterator([TEXT], trainer)
    return save(inner, folder, **config)


def save(inner: Any, folder: Path, **config: Any) -> Path:
    inner.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def neox(folder: Path) -> Path:
    """Save byte-level BPE with runs of spaces added, and NFC, as GPT-NeoX and Pythia have it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    inner.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    return save(inner, folder, eos_token="<|endoftext|>", bos_token={"content": "<|endoftext|>"})


def llama(folder: Path) -> Path:
    """Save SentencePiece's kind of BPE with byte fallback, as Llama 2 has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False, max_token_length=8)
    inner.train_from_iterator([word for word in TEXT.split(" ") if word], trainer)
    content = json.loads(inner.to_str())
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are tokens of the model
    inner = Tokenizer.from_str(json.dumps(content))
    inner.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return save(inner, folder)


def bert(folder: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    inner.train_from_iterator([TEXT], trainer)
    inner.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    inner.enable_truncation(8)
    inner.enable_padding(length=8)
    return save(inner, folder)


def unigram(folder: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    return train(inner, trainer, folder)


KINDS = {make.__name__: make for make in (neox, llama, bert, unigram)}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def kind(folder: Path) -> str:
    return folder.name.rstrip("0123456789")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def test_marks_and_manners(kind: str, ours: Tokenizer):
    assert isinstance(ours, EcosystemTokenizer)
    marks = {role: ours.piece(id) for role, id in ours.specials.items()}
    manners = (ours.piece(ours.end), marks, ours.by_piece, ours.lossless)
    assert (
        manners
        == {
            "neox": ("<|endoftext|>", {"pad": "<|padding|>"}, True, False),  # NFC changes texts
            "llama": ("</s>", {"first": "<s>"}, False, True),
            "bert": ("[SEP]", {"mask": "[MASK]", "first": "[CLS]", "separator": "[SEP]", "pad": "[PAD]"}, True, False),
            "unigram": ("</s>", {"pad": "<pad>"}, False, False),
        }[kind]
    )


def test_transformers_agrees(folder: Path, ours: Tokenizer):
    transformers = pytest.importorskip("transformers", reason="transformers is the independent judge here")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), split_special_tokens=True
    )
    texts = [TEXT, *(odd for odd in ODD if "<s>" not in odd)]
    encoded = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [ours.encode(text) for text in texts] == encoded == ours.encode_batch(texts)
    decoded = [theirs.decode(ids, clean_up_tokenization_spaces=False) for ids in encoded]
    assert [ours.decode(ids) for ids in encoded] == decoded
    assert len(theirs) == ours.vocabulary


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))
parts = st.sampled_from([*"ab9.'s \n\t\r\x0b\x85\xa0\u2028\u0301é漢", "</s>", "[SEP]", "the", "  ", "<0x41>", "<unk>"])


@settings(max_examples=100, deadline=None)
@given(text=anything | st.lists(parts).map("".join), size=st.integers(1, 5))
def test_what_is_promised_holds(kind: str, ours: Tokenizer, text: str, size: int):
    ids = ours.encode(text)
    assert not {ours.end, *ours.specials.values()} & set(ids)
    if ours.lossless:
        assert ours.decode(ids) == text and ours.decode_bytes(ids) == text.encode()
    if ours.by_piece:
        assert [id for piece in pieces([text], size) for id in ours.encode(piece)] == ids
    if kind == "neox":
        import unicodedata

        assert ours.decode(ids) == unicodedata.normalize("NFC", text)


def test_saved_and_loaded(ours: Tokenizer, tmp_path: Path):
    ours.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.vocabulary, loaded.end, loaded.specials) == (ours.vocabulary, ours.end, ours.specials)
    assert loaded.encode_batch(ODD) == ours.encode_batch(ODD)
    assert [loaded.piece(id) for id in range(ours.vocabulary)] == [ours.piece(id) for id in range(ours.vocabulary)]


def test_the_spec_reads_a_folder_or_its_file(folder: Path, ours: Tokenizer):
    for path in (folder, folder / "tokenizer.json"):
        spec = File(path=str(path)).resolve()
        assert spec.expected_vocabulary() == ours.vocabulary == spec.build(nothing).vocabulary
        assert spec.sha256 == File(path=str(folder)).resolve().sha256


def nothing() -> Iterator[str]:
    raise AssertionError("a tokenizer that is not trained must not read the text")


def test_letters_of_a_special_token_become_unknown_where_the_model_has_them(tmp_path: Path):
    tokenizer = load_tokenizer(unigram(tmp_path))
    assert [tokenizer.piece(id) for id in tokenizer.encode("the</s>end")].count("<unk>") == 1


def test_gpt2s_kind_is_read_as_before(tmp_path: Path):
    from etude.text.tokenizers.bpe import BytePair

    BytePair(vocabulary=300).build(lambda: iter([TEXT])).save(tmp_path)
    (tmp_path / "tokenizer-kind.json").unlink()
    assert isinstance(load_tokenizer(tmp_path), BytePairTokenizer)


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.,'é", "the", "##nd", "##e"]


def test_special_tokens_of_gpt2s_kind_are_kept(tmp_path: Path):
    from etude.text.tokenizers.live.byte_pair import bytes_by_letter, gpt2_kind

    inner = gpt2_kind({**bytes_by_letter(), "<|endoftext|>": 256}, [])
    assert isinstance(
        load_tokenizer(save(inner, tmp_path, eos_token="<|endoftext|>", pad_token="<|endoftext|>")), BytePairTokenizer
    )
    inner.add_special_tokens(["[MASK]", "</s>"])
    found = load_tokenizer(save(inner, tmp_path, eos_token="</s>", mask_token="[MASK]"))
    assert found.end == 258 and found.specials == {"mask": 257} and found.lossless and found.by_piece
    assert found.decode(found.encode("[MASK] a</s>")) == "[MASK] a</s>" and max(found.encode("[MASK] a</s>")) < 256


def vocab_txt(folder: Path, words: list[str], **config: Any) -> Path:
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [{}, {"do_lower_case": False}, {"do_lower_case": True, "strip_accents": False}])
def test_a_bare_vocabulary_is_read_as_berts(tmp_path: Path, config: dict[str, bool]):
    transformers = pytest.importorskip("transformers", reason="transformers is the independent judge here")
    ours = load_tokenizer(vocab_txt(tmp_path, VOCABULARY, **config))
    theirs = transformers.BertTokenizer.from_pretrained(str(tmp_path), **config)
    texts = ["The end.", "thee, the é É", "漢the字", TEXT]
    assert ours.encode_batch(texts) == [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert theirs("The end")["input_ids"] == [ours.specials["first"], *ours.encode("The end"), ours.end]


def test_a_vocabulary_with_capitals_keeps_case(tmp_path: Path):
    assert load_tokenizer(vocab_txt(tmp_path, [*VOCABULARY, "The"])).decode([len(VOCABULARY)]) == "The"
    assert load_tokenizer(tmp_path).encode("The the") == [len(VOCABULARY), VOCABULARY.index("the")]


def test_what_stands_beside_a_file_is_part_of_its_identity(tmp_path: Path):
    spec = File(path=str(vocab_txt(tmp_path, VOCABULARY))).resolve()
    vocab_txt(tmp_path, VOCABULARY, model_max_length=512)
    assert File(path=str(tmp_path)).resolve() == spec
    vocab_txt(tmp_path, VOCABULARY, do_lower_case=False)
    with pytest.raises(DamagedError, match="has changed: its sha256"):
        spec.build(nothing)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*VOCABULARY, "a"], "line 39 comes again: 'a'"),
        ([*VOCABULARY, "", "b"], "line 39 is empty"),
        (VOCABULARY[2:], r"has no \[UNK\]"),
    ],
)
def test_damaged_word_lists(tmp_path: Path, words: list[str], message: str):
    with pytest.raises(DamagedError, match=message) as caught:
        load_tokenizer(vocab_txt(tmp_path, words))
    assert "\n" not in str(caught.value)


def without_end(folder: Path, **config: Any) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return save(inner, folder, **config)


def test_no_separator(tmp_path: Path):
    message = (
        r"no token that separates documents: its settings name none, and it has none of <\|endoftext\|>, .*\[SEP\]"
    )
    with pytest.raises(UsageError, match=message) as caught:
        load_tokenizer(without_end(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"its settings name '</s>', which is no token of it"):
        load_tokenizer(without_end(tmp_path, eos_token={"content": "</s>"}))
    assert load_tokenizer(without_end(tmp_path, eos_token="a")).encode("a b") == [1, 1]


def test_a_separator_that_stands_for_the_unknown(tmp_path: Path):
    with pytest.raises(UsageError, match=r"writes what it does not know as '\?', its separator"):
        load_tokenizer(without_end(tmp_path, eos_token="?"))


def test_ids_left_out(tmp_path: Path):
    without_end(tmp_path, eos_token="a")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"] = {"a": 0, "?": 1, "b": 5}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocabulary == 6 and tokenizer.decode([5]) == "b"
    for asked in (tokenizer.piece, lambda id: tokenizer.decode([id]), lambda id: tokenizer.decode_bytes([id])):
        with pytest.raises(UsageError, match="no token has the id 3"):
            asked(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "is not a tokenizer of the tokenizers library"),
        (lambda text: "[1]", "is not a tokenizer of the tokenizers library"),
        (lambda text: text.replace('"merges":[', '"merges":[["the","qqq"],'), "qqq"),
        (lambda text: text.replace('"!":', '"!!":1000000000,"!":'), "gives a token the id 1000000000"),
    ],
)
def test_damaged_files(tmp_path: Path, change: Any, message: str):
    file = neox(tmp_path) / "tokenizer.json"
    text = json.dumps(json.loads(file.read_text(encoding="utf-8")), separators=(",", ":"))
    assert change(text) != text
    file.write_text(change(text), encoding="utf-8")
    with pytest.raises(DamagedError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "holds no settings")])
def test_damaged_settings(tmp_path: Path, content: str, message: str):
    (bert(tmp_path) / "tokenizer_config.json").write_text(content)
    with pytest.raises(DamagedError, match=message):
        load_tokenizer(tmp_path)


def test_folders_without_any(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no tokenizer at .*tokenizer\.json.*: the folder needs tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(UsageError, match=r"needs the folder of its file: --tokenizer\.path"):
        File().resolve()
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(UsageError, match=r"SentencePiece's own file: transformers' save_pretrained writes"):
        File(path=str(tmp_path)).resolve()


@pytest.mark.parametrize("make", [llama, bert])
def test_a_tokens_run_holds_the_tokens_of_whole_documents(tmp_path: Path, make: Any):
    """Where pieces would differ, too: a document longer than a piece is among them."""
    folders = [tmp_path / name for name in ("made", "corpus")]
    for folder in folders:
        folder.mkdir()
    spec, long = File(path=str(make(folders[0]))), TEXT * 30
    for split in ("train", "valid", "test"):
        (folders[1] / f"{split}.txt").write_text(long)
    run = Lab(tmp_path / "runs", quiet=True).run(Tokens(Files(path=str(folders[1])), spec))
    data = TextData.open(run)
    tokenizer = spec.build(nothing)
    assert data.store("train").tokens.tolist() == [*tokenizer.encode(long), tokenizer.end]
    assert data.tokenizer.specials == tokenizer.specials and data.store("train").bytes == len(long.encode())
    assert len(list(pieces([long]))) > 1
