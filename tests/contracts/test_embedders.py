"""What every embedder owes, asked of each file in the family's folder, in a library that it really made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_weights

from etude.core.done import Done
from etude.core.family import Family
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.outgoing import format_for, weights_of
from etude.retrieval.embedders import base
from etude.retrieval.embedders.base import Embedder, Given, LiveEmbedder
from etude.retrieval.libraries import FITTED, chunks_of, database_of, embedder_of
from etude.retrieval.recipes import Library
from etude.text.chunks import Volumes
from etude.text.corpora.fable import Fable
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.text.tokenizers.live import ByteTokenizer
from etude.train.recipes import Train

FAMILY = Family("retrieval/embedders")
CHUNK = 24
TEXT = Tokens(Fable(stories=30), Byte())
MODEL = Train(
    data=TEXT,
    model=Decoder(layers=2, width=16, heads=2, feedforward=32, context=32),
    batch=4,
    steps=2,
    evaluate_every=0,
    evaluate_tokens=64,
)


def bert_folder(folder: Path) -> Path:
    """Write a small BERT as the ecosystem does, with a tokenizer of bytes."""
    bert: dict[str, Any] = {"norm_at": "post", "head": "bert", "norm_embeddings": True, "tied": True, "segments": 2}
    spec = Encoder(layers=1, width=16, heads=2, feedforward=24, context=20, pooling="first", **bert)
    chosen, said = format_for(spec, ByteTokenizer().vocabulary)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))
    model = spec.build(ByteTokenizer().vocabulary, seed=1)
    save_weights(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    ByteTokenizer().save(folder)
    (folder / "tokenizer-kind.json").unlink()
    return folder


ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "hidden": lambda folder: {"of": MODEL},
    "sentence": lambda folder: {"path": str(bert_folder(folder / "bert"))},
    "tfidf": lambda folder: {"dimension": 12},
}
"""What a member is made with; those left out need nothing."""


class Made:
    """A library of one member, and what stands around it."""

    def __init__(self, member: Embedder, lab: Lab) -> None:
        self.library = cast(Library, Library(TEXT, CHUNK, member).resolve())
        self.done = Done()
        self.run = lab.run(self.library)
        for needed in self.library.needs:
            self.done.add(needed.resolve(), lab.run(needed))
        self.embedder: LiveEmbedder = embedder_of(self.library, self.done)
        self.volumes: Volumes = chunks_of(self.library, self.done)

    def again(self, state: dict[str, np.ndarray]) -> LiveEmbedder:
        """Return the live embedder once more, of a state."""
        tokenizer = TextData.open(self.done[self.library.data]).tokenizer
        done = cast(dict[Recipe, Run], self.done)
        return self.library.embedder.live(state, Given(CHUNK, tokenizer, done))


@pytest.fixture(scope="module", params=FAMILY.names())
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    arguments = ARGUMENTS.get(request.param, lambda folder: {})(folder)
    member = cast(Embedder, FAMILY.member(request.param)(**arguments))
    return Made(member, Lab(folder / "runs", quiet=True, threads=1))


def some(made: Made, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return chunks spread over the library, a short one among them."""
    short = np.flatnonzero(~made.volumes.read(np.arange(len(made.volumes)))[1].all(axis=1))[:1]
    spread = np.linspace(0, len(made.volumes) - 1, count - 1).astype(np.int64)
    return made.volumes.read(np.concatenate([spread, short]))


def test_the_family_has_its_members():
    assert {"hidden", "sentence", "tfidf"} <= set(FAMILY.names())
    assert FAMILY.base() is Embedder


def test_the_readme_tells_every_member():
    text = (Path(base.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in FAMILY.names())


def test_keys_are_finite_numbers_of_the_stated_dimension(made: Made):
    keys = made.embedder(*some(made))
    assert keys.shape == (40, made.embedder.dimension) and keys.dtype == np.float32
    assert np.isfinite(keys).all() and len(np.unique(keys.round(5), axis=0)) > 30
    assert 0 < made.embedder.dimension <= made.library.embedder.expected_dimension()
    assert made.embedder.at_once >= 1


def test_the_library_holds_the_keys_that_the_embedder_gives(made: Made):
    database = database_of(made.library, made.done)
    assert (database.dimension, database.fitted) == (made.embedder.dimension, made.embedder.identity)
    keys = made.embedder(*made.volumes.read(np.arange(len(database))))
    np.testing.assert_allclose(database.keys(0, len(database)), keys, atol=1e-5)


def test_one_batch_has_the_same_bytes_twice_and_in_another_order_the_same_keys(made: Made):
    tokens, present = some(made)
    keys = made.embedder(tokens, present)
    assert made.embedder(tokens, present).tobytes() == keys.tobytes()
    order = np.random.default_rng(0).permutation(len(tokens))
    np.testing.assert_allclose(made.embedder(tokens[order], present[order]), keys[order], atol=1e-5)


def test_what_is_not_there_counts_for_nothing(made: Made):
    tokens, present = some(made)
    assert not present.all()
    other = np.where(present, tokens, 65)
    np.testing.assert_allclose(made.embedder(other, present), made.embedder(tokens, present), atol=1e-6)
    cut = present & (np.arange(CHUNK) < 5)
    assert not np.allclose(made.embedder(tokens, cut), made.embedder(tokens, present), atol=1e-3)


def test_the_state_in_the_run_is_all_that_was_fitted(made: Made, tmp_path: Path):
    state = load_file(made.run.path / FITTED)
    save_file(state, tmp_path / "copy.safetensors")
    again = made.again(load_file(tmp_path / "copy.safetensors"))
    assert again.identity == made.embedder.identity
    assert again(*some(made)).tobytes() == made.embedder(*some(made)).tobytes()


def test_the_recipe_is_plain_data_that_reads_back_equal(made: Made):
    assert Recipe.from_json(json.loads(json.dumps(made.library.to_json()))) == made.library
