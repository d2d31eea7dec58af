"""Composition scores: the planted one is found and no other, and all are those of dense matrices."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch

from etude.core.errors import UsageError
from etude.interp.circuits import copying_score, full_ov
from etude.interp.composition import Composition, chance_of_copying, composition
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import planted

V, T = 9, 12
KINDS = ("Q", "K", "V")


def drawn(seed: int = 0, **fields: object) -> DecoderModel:
    """Build a model whose weights are independent normal numbers."""
    shape: dict[str, object] = {"layers": 3, "width": 24, "heads": 3, "feedforward": 0, "context": T}
    model, generator = Decoder(**{**shape, **fields}).build(V), torch.Generator().manual_seed(seed)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
    assert isinstance(model, DecoderModel)
    return model


def dense(model: DecoderModel, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a head's QK and OV circuits as whole matrices, made from the weights by hand."""
    name = f"layers.{layer}.attn.W_"
    W_Q, W_K, W_V, W_O = (model.get_parameter(name + letter).detach().double().numpy() for letter in "QKVO")
    group = head // (W_Q.shape[1] // W_K.shape[1])
    return W_Q[:, head] @ W_K[:, group].T, W_V[:, group] @ W_O[head]


def reader(model: DecoderModel, kind: str, layer: int, head: int) -> np.ndarray:
    QK, OV = dense(model, layer, head)
    return {"Q": QK, "K": QK.T, "V": OV}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [0, 1])
def test_scores_are_those_of_dense_matrices(kind: str, groups: int) -> None:
    model = drawn(kv_heads=groups)
    found = composition(model, kind)
    share = found.projected - found.projected[0, 0, 1, 0]  # the expectation drops out
    first = None
    for l1, h1, l2, h2 in np.ndindex(3, 3, 3, 3):
        if l1 >= l2:
            assert np.isnan([found.raw[l1, h1, l2, h2], found.excess[l1, h1, l2, h2]]).all()
            assert np.isnan(found.projected[l1, h1, l2, h2])
            continue
        C, R = dense(model, l1, h1)[1], reader(model, kind, l2, h2)
        norm = np.linalg.norm
        assert found.raw[l1, h1, l2, h2] == pytest.approx(norm(C @ R) / norm(C) / norm(R), rel=1e-5)
        projected = norm(C @ R @ np.linalg.pinv(R)) / norm(C)
        first = projected if first is None else first
        assert share[l1, h1, l2, h2] == pytest.approx(projected - first, abs=1e-5)
    np.testing.assert_array_equal(found.excess, found.raw - found.baseline)


@pytest.mark.parametrize("kind", KINDS)
def test_the_planted_composition_is_found_and_nothing_else(kind: str) -> None:
    found = composition(planted(V, T), kind)
    wanted = np.zeros((2, 2))
    if kind == "K":  # V of the V + 4V squares of its key map are met by what L0H0 writes
        wanted[0, 0] = math.sqrt(V) / math.sqrt(V) / math.sqrt(5 * V)
    np.testing.assert_allclose(found.raw[0, :, 1, :], wanted, atol=1e-6)
    assert np.isnan(found.raw[1]).all() and np.isnan(found.raw[:, :, 0]).all()
    least = found.projected[0, 1, 1, 1]
    assert least == pytest.approx(-math.sqrt(1 / 2), abs=0.01), "of a head that writes nothing, nothing can be read"
    readable = np.full((2, 2), least)
    if kind == "K":  # all but what the first position's -2 takes: of each token 1 - 4 / (1 + 4V) is left
        readable[0, 0] += math.sqrt(1 - 4 / (1 + 4 * V))
    np.testing.assert_allclose(found.projected[0, :, 1, :], readable, atol=1e-5)


def test_heads_that_pass_all_through_one_direction_score_1() -> None:
    model = drawn(layers=2, width=6, heads=1)
    with torch.no_grad():
        for name in ("0.attn.W_O", "1.attn.W_Q", "1.attn.W_K", "1.attn.W_V"):
            model.get_parameter(f"layers.{name}").zero_()
        model.get_parameter("layers.0.attn.W_O")[0, 2, 4] = 3.0
        for letter in "QK":
            model.get_parameter(f"layers.1.attn.W_{letter}")[4, 0, 1] = 0.5
        model.get_parameter("layers.1.attn.W_V")[4, 0, 1] = 7.0
    for kind in KINDS:
        found = composition(model, kind)
        assert found.raw[0, 0, 1, 0] == pytest.approx(1)
        assert found.excess[0, 0, 1, 0] == pytest.approx(1 - found.baseline)


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (64, 1), (64, 2), (64, 8)])
def test_random_heads_have_no_excess(width: int, heads: int) -> None:
    model = drawn(width=width, heads=heads, layers=6 if heads < 8 else 2)
    for kind in KINDS:
        found = composition(model, kind)
        assert found.baseline == pytest.approx(1 / math.sqrt(width), rel=0.1)
        assert abs(np.nanmean(found.excess)) < 0.1 * found.baseline
        assert abs(np.nanmean(found.projected)) < 0.02
        if heads == 1:  # whatever is written can be read
            np.testing.assert_allclose(found.projected[0, 0, 1:, 0], 0, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 4])
def test_the_greatest_of_random_heads_is_rarely_beyond_chance_and_often_near_it(heads: int) -> None:
    """Of 100 models it is passed by 5 at most in expectation."""
    found = [composition(drawn(seed, heads=heads, layers=2, norm="none"), "K") for seed in range(100)]
    greatest = np.array([np.nanmax(one.projected) for one in found])
    chance = found[0].projected_chance
    assert (greatest > chance).mean() <= 0.12
    assert (greatest > 0.6 * chance).mean() >= 0.2


def test_of_more_pairs_more_comes_by_chance() -> None:
    few, many = (composition(drawn(layers=layers, heads=2), "K").projected_chance for layers in (2, 5))
    assert 0 < few < many


def test_the_planted_composition_is_beyond_chance_and_no_other_is() -> None:
    found = composition(planted(V, T), "K")
    assert found.projected[0, 0, 1, 0] > found.projected_chance > 0
    assert np.nanmax(np.delete(found.projected[0, :, 1, :].ravel(), 0)) < found.projected_chance


def test_where_all_can_be_read_nothing_is_beyond_chance() -> None:
    assert composition(drawn(heads=1, layers=2), "K").projected_chance == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("width", "heads"), [(16, 2), (32, 2)])
def test_random_heads_rarely_copy_beyond_chance_and_often_come_near_it(width: int, heads: int) -> None:
    """Of untrained models with many tokens."""
    greatest = []
    for seed in range(80):
        shape = Decoder(layers=2, width=width, heads=heads, feedforward=0, context=T, norm="none", biases=False)
        model = cast("DecoderModel", shape.build(200, seed=seed).eval())
        scores = [float(copying_score(full_ov(model, layer, head))) for layer in (0, 1) for head in range(heads)]
        greatest.append(max(scores))
    chance = chance_of_copying(width, width // heads, 2 * heads)
    assert (np.array(greatest) > chance).mean() <= 0.15
    assert (np.array(greatest) > 0.5 * chance).mean() >= 0.2


def test_chance_of_copying_rises_with_the_heads_and_falls_with_their_rank() -> None:
    assert chance_of_copying(64, 16, 4) < chance_of_copying(64, 16, 64) < 1
    assert chance_of_copying(64, 32, 4) < chance_of_copying(64, 16, 4)
    assert chance_of_copying(64, 1, 2) == chance_of_copying(1, 8, 2) == 1, "every other head of rank 1 scores 1"
    assert chance_of_copying(16, 8, 4, seed=1) == chance_of_copying(16, 8, 4, seed=1) != chance_of_copying(16, 8, 4)


def test_the_seed_alone_decides_the_baseline() -> None:
    model = drawn()
    one, again, other = (composition(model, "Q", draws=4, seed=seed) for seed in (0, 0, 1))
    assert one.baseline == again.baseline != other.baseline
    np.testing.assert_array_equal(one.raw, other.raw)


def test_scores_do_not_depend_on_how_large_weights_are() -> None:
    def doubled(model: DecoderModel) -> Composition:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(100)
        return composition(model, "K")

    model = drawn()
    before = composition(model, "K")
    np.testing.assert_allclose(doubled(model).raw, before.raw, rtol=1e-5)


@pytest.mark.parametrize("layers", [0, 1])
def test_without_a_later_layer_there_is_no_composition(layers: int) -> None:
    with pytest.raises(UsageError, match=f"layers = {layers}: a head composes with one of a later layer"):
        composition(drawn(layers=layers), "V")


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="unknown kind of composition 'O': There are: K, Q, V"):
        composition(drawn(), "O")
