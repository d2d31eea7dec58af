"""Methods that are linear: closed forms against brute force, and planted ranks found."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.low_rank import principal_outputs, reduced_rank_regression, second_moment
from etude.compress.material import Material
from etude.compress.methods.activation_svd import ActivationSvd
from etude.compress.methods.pca import Pca
from etude.compress.methods.reduced_rank import ReducedRank
from etude.compress.methods.svd import Svd
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.train.recipes import Train


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(n: int, width: int, rank: int, seed: int = 0) -> Tensor:
    return drawn(n, rank, seed=seed) @ drawn(rank, width, seed=seed + 1) + 3 * drawn(width, seed=seed + 2)


def error(x: Tensor, weight: Tensor, codec: Codec) -> float:
    """Return the mean squared error of what a weight writes."""
    return float(((x.double() @ (weight - codec(weight)).double()) ** 2).sum() / len(x))


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory, trained: Train) -> Draft:
    return Draft(tmp_path_factory.mktemp("fits") / "fit.partial", Record(trained, "L0.attn.out").resolve())


def weight_material(weight: Tensor, inputs: Tensor | None) -> Material:
    return Material(weight, Site("L0.attn.W_O"), inputs)


# The weight of lower rank that is least wrong on what it reads


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_never_worse_than_plain_svd_on_what_it_was_fitted_to(anywhere: Draft, data: st.DataObject) -> None:
    """Also where few tokens, or inputs that hang together, leave the covariance singular."""
    m, n, tokens = (data.draw(st.integers(low, high)) for low, high in ((1, 9), (1, 9), (1, 40)))
    rank, seed = data.draw(st.integers(1, min(m, n))), data.draw(st.integers(0, 1000))
    spread = 10.0 ** (data.draw(st.integers(0, 3)) * torch.linspace(-1, 1, m))
    x = low_rank(tokens, m, data.draw(st.integers(1, m)), seed) * spread
    weight = drawn(m, n, seed=seed + 5)
    ours = error(x, weight, ActivationSvd(rank).fit(weight_material(weight, x), 0, anywhere))
    plain = error(x, weight, Svd(rank).fit(weight_material(weight, None), 0, anywhere))
    whole = float(((x @ weight).double() ** 2).sum() / len(x))
    assert ours <= plain * (1 + 1e-6) + 1e-10 * (whole + float((x**2).sum() * (weight**2).sum()) / len(x))


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("tokens", [4, 500])
def test_its_error_is_the_tail_of_the_singular_values_of_the_outputs(rank: int, tokens: int, run: Draft) -> None:
    x, weight = drawn(tokens, 10) @ drawn(10, 10, seed=1) + 1, drawn(10, 7, seed=2)
    tail = np.linalg.svd(x.double().numpy() @ weight.double().numpy(), compute_uv=False)[rank:]
    codec = ActivationSvd(rank).fit(weight_material(weight, x), 0, run)
    whole = float(((x @ weight) ** 2).sum()) / tokens
    assert error(x, weight, codec) == pytest.approx((tail**2).sum() / tokens, rel=1e-5, abs=1e-11 * whole)
    assert torch.linalg.matrix_rank(codec(weight)) == rank


def test_no_matrix_of_its_rank_near_it_does_better(run: Draft) -> None:
    x, weight = drawn(200, 6) @ drawn(6, 6, seed=1), drawn(6, 5, seed=2)
    codec = ActivationSvd(2).fit(weight_material(weight, x), 0, run)
    best = error(x, weight, codec)
    for seed in range(50):
        left, right = (codec.get_buffer(name) for name in ("left", "right"))
        other = (left + 0.01 * drawn(6, 2, seed=seed)) @ (right + 0.01 * drawn(2, 5, seed=seed + 50))
        assert float(((x @ (weight - other)).double() ** 2).sum() / 200) > best


@pytest.mark.parametrize("tokens", [3, 300])
def test_full_rank_changes_nothing_even_where_nothing_was_seen(tokens: int, run: Draft) -> None:
    weight = drawn(6, 9)
    codec = ActivationSvd(6).fit(weight_material(weight, drawn(tokens, 6, seed=1)), 0, run)
    torch.testing.assert_close(codec(weight), weight, atol=1e-5, rtol=0)


def test_what_the_weight_never_reads_costs_nothing(run: Draft) -> None:
    """Inputs 4 to 9 are always zero, and there the weight is greatest, so plain SVD spends its rank on them."""
    x = torch.cat((drawn(300, 4), torch.zeros(300, 6)), 1)
    weight = torch.cat((low_rank(4, 8, 2, seed=1) - 3 * drawn(8, seed=3), 50 * drawn(6, 8, seed=9)))
    assert torch.linalg.matrix_rank(weight[:4]) == 2
    ours = error(x, weight, ActivationSvd(2).fit(weight_material(weight, x), 0, run))
    plain = error(x, weight, Svd(2).fit(weight_material(weight, None), 0, run))
    assert ours < 1e-9 < 1 < plain


def test_where_nothing_was_read_it_is_plain_svd(run: Draft) -> None:
    weight = drawn(8, 6)
    ours = ActivationSvd(3).fit(weight_material(weight, torch.zeros(20, 8)), 0, run)
    torch.testing.assert_close(
        ours(weight), Svd(3).fit(weight_material(weight, None), 0, run)(weight), atol=1e-5, rtol=0
    )


def test_inputs_of_equal_variance_give_plain_svd(run: Draft) -> None:
    weight, q = drawn(8, 6), torch.linalg.qr(drawn(40, 8, seed=1)).Q
    ours = ActivationSvd(2).fit(weight_material(weight, q), 0, run)
    torch.testing.assert_close(ours(weight), Svd(2).fit(weight_material(weight, None), 0, run)(weight))


def test_the_second_moment_is_gathered_in_pieces() -> None:
    x = drawn(20000, 3) + 100
    wide = x.double().numpy()
    np.testing.assert_allclose(second_moment(x).numpy(), wide.T @ wide / 20000, rtol=1e-12)


def test_the_squares_of_the_principal_outputs_are_what_they_hold() -> None:
    x, weight = drawn(100, 5), drawn(5, 4, seed=1)
    directions, squares = principal_outputs(weight, second_moment(x))
    held = ((x.double() @ weight.double() @ directions) ** 2).mean(0)
    torch.testing.assert_close(squares, held, rtol=1e-9, atol=1e-9)
    assert (squares.diff() <= 0).all()


@pytest.mark.parametrize(("inputs", "words"), [(None, "shape None"), (drawn(20, 5), r"shape \(20, 5\)")])
def test_a_weight_without_what_it_reads_is_refused(inputs: Tensor | None, words: str, run: Draft) -> None:
    with pytest.raises(UsageError, match=rf"activation-svd: inputs of {words} for a weight of \(8, 6\); give"):
        ActivationSvd(2).fit(weight_material(drawn(8, 6), inputs), 0, run)


# Reduced-rank regression


def lost(codec: Codec, x: Tensor, y: Tensor) -> float:
    return float(((codec(x) - y).double() ** 2).sum())


def alternating(x: np.ndarray, y: np.ndarray, rank: int, seed: int) -> float:
    """Return the least squared error of a product of two factors, by fitting each in turn from a random start."""
    x, y = x - x.mean(0), y - y.mean(0)
    up = np.random.default_rng(seed).standard_normal((rank, y.shape[1]))
    down = np.zeros((x.shape[1], rank))
    for _ in range(300):
        down = np.linalg.lstsq(x, y @ np.linalg.pinv(up), rcond=None)[0]
        up = np.linalg.lstsq(x @ down, y, rcond=None)[0]
    return float(((y - x @ down @ up) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_reduced_rank_regression_is_what_brute_force_finds(rank: int, run: Draft) -> None:
    x = drawn(80, 6) @ drawn(6, 6, seed=1) + 5
    y = x @ drawn(6, 5, seed=2) + 2 * drawn(80, 5, seed=3) - 4
    found = lost(ReducedRank(rank).fit(Material(y, inputs=x), 0, run), x, y)
    tried = [alternating(x.double().numpy(), y.double().numpy(), rank, seed) for seed in range(4)]
    assert found == pytest.approx(min(tried), rel=1e-5)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_full_rank_is_scikit_learns_regression(ridge: float, run: Draft) -> None:
    x, y = drawn(50, 4) * 2 + 1, drawn(50, 6, seed=1) + 7
    alpha = ridge * 50 * float(x.double().var(0, correction=0).mean())
    theirs = (Ridge(alpha) if ridge else LinearRegression()).fit(x.double().numpy(), y.double().numpy())
    ours = ReducedRank(4, ridge=ridge).fit(Material(y, inputs=x), 0, run)
    np.testing.assert_allclose(ours(x).numpy(), theirs.predict(x.double().numpy()), atol=1e-4)


def test_a_ridge_is_regression_with_rows_that_ask_for_zero() -> None:
    """Data to which √(penalty) times the identity is added, with outputs of zero, have the penalised error."""
    x, y = drawn(40, 5).double(), drawn(40, 4, seed=1).double()
    x, y = x - x.mean(0), y - y.mean(0)
    penalty = 0.5 * float((x**2).mean()) * 40
    more = torch.cat((x, math.sqrt(penalty) * torch.eye(5, dtype=torch.float64)))
    fitted = more @ torch.linalg.lstsq(more, torch.cat((y, torch.zeros(5, 4)))).solution
    v = torch.linalg.svd(fitted).Vh[:2].T
    wanted = torch.linalg.lstsq(more, torch.cat((y, torch.zeros(5, 4)))).solution @ v @ v.T
    _, _, down, up = reduced_rank_regression(x, y, 2, ridge=0.5)
    torch.testing.assert_close(down @ up, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("more", ["copy", "constant", "few"])
def test_inputs_that_hang_together_are_no_harm(more: str, run: Draft) -> None:
    tokens = 4 if more == "few" else 60
    x, y = drawn(tokens, 5), drawn(tokens, 3, seed=1)
    extra = {"copy": 3 * x[:, :2], "constant": torch.full((tokens, 2), 7.0), "few": drawn(tokens, 2, seed=2)}
    x = torch.cat((x, extra[more]), 1)
    wide = torch.cat((x, torch.ones(tokens, 1)), 1).double().numpy()
    theirs = np.linalg.lstsq(wide, y.double().numpy(), rcond=1e-6)[0]  # a copy in fp32 is one up to rounding
    codec = ReducedRank(3).fit(Material(y, inputs=x), 0, run)
    assert lost(codec, x, y) == pytest.approx(float(((wide @ theirs - y.numpy()) ** 2).sum()), rel=1e-6, abs=1e-6)
    assert codec(drawn(5, 7)).abs().max() < 100


def test_the_numbers_of_its_code_are_the_principal_components_of_the_guess(run: Draft) -> None:
    x = drawn(500, 6) + 2
    y = x @ drawn(6, 6, seed=2) + drawn(500, 6, seed=3)
    code = ReducedRank(4).fit(Material(y, inputs=x), 0, run).encode(x).double()
    spread = code.T @ code / 500
    assert code.mean(0).abs().max() < 1e-4
    assert (spread.diagonal().diff() < 0).all()
    assert (spread - spread.diagonal().diag()).abs().max() < 1e-4 * spread.max()


def test_more_data_than_a_piece_is_read_whole() -> None:
    x = drawn(20000, 3)
    y = x @ drawn(3, 2, seed=1) + torch.linspace(0, 1, 20000)[:, None]
    x0, y0, down, up = reduced_rank_regression(x, y, 2)
    theirs = LinearRegression().fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose((down @ up).T.numpy(), theirs.coef_, atol=1e-6)
    np.testing.assert_allclose((y0 - x0 @ down @ up).numpy(), theirs.intercept_, atol=1e-6)


def test_a_component_without_its_inputs_is_refused(run: Draft) -> None:
    with pytest.raises(UsageError, match="reduced-rank: None inputs for 8 outputs; give"):
        ReducedRank(2).fit(Material(drawn(8, 6)), 0, run)
    with pytest.raises(UsageError, match="reduced-rank: 7 inputs for 8 outputs; give"):
        ReducedRank(2).fit(Material(drawn(8, 6), inputs=drawn(7, 6)), 0, run)


def test_a_ridge_that_is_no_penalty_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reduced-rank\.ridge = -0\.1 is no penalty: it is 0 or more"):
        ReducedRank(2, ridge=-0.1)


# Planted ranks


def lost_by_pca(rank: int, run: Draft) -> float:
    y = low_rank(400, 7, 3)
    guess = Pca(rank).fit(Material(y), 0, run)(y)
    return float(((guess - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


def lost_by_regression(rank: int, run: Draft) -> float:
    x = drawn(400, 8) + 1
    y = x @ drawn(8, 3, seed=1) @ drawn(3, 7, seed=2) + 5
    guess = ReducedRank(rank).fit(Material(y, inputs=x), 0, run)(x)
    return float(((guess - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


def lost_by_activation_svd(rank: int, run: Draft) -> float:
    """The weight is of full rank, and what it reads has three dimensions."""
    x, weight = drawn(400, 3) @ drawn(3, 8, seed=1), drawn(8, 7, seed=2)
    codec = ActivationSvd(rank).fit(weight_material(weight, x), 0, run)
    return error(x, weight, codec) / float(((x @ weight) ** 2).sum() / 400)


@pytest.mark.parametrize("lost", [lost_by_pca, lost_by_regression, lost_by_activation_svd])
def test_a_planted_rank_is_found(lost: Callable[[int, Draft], float], run: Draft) -> None:
    found = [lost(rank, run) for rank in range(1, 7)]
    assert min(found[:2]) > 1e-2
    assert max(found[2:]) < 1e-9
