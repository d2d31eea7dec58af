"""A model on disk reads back bit for bit, and a damaged one says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from etude.core.errors import DamagedError, UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.saved import load_model, save_model

SPEC = Decoder(layers=1, width=8, heads=2, feedforward=12, context=6)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(SPEC.build(9, seed=5), tmp_path)
    return tmp_path


def test_reads_back_bit_for_bit(spec: Decoder, tmp_path: Path) -> None:
    model = spec.build(9, seed=5)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert (again.spec, again.vocabulary, again.training) == (spec, 9, False)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in again.parameters())
    tokens = torch.randint(9, (2, spec.context))
    assert torch.equal(model.eval()(tokens), again(tokens))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_a_compiled_model_is_saved_under_its_own_names(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = SPEC.build(9, seed=5)
    wrapped: Any = torch.compile(model, backend="eager")
    in_place = SPEC.build(9, seed=5)
    in_place.compile(backend="eager")
    for compiled in (wrapped, in_place):
        folder = tmp_path_factory.mktemp("compiled")
        save_model(compiled, folder)
        assert (folder / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_a_full_disk_leaves_the_model_that_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(weights: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("etude.models.saved.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_model(SPEC.build(9, seed=6), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_precision_is_kept(tmp_path: Path) -> None:
    save_model(SPEC.build(9).bfloat16(), tmp_path)
    model = load_model(tmp_path)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model(torch.zeros(1, 6, dtype=torch.long)).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layers.0.attn.W_Q"), r"lacks the tensor layers.0.attn.W_Q \[8, 2, 4\]"),
        (lambda w: w.update(spare=torch.zeros(2, 3)), r"has a tensor spare \[2, 3\], and its spec has none"),
        (lambda w: w.update({"embed.W_E": torch.zeros(7, 8)}), r"embed.W_E is \[7, 8\], its spec says \[9, 8\]"),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_a_wrong_tensor_is_named_with_its_shapes(saved: Path, change: object, message: str) -> None:
    weights = load_file(saved / "model.safetensors")
    change(weights)  # type: ignore[operator]
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(DamagedError, match=message):
        load_model(saved)


def test_a_file_cut_short_is_damaged(saved: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        whole = (saved / name).read_bytes()
        for length in (0, 7, len(whole) // 2, len(whole) - 3):
            (saved / name).write_bytes(whole[:length])
            with pytest.raises(DamagedError, match="cannot be read"):
                load_model(saved)
        (saved / name).write_bytes(whole)
    load_model(saved)


def test_a_spec_changed_by_hand_is_damaged(saved: Path) -> None:
    about = json.loads((saved / "model.json").read_text())
    for wrong in ([], {}, {**about, "vocabulary": None}, {**about, "spec": 3}):
        (saved / "model.json").write_text(json.dumps(wrong))
        with pytest.raises(DamagedError):
            load_model(saved)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model.safetensors in .*: give the folder of a model"):
        load_model(tmp_path)


def test_only_models_with_a_format_are_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Linear"):
        save_model(nn.Linear(2, 2), tmp_path)
