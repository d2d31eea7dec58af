"""A model of ours as a folder that transformers loads and goes on training: weights, configuration, tokenizer, card."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.family import Family
from etude.core.files import write_json, write_text
from etude.models.architectures.base import Architecture
from etude.models.architectures.encoder import Encoder
from etude.models.formats.base import Format
from etude.models.incoming import DTYPES, check_tokenizer
from etude.models.sources import CONFIG, WEIGHTS
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, Tokenizer


def export(
    model: Transformer,
    tokenizer: Tokenizer,
    folder: Path,
    card: str,
    dtype: Literal["fp32", "bf16", "fp16"] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a folder as transformers' `save_pretrained` does, and return its configuration.

    Every weight is the one we have, number by number, unless another dtype is asked for.

    Args:
        model: what to write.
        tokenizer: its tokenizer.
        folder: where to.
        card: the text of README.md.
        dtype: precision of the weights; None is the one they have.
        force: whether a folder that holds something may be written to. Files of other names stay, but for weights.

    Raises:
        UsageError: no format can say the architecture, or the folder holds something.
    """
    folder = Path(os.path.abspath(folder))
    chosen, config = format_for(model.spec, model.vocabulary)
    check_tokenizer(tokenizer, model.vocabulary, "the export")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (force and folder.is_dir()):
        raise UsageError(f"{str(folder)!r} holds something already: give another folder, or --force to write over it")
    weights = weights_of(model, chosen, DTYPES[dtype] if dtype else None)
    config["dtype"] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        tokenizer.save(partial)
        (partial / KIND_FILE).unlink(missing_ok=True)  # of Etude's own
        if not isinstance(model.spec, Encoder):
            _begin_with_first(tokenizer, partial / TOKENIZER_FILE)
        said = _settings(model.spec, tokenizer, partial / TOKENIZER_FILE)
        config |= _ids(model.spec, tokenizer)
        write_json(partial / CONFIG, config)
        write_json(partial / "tokenizer_config.json", said)
        if not isinstance(model.spec, Encoder):
            filler = tokenizer.specials.get("pad", tokenizer.end)
            write_json(partial / "generation_config.json", {**_ids(model.spec, tokenizer), "pad_token_id": filler})
        write_text(partial / "README.md", card)
        save_file(weights, partial / WEIGHTS, {"format": "pt"})
        (partial / WEIGHTS).chmod((partial / CONFIG).stat().st_mode)  # the library lets nobody else read it
        _move(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return config


def format_for(spec: Architecture, vocabulary: int) -> tuple[Format, dict[str, Any]]:
    """Return the first format that can say an architecture, and the configuration.

    Raises:
        UsageError: none can; the message says of each what does not fit.
    """
    formats = [cls() for cls in Family("models/formats") if issubclass(cls, Format) and cls.classes]
    reasons: list[str] = []
    for chosen in formats:
        try:
            return chosen, chosen.write(spec, vocabulary)
        except UsageError as error:
            if (reason := str(error)) not in reasons and not reason.startswith("a model of kind"):
                reasons.append(reason)
    kind = f"a model of kind {spec.name} cannot be written in any format"
    raise UsageError(f"no format of the ecosystem has this architecture: {'; '.join(reasons) or kind}")


def weights_of(model: Transformer, chosen: Format, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Return a model's weights under the names, and in the shapes, of a format."""
    held = model.state_dict()
    rows = chosen.table(model.spec)
    found = {row.theirs: row.give(tuple(held[name].cpu() for name in row.ours)).contiguous() for row in rows}
    return {name: value if dtype is None else value.to(dtype) for name, value in found.items()}


def _ids(spec: Architecture, tokenizer: Tokenizer) -> dict[str, int | None]:
    """Return the special tokens' ids as configurations have them; null, not a class's default, where there is none."""
    pad = tokenizer.specials.get("pad")
    if isinstance(spec, Encoder):
        return {"pad_token_id": pad}
    return {"bos_token_id": tokenizer.specials.get("first", tokenizer.end), "eos_token_id": tokenizer.end,
            "pad_token_id": pad}  # fmt: skip


def _settings(spec: Architecture, tokenizer: Tokenizer, file: Path) -> dict[str, Any]:
    """Return the `tokenizer_config.json` that makes transformers' AutoTokenizer take `tokenizer.json` as it is."""
    from tokenizers import Tokenizer as Library

    letters = Library.from_str(file.read_text(encoding="utf-8")).id_to_token
    names = {"pad": "pad_token", "mask": "mask_token", "separator": "sep_token"}
    names["first"] = "cls_token" if isinstance(spec, Encoder) else "bos_token"
    segments = ["token_type_ids"] if isinstance(spec, Encoder) and spec.segments else []
    tokens = {names[role]: letters(id) for role, id in tokenizer.specials.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.context,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", *segments, "attention_mask"],
        "eos_token": letters(tokenizer.end),
        **tokens,
    }


def _begin_with_first(tokenizer: Tokenizer, file: Path) -> None:
    """Have the ecosystem's reader put the `first` token before a text, as Etude does when it reads a prompt. A file
    that came with such a rule keeps it."""
    from tokenizers import Tokenizer as Library
    from tokenizers.processors import Sequence, TemplateProcessing

    first = tokenizer.specials.get("first")
    library = Library.from_str(file.read_text(encoding="utf-8"))
    if first is None or library.encode("a").ids[:1] == [first]:
        return
    name = library.id_to_token(first)
    template = TemplateProcessing(single=f"{name} $A", pair=f"{name} $A $B:1", special_tokens=[(name, first)])
    library.post_processor = Sequence([library.post_processor, template] if library.post_processor else [template])
    write_text(file, library.to_str(pretty=True))


def _move(partial: Path, folder: Path) -> None:
    """Put the files of one folder into another, in place of those of the same names and of all weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("model*.safetensors*"):
        stale.unlink()
    for file in sorted(partial.iterdir()):
        os.replace(file, folder / file.name)
