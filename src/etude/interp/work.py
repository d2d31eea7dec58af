"""The work of looking inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.interp.patterns import attention_patterns, patterns_of_two
from etude.interp.recipes import Patterns
from etude.interp.subject import subject
from etude.models.encoder_decoder_model import EncoderDecoderModel
from etude.models.encoder_model import EncoderModel
from etude.text.framing import Frame
from etude.text.tokenizers.live import Tokenizer


def patterns(recipe: Patterns, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read the attention patterns of a text and keep them, with its tokens, for a report to draw.

    What does not fit into the model's context is left out, and `cut` says how many tokens that were.
    """
    model, tokenizer, notices = subject(inputs[recipe.of])
    if isinstance(model, EncoderDecoderModel):
        return {**_of_two(model, tokenizer, recipe, run), "notices": list(notices)}
    if recipe.source:
        raise UsageError(f"an {model.spec.name} reads one text: leave --source out, or name an encoder-decoder")
    every = tokenizer.encode(recipe.text)
    if isinstance(model, EncoderModel):
        frame = Frame.of(tokenizer)
        ids = [frame.first, *every[: recipe.of.context - 2], frame.separator]
        cut = len(every) - (len(ids) - 2)
    else:
        ids = every[: recipe.of.context]
        cut = len(every) - len(ids)
    read = attention_patterns(model, torch.tensor([ids]))[0]
    run.save("patterns.safetensors", {"patterns": read.numpy().astype(np.float32)})
    layers, heads = read.shape[:2]
    return {
        "tokens": _pieces(tokenizer, ids),
        "ids": ids,
        "cut": cut,
        "layers": layers,
        "heads": heads,
        "notices": list(notices),
    }


def _of_two(model: EncoderDecoderModel, tokenizer: Tokenizer, recipe: Patterns, run: Draft) -> dict[str, Any]:
    """Read a source and what is written of it: the patterns of both stacks, and those across."""
    if not recipe.source:
        raise UsageError("an encoder-decoder reads a source and writes a text: give the source too, with --source")
    context = recipe.of.context
    written, source = tokenizer.encode(recipe.text), tokenizer.encode(recipe.source)
    ids, read = [tokenizer.end, *written[: context - 1]], [*source[: context - 1], tokenizer.end]
    seen = patterns_of_two(model, torch.tensor([ids]), torch.tensor([read]))
    names = {"patterns": seen.written, "cross": seen.across, "encoder": seen.read}
    run.save("patterns.safetensors", {name: x[0].numpy().astype(np.float32) for name, x in names.items()})
    layers, heads = seen.across.shape[1:3]
    return {
        "tokens": _pieces(tokenizer, ids),
        "ids": ids,
        "source_tokens": _pieces(tokenizer, read),
        "source_ids": read,
        "cut": len(written) + len(source) + 2 - len(ids) - len(read),
        "layers": layers,
        "heads": heads,
    }


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    return [tokenizer.piece(i) for i in ids]
