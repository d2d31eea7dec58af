"""Weights from outside: what is read, in how much memory, and what bad input gets."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import etude
from etude.core.errors import DamagedError, UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.formats.gpt2 import Gpt2
from etude.models.hollow import hollow
from etude.models.incoming import Precision, model_from
from etude.models.outgoing import format_for, weights_of
from etude.models.saved import load_model, save_model
from etude.models.sources import is_hub_name, licence_of, opened
from etude.text.hub import Snapshot
from etude.text.tokenizers.live import ByteTokenizer

SPEC = Decoder(layers=2, width=8, heads=2, feedforward=12, context=6, activation="gelu-tanh", tied=True)
VOCABULARY = 257


def hf_folder(folder: Path, spec: Any = SPEC, vocabulary: int = VOCABULARY, **config: Any) -> Path:
    """Write a model as the ecosystem does, with the byte tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    model = spec.build(vocabulary, seed=1)
    chosen, said = format_for(spec, vocabulary)
    (folder / "config.json").write_text(json.dumps(said | config))
    save_file(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    ByteTokenizer().save(folder)
    (folder / "tokenizer-kind.json").unlink()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hf_folder(tmp_path / "model")


def changed(folder: Path, change: Any) -> Path:
    weights = load_file(folder / "model.safetensors")
    weights = change(weights) or weights
    save_file(weights, folder / "model.safetensors")
    return folder


def same(model: Any, spec: Any = SPEC) -> bool:
    wanted = spec.build(VOCABULARY, seed=1).state_dict()
    found = model.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


# what is read


def test_load_takes_a_folder_without_making_a_run(folder: Path) -> None:
    model, tokenizer = etude.load(folder)
    assert same(model) and not model.training
    assert (tokenizer.vocabulary, tokenizer.encode("né")) == (257, list("né".encode()))
    assert all(weight.requires_grad and not weight.is_meta for weight in model.parameters())


def test_names_without_the_trunk_and_buffers_are_read_as_the_hub_has_them(folder: Path) -> None:
    def bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {name.removeprefix("transformer."): value for name, value in weights.items()}
        return found | {"h.0.attn.bias": torch.ones(1, 1, 6, 6), "lm_head.weight": found["wte.weight"].clone()}

    assert same(model_from(opened(changed(folder, bare))))


def test_old_names_of_norms_and_a_bare_masked_model(tmp_path: Path) -> None:
    bert: dict[str, Any] = {"norm_at": "post", "head": "bert", "norm_embeddings": True, "tied": True, "segments": 2}
    spec = Encoder(layers=1, width=8, heads=2, feedforward=12, context=6, pooling="first", next_sentence=True, **bert)
    folder = hf_folder(tmp_path, spec, architectures=["BertForMaskedLM"])

    def old(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {
            n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for n, v in weights.items()
        }
        return renamed | {"bert.embeddings.position_ids": torch.arange(6)[None]}

    source = opened(changed(folder, old))
    assert source.reading.spec == spec  # the head that the file holds counts, not the class that the config names
    assert same(model_from(source), spec)


def test_shards_are_one_model(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    shards = {f"model-{n + 1:05d}-of-00003.safetensors": names[n::3] for n in range(3)}
    for file, held in shards.items():
        save_file({name: whole[name] for name in held}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(model_from(opened(folder)))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"lacks model-00002-of-00003.safetensors, one of 3 shards"):
        opened(folder)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
def test_files_of_other_precision(folder: Path, stored: torch.dtype) -> None:
    changed(folder, lambda weights: {name: value.to(stored) for name, value in weights.items()})
    wanted = {name: value.to(stored).float() for name, value in SPEC.build(VOCABULARY, seed=1).state_dict().items()}
    wishes: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "file": stored}
    for dtype, expected in wishes.items():
        found = model_from(opened(folder), dtype).state_dict()
        assert {value.dtype for value in found.values()} == {expected}
        if dtype == "fp32":
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_file_of_several_precisions_keeps_the_widest(folder: Path) -> None:
    changed(folder, lambda w: {n: v.half() if n.endswith("wte.weight") else v.bfloat16() for n, v in w.items()})
    assert {weight.dtype for weight in model_from(opened(folder), "file").parameters()} == {torch.float32}


def test_the_identity_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    def one_off(weights: dict[str, Tensor]) -> None:
        weights["transformer.wte.weight"][0, 0] += 1

    first = opened(folder).identity()
    assert opened(hf_folder(tmp_path / "copy")).identity() == first
    assert opened(changed(folder, one_off)).identity() != first
    assert opened(hf_folder(tmp_path / "other", layer_norm_epsilon=1e-6)).identity() != first


def test_the_licence_that_a_folder_says(tmp_path: Path) -> None:
    assert licence_of(tmp_path) == "not said"
    (tmp_path / "LICENSE").write_text("\n  Apache License\n  Version 2.0\n")
    assert licence_of(tmp_path) == "Apache License"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: 'mit'\n---\n# Model\nlicense: other\n")
    assert licence_of(tmp_path) == "mit"


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("gpt2", True),
        ("EleutherAI/pythia-70m", True),
        ("train-3fa2c1", False),
        ("a/b/c", False),
        ("there/model", False),
    ],
)
def test_hub_names(name: str, hub: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) == hub


def test_a_hub_name_is_fetched_and_nothing_else_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def fetched(name: str) -> tuple[Path, str]:
        asked.append(name)
        return folder, "c0ffee"

    monkeypatch.setattr("etude.models.sources.fetched_folder", fetched)
    monkeypatch.chdir(tmp_path)
    model, _ = etude.load("somebody/model")
    assert same(model) and asked == ["somebody/model"]
    for name in ("train-000000000000", "some-body", str(tmp_path / "none")):
        with pytest.raises(UsageError, match="unknown run"):
            etude.load(name)
    assert asked == ["somebody/model"]


def test_what_is_asked_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def fetched(repository: str, files: Any, *, kind: str) -> Snapshot:
        asked.append((repository, kind))
        names = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"]
        assert all(any(fnmatch(name, pattern) for pattern in files) for name in names)
        assert not any(fnmatch(name, pattern) for name in ("pytorch_model.bin", "tf_model.h5") for pattern in files)
        return Snapshot(repository, "c0ffee" * 6 + "c0ff", "mit", folder, ())

    monkeypatch.setattr("etude.text.hub.fetched", fetched)
    monkeypatch.chdir(tmp_path)
    source = opened("gpt2")
    assert (source.path, source.revision[:6]) == (folder, "c0ffee")
    assert asked == [("openai-community/gpt2", "model")]


def test_a_hollow_model_has_buffers_and_no_weights() -> None:
    spec = Decoder(layers=1, width=8, heads=2, positions="rotary", context=6)
    model, whole = hollow(spec, 9), spec.build(9)
    assert all(weight.is_meta for weight in model.parameters())
    found = dict(model.named_buffers())
    assert found and all(torch.equal(found[name], value) for name, value in whole.named_buffers())
    assert [weight.is_meta for weight in spec.module(9).parameters()].count(True) == 0


def test_our_own_models_are_loaded_as_before(tmp_path: Path) -> None:
    save_model(SPEC.build(9, seed=5), tmp_path)
    ByteTokenizer().save(tmp_path)
    assert torch.equal(
        etude.load(tmp_path)[0].state_dict()["embed.W_E"], load_model(tmp_path).state_dict()["embed.W_E"]
    )


# bad input


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "gpt_neo"},
            "unknown model_type in .* 'gpt_neo': did you mean 'gpt_neox'.*bert, distilbert, gpt2,",
        ),
        ({"model_type": None}, "unknown model_type in .* 'None'.* There are: bert, distilbert, gpt2, gpt_neox, llama"),
        (
            {"architectures": ["GPT2ForTokenClassification"]},
            "architectures = 'GPT2ForTokenClassification' is not supported",
        ),
        ({"n_positions": 0}, "config.json: context = 0 is too small"),
    ],
)
def test_a_config_of_another_model(folder: Path, config: dict[str, Any], message: str) -> None:
    said = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(UsageError, match=message):
        etude.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_config_that_is_none(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(DamagedError, match=r"config.json' (is not JSON|holds no object)"):
        etude.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("transformer.h.1.ln_2.bias") is None, r"lack the tensor transformer.h.1.ln_2.bias \[8\]"),
        (
            lambda w: w.update({"transformer.h.0.attn.c_attn.weight": torch.zeros(8, 16)}),
            r"transformer.h.0.attn.c_attn.weight is \[8, 16\], and it says \[8, 24\]",
        ),
        (lambda w: w.update({"transformer.h.2.ln_1.bias": torch.zeros(8)}), r"have a tensor transformer.h.2.ln_1"),
        (lambda w: w.update({"transformer.wpe.weight": torch.zeros(6, 8).char()}), "transformer.wpe.weight is I8"),
        (lambda w: w.update({"lm_head.weight": torch.ones(257, 8)}), "ties lm_head.weight to transformer.wte.weight"),
    ],
    ids=["missing", "misshapen", "unexpected", "quantised", "untied"],
)  # fmt: skip
def test_a_wrong_tensor_is_named_with_both_shapes(folder: Path, change: Any, message: str) -> None:
    changed(folder, lambda weights: change(weights) and None)
    with pytest.raises((DamagedError, UsageError), match=message):
        etude.load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pickle_is_refused_with_how_to_convert(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(UsageError, match=f"has its weights in {name}: a pickle can run any code .*save_pretrained"):
        etude.load(folder)


def test_pickles_by_name_and_by_content_are_refused(tmp_path: Path) -> None:
    for name, content in {"model.pt": b"", "pytorch_model.bin": b"", "x.bin": b"PK\3\4", "y.bin": b"\x80\x02"}.items():
        (tmp_path / name).write_bytes(content + b"0" * 40)
        with pytest.raises(UsageError, match="is a pickle"):
            opened(tmp_path / name)


def test_places_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config.json in .*: give a folder as transformers' save_pretrained"):
        opened(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UsageError, match=r"no model.safetensors in .*, nor model.safetensors.index.json of several"):
        opened(tmp_path)
    with pytest.raises(UsageError, match=r"nothing at '.*none': give a folder with config.json and model.safetensors"):
        opened(tmp_path / "none")
    with pytest.raises(UsageError, match=r"config.json' is no model"):
        opened(tmp_path / "config.json")


def test_a_file_cut_short_is_damaged(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for length in (0, 7, 100, len(whole) - 3):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=r"model.safetensors' cannot be read"):
            opened(folder)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    small = hf_folder(tmp_path / "small", vocabulary=200)
    with pytest.raises(UsageError, match="the tokenizer has 257 tokens and the embedding 200 rows"):
        etude.load(small)
    padded = hf_folder(tmp_path / "padded", vocabulary=320)
    assert etude.load(padded)[0].vocabulary == 320
    (padded / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="no tokenizer at"):
        etude.load(padded)


# llama2.c


def llama2c(path: Path, shared_classifier: bool = True, **change: int) -> dict[str, Tensor]:
    """Write a small `.bin` and return what went into it, by kind."""
    D, F, L, H, G, V, T = 8, 12, 2, 2, 1, 10, 6
    header = {"D": D, "F": F, "L": L, "H": H, "G": G, "V": V if shared_classifier else -V, "T": T} | change
    kinds = {"tok": (V, D), "rms1": (L, D), "wq": (L, D, D), "wk": (L, 4, D), "wv": (L, 4, D), "wo": (L, D, D)}
    kinds |= {"rms2": (L, D), "w1": (L, F, D), "w2": (L, D, F), "w3": (L, F, D), "last": (D,), "angles": (T, 4)}
    kinds |= {} if shared_classifier else {"out": (V, D)}
    generator = torch.Generator().manual_seed(1)
    held = {name: torch.randn(shape, generator=generator) for name, shape in kinds.items()}
    content = b"".join(value.numpy().astype("<f4").tobytes() for value in held.values())
    path.write_bytes(struct.pack("<7i", *header.values()) + content)
    return held


@pytest.mark.parametrize("shared_classifier", [True, False])
def test_llama2c_is_read(tmp_path: Path, shared_classifier: bool) -> None:
    held = llama2c(tmp_path / "m.bin", shared_classifier)
    source = opened(tmp_path / "m.bin")
    spec = source.reading.spec
    assert (spec.kv_heads, spec.tied, spec.norm_epsilon, source.reading.vocabulary) == (1, shared_classifier, 1e-5, 10)
    found = model_from(source).state_dict()
    assert torch.equal(found["embed.W_E"], held["tok"]) and torch.equal(found["final_norm.w"], held["last"])
    for n in range(2):
        assert torch.equal(found[f"layers.{n}.attn.W_V"][:, 0], held["wv"][n].T)
        assert torch.equal(found[f"layers.{n}.attn.W_O"].flatten(0, 1), held["wo"][n].T)
        assert torch.equal(found[f"layers.{n}.mlp.W_gate"], held["w1"][n].T)
        assert torch.equal(found[f"layers.{n}.mlp.W_in"], held["w3"][n].T)
        first_head = held["wq"][n].T[:, :4]
        assert torch.equal(found[f"layers.{n}.attn.W_Q"][:, 0], first_head[:, [0, 2, 1, 3]])
    assert shared_classifier or torch.equal(found["unembed.W_U"], held["out"].T)


def test_llama2c_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    llama2c(path)
    whole = path.read_bytes()
    for content, message in {
        whole[:20]: "is cut short: llama2.c's files begin with 28 bytes",
        whole[:-4]: r"is cut short: it has [\d,]+ bytes and its header asks for",
        whole + b"0000": "is too long: it has",
        struct.pack("<7i", 0x616B3432, 2, 0, 0, 0, 0, 0): "is of version 2 of llama2.c's format: Etude reads the first",
        struct.pack("<7i", 8, 12, 0, 2, 1, 10, 6): "is no file of llama2.c: its header says",
        struct.pack("<7i", 8, 12, 2, 3, 1, 10, 6): "is no file of llama2.c: its header says",
    }.items():
        path.write_bytes(content)
        with pytest.raises((DamagedError, UsageError), match=message):
            opened(path)


# memory

MEASURE = """
import re, sys
import etude.models.load
from etude.models.incoming import Precision, model_from
from etude.models.sources import opened

def held(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

tiny, large, dtype = sys.argv[1:]
model_from(opened(tiny), dtype)  # what a first read costs once
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
before = held("VmRSS")
model = model_from(opened(large), dtype)
print((held("VmHWM") - before) / sum(w.numel() * w.element_size() for w in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_memory_is_at_most_a_fifth_more_than_the_weights(folder: Path, tmp_path: Path, stored: torch.dtype) -> None:
    spec = Decoder(layers=6, width=768, heads=12, feedforward=3072, context=256, tied=True)  # 203 MB
    config = Gpt2().write(spec, 10_000)
    weights = {name: value.to(stored) for name, value in weights_of(spec.build(10_000), Gpt2()).items()}
    large = tmp_path / "large"
    large.mkdir()
    (large / "config.json").write_text(json.dumps(config))
    save_file(weights, large / "model.safetensors")
    command = [sys.executable, "-c", MEASURE, str(folder), str(large), "fp32"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    ratio = float(done.stdout)
    print(f"peak memory over the weights in fp32, read from {stored}: {ratio:.3f}")
    assert 0.9 < ratio < 1.2
