"""GPT-2's format, which distilGPT-2 and models of GPT's shape share (Radford et al. 2019, and transformers' class)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.formats._config import Config, one_dropout
from etude.models.formats._fitting import ACTIVATION_NAMES, own_keys, require, require_attention
from etude.models.formats._rows import norm, plain, transposed
from etude.models.formats.base import Format, Reading, Row

if TYPE_CHECKING:
    from torch import Tensor

_TARGET = "GPT2LMHeadModel"


@dataclass(frozen=True)
class Gpt2(Format):
    """GPT-2 and distilGPT-2: learned positions, layer norm before each part, biases. Its maps are stored as ours are,
    [in, out], with queries, keys and values side by side in one."""

    model_types: ClassVar[tuple[str, ...]] = ("gpt2",)
    classes: ClassVar[tuple[str, ...]] = (_TARGET, "GPT2Model")
    trunk: ClassVar[str] = "transformer."
    heads: ClassVar[tuple[str, ...]] = ("lm_head.",)
    ignorable: ClassVar[tuple[str, ...]] = (r"\.attn\.bias$", r"\.attn\.masked_bias$")

    def read(self, config: Config, names: Collection[str]) -> Reading:
        config.only("scale_attn_weights", True)
        config.only("scale_attn_by_inverse_layer_idx", False)
        config.only("add_cross_attention", False)
        config.ignore(
            "n_ctx", "reorder_and_upcast_attn", *(name for name in config.data if name.startswith("summary_"))
        )
        width = config.take("n_embd", int)
        dropout, remarks = one_dropout(config, {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1})
        spec = Decoder(
            layers=config.take("n_layer", int),
            width=width,
            heads=config.take("n_head", int),
            feedforward=config.take("n_inner", int, 4 * width),
            context=config.take("n_positions", int, 1024),
            norm_epsilon=config.take("layer_norm_epsilon", float, 1e-5),
            activation=config.activation("activation_function", "gelu_new"),
            tied=config.take("tie_word_embeddings", bool, True),
            dropout=dropout,
        )
        return Reading(spec, config.take("vocab_size", int), remarks)

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        fixed = {"positions": "learned", "norm": "layer", "norm_at": "pre", "biases": True, "gated": False}
        require(spec, _TARGET, Decoder, **fixed, parallel=False, unembed_bias=False, kv_heads=own_keys(spec))
        require_attention(spec, _TARGET, "full")
        return {
            "architectures": [_TARGET],
            "model_type": "gpt2",
            "vocab_size": vocabulary,
            "n_layer": spec.layers,
            "n_embd": spec.width,
            "n_head": spec.heads,
            "n_inner": spec.feedforward,
            "n_positions": spec.context,
            "layer_norm_epsilon": spec.norm_epsilon,
            "activation_function": ACTIVATION_NAMES[spec.activation],
            "tie_word_embeddings": spec.tied,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), spec.dropout),
        }

    def table(self, spec: Architecture) -> list[Row]:
        t, heads = self.trunk, spec.heads
        rows = [plain("embed.W_E", f"{t}wte.weight"), plain("embed.W_pos", f"{t}wpe.weight")]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"{t}h.{n}"
            rows += norm(f"{ours}.attn_norm", f"{theirs}.ln_1") + norm(f"{ours}.mlp_norm", f"{theirs}.ln_2")
            rows += _fused(f"{ours}.attn", f"{theirs}.attn.c_attn", heads)
            rows += [_from_heads(f"{ours}.attn.W_O", f"{theirs}.attn.c_proj.weight", heads)]
            rows += [plain(f"{ours}.attn.b_O", f"{theirs}.attn.c_proj.bias")]
            for name, layer in (("in", "c_fc"), ("out", "c_proj")):
                rows += [plain(f"{ours}.mlp.W_{name}", f"{theirs}.mlp.{layer}.weight")]
                rows += [plain(f"{ours}.mlp.b_{name}", f"{theirs}.mlp.{layer}.bias")]
        rows += norm("final_norm", f"{t}ln_f")
        return rows if spec.tied else [*rows, transposed("unembed.W_U", "lm_head.weight")]

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        return {"lm_head.weight": f"{self.trunk}wte.weight"} if spec.tied else {}


def _fused(ours: str, theirs: str, heads: int) -> list[Row]:
    """Return the rows of queries, keys and values in one: [D, 3·H·K] and [3·H·K]."""
    import torch

    def take(x: Tensor) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (3, heads, -1)).unbind(-3)

    def give(held: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(held, dim=-3).flatten(-3)

    letters = "QKV"
    return [
        Row(tuple(f"{ours}.W_{x}" for x in letters), f"{theirs}.weight", take, give),
        Row(tuple(f"{ours}.b_{x}" for x in letters), f"{theirs}.bias", take, give),
    ]


def _from_heads(ours: str, theirs: str, heads: int) -> Row:
    return Row((ours,), theirs, lambda x: (x.unflatten(0, (heads, -1)),), lambda held: held[0].flatten(0, 1))
