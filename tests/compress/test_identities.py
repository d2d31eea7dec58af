"""What must hold exactly: full rank changes nothing, the mean explains nothing, and the closed forms of each method."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from etude.compress.codec import Codec
from etude.compress.compressor import Compressor
from etude.compress.explained import Explained
from etude.compress.linear import as_matrix
from etude.compress.material import Material
from etude.compress.methods.base import Method
from etude.compress.methods.kmeans import Kmeans
from etude.compress.methods.mean import Mean
from etude.compress.methods.pca import Pca
from etude.compress.methods.random import Random
from etude.compress.methods.svd import Svd
from etude.compress.methods.zero import Zero
from etude.compress.score import Host, harm
from etude.core.errors import UsageError
from etude.core.run import Draft
from etude.core.site import Site
from etude.evals.recipes import Record
from etude.evals.recording import as_vectors
from etude.models.transformer import Transformer
from etude.nn.look import look
from etude.text.batches import Examples
from etude.train.recipes import Train

Split = tuple[Examples, np.ndarray]


def correlated(n: int = 400, width: int = 12, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, width, generator=draw) @ torch.randn(width, width, generator=draw)
    return mixed + 5 * torch.randn(width, generator=draw)


def share(codec: Codec, data: Tensor) -> float:
    """Return the share of variance that a codec keeps."""
    explained = Explained()
    for piece in data.split(150):
        explained.add(piece, codec(piece))
    assert explained.share is not None
    return explained.share


@pytest.fixture
def run(tmp_path: Path, trained: Train) -> Draft:
    return Draft(tmp_path / "fit.partial", Record(trained, "L0.attn.out").resolve())


# Put in at a site


@pytest.mark.parametrize("site", ["L0.attn.out", "L1.mlp.out", "L1.resid.pre", "L0.attn.z", "L1.attn.q"])
def test_full_rank_pca_changes_nothing(site: str, model: Transformer, held_out: Split, run: Draft) -> None:
    examples, windows = held_out
    seen = as_vectors(site, look(model, torch.from_numpy(examples.batch(windows).inputs), site)[Site(site)])
    codec = Pca(seen.shape[-1]).fit(Material(seen.flatten(0, 1)), 0, run)
    found = harm(Host(model, examples, windows), Compressor.of(site, codec)).to_json()
    assert abs(found["increase"]["mean"]) < 1e-5 and abs(found["kl"]["mean"]) < 1e-6
    assert found["loss"]["mean"] == pytest.approx(found["clean_loss"]["mean"], abs=1e-5)
    assert found["explained"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("site", ["L0.attn.W_Q", "L0.attn.W_O", "L1.mlp.W_in", "L1.mlp.W_out", "unembed.W_U"])
def test_full_rank_svd_changes_nothing(site: str, model: Transformer, held_out: Split, run: Draft) -> None:
    weight = as_matrix(site, model.get_parameter(Site(site).path).detach())
    codec = Svd(min(weight.shape)).fit(Material(weight), 0, run)
    torch.testing.assert_close(codec(weight), weight, atol=1e-5, rtol=0)
    found = harm(Host(model, *held_out), Compressor.of(site, codec)).to_json()
    assert abs(found["increase"]["mean"]) < 1e-5
    assert found["explained"] == pytest.approx(1, abs=1e-6)


def test_a_head_is_no_part_of_the_matrix_of_another_axis(model: Transformer) -> None:
    """The matrix of a weight maps as the weight does, heads and head width together."""
    x, z = torch.randn(5, 16), torch.randn(5, 2, 8)
    q, o = model.get_parameter("layers.0.attn.W_Q"), model.get_parameter("layers.0.attn.W_O")
    torch.testing.assert_close(x @ as_matrix("L0.attn.W_Q", q), torch.einsum("nd,dhk->nhk", x, q).flatten(1))
    torch.testing.assert_close(z.flatten(1) @ as_matrix("L0.attn.W_O", o), torch.einsum("nhk,hkd->nd", z, o))


def test_zero_is_zero_ablation(model: Transformer, held_out: Split, run: Draft) -> None:
    examples, windows = held_out
    tokens = torch.from_numpy(examples.batch(windows).inputs)
    codec = Zero().fit(Material(torch.randn(20, 16)), 0, run)
    with model.tapped({"L1.attn.out": torch.zeros_like}):
        ablated = model(tokens)
    with model.tapped({"L1.attn.out": codec}):
        assert torch.equal(model(tokens), ablated)


# On data


def test_the_mean_explains_nothing(run: Draft) -> None:
    data = correlated()
    codec = Mean().fit(Material(data), 0, run)
    assert abs(share(codec, data)) < 1e-9
    # About zero, the same guess would seem to explain nearly everything.
    flattered = 1 - ((data - codec(data)) ** 2).sum() / (data**2).sum()
    assert flattered > 0.5


def test_nothing_is_explained_where_nothing_varies(run: Draft) -> None:
    data = torch.full((1000, 6), 0.1)
    explained = Explained()
    explained.add(data, Mean().fit(Material(data), 0, run)(data))
    assert explained.share is None and Explained().share is None


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_of_svd_is_the_tail(rank: int, run: Draft) -> None:
    weight = correlated(20, 9)
    codec = Svd(rank).fit(Material(weight), 0, run)
    tail = math.sqrt(float((torch.linalg.svdvals(weight.double())[rank:] ** 2).sum()))
    error = float(torch.linalg.norm(weight.double() - codec.decode(codec.encode(weight)).double()))
    assert error == pytest.approx(tail, rel=1e-6)
    assert torch.linalg.matrix_rank(codec(weight)) == rank


@pytest.mark.parametrize("dimensions", [1, 4, 12])
def test_pca_agrees_with_scikit_learn(dimensions: int, run: Draft) -> None:
    data = correlated()
    codec = Pca(dimensions).fit(Material(data), 0, run)
    theirs = PCA(dimensions, svd_solver="full").fit(data.double().numpy())
    assert share(codec, data) == pytest.approx(float(theirs.explained_variance_ratio_.sum()), abs=1e-6)
    variances = torch.linalg.eigvalsh(torch.cov(data.double().T)).flip(0)
    assert share(codec, data) == pytest.approx(float(variances[:dimensions].sum() / variances.sum()), abs=1e-6)
    back = torch.from_numpy(theirs.inverse_transform(theirs.transform(data.double().numpy())))
    torch.testing.assert_close(codec(data).double(), back, atol=1e-4, rtol=0)
    torch.testing.assert_close(codec.encode(data).abs(), torch.from_numpy(theirs.transform(data.numpy())).abs().float())


def test_pca_of_fewer_samples_than_dimensions(run: Draft) -> None:
    data = correlated(5, 12)
    assert share(Pca(4).fit(Material(data), 0, run), data) == pytest.approx(1, abs=1e-6)


def test_principal_directions_have_one_sign(run: Draft) -> None:
    """The opposite direction is as good, and which one a library returns differs between machines."""
    down = Pca(12).fit(Material(correlated()), 0, run).get_buffer("down")
    assert (down.gather(0, down.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("dimensions", [2, 8, 15])
def test_a_random_subspace_explains_its_part_of_isotropic_data(dimensions: int, run: Draft) -> None:
    data = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)) + 3
    for seed in range(3):
        codec = Random(dimensions).fit(Material(data), seed, run)
        assert share(codec, data) == pytest.approx(dimensions / 16, abs=0.02)
        basis = codec.get_buffer("down")
        torch.testing.assert_close(basis.T @ basis, torch.eye(dimensions), atol=1e-5, rtol=0)


def test_random_subspaces_are_uniform(run: Draft) -> None:
    """Averaged over draws, the projection on a uniform subspace is r/D times the identity."""
    drawn = [Random(2).fit(Material(torch.zeros(3, 6)), seed, run).get_buffer("down") for seed in range(600)]
    mean = torch.stack([basis @ basis.T for basis in drawn]).mean(0)
    torch.testing.assert_close(mean, torch.eye(6) / 3, atol=0.05, rtol=0)


# The codebook


def test_kmeans_agrees_with_scikit_learn(run: Draft) -> None:
    data = correlated(600, 4)
    codec = Kmeans(7, iterations=50).fit(Material(data), 3, run)
    theirs = KMeans(7, n_init="auto", max_iter=50, random_state=3).fit(data.numpy())
    assert ((data - codec(data)) ** 2).sum().item() == pytest.approx(theirs.inertia_, rel=1e-4)
    assert (codec.encode(data).numpy() == theirs.labels_).mean() > 0.995


def test_the_nearest_centre_is_taken(run: Draft) -> None:
    data = correlated(300, 5)
    codec = Kmeans(9).fit(Material(data), 0, run)
    elsewhere = correlated(50, 5, seed=1).reshape(5, 10, 5)
    code = codec.encode(elsewhere)
    assert code.shape == (5, 10)
    assert torch.equal(code, torch.cdist(elsewhere, codec.get_buffer("centres")).argmin(-1))


@pytest.mark.parametrize("codes", [1, 2, 16])
def test_bits_are_the_entropy_of_the_codes(codes: int, run: Draft) -> None:
    data = correlated(500, 3)
    codec = Kmeans(codes).fit(Material(data), 0, run)
    used = torch.bincount(codec.encode(data), minlength=codes).double() / len(data)
    assert codec.cost().bits == pytest.approx(float(torch.special.entr(used).sum()) / math.log(2), abs=1e-2)
    assert 0 <= (codec.cost().bits or 0) <= math.log2(codes) + 1e-9
    assert codec.cost().dimensions is None


def test_a_codebook_of_one_is_the_mean(run: Draft) -> None:
    data = correlated(500, 3)
    torch.testing.assert_close(
        Kmeans(1).fit(Material(data), 0, run)(data), Mean().fit(Material(data), 0, run)(data), atol=1e-5, rtol=1e-5
    )


def test_more_codes_than_there_are_activations_to_tell_apart(run: Draft) -> None:
    kinds = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 4.0]])
    data = kinds.repeat(20, 1)
    codec = Kmeans(8).fit(Material(data), 0, run)
    torch.testing.assert_close(codec(data), data, atol=1e-5, rtol=0)
    assert codec.cost().bits == pytest.approx(math.log2(3), abs=1e-6)
    assert codec.get_buffer("frequency").sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pca(0), "pca.dimensions = 0"),
        (lambda: Kmeans(-1), "kmeans.codes = -1"),
        (lambda: Kmeans(4, iterations=0), "kmeans.iterations = 0"),
        (lambda: Svd(0), "svd.rank = 0"),
    ],
)
def test_an_impossible_size_is_refused_before_anything_is_trained(make: type[Method], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
