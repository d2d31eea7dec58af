"""Factored matrices against dense ones, and circuits against the live model and the planted one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp import circuits
from etude.interp.circuits import copying_score, full_ov, full_qk, ov_circuit, qk_circuit, top_pairs
from etude.interp.factored import Factored
from etude.interp.plain import plain
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.planted import CERTAIN, SHARP, planted
from etude.nn.look import look

V, T = 7, 12
TOKENS = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(0))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lively(**fields: Any) -> DecoderModel:
    """Build a model in fp64 without norms and biases, so that its circuits are all there is."""
    shape = {"layers": 2, "width": 16, "heads": 4, "feedforward": 0, "context": T, "norm": "none", "biases": False}
    model, generator = Decoder(**{**shape, **fields}).build(V), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    assert isinstance(model, DecoderModel)
    return model.double().eval()


sizes = st.integers(1, 6)


@settings(deadline=None, max_examples=40)
@given(m=sizes, r=sizes, n=sizes, lead=st.sampled_from([(), (3,), (2, 1)]), seed=st.integers(0, 99))
def test_what_is_said_of_the_factors_is_true_of_the_product(
    m: int, r: int, n: int, lead: tuple[int, ...], seed: int
) -> None:
    factored = Factored(drawn(*lead, m, r, seed=seed), drawn(r, n, seed=seed + 1))
    dense = factored.product()
    assert factored.shape == dense.shape == (*lead, m, n) and factored.rank == r
    torch.testing.assert_close(factored.norm(), dense.square().sum((-2, -1)).sqrt())
    torch.testing.assert_close(factored.T.product(), dense.mT)
    U, S, Vh = factored.svd()
    few = min(m, r, n)
    assert S.shape == (*lead, few)
    np.testing.assert_allclose(S, np.linalg.svd(dense.numpy(), compute_uv=False)[..., :few], atol=1e-12)
    torch.testing.assert_close(U * S[..., None, :] @ Vh, dense)
    eye = torch.eye(few, dtype=torch.float64).expand(*lead, -1, -1)
    torch.testing.assert_close(U.mT @ U, eye)
    torch.testing.assert_close(Vh @ Vh.mT, eye)
    other = drawn(n, 5, seed=seed + 2)
    assert factored.gist().shape == (*lead, min(m, r), n)
    torch.testing.assert_close((factored.gist() @ other).norm(dim=(-2, -1)), (dense @ other).norm(dim=(-2, -1)))


@settings(deadline=None, max_examples=30)
@given(m=st.integers(1, 6), r=st.integers(1, 6), seed=st.integers(0, 99))
def test_eigenvalues_are_those_of_the_product_and_zeros(m: int, r: int, seed: int) -> None:
    factored = Factored(drawn(m, r, seed=seed), drawn(r, m, seed=seed + 1))
    wanted = np.concatenate([np.linalg.eigvals(factored.product().numpy()), np.zeros(r)])
    found = np.concatenate([factored.eigenvalues().numpy(), np.zeros(m)])
    for power in (1, 2, 3):  # power sums of all determine a set of numbers, in whatever order it comes
        assert (found**power).sum() == pytest.approx((wanted**power).sum(), abs=1e-9 * 40**power)
    assert np.sort(np.abs(found)) == pytest.approx(np.sort(np.abs(wanted)), abs=1e-6)


def test_a_norm_keeps_its_digits_where_the_factors_nearly_miss_each_other() -> None:
    Q = torch.linalg.qr(drawn(8, 8)).Q.float()
    left, right = Q[:, :2].mT @ torch.eye(8), Q[:, 2:4] + 1e-5 * Q[:, :2]
    wanted = (left.double() @ right.double()).norm()
    assert Factored(left, right).norm().item() == pytest.approx(wanted.item(), rel=1e-2)


@pytest.mark.parametrize("ranks", [(2, 3), (3, 2)])
def test_products_stay_factored_and_small(ranks: tuple[int, int]) -> None:
    one = Factored(drawn(4, 9, ranks[0]), drawn(4, ranks[0], 8, seed=1))
    other = Factored(drawn(8, ranks[1], seed=2), drawn(ranks[1], 7, seed=3))
    both = one @ other
    assert both.rank == 2 and both.shape == (4, 9, 7)
    torch.testing.assert_close(both.product(), one.product() @ other.product())
    dense = drawn(8, 5, seed=4)
    torch.testing.assert_close((one @ dense).product(), one.product() @ dense)
    dense = drawn(5, 9, seed=4)
    turned = dense @ one
    assert isinstance(turned, Factored)
    torch.testing.assert_close(turned.product(), dense @ one.product())


def test_leading_axes_are_indexed() -> None:
    many = Factored(drawn(3, 1, 5, 2), drawn(4, 2, 6, seed=1))
    dense = many.product()
    assert dense.shape == (3, 4, 5, 6)
    for index in (1, (2, 3), (slice(None), 0), (None, 1), slice(1, 3), (..., 1)[1:]):
        torch.testing.assert_close(many[index].product(), dense[index])
    with pytest.raises(UsageError, match="among its leading axes"):
        many[0, 0, 0]
    with pytest.raises(UsageError, match="among its leading axes"):
        many[3]


def test_what_is_computed_once_is_kept() -> None:
    factored = Factored(drawn(5, 2), drawn(2, 5))
    assert factored.svd() is factored.svd() and factored.eigenvalues() is factored.eigenvalues()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_factors_of_less_precision_are_widened(dtype: torch.dtype) -> None:
    left, right, other = drawn(6, 3).to(dtype), drawn(3, 6, seed=1).to(dtype), drawn(6, 6, seed=2).to(dtype)
    narrow, wide = Factored(left, right), Factored(left.float(), right.float())
    assert torch.equal(narrow.svd().S, wide.svd().S) and narrow.svd().S.dtype == torch.float32
    assert torch.equal(narrow.eigenvalues(), wide.eigenvalues()) and torch.equal(narrow.norm(), wide.norm())
    turned = other @ narrow
    assert isinstance(turned, Factored)
    assert torch.equal(turned.product(), other.float() @ left.float() @ right.float())
    assert torch.equal((narrow @ other).product(), left.float() @ (right.float() @ other.float()))
    assert Factored(left.double(), right.double()).left.dtype == torch.float64, "more precision stays"


def test_a_model_in_bf16_has_its_scores() -> None:
    model = lively().bfloat16()
    narrow = copying_score(full_ov(model, 1, 2))
    torch.testing.assert_close(narrow, copying_score(full_ov(model.float(), 1, 2)), rtol=0, atol=0.02)


def test_factors_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"factors of \[5, 2\] and \[3, 5\] have no product"):
        Factored(drawn(5, 2), drawn(3, 5))
    with pytest.raises(UsageError, match="leading axes that do not broadcast"):
        Factored(drawn(2, 5, 2), drawn(3, 2, 5))
    with pytest.raises(UsageError, match=r"a matrix of \[5, 4\] has no eigenvalues"):
        Factored(drawn(5, 2), drawn(2, 4)).eigenvalues()


ROTARY = {"positions": "rotary"}


@pytest.mark.parametrize(
    "fields",
    [{}, ROTARY, {**ROTARY, "rotary_fraction": 0.5}, {**ROTARY, "kv_heads": 2}, {"kv_heads": 1}, {"mup_base": 8}],
    ids=str,
)
def test_the_qk_circuit_of_each_distance_gives_the_scores_of_the_live_model(fields: dict[str, Any]) -> None:
    model = lively(**fields)
    seen = look(model, TOKENS, ["L1.resid.pre", "L1.attn.scores"])
    x, scores = seen["L1.resid.pre"], seen["L1.attn.scores"]
    scale = math.sqrt(8 / 4) / 4 if "mup_base" in fields else 1 / math.sqrt(4)
    for head in range(4):
        for distance in (0, 1, 5, T - 1):
            circuit = qk_circuit(model, 1, head, distance)
            assert circuit.shape == (16, 16) and circuit.rank == 4
            fit = torch.einsum("btd,de,bte->bt", x[:, distance:], circuit.product(), x[:, : T - distance])
            torch.testing.assert_close(scores[:, head].diagonal(-distance, 1, 2), fit * scale)


@pytest.mark.parametrize("fields", [{}, {"kv_heads": 2}, {"kv_heads": 1}], ids=str)
def test_the_ov_circuit_is_what_a_head_writes_of_the_place_it_looks_at(fields: dict[str, Any]) -> None:
    model = lively(**fields)

    def at_itself(pattern: Tensor) -> Tensor:
        return torch.eye(T, dtype=pattern.dtype).expand_as(pattern).clone()

    with model.tapped({"L1.attn.pattern": at_itself}):
        seen = look(model, TOKENS, ["L1.resid.pre", "L1.attn.head_out"])
    for head in range(4):
        written = seen["L1.resid.pre"] @ ov_circuit(model, 1, head).product()
        torch.testing.assert_close(seen["L1.attn.head_out"][:, :, head], written)


@pytest.mark.parametrize(
    "fields", [{}, {"tied": True}, {"scaled_embeddings": True, "tied": True}, {"mup_base": 8}], ids=str
)
def test_full_circuits_go_from_token_to_token(fields: dict[str, Any]) -> None:
    """In a model of one layer without positions, they are its scores and what its head adds to the logits."""
    model = lively(**fields, layers=1, heads=1, positions="none")
    every = torch.arange(V)[None]
    eye = torch.eye(V, dtype=torch.float64)[None, None]
    with torch.no_grad(), model.tapped({"L0.attn.pattern": lambda pattern: eye.clone()}):
        looking = model(every)[0]
        with model.tapped({"L0.attn.out": torch.zeros_like}):
            direct = model(every)[0]
    torch.testing.assert_close(full_ov(model, 0, 0).product(), looking - direct)
    scale = math.sqrt(8) / 16 if "mup_base" in fields else 1 / math.sqrt(16)
    scores = look(model, every, "L0.attn.scores")["L0.attn.scores"]
    torch.testing.assert_close(full_qk(model, 0, 0).product() * scale, scores[0, 0])


def test_circuits_are_nobody_elses() -> None:
    model = lively()
    for circuit in (qk_circuit(model, 0, 0), ov_circuit(model, 0, 0)):
        before = circuit.product().clone()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(2)
        assert torch.equal(circuit.product(), before) and not circuit.left.requires_grad


@settings(deadline=None, max_examples=25)
@given(m=st.integers(1, 9), n=st.integers(1, 9), count=st.integers(1, 12), chunk=st.integers(1, 40))
def test_top_pairs_are_the_largest_whatever_is_held_at_once(m: int, n: int, count: int, chunk: int) -> None:
    circuit = Factored(drawn(m, 2, seed=m), drawn(2, n, seed=n))
    dense = circuit.product()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuits, "CHUNK", chunk)
        pairs = top_pairs(circuit, count)
    assert [pair.value for pair in pairs] == pytest.approx(sorted(dense.flatten().tolist(), reverse=True)[:count])
    assert all(dense[pair.row, pair.column].item() == pytest.approx(pair.value) for pair in pairs)
    assert len({(pair.row, pair.column) for pair in pairs}) == len(pairs) == min(count, m * n)


def test_the_planted_induction_head_copies() -> None:
    model = planted(V, T)
    circuit = full_ov(model, 1, 0)
    torch.testing.assert_close(circuit.product(), CERTAIN * torch.eye(V))
    assert copying_score(circuit).item() == pytest.approx(1)
    assert {(pair.row, pair.column) for pair in top_pairs(circuit, V)} == {(token, token) for token in range(V)}
    for layer, head in ((0, 0), (0, 1), (1, 1)):
        assert full_ov(model, layer, head).norm() == 0
    assert copying_score(full_ov(model, 1, 1)).isnan()


def test_the_planted_heads_look_for_what_was_planted() -> None:
    """L1H0 matches its token with the token before: what L0H0 writes of a token, its key reads."""
    model = planted(V, T)
    sharp = SHARP * model.spec.head_width**0.5  # scores are divided by the root
    token, written = model.embed.W_E, model.embed.W_E @ ov_circuit(model, 0, 0).product()
    torch.testing.assert_close(token @ qk_circuit(model, 1, 0).product() @ written.mT, sharp * torch.eye(V))
    places = qk_circuit(model, 0, 0).product()[V : V + T, V : V + T]
    torch.testing.assert_close(places, sharp * torch.diag(torch.ones(T - 1), -1))
    assert full_qk(model, 1, 0).norm() == 0, "of tokens as they are embedded it sees nothing before them"


@pytest.mark.parametrize(
    ("matrix", "score"), [([[0.0, 1], [1, 0]], 0), ([[0.0, -1], [1, 0]], 0), ([[-3.0, 1], [0, -1]], -1)]
)
def test_copying_scores_of_matrices_whose_eigenvalues_are_known(matrix: list[list[float]], score: float) -> None:
    assert copying_score(Factored(torch.tensor(matrix), torch.eye(2))).item() == pytest.approx(score, abs=1e-6)


def test_after_plain_the_circuits_are_all_that_norms_leave() -> None:
    """With norms and biases, scores differ from x C yᵀ along a row only by what the key's own bias terms add."""
    model = plain(lively(norm="layer", biases=True))
    seen = look(model, TOKENS, ["L1.resid.pre", "L1.attn_norm.scale", "L1.attn.scores"])
    x = seen["L1.resid.pre"] / seen["L1.attn_norm.scale"]
    attention: Any = model.layers[1].attn
    for head in range(4):
        W_Q, W_K, b_Q, b_K = (
            weight.select(-2, head).detach() for weight in (attention.W_Q, attention.W_K, attention.b_Q, attention.b_K)
        )
        fit = x @ qk_circuit(model, 1, head).product() @ x.mT
        fit = fit + (x @ W_K @ b_Q)[:, None, :] + (x @ W_Q @ b_K)[:, :, None] + b_Q @ b_K
        torch.testing.assert_close(seen["L1.attn.scores"][:, head], fit / 2)


def test_what_is_asked_for_has_to_be_there() -> None:
    model = lively()
    with pytest.raises(UsageError, match="there is no layer 2: the model has 2, counted from 0"):
        ov_circuit(model, 2, 0)
    with pytest.raises(UsageError, match="there is no head -1: the model has 4"):
        full_qk(model, 0, -1)
    with pytest.raises(UsageError, match="distance = 12: within the context it is from 0 to 11"):
        qk_circuit(model, 0, 0, distance=T)
    with pytest.raises(UsageError, match="count = 0"):
        top_pairs(ov_circuit(model, 0, 0), 0)
    with pytest.raises(UsageError, match=r"of a circuit \[2, 3, 3\]"):
        top_pairs(Factored(drawn(2, 3, 1), drawn(1, 3)))
