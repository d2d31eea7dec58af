"""Llama's format, and Mistral's, which is the same with a sliding window (Touvron et al. 2023; Jiang et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.formats._config import Config
from etude.models.formats._fitting import ACTIVATION_NAMES, require, require_attention
from etude.models.formats._rows import dense, heads_read, heads_write, norm, plain, transposed
from etude.models.formats.base import Format, Reading, Row
from etude.nn.attention.full import Full
from etude.nn.attention.sliding import Sliding

_TARGET = "LlamaForCausalLM"
_NAMES = {**ACTIVATION_NAMES, "gelu-tanh": "gelu_pytorch_tanh"}


@dataclass(frozen=True)
class Llama(Format):
    """Llama and Mistral: rotary positions, RMS norm, a gated feed-forward network, no biases, grouped queries where
    `num_key_value_heads` says so. A sliding window makes it Mistral's."""

    model_types: ClassVar[tuple[str, ...]] = ("llama", "mistral")
    classes: ClassVar[tuple[str, ...]] = (_TARGET, "MistralForCausalLM")
    trunk: ClassVar[str] = "model."
    heads: ClassVar[tuple[str, ...]] = ("lm_head.",)
    ignorable: ClassVar[tuple[str, ...]] = (r"\.rotary_emb\.inv_freq$",)

    def read(self, config: Config, names: Collection[str]) -> Reading:
        mistral = config.data.get("model_type") == "mistral"
        for name in ("attention_bias", "mlp_bias"):
            config.only(name, False)
        config.only("rope_interleaved", False)
        config.ignore("pretraining_tp")  # how the same sums are cut into parts
        config.ignore("max_sequence_length", "is_llama_config")
        width, heads = config.take("hidden_size", int), config.take("num_attention_heads", int)
        config.only("head_dim", width // max(1, heads), why="the heads of a model share its width")
        groups = config.take("num_key_value_heads", int, 8 if mistral else heads)
        base, _ = config.rotary("rope_theta")
        window = config.take("sliding_window", int, 0) if mistral else 0
        if mistral and "sliding_window" not in config.data:
            window = 4096  # the class's default; null in the file means none
        layers = config.take("num_hidden_layers", int)
        config.only("layer_types", ["sliding_attention" if window else "full_attention"] * layers)
        spec = Decoder(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=0 if groups == heads else groups,
            feedforward=config.take("intermediate_size", int),
            context=config.take("max_position_embeddings", int, 4096 * 32 if mistral else 2048),
            attention=Sliding(window) if window else Full(),
            positions="rotary",
            norm="rms",
            norm_epsilon=config.take("rms_norm_eps", float, 1e-6),
            activation=config.activation("hidden_act", "silu"),
            gated=True,
            biases=False,
            tied=config.take("tie_word_embeddings", bool, False),
            dropout=config.take("attention_dropout", float, 0.0),
            rotary_base=base,
        )
        return Reading(spec, config.take("vocab_size", int), _dropout_remark(spec.dropout))

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        fixed = {"positions": "rotary", "norm": "rms", "norm_at": "pre", "biases": False, "gated": True}
        require(spec, _TARGET, Decoder, **fixed, parallel=False, rotary_fraction=1.0, unembed_bias=False)
        require_attention(spec, _TARGET, "full", "sliding")
        window = {"sliding_window": spec.attention.window} if isinstance(spec.attention, Sliding) else {}
        biases = {} if window else {"attention_bias": False, "mlp_bias": False}
        return {
            "architectures": ["MistralForCausalLM" if window else _TARGET],
            "model_type": "mistral" if window else "llama",
            "vocab_size": vocabulary,
            "num_hidden_layers": spec.layers,
            "hidden_size": spec.width,
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.kv_heads or spec.heads,
            "head_dim": spec.head_width,
            "intermediate_size": spec.feedforward,
            "max_position_embeddings": spec.context,
            "rms_norm_eps": spec.norm_epsilon,
            "hidden_act": _NAMES[spec.activation],
            "tie_word_embeddings": spec.tied,
            "rope_theta": spec.rotary_base,
            "rope_parameters": {"rope_type": "default", "rope_theta": spec.rotary_base},
            "attention_dropout": spec.dropout,
            **biases,
            **window,
        }

    def table(self, spec: Architecture) -> list[Row]:
        t, groups = self.trunk, spec.kv_heads or spec.heads
        rows = [plain("embed.W_E", f"{t}embed_tokens.weight")]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"{t}layers.{n}"
            rows += norm(f"{ours}.attn_norm", f"{theirs}.input_layernorm", biases=False)
            rows += norm(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm", biases=False)
            for letter, heads in (("Q", spec.heads), ("K", groups), ("V", groups)):
                rows += heads_read(f"{ours}.attn", letter, f"{theirs}.self_attn.{letter.lower()}_proj", heads, False)
            rows += heads_write(f"{ours}.attn", f"{theirs}.self_attn.o_proj", spec.heads, False)
            for name, layer in (("gate", "gate_proj"), ("in", "up_proj"), ("out", "down_proj")):
                rows += dense(f"{ours}.mlp", name, f"{theirs}.mlp.{layer}", False)
        rows += norm("final_norm", f"{t}norm", biases=False)
        return rows if spec.tied else [*rows, transposed("unembed.W_U", "lm_head.weight")]

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        return {"lm_head.weight": f"{self.trunk}embed_tokens.weight"} if spec.tied else {}


def _dropout_remark(dropout: float) -> tuple[str, ...]:
    said = (
        f"attention_dropout = {dropout} becomes the model's one dropout, which acts outside attention too, in training"
    )
    return (said,) if dropout else ()
