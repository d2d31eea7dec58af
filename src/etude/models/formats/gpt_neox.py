"""GPT-NeoX's format, in which Pythia is written down (Black et al. 2022; Biderman et al. 2023)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.formats._config import Config, one_dropout
from etude.models.formats._fitting import ACTIVATION_NAMES, own_keys, require, require_attention
from etude.models.formats._rows import dense, heads_write, norm, plain, transposed
from etude.models.formats.base import Format, Reading, Row

if TYPE_CHECKING:
    from torch import Tensor

_TARGET = "GPTNeoXForCausalLM"


@dataclass(frozen=True)
class GptNeox(Format):
    """GPT-NeoX and Pythia: rotary positions on part of each head, layer norm, biases, mostly parallel parts. Queries,
    keys and values stand together head by head."""

    model_types: ClassVar[tuple[str, ...]] = ("gpt_neox",)
    classes: ClassVar[tuple[str, ...]] = (_TARGET,)
    trunk: ClassVar[str] = "gpt_neox."
    heads: ClassVar[tuple[str, ...]] = ("embed_out.",)
    ignorable: ClassVar[tuple[str, ...]] = (
        r"\.attention\.bias$",
        r"\.attention\.masked_bias$",
        r"\.rotary_emb\.inv_freq$",
    )

    def read(self, config: Config, names: Collection[str]) -> Reading:
        config.only("attention_bias", True)
        config.only("is_decoder", False, True)
        config.ignore("classifier_dropout")
        base, fraction = config.rotary("rotary_emb_base", "rotary_pct", 0.25)
        dropout, remarks = one_dropout(config, {"hidden_dropout": 0.0, "attention_dropout": 0.0})
        width = config.take("hidden_size", int)
        spec = Decoder(
            layers=config.take("num_hidden_layers", int),
            width=width,
            heads=config.take("num_attention_heads", int),
            feedforward=config.take("intermediate_size", int),
            context=config.take("max_position_embeddings", int, 2048),
            positions="rotary",
            norm_epsilon=config.take("layer_norm_eps", float, 1e-5),
            activation=config.activation("hidden_act", "gelu"),
            parallel=config.take("use_parallel_residual", bool, True),
            tied=config.take("tie_word_embeddings", bool, False),
            dropout=dropout,
            rotary_base=base,
            rotary_fraction=fraction,
        )
        _require_pairs(spec)
        return Reading(spec, config.take("vocab_size", int), remarks)

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        fixed = {"positions": "rotary", "norm": "layer", "norm_at": "pre", "biases": True, "gated": False}
        require(spec, _TARGET, Decoder, **fixed, unembed_bias=False, kv_heads=own_keys(spec))
        require_attention(spec, _TARGET, "full")
        _require_pairs(spec)
        angles = {"rope_theta": spec.rotary_base, "partial_rotary_factor": spec.rotary_fraction}
        return {
            "architectures": [_TARGET],
            "model_type": "gpt_neox",
            "vocab_size": vocabulary,
            "num_hidden_layers": spec.layers,
            "hidden_size": spec.width,
            "num_attention_heads": spec.heads,
            "intermediate_size": spec.feedforward,
            "max_position_embeddings": spec.context,
            "layer_norm_eps": spec.norm_epsilon,
            "hidden_act": ACTIVATION_NAMES[spec.activation],
            "use_parallel_residual": spec.parallel,
            "attention_bias": True,
            "tie_word_embeddings": spec.tied,
            "rotary_emb_base": spec.rotary_base,
            "rotary_pct": spec.rotary_fraction,
            "rope_parameters": {"rope_type": "default", **angles},
            **dict.fromkeys(("hidden_dropout", "attention_dropout"), spec.dropout),
        }

    def table(self, spec: Architecture) -> list[Row]:
        t = self.trunk
        rows = [plain("embed.W_E", f"{t}embed_in.weight")]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"{t}layers.{n}"
            rows += norm(f"{ours}.attn_norm", f"{theirs}.input_layernorm")
            rows += norm(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm")
            rows += _fused(f"{ours}.attn", f"{theirs}.attention.query_key_value", spec.heads)
            rows += heads_write(f"{ours}.attn", f"{theirs}.attention.dense", spec.heads)
            rows += dense(f"{ours}.mlp", "in", f"{theirs}.mlp.dense_h_to_4h")
            rows += dense(f"{ours}.mlp", "out", f"{theirs}.mlp.dense_4h_to_h")
        rows += norm("final_norm", f"{t}final_layer_norm")
        return rows if spec.tied else [*rows, transposed("unembed.W_U", "embed_out.weight")]

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        return {"embed_out.weight": f"{self.trunk}embed_in.weight"} if spec.tied else {}


def _require_pairs(spec: Architecture) -> None:
    """Raise UsageError where the turned part of a head is an odd number of coordinates: the class then turns one more,
    by other angles, and we one less."""
    turned = int(spec.head_width * spec.rotary_fraction)
    if turned % 2:
        raise UsageError(
            f"rotary_fraction = {spec.rotary_fraction} of heads of {spec.head_width} turns {turned} coordinates, which"
            f" are no pairs: a {_TARGET} and Etude differ in what they do with the odd one"
        )


def _fused(ours: str, theirs: str, heads: int) -> list[Row]:
    """Return the rows of queries, keys and values in one, head by head: [H·3·K, D] and [H·3·K]."""
    import torch

    def take(x: Tensor) -> tuple[Tensor, ...]:
        every = x.unflatten(0, (heads, 3, -1))  # H 3 K (D)
        each = every.unbind(1)
        return each if x.ndim == 1 else tuple(one.permute(2, 0, 1) for one in each)

    def give(held: tuple[Tensor, ...]) -> Tensor:
        each = held if held[0].ndim == 2 else tuple(one.permute(1, 2, 0) for one in held)
        return torch.stack(each, dim=1).flatten(0, 2)

    letters = "QKV"
    return [
        Row(tuple(f"{ours}.W_{x}" for x in letters), f"{theirs}.weight", take, give),
        Row(tuple(f"{ours}.b_{x}" for x in letters), f"{theirs}.bias", take, give),
    ]
