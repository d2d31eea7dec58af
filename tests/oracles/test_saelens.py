"""Sparse codecs against SAELens: the files, reconstructions and scores that it wrote down (`make oracles`), and, where
it is installed, its own loader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from etude.compress.compressor import Compressor
from etude.compress.explained import Explained
from etude.compress.saelens import CONFIG, WEIGHTS, export_saelens
from etude.compress.sparse import Sparse

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "saelens").glob("*.safetensors"))
SITES = {"topk": "L1.mlp.out", "topk-heads": "L0.attn.z", "standard": "L0.resid.pre"}
GREATEST = 1e-5


class Peer:
    """What SAELens wrote and answered for one autoencoder, and our codec of its weights."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            about, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.site, self.config, self.explained = (
            SITES[path.stem],
            json.loads(about["config"]),
            json.loads(about["explained"]),
        )
        self.weights = {name.removeprefix("weight "): held[name] for name in held if name.startswith("weight ")}
        self.x, self.code, self.y = (held[name] for name in ("x", "code", "y"))
        tensors = {
            **self.weights,
            "centre": torch.zeros(self.config["d_in"]),
            "rate": torch.ones(self.config["d_sae"]).double(),
        }
        self.codec = Sparse.of(tensors, self.config.get("k", 0))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def peer(request: pytest.FixtureRequest) -> Peer:
    return Peer(request.param)


def test_there_are_answers() -> None:
    assert {path.stem for path in FIXTURES} == set(SITES)


def test_the_code_and_the_reconstruction_are_the_same(peer: Peer) -> None:
    x = peer.x.reshape(*peer.x.shape[:2], -1)
    torch.testing.assert_close(peer.codec.encode(x), peer.code, atol=GREATEST, rtol=0)
    worst = float((peer.codec(x) - peer.y.reshape(x.shape)).abs().max())
    print(f"{peer.site}: greatest difference {worst:.1e}, standard deviation {peer.y.std():.2f}")
    assert worst < GREATEST < peer.y.std()


def test_the_files_are_those_that_it_writes(peer: Peer, tmp_path: Path) -> None:
    export_saelens(Compressor.of(peer.site, peer.codec), tmp_path / "sae")
    written = json.loads((tmp_path / "sae" / CONFIG).read_text())
    for config in (written, peer.config):
        config["metadata"].pop("sae_lens_version")
        config["metadata"].pop("sae_lens_training_version", None)
    assert written == peer.config
    weights = load_file(tmp_path / "sae" / WEIGHTS)
    assert weights.keys() == peer.weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, peer.weights[name], atol=0, rtol=0)


def test_the_explained_variance_is_the_same(peer: Peer) -> None:
    explained = Explained()
    width = peer.config["d_in"]
    explained.add(peer.x.reshape(-1, width), peer.y.reshape(-1, width))
    assert explained.share == pytest.approx(peer.explained, rel=1e-5)


def test_its_own_loader_reads_a_codec_about_a_centre(tmp_path: Path) -> None:
    lens = pytest.importorskip(
        "sae_lens", reason="SAELens is not installed: make oracles makes an environment that has it"
    )
    draw = torch.Generator().manual_seed(0)
    for k in (0, 3):
        codec = Sparse(8, 20, 8, k)
        with torch.no_grad():
            for tensor in (*codec.parameters(), codec.get_buffer("centre")):
                tensor.copy_(torch.randn(tensor.shape, generator=draw))
        export_saelens(Compressor.of("L1.mlp.out", codec), tmp_path / str(k))
        x = torch.randn(40, 8, generator=draw)
        with torch.no_grad():
            theirs = lens.SAE.load_from_disk(tmp_path / str(k))(x)
        torch.testing.assert_close(codec(x), theirs, atol=GREATEST, rtol=0)
