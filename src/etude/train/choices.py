"""What a training leaves to the machine, as values: decided before the recipe is named, and said in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude.core.machine import memory, multiplies_bf16
from etude.core.spec import AUTO

if TYPE_CHECKING:
    from etude.train.recipes import Train

CHUNK_FROM = 64 << 20
"""Bytes of scores in fp32 from which the chunked loss is chosen: below, the whole is as fast and has fewer parts."""

SHORT = 512
"""Positions up to which attention makes its pattern in bf16 on a CPU."""


def choices(recipe: Train) -> dict[str, Any]:
    """Return a value for each field of a training that is left at auto.

    Nothing here asks PyTorch, and a device is taken at its word: a plan can be made where the device is not.
    """
    chosen: dict[str, Any] = {}
    precision = recipe.precision
    if precision == AUTO:
        native = multiplies_bf16() if recipe.device == "cpu" else recipe.device.startswith("cuda")
        precision = chosen["precision"] = "bf16" if native else "fp32"
    if recipe.compiled == AUTO:
        chosen["compiled"] = "yes" if recipe.device.startswith("cuda") else "no"
    if recipe.chunked == AUTO:
        chosen["chunked"] = "yes" if score_bytes(recipe) > CHUNK_FROM else "no"
    if recipe.recompute == AUTO:
        room = memory() if recipe.device == "cpu" else 0
        chosen["recompute"] = "yes" if room and activation_bytes(recipe, precision) > room / 2 else "no"
    return chosen


def score_bytes(recipe: Train) -> int:
    """Return the bytes, in fp32, of the scores of one part of a batch: of every token at each position, or of every
    class for each text."""
    samples, classes = recipe.batch // recipe.accumulate, getattr(recipe.model, "classes", 0)
    if classes:
        return 4 * classes * samples
    return 4 * recipe.data.tokenizer.expected_vocabulary() * recipe.context * samples


def activation_bytes(recipe: Train, precision: str) -> int:
    """Return about how many bytes one part of a batch keeps for its backward pass, without the scores.

    Attention keeps the stream that it read, what its norm made of that, queries, keys, values and their mix; the
    feed-forward network the first two again and its hidden numbers before and after the activation. The stream is fp32
    in any precision. The pattern is kept where no fused kernel does without it, which is a CPU's matter, see
    `etude.nn.dot_product.fused_attention`. tests/train/test_choices.py holds this against what PyTorch keeps.

    Args:
        recipe: the training.
        precision: of the matrix products, settled.
    """
    model, on_cpu, length = recipe.model, recipe.device == "cpu", recipe.context
    low = 2 if precision == "bf16" else 4
    short = precision == "bf16" and length <= SHORT
    inside = low if short or not on_cpu else 4
    attention = model.width * (4 + low + 4 * inside)
    hidden = (1 if model.activation == "relu" else 2) + (2 if model.gated else 0)
    feed_forward = model.width * (low + (0 if model.parallel else 4)) + model.feedforward * hidden * low
    if model.dropout:
        attention += model.width * low
        feed_forward += model.width * low
    if on_cpu and (short or model.dropout):
        attention += model.heads * length * inside * (3 if model.dropout else 1)
    each = attention + (0 if model.attention_only else feed_forward)
    sides = getattr(model, "encoder_depth", 0)  # an encoder's layers, and the decoder's second attention
    kept = each * (model.layers + sides) + attention * (model.layers if sides else 0)
    return kept * length * (recipe.batch // recipe.accumulate)


def said(recipe: Train) -> str:
    """Return the line that says how a training will be done, with the flag that changes each choice."""
    parts = [
        f"{recipe.precision} (--precision)",
        f"{'compiled' if recipe.compiled == 'yes' else 'eager'} (--compiled)",
        f"{'chunked' if recipe.chunked == 'yes' else 'whole'} loss (--chunked)",
        f"activations {'made again' if recipe.recompute == 'yes' else 'kept'} (--recompute)",
    ]
    return f"{recipe.id} on {recipe.device}: " + ", ".join(parts)
