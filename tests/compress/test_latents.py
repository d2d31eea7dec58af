"""What a unit responds to: planted answers are found, contexts show what they claim, padding is never shown."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
import torch

from etude.compress.contexts import contexts, drawn_classes, foretold, responses
from etude.compress.methods.base import Method
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.mean import Mean
from etude.compress.methods.noise import Noise
from etude.compress.methods.pca import Pca
from etude.compress.methods.resample import Resample
from etude.compress.methods.zero import Zero
from etude.compress.recipes import Compress, Latents
from etude.compress.units import NUMBER, Units, active, rates, units_of, variances
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.evals.loss import chosen_windows
from etude.evals.token_classes import token_classes
from etude.text.batches import IGNORE
from etude.text.data import TextData
from etude.text.tokenizers.live import END, ByteTokenizer
from etude.train.recipes import Train

N, T = 40, 16
LETTERS = np.frombuffer((string.ascii_letters + string.digits).encode(), np.uint8).astype(np.int64)
BYTES = ByteTokenizer()
CLASSES = token_classes(BYTES, BYTES.vocabulary)


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).choice(LETTERS, (N, T))


@pytest.fixture
def recipe(trained: Train) -> Latents:
    return Latents(Compress(trained, "L0.attn.out", Pca(4)), contexts=3, reach=2)


def numbers(values: np.ndarray) -> Units:
    count = values.shape[-1]
    return Units(values, tuple(f"latent {n}" for n in range(count)), np.arange(count), np.full(count, NUMBER))


def responded(codes: np.ndarray, tokens: np.ndarray, recipe: Latents) -> list[dict[str, Any]]:
    """Return what is told of each unit, in their own order."""
    return sorted(responses(numbers(codes), tokens, CLASSES, recipe, BYTES), key=lambda told: told["latent"])


def shares(latent: dict[str, Any]) -> list[float]:
    return [latent["foretold_by"][fact] for fact in ("token", "previous_token", "position", "class")]


def test_planted_facts_are_foretold_by_themselves_alone(tokens: np.ndarray, recipe: Latents) -> None:
    position = np.broadcast_to(np.arange(T), (N, T))
    before = np.concatenate([np.zeros((N, 1), np.int64), tokens[:, :-1]], 1)
    noise = np.random.default_rng(1).normal(size=(N, T))
    one_hot = (tokens[..., None] == LETTERS[:20]).any(-1)
    digit = tokens < 60
    codes = np.stack([one_hot, before % 7, np.sin(position), noise, digit], -1).astype(np.float32)
    by_token, by_previous, by_position, by_nothing, by_class = map(shares, responded(codes, tokens, recipe))
    # Means are shrunk, so that even a true cause foretells slightly less than all.
    assert by_token[0] > 0.85 and max(by_token[1:3]) < 0.1
    assert by_previous[1] > 0.85 and max(by_previous[0], *by_previous[2:]) < 0.1
    assert by_position[2] > 0.97 and max(*by_position[:2], by_position[3]) < 0.1
    assert max(by_nothing) < 0.1
    assert by_class[3] > 0.97 and max(by_class[1:3]) < 0.1


def test_controls_tell_a_class_from_any_classes_of_its_size(tokens: np.ndarray, recipe: Latents) -> None:
    (told,) = responded((tokens < 60).astype(np.float32)[..., None], tokens, recipe)
    assert told["controls"]["drawn_class"] < 0.3 < 0.9 < told["foretold_by"]["class"]
    assert told["controls"]["shuffled"] < 0.1
    dealt = drawn_classes(CLASSES)
    assert (np.bincount(dealt) == np.bincount(CLASSES.of)).all() and (dealt != CLASSES.of).any()


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
    (latent,) = responded(code, tokens, recipe)
    for end, sign in (("top", 1), ("bottom", -1)):
        best = np.sort((sign * code[..., 0]).max(1))[::-1][:3]  # one from each window
        assert [sign * found["value"] for found in latent[end]] == pytest.approx(best.tolist())
    middle = np.sort(np.abs(code[..., 0] - np.median(code)).min(1))[:3]
    assert [abs(found["value"] - np.median(code)) for found in latent["middle"]] == pytest.approx(middle.tolist())
    for end in ("top", "middle", "bottom"):
        for found in latent[end]:
            window, at = np.argwhere(code[..., 0] == found["value"])[0]
            said = [BYTES.piece(int(t)) for t in tokens[window]]
            assert found["position"] == at and found["token"] == said[at]
            assert found["before"] == said[max(0, at - 2) : at]
            assert found["after"] == said[at + 1 : at + 3]
    assert latent["mean"] == pytest.approx(code.mean()) and latent["spread"] == pytest.approx(code.std())


def test_one_passage_does_not_fill_the_list(tokens: np.ndarray, recipe: Latents) -> None:
    code = np.zeros((N, T, 1))
    code[7] = 100 + np.arange(T)[:, None]
    code[9, 4] = 50
    top = responded(code, tokens, recipe)[0]["top"]
    assert [(found["value"], found["position"]) for found in top[:2]] == [(115, 15), (50, 4)]
    assert len(top) == 3


def test_of_a_sparse_latent_the_middle_is_of_where_it_acts(tokens: np.ndarray, recipe: Latents) -> None:
    code = np.zeros((N, T, 1))
    code[np.arange(20), 3] = np.arange(1, 21)[:, None]
    (latent,) = responded(code, tokens, recipe)
    assert [found["value"] for found in latent["middle"]] in ([10, 11, 9], [11, 10, 12], [10, 11, 12], [11, 10, 9])
    assert latent["rate"] == pytest.approx(20 / (N * T))


def test_of_equal_values_not_always_the_first_of_the_text_is_shown(tokens: np.ndarray, recipe: Latents) -> None:
    found = contexts(np.ones((N, T)), tokens, recipe, BYTES, "top")
    assert len({context["position"] for context in found}) > 1 and found[0]["position"] > 0
    assert found == contexts(np.ones((N, T)), tokens, recipe, BYTES, "top")


def test_the_units_of_the_greatest_variance_are_shown(tokens: np.ndarray, trained: Train) -> None:
    recipe = Latents(Compress(trained, "L0.attn.out", Pca(5)), most=2)
    codes = np.random.default_rng(0).normal(size=(N, T, 5)) * [1, 3, 0, 2, 1]
    found = responses(numbers(codes), tokens, CLASSES, recipe, BYTES)
    assert [latent["latent"] for latent in found] == [1, 3]
    assert found[0]["share"] == pytest.approx(9 / 15, abs=0.05)


# Units


def test_entries_of_a_codebook_are_units_that_are_on_or_off() -> None:
    code = torch.tensor([[[2, 0], [2, 1]], [[5, 1], [9, 9]]])
    real = np.array([[True, True], [True, False]])
    units = units_of(code, real, "codes")
    assert units.names == ("code 2 of part 0", "code 5 of part 0", "code 0 of part 1", "code 1 of part 1")
    assert units.values[real].tolist() == [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1]]
    assert np.isnan(units.values[~real]).all() and units.discrete
    assert rates(units).tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert units_of(code[..., :1], real, "codes").names == ("code 2", "code 5")


def test_of_experts_the_choice_is_on_or_off_and_what_they_read_are_numbers() -> None:
    code = torch.tensor([[[1.0, 0.25], [0.0, -3.0]]])
    units = units_of(code, np.ones((1, 2), bool), "experts")
    assert units.names == ("expert 0", "expert 1", "latent 1")
    assert units.values[0].tolist() == [[0, 1, 0.25], [1, 0, -3]]
    assert units.entry.tolist() == [0, 1, NUMBER]


def test_whole_numbers_that_stand_for_amounts_are_numbers() -> None:
    units = units_of(torch.tensor([[[3, -1]]], dtype=torch.int8), np.ones((1, 1), bool), "bits")
    assert units.values.tolist() == [[[3, -1]]] and not units.discrete


def test_a_collapsed_latent_is_not_active() -> None:
    draw = np.random.default_rng(0).normal(size=(4, 200, 4)) * [1, 0.5, 0.05, 0]
    assert active(variances(numbers(draw))) == 2
    assert active(np.zeros(3)) == 0


# Through the recipe


def test_latents_of_the_token_embedding_are_the_token(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "embed.tokens", Pca(3), fit_tokens=2048, evaluate_tokens=512)
    found = lab.run(Latents(squeezed, evaluate_tokens=2048)).result
    assert found["of"] == found["active"] == 3 and found["site"] == "embed.tokens"
    assert found["patch"] is None and found["silent"] == 0
    for latent in found["latents"]:
        assert latent["foretold_by"]["token"] > 0.9
        assert latent["foretold_by"]["position"] < 0.1
        assert len({found["token"] for found in latent["top"]}) == 1  # the one token whose vector lies furthest


def test_codewords_have_the_same_page(lab: Lab, trained: Train) -> None:
    squeezed = Compress(trained, "embed.tokens", Kmeans(4), fit_tokens=2048, evaluate_tokens=512)
    found = lab.run(Latents(squeezed, evaluate_tokens=2048)).result
    assert found["discrete"] and {latent["name"] for latent in found["latents"]} <= {f"code {n}" for n in range(4)}
    assert sum(latent["rate"] for latent in found["latents"]) == pytest.approx(1)
    rate = [latent["rate"] for latent in found["latents"]]
    assert rate == sorted(rate, reverse=True)
    for latent in found["latents"]:
        assert latent["foretold_by"]["token"] > 0.9  # the codeword of an embedding follows from the token
        assert {context["value"] for context in latent["top"]} == {1.0} and not latent["middle"] + latent["bottom"]
        (move,) = latent["traversal"]["moves"]
        assert move["at"] is None and move["kl"]["mean"] > 0


def test_padding_is_never_shown(lab: Lab, openings: Train) -> None:
    squeezed = Compress(openings, "L0.attn.out", Pca(2), fit_tokens=0, evaluate_tokens=0)
    found = lab.run(Latents(squeezed, contexts=24, reach=20, evaluate_tokens=0)).result["latents"]
    examples = TextData.open(lab.run(openings.data)).examples("valid", 12)
    windows = chosen_windows(examples, 0)
    batch = examples.batch(windows)
    said = []
    for inputs, answers in zip(batch.inputs, batch.targets, strict=True):
        real = int((answers != IGNORE).sum())
        text = [END, *(BYTES.piece(int(t)) for t in answers[:real])][:12]
        assert text == [BYTES.piece(int(t)) for t in inputs[: len(text)]]
        said.append(text)
    for latent in found:
        shown = [[*c["before"], c["token"], *c["after"]] for end in ("top", "middle", "bottom") for c in latent[end]]
        assert len(shown) == 3 * len(windows)
        assert all(context in said for context in shown)
        assert np.isfinite([c["value"] for c in latent["top"]]).all()


@pytest.mark.parametrize("method", [Mean(), Zero(), Resample(8), Noise(8)], ids=lambda method: method.name)
def test_a_method_that_codes_nothing_has_no_latents(method: Method, lab: Lab, trained: Train) -> None:
    with pytest.raises(UsageError, match=f"{method.name} has no code of each token") as caught:
        lab.run(Latents(Compress(trained, "L0.attn.out", method, fit_tokens=640, evaluate_tokens=320)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"traverse": -1}, "traverse = -1 is too small"),
        ({"clean": "A dog"}, "clean and corrupted go together"),
    ],
)
def test_what_makes_no_sense(fields: dict[str, Any], words: str, trained: Train) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Latents(Compress(trained, "L0.attn.out", Pca(2)), **fields)
    assert "\n" not in str(caught.value)
