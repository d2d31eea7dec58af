"""BERT's format (Devlin et al. 2019, and transformers' classes): masked language model, with the next-sentence head
where it has one, classifier, and the encoder alone, as sentence encoders come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from etude.core.errors import UsageError
from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.models.formats._config import Config, one_dropout
from etude.models.formats._fitting import ACTIVATION_NAMES, own_keys, require, require_attention
from etude.models.formats._rows import dense, heads_read, heads_write, norm, plain, transposed
from etude.models.formats.base import Format, Reading, Row

_CLASSIFIER = "BertForSequenceClassification"
_ALONE = "the file holds the encoder alone: its vectors are BERT's, and what scores tokens was never trained"


@dataclass(frozen=True)
class Bert(Format):
    """BERT: learned positions, two segments, layer norm after each part and after the embeddings."""

    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    classes: ClassVar[tuple[str, ...]] = ("BertForMaskedLM", "BertForPreTraining", _CLASSIFIER, "BertModel")
    trunk: ClassVar[str] = "bert."
    heads: ClassVar[tuple[str, ...]] = ("cls.", "classifier.")
    ignorable: ClassVar[tuple[str, ...]] = (r"\.embeddings\.position_ids$", r"^pooler\.")

    def read(self, config: Config, names: Collection[str]) -> Reading:
        config.only("is_decoder", False)
        config.only("add_cross_attention", False)
        config.only("position_embedding_type", "absolute")
        config.only("problem_type", "single_label_classification")
        fields = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
        classifier = _CLASSIFIER in (config.data.get("architectures") or [])
        dropout, remarks = one_dropout(config, fields)
        config.ignore("classifier_dropout", "directionality")
        config.ignore(*(name for name in config.data if name.startswith("pooler_")))  # of the code before transformers
        alone = not any(name.startswith(self.heads) for name in names)
        classes = 0
        if classifier:
            classes = len(config.data.get("id2label") or {}) or config.take("num_labels", int, 2)
        tied = (config.take("tie_word_embeddings", bool, True) or alone) and not classifier
        spec = Encoder(
            layers=config.take("num_hidden_layers", int),
            width=config.take("hidden_size", int),
            heads=config.take("num_attention_heads", int),
            feedforward=config.take("intermediate_size", int),
            context=config.take("max_position_embeddings", int, 512),
            norm_at="post",
            norm_epsilon=config.take("layer_norm_eps", float, 1e-12),
            activation=config.activation("hidden_act", "gelu"),
            tied=tied,
            dropout=dropout,
            classes=classes,
            pooling="first",
            head="linear" if alone and not classifier else "bert",
            segments=config.take("type_vocab_size", int, 2),
            norm_embeddings=True,
            next_sentence=not classifier and "cls.seq_relationship.weight" in names,
        )
        return Reading(spec, config.take("vocab_size", int), (*remarks, *([_ALONE] if spec.head == "linear" else [])))

    def write(self, spec: Architecture, vocabulary: int) -> dict[str, Any]:
        target = "BertForMaskedLM"
        require_encoder(spec, target)
        assert isinstance(spec, Encoder)
        if not spec.segments:
            raise UsageError(f"segments = 0 cannot be a {target}, which has 2; DistilBertForMaskedLM has none")
        if spec.classes and spec.pooling != "first":
            raise UsageError(f"pooling = {spec.pooling} cannot be a {_CLASSIFIER}, which reads the first token")
        labels = {str(number): f"LABEL_{number}" for number in range(spec.classes)}
        said = {"id2label": labels, "label2id": {name: int(number) for number, name in labels.items()}}
        kind = _CLASSIFIER if spec.classes else "BertForPreTraining" if spec.next_sentence else target
        return {
            "architectures": [kind],
            "model_type": "bert",
            "vocab_size": vocabulary,
            "num_hidden_layers": spec.layers,
            "hidden_size": spec.width,
            "num_attention_heads": spec.heads,
            "intermediate_size": spec.feedforward,
            "max_position_embeddings": spec.context,
            "layer_norm_eps": spec.norm_epsilon,
            "hidden_act": ACTIVATION_NAMES[spec.activation],
            "type_vocab_size": spec.segments,
            "tie_word_embeddings": spec.tied or spec.classes > 0,
            **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), spec.dropout),
            **(said if labels else {}),
        }

    def table(self, spec: Architecture) -> list[Row]:
        assert isinstance(spec, Encoder)
        t, heads = self.trunk, spec.heads
        rows = [
            plain("embed.W_E", f"{t}embeddings.word_embeddings.weight"),
            plain("embed.W_pos", f"{t}embeddings.position_embeddings.weight"),
            plain("embed.W_seg", f"{t}embeddings.token_type_embeddings.weight"),
            *norm("embed.norm", f"{t}embeddings.LayerNorm"),
        ]
        for n in range(spec.layers):
            ours, theirs = f"layers.{n}", f"{t}encoder.layer.{n}"
            for letter, name in (("Q", "query"), ("K", "key"), ("V", "value")):
                rows += heads_read(f"{ours}.attn", letter, f"{theirs}.attention.self.{name}", heads)
            rows += heads_write(f"{ours}.attn", f"{theirs}.attention.output.dense", heads)
            rows += norm(f"{ours}.attn_norm", f"{theirs}.attention.output.LayerNorm")
            rows += dense(f"{ours}.mlp", "in", f"{theirs}.intermediate.dense")
            rows += dense(f"{ours}.mlp", "out", f"{theirs}.output.dense")
            rows += norm(f"{ours}.mlp_norm", f"{theirs}.output.LayerNorm")
        return rows + self._head(spec)

    def _head(self, spec: Encoder) -> list[Row]:
        if spec.head == "linear":
            return []
        pooler = dense("pool", "dense", f"{self.trunk}pooler.dense")
        if spec.classes:
            return [*pooler, *dense("unembed", "U", "classifier")]
        rows = dense("transform", "dense", "cls.predictions.transform.dense")
        rows += norm("transform.norm", "cls.predictions.transform.LayerNorm")
        if spec.tied:
            rows += [plain("b_U", "cls.predictions.bias")]
        else:
            rows += [transposed("unembed.W_U", "cls.predictions.decoder.weight")]
            rows += [plain("unembed.b_U", "cls.predictions.bias")]
        return [*rows, *pooler, *dense("follows", "U", "cls.seq_relationship")] if spec.next_sentence else rows

    def canonical(self, name: str, trunk: bool) -> str:
        """Return the name that a tensor has in the table. A file of the encoder alone has no prefix, and a pooler that
        nothing reads."""
        return name if not trunk and name.startswith("pooler.") else super().canonical(name, trunk)

    def twins(self, spec: Architecture) -> Mapping[str, str]:
        tied = {"cls.predictions.decoder.weight": f"{self.trunk}embeddings.word_embeddings.weight"}
        return {"cls.predictions.decoder.bias": "cls.predictions.bias", **(tied if spec.tied else {})}


def require_encoder(spec: Architecture, target: str) -> None:
    """Raise UsageError where an encoder has not the shape that BERT and its kin share."""
    fixed = {"positions": "learned", "norm": "layer", "norm_at": "post", "biases": True, "gated": False}
    require(spec, target, Encoder, **fixed, head="bert", norm_embeddings=True, kv_heads=own_keys(spec))
    require_attention(spec, target, "full")
