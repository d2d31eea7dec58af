"""What a training leaves to the machine, as values: decided before the recipe is named, and said in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude.core.machine import memory, multiplies_bf16
from etude.core.spec import AUTO

if TYPE_CHECKING:
    from etude.train.recipes import Train

CHUNK_FROM = 64 << 20
"""Bytes of scores in fp32 from which the chunked loss is chosen: below, the whole is as fast and has fewer parts."""


def choices(recipe: Train) -> dict[str, Any]:
    """Return a value for each field of a training that is left at auto.

    Nothing here asks PyTorch, and a device is taken at its word: a plan can be made where the device is not.
    """
    chosen: dict[str, Any] = {}
    if recipe.precision == AUTO:
        native = multiplies_bf16() if recipe.device == "cpu" else recipe.device.startswith("cuda")
        chosen["precision"] = "bf16" if native else "fp32"
    if recipe.compiled == AUTO:
        chosen["compiled"] = "yes" if recipe.device.startswith("cuda") else "no"
    if recipe.chunked == AUTO:
        chosen["chunked"] = "yes" if score_bytes(recipe) > CHUNK_FROM else "no"
    if recipe.recompute == AUTO:
        room = memory() if recipe.device == "cpu" else 0
        chosen["recompute"] = "yes" if room and activation_bytes(recipe) > room / 2 else "no"
    return chosen


def score_bytes(recipe: Train) -> int:
    """Return the bytes, in fp32, of the scores of one part of a batch."""
    scored = recipe.data.tokenizer.expected_vocabulary()
    return 4 * scored * recipe.context * (recipe.batch // recipe.accumulate)


def activation_bytes(recipe: Train) -> int:
    """Return about how many bytes one part of a batch keeps for its backward pass, without the scores: some 16 numbers
    of the width for each layer and position (norms, queries, keys, values, what is written), and 3 of the feed-forward
    width (Korthikanti et al. 2022, section 4.1; the fused kernel does not keep the attention pattern)."""
    model = recipe.model
    each = 16 * model.width + 3 * model.feedforward * (2 if model.gated else 1)
    number = 2 if recipe.precision == "bf16" else 4
    return number * each * model.layers * recipe.context * (recipe.batch // recipe.accumulate)


def said(recipe: Train) -> str:
    """Return the line that says how a training will be done, with the flag that changes each choice."""
    parts = [
        f"{recipe.precision} (--precision)",
        f"{'compiled' if recipe.compiled == 'yes' else 'eager'} (--compiled)",
        f"{'chunked' if recipe.chunked == 'yes' else 'whole'} loss (--chunked)",
        f"activations {'made again' if recipe.recompute == 'yes' else 'kept'} (--recompute)",
    ]
    return f"{recipe.id} on {recipe.device}: " + ", ".join(parts)
