"""A model that is looked at on another text reads it in its own tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.recipe import Recipe
from etude.evals.recipes import Score
from etude.models.architectures.decoder import Decoder
from etude.models.load import load
from etude.models.recipes import OnText
from etude.text.corpora.fable import Fable
from etude.text.corpora.files import Files
from etude.text.data import TextData
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import At, Train
from etude.train.schedule import Schedule

OWN = Tokens(Fable(stories=60), BytePair(vocabulary=300))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), threads=1, quiet=True)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("other")
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text("The quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return Files(path=str(folder))


def trained(steps: int = 30) -> Train:
    model = Decoder(layers=1, width=16, heads=2, feedforward=32, context=16)
    return Train(OWN, model, schedule=Schedule(peak=1e-2, warmup=2), batch=8, steps=steps, evaluate_tokens=320)


def test_the_tokens_are_the_models_own(lab: Lab, other: Files) -> None:
    recipe = OnText(trained(), other)
    data, own = TextData.open(lab.run(recipe.text)), TextData.open(lab.run(OWN))
    assert data.vocabulary == own.vocabulary
    # What is learned from another text would cut it into other pieces.
    learned = TextData.open(lab.run(Tokens(other, BytePair(vocabulary=300))))
    text = "The quick brown fox"
    assert data.tokenizer.encode(text) == own.tokenizer.encode(text) != learned.tokenizer.encode(text)
    assert b"quick brown" in data.tokenizer.decode_bytes([int(t) for t in data.store("valid").tokens[:200]])


def test_the_model_is_the_same_and_its_score_is_of_the_other_text(lab: Lab, other: Files) -> None:
    recipe = OnText(trained(), other)
    model, _ = load(lab.run(recipe))
    own, _ = load(lab.run(trained()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), own.parameters(), strict=True))
    here, at_home = (lab.run(Score(of)).result["loss"]["mean"] for of in (recipe, trained()))
    assert here > at_home + 0.1


def test_a_checkpoint_can_be_given_another_text(lab: Lab, other: Files) -> None:
    recipe = OnText(At(trained(), 0), other)
    assert lab.run(Score(recipe)).result["loss"]["mean"] == pytest.approx(5.7, abs=0.2)


def test_it_reads_back_and_needs_its_model(other: Files) -> None:
    recipe = OnText(trained(), other).resolve()
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert list(recipe.plan({})) == [recipe.of] and recipe.text.like == recipe.of.text
    assert recipe.shape == recipe.of.shape and recipe.context == 16


def test_tokens_like_others_have_their_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="like has the tokenizer bpe and these tokens another"):
        Tokens(Fable(), Byte(), like=OWN)
