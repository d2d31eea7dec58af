"""Discrete codes: the nearest is taken, entropies are those of the codes, errors fall with the size, weights too."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from etude.compress.clustering import clustered_numbers, used
from etude.compress.codec import Codec, entropy, nearest
from etude.compress.compressor import Compressor
from etude.compress.linear import as_matrix
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.methods.cluster_weight import ClusterWeight
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.product_quantisation import ProductQuantisation
from etude.compress.methods.quantise import Quantise
from etude.compress.methods.quantise_weight import QuantiseWeight
from etude.compress.methods.residual_quantisation import ResidualQuantisation
from etude.compress.uniform import best_step, number_of, value_of
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.seeds import stream
from etude.evals.recipes import Record
from etude.models.transformer import Transformer
from etude.train.recipes import Train


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(n: int = 400, width: int = 8, seed: int = 0) -> Tensor:
    return drawn(n, width, seed=seed) @ drawn(width, width, seed=seed + 1) + 5 * drawn(width, seed=seed + 2)


def lost(codec: Codec, data: Tensor) -> float:
    return float(((data - codec(data)).double() ** 2).sum())


def bits_of(code: np.ndarray) -> float:
    """Return the sum of the entropies of the columns, counted by numpy."""
    return sum(float(scipy.stats.entropy(np.unique(column, return_counts=True)[1], base=2)) for column in code.T)


class Told(Draft):
    """A draft that keeps what it is told."""

    def __init__(self, folder: Path, train: Train) -> None:
        self.lines: list[str] = []
        super().__init__(folder / "fit.partial", Record(train, "L0.attn.out").resolve(), say=self.lines.append)


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Told:
    return Told(tmp_path, trained)


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory, trained: Train) -> Told:
    return Told(tmp_path_factory.mktemp("fits"), trained)


# What they share


@pytest.mark.parametrize("far", [0.0, 3e4])
def test_the_nearest_is_found_far_from_zero_too(far: float) -> None:
    x, centres = drawn(500, 6) + far, drawn(20, 6, seed=1) + far
    assert torch.equal(nearest(x, centres), torch.cdist(x.double(), centres.double()).argmin(1))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any))
def test_the_entropy_is_scipys(counts: list[int]) -> None:
    frequency = torch.tensor(counts).double() / sum(counts)
    found = float(entropy(frequency))
    assert found == pytest.approx(scipy.stats.entropy(counts, base=2), abs=1e-12)
    assert 0 <= found <= math.log2(len(counts)) + 1e-12


@pytest.mark.parametrize(
    "method",
    [
        lambda size: Kmeans(4**size),
        lambda size: ProductQuantisation(4**size, parts=2),
        lambda size: ResidualQuantisation(size, codes=8),
        lambda size: Quantise(2 * size),
        lambda size: QuantiseWeight(2 * size),
        lambda size: QuantiseWeight(2 * size, scaled="weight"),
        lambda size: ClusterWeight(4**size),
    ],
)
def test_errors_fall_with_the_size(method: Callable[[int], Method], run: Told) -> None:
    data = correlated()
    errors = [lost(method(size).fit(Material(data), 0, run), data) for size in (1, 2, 3)]
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2] > 0


@pytest.mark.parametrize(
    "method",
    [Kmeans(16), ProductQuantisation(16, parts=3), ResidualQuantisation(3, codes=16), Quantise(5)],
)
def test_bits_are_the_entropies_of_the_codes_that_it_gives(method: Method, run: Told) -> None:
    data = correlated()
    codec = method.fit(Material(data), 0, run)
    code = codec.encode(data).reshape(len(data), -1).numpy()
    assert codec.cost().bits == pytest.approx(bits_of(code), abs=1e-4)
    assert codec.cost().dimensions is None


KINDS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 4.0]])


@pytest.mark.parametrize(
    ("method", "unused", "of"),
    [(Kmeans(8), 5, 8), (ProductQuantisation(8, parts=2), 12, 16), (ClusterWeight(7), 4, 7)],
)
def test_codes_that_nothing_uses_are_told_of(method: Method, unused: int, of: int, run: Told) -> None:
    data = KINDS.repeat(20, 1)
    codec = method.fit(Material(data), 0, run)
    torch.testing.assert_close(codec(data), data, atol=1e-5, rtol=0)
    assert run.notes == {"unused_codes": unused}
    assert [line.partition(": ")[2] for line in run.lines] == [
        f"{unused} of {of} codes are used by nothing that they were fitted to"
    ]


@pytest.mark.parametrize("method", [Kmeans(3), ProductQuantisation(2, parts=2), ClusterWeight(3)])
def test_nothing_is_told_where_all_codes_are_used(method: Method, run: Told) -> None:
    data = KINDS.repeat(20, 1)
    torch.testing.assert_close(method.fit(Material(data), 0, run)(data), data, atol=1e-5, rtol=0)
    assert not run.lines and not run.notes


# Product quantisation


def test_each_part_is_k_means_of_its_own(run: Told) -> None:
    data = correlated(300, 8)
    codec = ProductQuantisation(6, parts=2).fit(Material(data), 3, run)
    for number, part in enumerate(data.split(4, 1)):
        alone = Kmeans(6).fit(Material(part), stream(3, "part", number), run)
        assert torch.equal(codec.encode(data)[:, number], alone.encode(part))
        assert torch.equal(codec(data).split(4, 1)[number], alone(part))


def test_parts_that_do_not_divide_the_width_differ_by_one(run: Told) -> None:
    data = correlated(300, 8)
    codec = ProductQuantisation(300, parts=3).fit(Material(data), 0, run)
    assert codec.encode(data).shape == (300, 3)
    torch.testing.assert_close(codec(data), data, atol=1e-4, rtol=0)


def test_a_planted_product_needs_few_codes(run: Told) -> None:
    """Four values in each half, in every combination: four codes a half say all, four for the whole do not."""
    left, right = 3 * drawn(4, 3), 3 * drawn(4, 3, seed=1)
    both = torch.cat((left.repeat(4, 1), right.repeat_interleave(4, 0)), 1)
    data = both.repeat(10, 1)
    codec = ProductQuantisation(4, parts=2).fit(Material(data), 0, run)
    torch.testing.assert_close(codec(data), data, atol=1e-4, rtol=0)
    assert codec.cost().bits == pytest.approx(4)
    assert codec.cost().parameters == 4 * 6
    assert lost(Kmeans(4).fit(Material(data), 0, run), data) > 100


# Residual quantisation


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_another_stage_never_loses_more_on_what_it_was_fitted_to(anywhere: Told, data: st.DataObject) -> None:
    """Also where all is said after a few stages and only rounding is left."""
    tokens, width = data.draw(st.integers(8, 40)), data.draw(st.integers(1, 4))
    codes, seed = data.draw(st.integers(2, 8)), data.draw(st.integers(0, 100))
    x = drawn(tokens, width, seed=seed) * 10.0 ** data.draw(st.integers(-6, 6)) + data.draw(st.sampled_from([0, 1e3]))
    x = x[: data.draw(st.integers(1, 8))].repeat(8, 1) if data.draw(st.booleans()) else x
    whole = ResidualQuantisation(6, codes=codes).fit(Material(x), seed, anywhere)
    errors = [float((x.double() ** 2).sum())]
    for stage in range(1, 7):
        smaller = type(whole)(whole.get_buffer("centres")[:stage], whole.get_buffer("frequency")[:stage])
        errors.append(lost(smaller, x))
    rounding = 1e-12 * errors[0]
    assert all(after <= before * (1 + 1e-5) + rounding for before, after in pairwise(errors))


def test_the_first_stages_of_more_are_those_of_fewer(run: Told) -> None:
    data = correlated()
    few, many = (ResidualQuantisation(n, codes=8).fit(Material(data), 5, run) for n in (2, 4))
    assert torch.equal(many.get_buffer("centres")[:2], few.get_buffer("centres"))
    assert torch.equal(many.encode(data)[:, :2], few.encode(data))
    first = Kmeans(8).fit(Material(data), stream(5, "stage", 0), run)
    assert torch.equal(first.get_buffer("centres"), few.get_buffer("centres")[0])


def test_a_stage_that_finds_nothing_more_adds_nothing(run: Told) -> None:
    data = KINDS.repeat(20, 1)
    codec = ResidualQuantisation(3, codes=3).fit(Material(data), 0, run)
    assert not codec.get_buffer("centres")[1:].any()
    assert codec.cost().bits == pytest.approx(math.log2(3), abs=1e-6)
    torch.testing.assert_close(codec(data), data, atol=1e-6, rtol=0)


def test_a_planted_sum_is_found_in_two_stages(run: Told) -> None:
    coarse, fine = 100 * drawn(4, 5), drawn(4, 5, seed=1)
    fine = fine - fine.mean(0)
    data = (coarse[:, None] + fine[None]).reshape(16, 5).repeat(5, 1)
    codec = ResidualQuantisation(2, codes=4).fit(Material(data), 0, run)
    torch.testing.assert_close(codec(data), data, atol=1e-4, rtol=0)
    assert codec.cost().bits == pytest.approx(4, abs=1e-5)


# Evenly spaced values


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_the_nearest_of_the_values_is_taken(bits: int) -> None:
    x, step = 3 * drawn(200, 3), torch.tensor([0.1, 0.5, 2.0])
    values = (torch.arange(2**bits) - 2 ** (bits - 1) + 0.5)[:, None] * step
    wanted = values.gather(0, (x[:, None] - values[None]).abs().argmin(1))
    assert torch.equal(value_of(number_of(x, step, bits), step), wanted)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("tail", [1.0, 3.0])
def test_the_step_is_near_the_best_there_is(bits: int, tail: float) -> None:
    data = drawn(2000, 2).sign() * drawn(2000, 2).abs() ** tail
    step = best_step(data, bits)
    reach = data.abs().amax(0) * 2 / (2**bits - 1)

    def error(step: Tensor) -> Tensor:
        return ((value_of(number_of(data, step, bits), step) - data) ** 2).sum(0)

    tried = torch.stack([error(reach * share) for share in np.linspace(0.005, 1.1, 600)])
    assert (error(step) <= 1.05 * tried.amin(0)).all()
    assert (error(step) <= error(reach)).all()


@pytest.mark.parametrize("method", [Quantise(1), QuantiseWeight(1)])
def test_one_bit_is_enough_for_two_values(method: Method, run: Told) -> None:
    data = drawn(100, 4).sign() * torch.tensor([1.0, 3.0, 0.01, 50.0])
    data = torch.cat((data, -data))  # so that the mean is zero
    torch.testing.assert_close(method.fit(Material(data), 0, run)(data), data, rtol=1e-6, atol=0)


def test_a_dimension_that_does_not_vary_takes_no_bits(run: Told) -> None:
    data = torch.cat((torch.full((500, 1), 0.1), drawn(500, 1)), 1)
    codec = Quantise(3).fit(Material(data), 0, run)
    assert torch.equal(codec(data)[:, 0], data[:, 0])
    assert codec.get_buffer("entropy")[0] == 0 < codec.get_buffer("entropy")[1] <= 3


def test_what_lies_beyond_is_held_as_the_last_value(run: Told) -> None:
    data = drawn(500, 2)
    codec = Quantise(4).fit(Material(data), 0, run)
    far = codec(torch.tensor([[1e4, -1e4]]))
    assert far.abs().max() < 10
    assert torch.equal(codec.encode(torch.tensor([[1e4, -1e4]])), torch.tensor([[7, -8]], dtype=torch.int8))


def test_eight_bits_change_next_to_nothing(run: Told) -> None:
    data = correlated()
    for method in (Quantise(8), QuantiseWeight(8)):
        assert lost(method.fit(Material(data), 0, run), data) < 1e-4 * float((data**2).sum())


@pytest.mark.parametrize("make", [Quantise, QuantiseWeight])
def test_more_than_eight_bits_are_refused(make: Callable[[int], Method]) -> None:
    with pytest.raises(UsageError, match=r"\.bits = 9 does not fit: a number has 8 bits at most; choose 1 to 8"):
        make(9)


# Weights


def test_a_weights_storage_is_its_bits_and_its_scales(run: Told) -> None:
    weight = drawn(6, 5)
    each, one = (QuantiseWeight(3, scaled=scaled).fit(Material(weight), 0, run) for scaled in ("output", "weight"))
    assert (each.cost().storage, one.cost().storage) == (3 * 30 + 32 * 5, 3 * 30 + 32)
    assert (each.cost().parameters, one.cost().parameters) == (35, 31)
    assert each.cost().bits is None and each.cost().dimensions is None
    clusters = ClusterWeight(4).fit(Material(weight), 0, run).cost()
    assert (clusters.storage, clusters.parameters, clusters.bits) == (2 * 30 + 32 * 4, 34, None)


def test_outputs_of_different_scale_are_rounded_each_by_itself(run: Told) -> None:
    weight = drawn(50, 4)
    scales = torch.tensor([1.0, 1024.0, 2**-10, 1.0])
    plain, scaled = (QuantiseWeight(3).fit(Material(w), 0, run)(w) for w in (weight, weight * scales))
    assert torch.equal(scaled, plain * scales)
    whole = QuantiseWeight(3, scaled="weight").fit(Material(weight * scales), 0, run)(weight * scales)
    assert whole[:, 2].abs().min() > weight[:, 2].abs().max() / 1024 * 10  # the smallest output is drowned


@pytest.mark.parametrize("codes", [1, 2, 16, 40])
def test_clusters_of_numbers_are_as_good_as_scikit_learns(codes: int) -> None:
    numbers = drawn(3000) * drawn(3000, seed=1)
    centres = clustered_numbers(numbers, codes, 1000)
    inertia = float(((numbers[:, None] - centres).abs().amin(1) ** 2).sum())
    lloyd: Any = KMeans  # whose annotations are narrower than what it takes
    theirs = lloyd(codes, n_init=3, max_iter=1000, tol=0, random_state=0).fit(numbers[:, None].numpy())
    assert inertia <= 1.1 * theirs.inertia_
    begun = lloyd(codes, init=centres[:, None].numpy(), n_init=1, tol=0).fit(numbers[:, None].numpy())
    torch.testing.assert_close(torch.from_numpy(begun.cluster_centers_[:, 0]), centres, atol=1e-5, rtol=0)


@pytest.mark.parametrize("codes", [256, 300])
def test_as_many_clusters_as_numbers_change_nothing(codes: int, run: Told) -> None:
    weight = drawn(codes // 4, 4)
    codec = ClusterWeight(codes).fit(Material(weight), 0, run)
    torch.testing.assert_close(codec(weight), weight, atol=1e-6, rtol=0)
    assert codec.get_buffer("numbers").dtype == (torch.uint8 if codes == 256 else torch.int32)


@pytest.mark.parametrize("method", [QuantiseWeight(8), ClusterWeight(256)])
@pytest.mark.parametrize("site", ["L0.attn.W_Q", "L1.mlp.W_out"])
def test_an_installed_model_holds_the_rounded_weight(site: str, method: Method, model: Transformer, run: Told) -> None:
    path = "layers.0.attn.W_Q" if "attn" in site else "layers.1.mlp.W_out"
    weight = as_matrix(site, model.get_parameter(path).detach())
    codec = method.fit(Material(weight), 0, run)
    installed = Compressor.of(site, codec).installed(model)
    assert torch.equal(as_matrix(site, installed.get_parameter(path)), codec.decode(codec.encode(weight)))
    torch.testing.assert_close(as_matrix(site, installed.get_parameter(path)), weight, atol=5e-2, rtol=0)


def test_frequencies_are_counted_exactly() -> None:
    assert torch.equal(used(torch.tensor([[0, 2], [2, 2]]), 4), torch.tensor([0.25, 0, 0.75, 0]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ProductQuantisation(parts=0), "product-quantisation parts 0, iterations 30"),
        (lambda: ResidualQuantisation(codes=1), "residual-quantisation codes 1, iterations 30"),
        (lambda: ClusterWeight(iterations=0), "cluster-weight.iterations = 0 is too few"),
    ],
)
def test_choices_that_cannot_be_are_refused(make: Callable[[], Method], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (ProductQuantisation(4, parts=9), "product-quantisation.parts = 9 does not fit"),
        (ResidualQuantisation(1, codes=401), "residual-quantisation.codes = 401 does not fit: there are 400 recorded"),
        (ResidualQuantisation(65, codes=16), "residual-quantisation.stages = 65 does not fit.* choose 1 to 64"),
        (ClusterWeight(3201), "cluster-weight.codes = 3201 does not fit: there are 3200 numbers"),
    ],
)
def test_sizes_beyond_the_data_are_refused(method: Method, words: str, run: Told) -> None:
    with pytest.raises(UsageError, match=words):
        method.fit(Material(correlated()), 0, run)
