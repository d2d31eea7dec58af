"""A config.json being read: whatever in it is not asked for, and could change an answer, is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from etude.core.errors import UsageError

T = TypeVar("T", int, float, str, bool)

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Our activation by the name that transformers has for it."""

_HARMLESS: set[str] = {
    "_name_or_path", "_num_labels", "transformers.js_config",
    "_commit_hash", "_attn_implementation_autoset", "architectures", "model_type",
    "transformers_version", "torch_dtype", "dtype", "initializer_range", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "task_specific_params",
    "gradient_checkpointing", "output_attentions", "output_hidden_states", "output_past", "output_scores",
    "return_dict", "return_dict_in_generate", "tokenizer_class", "id2label", "label2id", "num_labels",
    "finetuning_task", "torchscript", "chunk_size_feed_forward", "keys_to_ignore_at_inference", "max_length",
    "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature",
    "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "num_return_sequences", "remove_invalid_values",
}  # fmt: skip
"""Fields of any configuration that say how it was made or used, and change no answer of the model."""

_REQUIRED: Any = object()


class Config:
    """The fields of a config.json, or of another header.

    Attributes:
        data: the fields.
        where: what messages call it.
    """

    def __init__(self, data: Mapping[str, Any], where: str = "config.json") -> None:
        self.data, self.where = data, where
        self._asked = _HARMLESS.copy()

    def take(self, name: str, kind: type[T], default: T | None = _REQUIRED) -> T:
        """Return a field, or the default where it is missing or null.

        Raises:
            UsageError: it is missing and has no default, or is of another kind.
        """
        self._asked.add(name)
        value = self.data.get(name)
        if value is None:
            if default is _REQUIRED or default is None:
                raise UsageError(f"{self.where} lacks {name}: it is no complete configuration; fetch it again")
            return default
        if kind is float and type(value) is int:
            return kind(value)
        if type(value) is not kind:
            raise UsageError(f"{self.where}: {name} = {value!r} is no {kind.__name__}; fetch it again")
        return value

    def only(self, name: str, *allowed: Any, why: str = "") -> None:
        """Raise UsageError where a field is there and has none of the allowed values. Null and a missing field pass."""
        self._asked.add(name)
        value = self.data.get(name)
        if value is not None and not any(value == choice and type(value) is type(choice) for choice in allowed):
            listed = " or ".join(map(repr, allowed)) or "nothing"
            because = f", since {why}" if why else ""
            raise UsageError(f"{self.where}: {name} = {value!r} is not supported: Etude reads {listed}{because}")

    def ignore(self, *names: str) -> None:
        """Take note of fields that change no answer."""
        self._asked.update(names)

    def activation(self, name: str, default: str) -> Any:
        """Return our name of an activation function."""
        self.only(name, *ACTIVATIONS)
        return ACTIVATIONS[self.take(name, str, default)]

    def rotary(self, old_base: str, old_fraction: str = "", fraction: float = 1.0) -> tuple[float, float]:
        """Return the base of the rotary angles and the part of each head that is turned, in both layouts: fields of
        their own, or together in `rope_parameters` (transformers 5).

        Args:
            old_base: the field of the base in the old layout.
            old_fraction: that of the part; empty where the format turns whole heads.
            fraction: its default.

        Raises:
            UsageError: the angles are scaled, or the two layouts differ.
        """
        self._asked |= {"rope_parameters", "rope_scaling"}
        rope = self.data.get("rope_parameters") or {}
        scaling = self.data.get("rope_scaling") or {}
        for name, held in (("rope_scaling", scaling), ("rope_parameters", rope)):
            kind = (held.get("rope_type") or held.get("type") or "default") if isinstance(held, dict) else held
            known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
            extra = sorted(held.keys() - known) if isinstance(held, dict) else []
            if kind != "default" or extra:
                said = f"{extra[0]} = {held[extra[0]]!r}" if extra and kind == "default" else f"type {kind!r}"
                raise UsageError(
                    f"{self.where}: {name} ({said}) is not supported: Etude turns by plain rotary angles, unscaled"
                )
        merged = {**scaling, **rope}
        base = self._either(old_base, merged.get("rope_theta"), 10_000.0)
        part = self._either(old_fraction or "partial_rotary_factor", merged.get("partial_rotary_factor"), fraction)
        if not old_fraction and part != 1.0:
            raise UsageError(f"{self.where}: partial_rotary_factor = {part} is not supported: here whole heads turn")
        return base, part

    def _either(self, old: str, new: Any, default: float) -> float:
        value = self.take(old, float, default if new is None else float(new))
        if new is not None and value != float(new):
            raise UsageError(f"{self.where}: {old} = {value} and rope_parameters says {new}: correct the wrong one")
        return value

    def finish(self) -> None:
        """Raise UsageError for the first field that nobody asked for, unless it is null, false or empty."""
        for name in sorted(self.data.keys() - self._asked):
            value = self.data[name]
            if value not in (None, False, "", [], {}):
                raise UsageError(
                    f"{self.where}: {name} = {str(value)[:60]!r} is not known to Etude and may change what the model"
                    " answers; where it does not, take it out of the file"
                )


def one_dropout(config: Config, names: Mapping[str, float]) -> tuple[float, tuple[str, ...]]:
    """Return the one dropout of a model whose configuration has several, and a remark where they differ.

    Args:
        config: what is read.
        names: the fields with their defaults; the first is the one that counts.
    """
    found = {name: config.take(name, float, default) for name, default in names.items()}
    (first, chosen), *others = found.items()
    odd = [f"{name} = {value}" for name, value in others if value != chosen]
    remark = f"{', '.join(odd)} becomes {chosen} as {first}: the model has one dropout, which acts in training alone"
    return chosen, (remark,) if odd else ()
