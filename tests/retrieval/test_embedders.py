"""The embedders one by one: against scikit-learn, and against the model read directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from etude.core.done import Done
from etude.core.errors import DamagedError, UsageError
from etude.core.files import sha256_of
from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.encoder_model import EncoderModel
from etude.models.load import load_foreign
from etude.models.outgoing import format_for, weights_of
from etude.models.recipes import Imported, Planted
from etude.models.saved import save_model
from etude.models.sources import opened
from etude.nn.look import look
from etude.retrieval.embedders._averaged import HiddenStates, SentenceVectors, hidden_states
from etude.retrieval.embedders._latent import Latent, fitted
from etude.retrieval.embedders.base import Given
from etude.retrieval.embedders.hidden import Hidden
from etude.retrieval.embedders.sentence import Sentence
from etude.retrieval.embedders.tfidf import Tfidf
from etude.retrieval.recipes import Library
from etude.text.chunks import Chunks
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.store import TokenStore
from etude.text.store_writer import StoreWriter
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer, load_tokenizer
from etude.train.recipes import Train

END, VOCABULARY = 0, 50


def chunks_of(folder: Path, documents: list[list[int]], size: int = 8) -> Chunks:
    with StoreWriter(folder / "a.tokens", VOCABULARY) as writer:
        for ids in documents:
            writer.add([*ids, END], len(ids))
            writer.end_document()
    return Chunks(TokenStore.open(folder / "a.tokens"), size, END)


def drawn(documents: int = 30, seed: int = 0) -> list[list[int]]:
    """Return documents whose tokens are as unequal as words are."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, VOCABULARY)
    lengths = random.integers(3, 40, documents)
    return [random.choice(np.arange(1, VOCABULARY), n, p=share / share.sum()).tolist() for n in lengths]


# TF-IDF


@pytest.fixture
def chunks(tmp_path: Path) -> Chunks:
    return chunks_of(tmp_path, drawn())


def words(chunks: Chunks) -> list[list[str]]:
    """Return the tokens of each chunk, without separators."""
    tokens, present = chunks.read(np.arange(len(chunks)))
    return [[str(t) for t in row[there].tolist() if t != END] for row, there in zip(tokens, present, strict=True)]


def oracle(chunks: Chunks) -> np.ndarray:
    """Return scikit-learn's TF-IDF of the chunks, [C, V]."""
    vectorizer = TfidfVectorizer(token_pattern=r"\d+", vocabulary={str(t): t for t in range(VOCABULARY)})
    return np.asarray(vectorizer.fit_transform(map(" ".join, words(chunks))).todense())


def test_tfidf_keys_are_scikit_learns_rows_projected(chunks: Chunks):
    state = fitted(chunks, 10, 10_000)
    keys = Latent(state)(*chunks.read(np.arange(len(chunks))))
    assert keys.shape == (len(chunks), 10)
    projected = oracle(chunks) @ state["components"].T
    np.testing.assert_allclose(keys, projected / np.linalg.norm(projected, axis=1, keepdims=True), atol=1e-5)


def test_with_every_direction_kept_products_of_keys_are_the_cosines_of_tfidf(chunks: Chunks):
    embedder = Latent(fitted(chunks, VOCABULARY, 10_000))
    keys = embedder(*chunks.read(np.arange(len(chunks))))
    rows = oracle(chunks)
    np.testing.assert_allclose(keys @ keys.T, rows @ rows.T, atol=1e-5)
    assert embedder.dimension == np.linalg.matrix_rank(rows) < VOCABULARY


def test_the_projection_is_on_the_leading_right_singular_vectors(chunks: Chunks):
    components = fitted(chunks, 5, 10_000)["components"]
    _, strength, right = np.linalg.svd(oracle(chunks))
    assert strength[4] > strength[5] * 1.001
    np.testing.assert_allclose(components @ components.T, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(np.abs(components @ right[:3].T)[:3], np.eye(3), atol=1e-2)


def test_a_separator_makes_no_two_chunks_alike(tmp_path: Path):
    chunks = chunks_of(tmp_path, [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [1, 2, 3, 4, 5, 6, 7, 8]])
    keys = Latent(fitted(chunks, VOCABULARY, 10_000))(*chunks.read(np.arange(len(chunks))))
    assert keys[0] @ keys[1] == pytest.approx(0, abs=1e-6)
    assert keys[0] @ keys[2] == pytest.approx(1, abs=1e-6)


def test_a_chunk_of_nothing_but_a_separator_has_a_key_of_zeros(tmp_path: Path):
    chunks = chunks_of(tmp_path, [[1, 2, 3], [], [4, 5]])
    keys = Latent(fitted(chunks, 4, 100))(*chunks.read(np.arange(3)))
    assert np.linalg.norm(keys, axis=1) == pytest.approx([1, 0, 1])


def test_tfidf_is_fitted_on_no_more_chunks_than_stated_and_from_all_over_the_library(tmp_path: Path):
    first, second = [[1, 2, 3, 4, 5, 6, 7]] * 20, [[11, 12, 13, 14, 15, 16, 17]] * 20
    chunks = chunks_of(tmp_path, first + second)
    idf = fitted(chunks, 4, 10)["idf"]
    assert idf[1] == pytest.approx(np.log(11 / 6) + 1) == idf[11]  # five of ten chunks, both halves alike


def test_fitting_twice_gives_the_same_bytes(chunks: Chunks):
    one, other = fitted(chunks, 10, 50), fitted(chunks, 10, 50)
    assert {name: value.tobytes() for name, value in one.items()} == {n: v.tobytes() for n, v in other.items()}


def test_fewer_directions_than_asked_for_are_said(chunks: Chunks):
    said: list[str] = []
    state = Tfidf(dimension=200).fit(chunks, said.append)
    found = len(state["components"])
    assert found < VOCABULARY
    assert said == [f"tfidf.dimension = 200: the text has {found} directions, and a key as many numbers"]


def test_other_texts_and_other_choices_have_other_identities(chunks: Chunks, tmp_path: Path):
    (tmp_path / "other").mkdir()
    others = chunks_of(tmp_path / "other", drawn(seed=1))
    states = [fitted(chunks, 10, 1000), fitted(chunks, 9, 1000), fitted(others, 10, 1000), fitted(chunks, 10, 20)]
    assert len({Latent(state).identity for state in states}) == 4


def test_a_state_that_is_not_tfidfs_is_refused():
    with pytest.raises(DamagedError, match="make the library again"):
        Latent({"idf": np.ones(3, np.float32)})


@pytest.mark.parametrize(
    ("choices", "said"), [({"dimension": 0}, "dimension = 0"), ({"fitted_on": 1}, "fitted_on = 1")]
)
def test_impossible_choices_of_tfidf(choices: dict[str, int], said: str):
    with pytest.raises(UsageError, match=rf"tfidf.{said} is too small"):
        Tfidf(**choices)


# hidden states

SMALL: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 12}


def model_run(folder: Path, spec: Architecture, tokenizer: ByteTokenizer | None = None) -> Run:
    """Return what a training leaves behind, with drawn weights."""
    tokenizer = tokenizer or ByteTokenizer()
    folder.mkdir()
    save_model(spec.build(tokenizer.vocabulary, seed=3), folder)
    tokenizer.save(folder)
    files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in folder.iterdir()}
    (folder / "files.json").write_text(json.dumps({"format": 1, "files": files}))
    return Run(folder)


def given(chunk: int = 8, tokenizer: ByteTokenizer | None = None) -> Given:
    return Given(chunk, tokenizer or ByteTokenizer(), {})


@pytest.mark.parametrize("spec", [Decoder(**SMALL), Encoder(**SMALL)], ids=["decoder", "encoder"])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_a_hidden_key_is_the_mean_of_the_stream_of_the_chunk_by_itself(tmp_path: Path, spec: Architecture, layer: int):
    embedder = hidden_states(model_run(tmp_path / "run", spec), layer, given())
    tokens = np.random.default_rng(0).integers(0, 257, (5, 8))
    lengths = [8, 1, 5, 8, 3]
    present = np.arange(8) < np.array(lengths)[:, None]
    keys = embedder(tokens, present)
    for row, length, key in zip(tokens, lengths, keys, strict=True):
        site = f"L{layer % 2}.resid.post"
        alone = look(embedder.model, torch.from_numpy(row[None, :length]), site)[site]
        np.testing.assert_allclose(key, alone[0].mean(0), atol=1e-5)


def test_identities_of_hidden_tell_layers_and_models_apart(tmp_path: Path):
    runs = [model_run(tmp_path / "one", Decoder(**SMALL)), model_run(tmp_path / "two", Decoder(**SMALL, tied=True))]
    found = [hidden_states(run, layer, given()).identity for run in runs for layer in (0, 1)]
    assert len(set(found)) == 4
    assert hidden_states(runs[0], -1, given()).identity == found[1]


def test_what_hidden_cannot_read_is_refused_in_one_line(tmp_path: Path):
    run = model_run(tmp_path / "run", Decoder(**SMALL))
    with pytest.raises(UsageError, match=r"hidden.layer = 2 and run has 2 layers: give -1"):
        hidden_states(run, 2, given())
    with pytest.raises(UsageError, match="chunk = 13 is longer than the 12 positions that run reads"):
        hidden_states(run, 0, given(13))
    with pytest.raises(UsageError, match="was made with another tokenizer than the library's tokens"):
        hidden_states(run, 0, given(8, ByteTokenizer(("mask",))))
    both = model_run(tmp_path / "both", EncoderDecoder(**SMALL))
    with pytest.raises(UsageError, match="both is an encoder-decoder"):
        hidden_states(both, 0, given())
    with pytest.raises(UsageError, match=r"hidden.layer = -2"):
        Hidden(Planted(), -2)


def test_a_model_in_other_tokens_is_refused_before_anything_is_made():
    fable = Tokens(Fable(stories=30), BytePair(vocabulary=300))
    model = Train(data=fable)
    other = Tokens(Fable(stories=31), BytePair(vocabulary=300))
    embedder = Hidden(model).resolve()
    embedder.check_fits(fable, 64)
    embedder.check_fits(Tokens(Fable(stories=31), BytePair(vocabulary=300), like=fable), 64)
    Hidden(Planted()).check_fits(Tokens(Fable(stories=31), Byte()), 32)  # bytes are bytes, whatever the text
    with pytest.raises(UsageError, match="chunk = 65 is longer than the 64 positions that the embedder's model reads"):
        embedder.check_fits(fable, 65)
    for data in (other, Tokens(Fable(stories=30), BytePair(vocabulary=301)), Tokens(Fable(stories=30), Byte())):
        with pytest.raises(UsageError, match=r"reads other tokens than the library's: give --data its tokenizer"):
            embedder.check_fits(data.resolve(), 64)
        with pytest.raises(UsageError, match="reads other tokens"):
            Library(data, embedder=Hidden(model)).resolve()


# a sentence encoder

BERT: dict[str, Any] = {"norm_at": "post", "head": "bert", "norm_embeddings": True, "tied": True, "segments": 2}


def foreign(folder: Path, spec: Architecture, roles: tuple[str, ...] = ()) -> Path:
    """Write a model as the ecosystem does, with a tokenizer of bytes and special tokens."""
    tokenizer = ByteTokenizer(roles)
    folder.mkdir()
    chosen, said = format_for(spec, tokenizer.vocabulary)
    (folder / "config.json").write_text(json.dumps(said))
    model = spec.build(tokenizer.vocabulary, seed=1)
    save_file(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    tokenizer.save(folder)
    if not roles:
        (folder / "tokenizer-kind.json").unlink()
    return folder


def bert(folder: Path, roles: tuple[str, ...] = ("first", "separator")) -> Path:
    return foreign(folder, Encoder(**SMALL, **BERT, pooling="first"), roles)


def test_a_sentence_key_is_the_mean_over_the_encoders_own_tokens_of_the_text(tmp_path: Path):
    folder = bert(tmp_path / "bert")
    theirs = ByteTokenizer()
    embedder = SentenceVectors(folder, "identity", theirs)
    model, own = load_foreign(folder)
    assert isinstance(model, EncoderModel)
    texts = ["a short", "né", "as long as it gets", ""]
    rows = [[theirs.end, *theirs.encode(text)] for text in texts]
    tokens = np.array([row + [7] * (24 - len(row)) for row in rows])
    keys = embedder(tokens, np.arange(24) < np.array([len(row) for row in rows])[:, None])
    for text, key in zip(texts, keys, strict=True):
        ids = [own.specials["first"], *own.encode(text)[:10], own.specials["separator"]]  # the context has 12
        vectors = model.stream(torch.tensor([ids]))
        np.testing.assert_allclose(key, vectors[0].mean(0).detach(), atol=1e-5)


def test_the_encoder_alone_as_sentence_encoders_come_gives_the_same_keys(tmp_path: Path):
    whole, alone = bert(tmp_path / "whole"), bert(tmp_path / "alone")
    weights = load_file(alone / "model.safetensors")
    trunk = {name.removeprefix("bert."): value for name, value in weights.items() if name.startswith("bert.")}
    pooler = {"pooler.dense.weight": torch.ones(16, 16), "pooler.dense.bias": torch.ones(16)}
    save_file({**trunk, **pooler}, alone / "model.safetensors", {"format": "pt"})
    said = json.loads((alone / "config.json").read_text())
    (alone / "config.json").write_text(json.dumps({**said, "architectures": ["BertModel"]}))
    tokens, present = np.array([[256, 65, 66, 67], [256, 65, 0, 0]]), np.array([[True] * 4, [True, True, False, False]])
    keys = [SentenceVectors(folder, "identity", ByteTokenizer())(tokens, present) for folder in (whole, alone)]
    np.testing.assert_array_equal(keys[0], keys[1])
    assert any("holds the encoder alone" in remark for remark in opened(alone).reading.remarks)
    trunk.pop("embeddings.LayerNorm.bias")
    save_file({**trunk, **pooler}, alone / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedError, match=r"lack the tensor bert.embeddings.LayerNorm.bias"):
        SentenceVectors(alone, "identity", ByteTokenizer())


def test_a_tokenizer_without_marks_is_read_without_them(tmp_path: Path):
    embedder = SentenceVectors(bert(tmp_path / "bert", ()), "identity", ByteTokenizer())
    model, own = load_foreign(tmp_path / "bert")
    assert isinstance(model, EncoderModel)
    keys = embedder(np.array([[256, 65, 66], [256, 65, 66]]), np.array([[True, True, True], [True, False, False]]))
    for key, ids in zip(keys, ([65, 66], [own.end]), strict=True):
        np.testing.assert_allclose(key, model.stream(torch.tensor([ids]))[0].mean(0).detach(), atol=1e-5)


def test_the_identity_of_a_sentence_encoder_is_of_weights_and_tokenizer_wherever_they_lie(tmp_path: Path):
    one, moved = (Sentence(str(bert(tmp_path / name))).resolve() for name in ("one", "moved"))
    assert one.sha256 == moved.sha256 and one.fingerprint() == moved.fingerprint()
    assert one.live({}, given()).identity == moved.live({}, given()).identity
    assert Sentence(str(bert(tmp_path / "marks", ("first",)))).resolve().sha256 != one.sha256
    weights = load_file(tmp_path / "moved" / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, tmp_path / "moved" / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedError, match="has changed: its sha256 is"):
        moved.live({}, given())


def test_what_is_no_sentence_encoder_is_refused(tmp_path: Path):
    decoder = foreign(tmp_path / "gpt2", Decoder(**SMALL, activation="gelu-tanh", tied=True))
    with pytest.raises(UsageError, match="holds a decoder: a sentence encoder is an encoder"):
        Sentence(str(decoder)).live({}, given())
    with pytest.raises(UsageError, match=r"embedder sentence needs its encoder: --embedder.path FOLDER"):
        Sentence().resolve()


def test_a_model_that_was_brought_in_embeds_too(tmp_path: Path):
    folder = foreign(tmp_path / "gpt2", Decoder(**SMALL, activation="gelu-tanh", tied=True))
    model = Imported(str(folder)).resolve()
    run, done = Lab(tmp_path / "runs", quiet=True, threads=1).run(model), Done()
    done.add(model, run)
    embedder = Hidden(model).live({}, Given(8, load_tokenizer(run.path), done))
    assert isinstance(embedder, HiddenStates) and embedder.dimension == Hidden(model).expected_dimension() == 16
