"""DistilBERT's format (Sanh et al. 2019, and transformers' class)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.models.formats._config import Config, one_dropout
from etude.models.formats._fitting import ACTIVATION_NAMES, require
from etude.models.formats._rows import dense, heads_read, heads_write, norm, plain, transposed
from etude.models.formats.base import Format, Reading, Row
from etude.models.formats.bert import require_encoder

_TARGET = "DistilBertForMaskedLM"
_EPSILON = 1e-12
"""The class has no field for it."""


@dataclass(frozen=True)
class Distilbert(Format):
    """DistilBERT: BERT without segments and without a next-sentence head."""

    model_types: ClassVar[tuple[str, ...]] = ("distilbert",)
    classes: ClassVar[tuple[str, ...]] = (_TARGET,)
    trunk: ClassVar[str] = "distilbert."
    heads: ClassVar[tuple[str, ...]] = ("vocab_",)
    ignorable: ClassVar[tuple[str, ...]] = (r"\.embeddings\.position_ids$",)

    def read(self, config: Config, names: Collection[str]) -> Reading:
        config.ignore("qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds")  # the sinusoids stand in the file
        config.only("tie_weights_", True)
        dropout, remarks = one_dropout(config, {"dropout": 0.1, "attention_dropout": 0.1})
        spec = Encoder(
            layers=config.take("n_layers", int),
            width=config.take("dim", int),
            heads=config.take("n_heads", int),
            feedforward=config.take("hidden_dim", int),
            context=config.take("max_position_embeddings", int, 512),
            norm_at="post",
            norm_epsilon=_EPSILON,
            activation=config.activation("activation", "gelu"),
            tied=config.take("tie_word_embeddings", bool, True),
            dropout=dropout,
            pooling="first",
            head="bert",
            norm_embeddings=True,
        )
        return Reading(spec, config.take("vocab_size", int), remarks)

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        require_encoder(spec, _TARGET)
        require(spec, _TARGET, Encoder, segments=0, classes=0, next_sentence=False, norm_epsilon=_EPSILON)
        return {
            "architectures": [_TARGET],
            "model_type": "distilbert",
            "vocab_size": vocabulary,
            "n_layers": spec.layers,
            "dim": spec.width,
            "n_heads": spec.heads,
            "hidden_dim": spec.feedforward,
            "max_position_embeddings": spec.context,
            "activation": ACTIVATION_NAMES[spec.activation],
            "sinusoidal_pos_embds": False,
            "tie_word_embeddings": spec.tied,
            **dict.fromkeys(("dropout", "attention_dropout"), spec.dropout),
        }

    def table(self, spec: Architecture) -> list[Row]:
        t, heads = self.trunk, spec.heads
        rows = [
            plain("embed.W_E", f"{t}embeddings.word_embeddings.weight"),
            plain("embed.W_pos", f"{t}embeddings.position_embeddings.weight"),
            *norm("embed.norm", f"{t}embeddings.LayerNorm"),
        ]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"{t}transformer.layer.{n}"
            for letter in "QKV":
                rows += heads_read(f"{ours}.attn", letter, f"{theirs}.attention.{letter.lower()}_lin", heads)
            rows += heads_write(f"{ours}.attn", f"{theirs}.attention.out_lin", heads)
            rows += norm(f"{ours}.attn_norm", f"{theirs}.sa_layer_norm")
            rows += dense(f"{ours}.mlp", "in", f"{theirs}.ffn.lin1") + dense(f"{ours}.mlp", "out", f"{theirs}.ffn.lin2")
            rows += norm(f"{ours}.mlp_norm", f"{theirs}.output_layer_norm")
        rows += dense("transform", "dense", "vocab_transform") + norm("transform.norm", "vocab_layer_norm")
        if spec.tied:
            return [*rows, plain("b_U", "vocab_projector.bias")]
        rows += [transposed("unembed.W_U", "vocab_projector.weight"), plain("unembed.b_U", "vocab_projector.bias")]
        return rows

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        tied = {"vocab_projector.weight": f"{self.trunk}embeddings.word_embeddings.weight"}
        return tied if spec.tied else {}
