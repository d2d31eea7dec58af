"""What a latent responds to: planted answers are found, contexts show what they claim, padding is never shown."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest

from etude.compress.contexts import foretold, responses
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.recipes import Compress, Latents
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.loss import chosen_windows
from etude.text.batches import IGNORE
from etude.text.data import TextData
from etude.text.tokenizers.live import END, ByteTokenizer
from etude.train.recipes import Train

N, T = 40, 16
LETTERS = np.frombuffer(string.ascii_letters.encode(), np.uint8).astype(np.int64)


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).choice(LETTERS, (N, T))


@pytest.fixture
def recipe(trained: Train) -> Latents:
    return Latents(Compress(trained, "L0.attn.out", Pca(4)), contexts=3, reach=2)


def shares(latent: dict[str, Any]) -> list[float]:
    return [latent["foretold_by"][fact] for fact in ("token", "previous_token", "position")]


def test_planted_facts_are_foretold_by_themselves_alone(tokens: np.ndarray, recipe: Latents) -> None:
    position = np.broadcast_to(np.arange(T), (N, T))
    before = np.concatenate([np.zeros((N, 1), np.int64), tokens[:, :-1]], 1)
    noise = np.random.default_rng(1).normal(size=(N, T))
    one_hot = (tokens[..., None] == LETTERS[:20]).any(-1)
    codes = np.stack([one_hot, before % 7, np.sin(position), noise], -1).astype(np.float32)
    by_token, by_previous, by_position, by_nothing = map(shares, responses(codes, tokens, recipe, ByteTokenizer()))
    # Means are shrunk, so that even a true cause foretells slightly less than all.
    assert by_token[0] > 0.9 and max(by_token[1:]) < 0.1
    assert by_previous[1] > 0.9 and max(by_previous[0], by_previous[2]) < 0.1
    assert by_position[2] > 0.97 and max(by_position[:2]) < 0.1
    assert max(by_nothing) < 0.1


def test_a_fact_that_only_seems_to_foretell_is_found_out() -> None:
    """Every kind comes once: learned and judged on the same windows, it would foretell everything."""
    code = np.random.default_rng(0).normal(size=(N, T))
    assert foretold(code, np.arange(N * T).reshape(N, T)) == pytest.approx(0, abs=0.02)


def test_one_token_of_many() -> None:
    """The latent is a one-hot of one token: it is all that the latent tells."""
    tokens = np.random.default_rng(0).integers(0, 8, (200, T))
    code = (tokens == 5).astype(np.float64)
    assert foretold(code, tokens) == pytest.approx(1, abs=0.01)
    assert foretold(code, np.broadcast_to(np.arange(T), code.shape)) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("code", [np.ones((6, 4)), np.ones((1, 4)), np.full((6, 4), np.nan)])
def test_nothing_to_foretell(code: np.ndarray) -> None:
    assert foretold(code, np.zeros(code.shape, np.int64)) is None


def test_contexts_show_the_token_at_which_the_latent_is_highest(tokens: np.ndarray, recipe: Latents) -> None:
    code = np.random.default_rng(3).normal(size=(N, T, 1))
    tokenizer = ByteTokenizer()
    (latent,) = responses(code, tokens, recipe, tokenizer)
    for end, sign in (("top", 1), ("bottom", -1)):
        best = np.sort((sign * code[..., 0]).max(1))[::-1][:3]  # one from each window
        assert [sign * found["value"] for found in latent[end]] == pytest.approx(best.tolist())
        for found in latent[end]:
            window, at = np.argwhere(code[..., 0] == found["value"])[0]
            said = [tokenizer.piece(int(t)) for t in tokens[window]]
            assert found["position"] == at and found["token"] == said[at]
            assert found["before"] == said[max(0, at - 2) : at]
            assert found["after"] == said[at + 1 : at + 3]
    assert latent["mean"] == pytest.approx(code.mean()) and latent["spread"] == pytest.approx(code.std())


def test_one_passage_does_not_fill_the_list(tokens: np.ndarray, recipe: Latents) -> None:
    code = np.zeros((N, T, 1))
    code[7] = 100 + np.arange(T)[:, None]
    code[9, 4] = 50
    top = responses(code, tokens, recipe, ByteTokenizer())[0]["top"]
    assert [(found["value"], found["position"]) for found in top[:2]] == [(115, 15), (50, 4)]
    assert len(top) == 3


def test_as_many_latents_as_are_asked_for(tokens: np.ndarray, trained: Train) -> None:
    recipe = Latents(Compress(trained, "L0.attn.out", Pca(5)), most=2)
    found = responses(np.random.default_rng(0).normal(size=(N, T, 5)), tokens, recipe, ByteTokenizer())
    assert [latent["latent"] for latent in found] == [0, 1]


# Through the recipe


def test_latents_of_the_token_embedding_are_the_token(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "embed.tokens", Pca(3), fit_tokens=2048, evaluate_tokens=512)
    found = lab.run(Latents(squeezed, evaluate_tokens=2048)).result
    assert found["of"] == 3 and found["site"] == "embed.tokens"
    for latent in found["latents"]:
        assert latent["foretold_by"]["token"] > 0.9
        assert latent["foretold_by"]["position"] < 0.1
        assert len({found["token"] for found in latent["top"]}) == 1  # the one token whose vector lies furthest


def test_padding_is_never_shown(lab: Lab, openings: Train) -> None:
    squeezed = Compress(openings, "L0.attn.out", Pca(2), fit_tokens=0, evaluate_tokens=0)
    found = lab.run(Latents(squeezed, contexts=24, reach=20, evaluate_tokens=0)).result["latents"]
    examples = TextData.open(lab.run(openings.data)).examples("valid", 12)
    windows = chosen_windows(examples, 0)
    batch = examples.batch(windows)
    tokens, targets = batch.inputs, batch.targets
    tokenizer = ByteTokenizer()
    said = []
    for inputs, answers in zip(tokens, targets, strict=True):
        real = int((answers != IGNORE).sum())
        text = [END, *(tokenizer.piece(int(t)) for t in answers[:real])][:12]
        assert text == [tokenizer.piece(int(t)) for t in inputs[: len(text)]]
        said.append(text)
    for latent in found:
        shown = [[*c["before"], c["token"], *c["after"]] for c in (*latent["top"], *latent["bottom"])]
        assert len(shown) == 2 * len(windows)
        assert all(context in said for context in shown)
        assert np.isfinite([c["value"] for c in latent["top"]]).all()


@pytest.mark.parametrize(("method", "words"), [(Kmeans(4), "kmeans has a discrete code"), (Mean(), "mean has no code")])
def test_a_code_without_numbers_has_no_latents(method: Any, words: str, lab: Lab, trained: Train) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        lab.run(Latents(Compress(trained, "L0.attn.out", method, fit_tokens=640, evaluate_tokens=320)))
    assert "\n" not in str(caught.value)
