"""Every format reads back what it wrote, bit for bit, and says by name what it cannot read or write."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.models.formats._config import Config
from etude.models.formats.base import Format
from etude.models.incoming import model_from
from etude.models.outgoing import format_for, weights_of
from etude.models.shapes import named
from etude.models.sources import opened
from etude.models.transformer import Transformer
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding

SMALL: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "context": 8}
ROTARY: dict[str, Any] = {**SMALL, "positions": "rotary"}
LLAMA: dict[str, Any] = {**ROTARY, "norm": "rms", "activation": "silu", "gated": True, "biases": False}
BERT: dict[str, Any] = {
    **SMALL,
    "norm_at": "post",
    "norm_epsilon": 1e-12,
    "pooling": "first",
    "head": "bert",
    "norm_embeddings": True,
    "dropout": 0.1,
}

# member: architectures that it can say
SHAPES: dict[str, list[Architecture]] = {
    "gpt2": [
        Decoder(**SMALL, activation="gelu-tanh", tied=True, dropout=0.1),
        Decoder(**SMALL, activation="gelu", norm_epsilon=1e-6),
        Decoder(**{**SMALL, "layers": 0}, activation="relu"),
    ],
    "gpt-neox": [
        Decoder(**ROTARY, parallel=True, rotary_fraction=0.25),
        Decoder(**ROTARY, activation="gelu-tanh", tied=True, rotary_base=500.0, dropout=0.1),
    ],
    "llama": [
        Decoder(**LLAMA),
        Decoder(**{**LLAMA, "heads": 4}, kv_heads=2, tied=True, rotary_base=1e6),
        Decoder(**{**LLAMA, "activation": "gelu-tanh"}, attention=Sliding(3), kv_heads=1),
    ],
    "bert": [
        Encoder(**BERT, segments=2, tied=True),
        Encoder(**BERT, segments=2, tied=True, next_sentence=True),
        Encoder(**BERT, segments=2),
        Encoder(**BERT, segments=2, classes=3),
    ],
    "distilbert": [Encoder(**BERT, tied=True), Encoder(**BERT)],
    "llama2c": [],
}
CASES = [pytest.param(name, spec, id=f"{name}-{n}") for name, specs in SHAPES.items() for n, spec in enumerate(specs)]
FORMATS = {cls.name: cls() for cls in Family("models/formats") if issubclass(cls, Format)}


def scattered(spec: Architecture, vocabulary: int = 11) -> Transformer:
    """Return a model none of whose weights are alike, biases and norms too."""
    model = spec.build(vocabulary)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return model


def written(model: Transformer, folder: Path) -> dict[str, Any]:
    """Write configuration and weights alone."""
    chosen, config = format_for(model.spec, model.vocabulary)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights_of(model, chosen), folder / "model.safetensors", {"format": "pt"})
    return config


def test_every_member_has_shapes() -> None:
    assert SHAPES.keys() == FORMATS.keys()


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_what_is_written_reads_back_bit_for_bit(name: str, spec: Architecture, tmp_path: Path) -> None:
    model = scattered(spec)
    written(model, tmp_path)
    source = opened(tmp_path)
    again = model_from(source)
    assert (source.format.name, again.spec, again.vocabulary, again.training) == (name, spec, 11, False)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and after[key].is_contiguous() for key in before)
    written(again, tmp_path / "twice")
    first, second = (load_file(folder / "model.safetensors") for folder in (tmp_path, tmp_path / "twice"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_table_has_every_weight_once(name: str, spec: Architecture) -> None:
    rows = FORMATS[name].table(spec)
    ours = [held for row in rows for held in row.ours]
    assert sorted(ours) == sorted(spec.module(11).state_dict())
    assert len({row.theirs for row in rows}) == len(rows)
    assert not any(FORMATS[name].is_ignorable(row.theirs) for row in rows)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_rows_undo_each_other(heads: int, tied: bool) -> None:
    spec = Decoder(**{**LLAMA, "heads": 4}, kv_heads=0 if heads == 4 else heads, tied=tied)
    model = scattered(spec)
    held = model.state_dict()
    rows = FORMATS["llama2c"].table(spec)
    assert sorted(name for row in rows for name in row.ours) == sorted(held)
    for row in rows:
        ours = tuple(held[name] for name in row.ours)
        assert all(torch.equal(one, other) for one, other in zip(row.take(row.give(ours)), ours, strict=True))


@pytest.mark.parametrize(
    ("spec", "reasons"),
    [
        (Decoder(**{**SMALL, "feedforward": 0}), ["attention-only (feedforward = 0) cannot be a GPT2LMHeadModel"]),
        (Decoder(**SMALL, norm="none", biases=False), ["norm = none cannot be a GPT2LMHeadModel, which has layer"]),
        (Decoder(**SMALL, biases=False), ["biases = no cannot be a GPT2LMHeadModel, which has yes"]),
        (Decoder(**SMALL, norm_at="post"), ["norm_at = post cannot be a GPT2LMHeadModel, which has pre"]),
        (Decoder(**SMALL, attention=Banded(4)), ["attention = banded cannot be a GPT2LMHeadModel, which has full"]),
        (Decoder(**ROTARY, kv_heads=1), ["kv_heads = 1 cannot be a GPTNeoXForCausalLM, which has 0 or 2"]),
        (Decoder(**LLAMA, parallel=True), ["parallel = yes cannot be a LlamaForCausalLM, which has no"]),
        (Decoder(**LLAMA, rotary_fraction=0.5), ["rotary_fraction = 0.5 cannot be a LlamaForCausalLM, which has 1.0"]),
        (Decoder(**SMALL, mup_base=8), ["mup_base = 8 cannot be a GPT2LMHeadModel, which has 0"]),
        (Decoder(**SMALL, scaled_embeddings=True), ["scaled_embeddings = yes cannot be a GPT2LMHeadModel"]),
        (Encoder(**SMALL), ["norm_at = pre cannot be a BertForMaskedLM, which has post"]),
        (Encoder(**{**BERT, "head": "linear"}, segments=2), ["head = linear cannot be a BertForMaskedLM"]),
        (Encoder(**{**BERT, "pooling": "mean"}, segments=2, classes=2), ["pooling = mean cannot be a BertForSequence"]),
        (Encoder(**BERT, classes=2), ["segments = 0 cannot be", "classes = 2 cannot be a DistilBertForMaskedLM"]),
        (
            Decoder(**{**ROTARY, "width": 24}, rotary_fraction=0.25),
            ["rotary_fraction = 0.25 of heads of 12 turns 3 coordinates, which are no pairs"],
        ),
        (EncoderDecoder(**SMALL), ["a model of kind encoder-decoder cannot be written in any format"]),
    ],
    ids=lambda value: value[0][:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_said_is_named(spec: Architecture, reasons: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        format_for(spec, 11)
    assert str(error.value).startswith("no format of the ecosystem has this architecture: ")
    assert all(reason in str(error.value) for reason in reasons), str(error.value)


REFUSED = [
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not supported"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights = False is not supported: Etude reads True"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True is not supported"),
    ("gpt2", {"activation_function": "quick_gelu"}, "activation_function = 'quick_gelu' is not supported"),
    ("gpt2", {"quantization_config": {"bits": 4}}, "quantization_config = .* is not known to Etude"),
    ("gpt2", {"n_embd": "16"}, "n_embd = '16' is no int"),
    ("gpt2", {"n_layer": None}, "lacks n_layer"),
    ("gpt2", {"n_head": 3}, "width = 16 is not divisible by heads = 3"),
    (
        "gpt-neox",
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        r"rope_scaling \(type 'linear'\) is not supported",
    ),
    ("gpt-neox", {"attention_bias": False}, "attention_bias = False is not supported"),
    ("gpt-neox", {"rotary_emb_base": 500}, "rotary_emb_base = 500.0 and rope_parameters says 10000.0"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"rope_scaling \(type 'llama3'\)"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, r"rope_parameters \(type 'yarn'\)"),
    ("llama", {"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}, r"rope_parameters \(factor = 2.0\)"),
    ("llama", {"attention_bias": True}, "attention_bias = True is not supported: Etude reads False"),
    ("llama", {"mlp_bias": True}, "mlp_bias = True is not supported: Etude reads False"),
    ("gpt-neox", {"rotary_pct": 0.4, "rope_parameters": None}, "of heads of 8 turns 3 coordinates, which are no pairs"),
    ("llama", {"num_attention_heads": 0, "head_dim": None}, "heads = 0 is too small"),
    ("llama", {"head_dim": 4}, "head_dim = 4 is not supported: Etude reads 8"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5 is not supported"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key' is not supported"),
    ("bert", {"is_decoder": True}, "is_decoder = True is not supported"),
    ("distilbert", {"activation": "tanh"}, "activation = 'tanh' is not supported"),
]


@pytest.mark.parametrize(
    ("name", "fields", "message"), REFUSED, ids=lambda value: next(iter(value), "") if value else ""
)
def test_what_is_not_understood_is_refused_by_name(
    name: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = written(scattered(SHAPES[name][0]), tmp_path) | fields
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"^{tmp_path}/config.json: .*{message}|^{tmp_path}/config.json {message}"):
        model_from(opened(tmp_path))


def test_both_layouts_of_rotary_angles_are_read() -> None:
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}}
    old = {"rotary_emb_base": 500, "rotary_pct": 0.5, "rope_scaling": None}
    for config in (new, old, {**new, **old}):
        assert Config(config).rotary("rotary_emb_base", "rotary_pct", 0.25) == (500.0, 0.5)
    assert Config({}).rotary("rotary_emb_base", "rotary_pct", 0.25) == (10_000.0, 0.25)
    assert Config({"rope_theta": 1e6}).rotary("rope_theta") == (1e6, 1.0)


def test_fields_that_are_off_or_say_how_it_was_made_pass() -> None:
    config = Config({"torch_dtype": "float16", "new_switch": False, "other": None, "pruned_heads": {}, "top_k": 50})
    config.finish()
    with pytest.raises(UsageError, match=r"attn_logit_softcapping = '50.0' is not known to Etude and may change"):
        Config({"attn_logit_softcapping": 50.0}).finish()


def test_dropouts_that_differ_are_remarked() -> None:
    spec = SHAPES["gpt2"][0]
    config = FORMATS["gpt2"].write(spec, 11) | {"attn_pdrop": 0.0}
    reading = FORMATS["gpt2"].read(Config(config), ())
    assert reading.remarks == (
        "attn_pdrop = 0.0 becomes 0.1 as resid_pdrop: the model has one dropout, which acts in training alone",
    )
    assert dataclasses.replace(reading, remarks=()) == FORMATS["gpt2"].read(Config(config | {"attn_pdrop": 0.1}), ())


# What the hub's own configurations say, with what they carry beside the architecture; and the published shape.
HUB: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256,
        "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
        "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
        "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": 50257, "_num_labels": 1,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "pythia-70m": {
        "model_type": "gpt_neox", "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu", "hidden_size": 512,
        "initializer_range": 0.02, "intermediate_size": 2048, "layer_norm_eps": 1e-05, "torch_dtype": "float16",
        "max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000,
        "rotary_pct": 0.25, "tie_word_embeddings": False, "transformers_version": "4.24.0", "use_cache": True,
        "use_parallel_residual": True, "vocab_size": 50304,
    },
    "bert-base": {
        "model_type": "bert", "attention_probs_dropout_prob": 0.1, "directionality": "bidi", "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12,
        "pad_token_id": 0, "pooler_fc_size": 768, "pooler_type": "first_token_transform", "type_vocab_size": 2,
        "gradient_checkpointing": False, "position_embedding_type": "absolute", "vocab_size": 30522,
    },
    "distilbert": {
        "model_type": "distilbert", "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
        "hidden_dim": 3072, "initializer_range": 0.02, "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6,
        "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False,
        "tie_weights_": True, "vocab_size": 30522,
    },
    "llama2-70b": {
        "model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 8192,
        "initializer_range": 0.02, "intermediate_size": 28672, "max_position_embeddings": 4096,
        "num_attention_heads": 64, "num_hidden_layers": 80, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16",
        "use_cache": True, "vocab_size": 32000, "max_sequence_length": 4096,
    },
    "mistral-7b": {
        "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_the_hubs_own_configurations_are_the_published_shapes(name: str) -> None:
    config, shape = Config(HUB[name]), named(name)
    chosen = next(f for f in FORMATS.values() if HUB[name]["model_type"] in f.model_types)
    reading = chosen.read(config, {"cls.seq_relationship.weight"})
    config.finish()
    assert (reading.spec, reading.vocabulary, reading.remarks) == (shape.spec, shape.vocabulary, ())
