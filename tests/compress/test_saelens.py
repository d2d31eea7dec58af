"""Export of sparse codecs: what a reader of the files reconstructs, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from etude.compress.codec import Linear
from etude.compress.compressor import Compressor, Part
from etude.compress.explained import Explained
from etude.compress.methods.topk_sae import TopkSae
from etude.compress.recipes import Compress
from etude.compress.rounded import Rounded
from etude.compress.saelens import CONFIG, HOOKS, WEIGHTS, export_saelens
from etude.compress.saved import load_compressor
from etude.compress.sparse import Sparse
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.core.site import Site
from etude.models.load import load
from etude.nn.look import look
from etude.train.recipes import Train


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def codec_of(k: int, far: float = 1.0) -> Sparse:
    codec = Sparse(8, 20, 8, k)
    with torch.no_grad():
        for seed, tensor in enumerate(codec.parameters()):
            tensor.copy_(drawn(*tensor.shape, seed=seed))
        codec.get_buffer("centre").copy_(far * drawn(8, seed=9))
    return codec.requires_grad_(False)


def read_back(folder: Path, x: Tensor) -> Tensor:
    """Reconstruct as the format is defined: no bias on the input, a rectifier, of a top-k the k greatest before it."""
    config, w = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    assert not config["apply_b_dec_to_input"] and config["normalize_activations"] == "none"
    pre = x @ w["W_enc"] + w["b_enc"]
    if config["architecture"] == "topk":
        assert config["rescale_acts_by_decoder_norm"] is False
        kept = pre.topk(config["k"], dim=-1)
        pre = torch.full_like(pre, -1.0).scatter(-1, kept.indices, kept.values)
    else:
        assert config["architecture"] == "standard"
    return pre.relu() @ w["W_dec"] + w["b_dec"]


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_what_is_read_back_reconstructs_the_same(k: int, tmp_path: Path) -> None:
    codec, x = codec_of(k), drawn(50, 8, seed=4)
    config = export_saelens(Compressor.of("L2.resid.post", codec), tmp_path / "sae")
    assert (config["d_in"], config["d_sae"], config["metadata"]["hook_name"]) == (8, 20, "blocks.2.hook_resid_post")
    torch.testing.assert_close(read_back(tmp_path / "sae", x), codec(x), atol=1e-5, rtol=0)


def test_a_far_centre_is_folded_in_without_loss(tmp_path: Path) -> None:
    codec = codec_of(3, far=30.0)
    x = drawn(50, 8, seed=4) + codec.get_buffer("centre")
    export_saelens(Compressor.of("L0.mlp.out", codec), tmp_path / "sae")
    exact = copy.deepcopy(codec).double()
    w = load_file(tmp_path / "sae" / WEIGHTS)
    torch.testing.assert_close(
        x.double() @ w["W_enc"].double() + w["b_enc"].double(), exact.pre(x.double()), atol=1e-5, rtol=0
    )


def test_heads_are_told_apart_where_they_are(tmp_path: Path) -> None:
    for site, reshape in (("L0.attn.z", "hook_z"), ("L0.attn.out", "none")):
        config = export_saelens(Compressor.of(site, codec_of(2)), tmp_path / site)
        assert config["reshape_activations"] == reshape
        assert (config["reshape_activations"] == "hook_z") == config["metadata"]["hook_name"].endswith("_z")


def test_hooks_are_named_as_the_peer_names_them() -> None:
    assert HOOKS["attn.out"] == "hook_attn_out" and HOOKS["mlp.post"] == "mlp.hook_post"


def test_a_run_is_exported_and_explains_what_it_did(lab: Lab, trained: Train, tmp_path: Path) -> None:
    method = TopkSae(k=2, features=64, steps=20, batch=64)
    run = lab.run(Compress(trained, "L0.mlp.out", method, fit_tokens=640, evaluate_tokens=320, sequences=0))
    export_saelens(run, tmp_path / "sae")
    (part,) = load_compressor(run).parts.values()
    model, tokens = load(lab.run(trained))[0], torch.randint(0, 200, (4, 32))
    x = look(model, tokens, "L0.mlp.out")["L0.mlp.out"]
    torch.testing.assert_close(read_back(tmp_path / "sae", x), part.codec(x), atol=1e-5, rtol=0)


def test_the_explained_variance_is_about_the_mean_and_of_all_tokens_together() -> None:
    """1 - E|x - y|² / (E|x|² - |E x|²), which is no mean of the shares of batches, or of tokens."""
    x = drawn(90, 8) * torch.linspace(0.1, 3, 90)[:, None] + 10
    y, explained = x + 0.5 * drawn(90, 8, seed=1), Explained()
    for a, b in ((0, 7), (7, 60), (60, 90)):
        explained.add(x[a:b], y[a:b])
    wide = x.double()
    variance = wide.square().sum(1).mean() - wide.mean(0).square().sum()
    expected = 1 - (wide - y.double()).square().sum(1).mean() / variance
    assert explained.share == pytest.approx(float(expected), rel=1e-9)
    by_token = 1 - ((wide - y) ** 2).sum(1) / ((wide - wide.mean(0)) ** 2).sum(1)
    assert explained.share != pytest.approx(float(by_token.mean()), abs=0.01)


def linear() -> Linear:
    return Linear(torch.zeros(8), drawn(8, 2), drawn(2, 8))


def rounded() -> Compressor:
    codec = Rounded.fitted(codec_of(2), codec_of(2).encode(drawn(20, 8)), 4)
    return Compressor({Site("L0.mlp.out"): Part(codec, None, TopkSae(k=2), 4)})


@pytest.mark.parametrize(
    ("compressor", "message"),
    [
        (Compressor.of("L0.mlp.out", linear()), "no form for Linear at L0.mlp.out"),
        (Compressor.of("L0.mlp.out", codec_of(2), reads="L0.mlp_norm.out"), "no form for Sparse at L0.mlp.out"),
        (rounded(), "no form for topk-sae at 4 bits"),
        (Compressor.of("L0.attn_norm.out", codec_of(2)), "L0.attn_norm.out has no name in TransformerLens; choose one"),
        (
            Compressor({Site(s): Part(codec_of(2)) for s in ("L0.mlp.out", "L1.mlp.out")}),
            "2 sites have a codec and a SAELens folder holds one",
        ),
    ],
)
def test_what_has_no_form_there_is_refused_before_a_folder_is_made(
    compressor: Compressor, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        export_saelens(compressor, tmp_path / "sae")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sae").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="holds something already"):
        export_saelens(Compressor.of("L0.mlp.out", codec_of(2)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    export_saelens(Compressor.of("L0.mlp.out", codec_of(2)), tmp_path, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", CONFIG, WEIGHTS}


def test_the_verb_writes_the_folder_and_says_where(
    lab: Lab, trained: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from etude.cli.export import export

    method = TopkSae(k=2, features=64, steps=20, batch=64)
    run = lab.run(Compress(trained, "L0.mlp.out", method, fit_tokens=640, evaluate_tokens=320, sequences=0))
    given: dict[str, Any] = {"to": "saelens", "runs": lab.root}
    export(run.id, tmp_path / "sae", json=True, **given)
    told = json.loads(capsys.readouterr().out)
    assert (told["class"], told["latents"], told["hook"]) == ("topk", 64, "blocks.0.hook_mlp_out")
    assert (tmp_path / "sae" / WEIGHTS).exists()
    with pytest.raises(UsageError, match="--dtype bf16: a sparse codec is written as it is"):
        export(run.id, tmp_path / "other", dtype="bf16", **given)
