"""What can be said, before there is a model, of scoring it on whole documents: whether it can be, and with which
neighbours."""

from __future__ import annotations

from etude.core.errors import UsageError
from etude.evals.sites import shape_of
from etude.evals.sliding import check_stride
from etude.models.recipes import ModelRecipe
from etude.text.neighbours import check_k
from etude.text.recipes import NeighboursRecipe

CAUSAL = ("decoder", "retro")
"""Architectures that predict the next token at every position."""


def check_slides(of: ModelRecipe, stride: int) -> None:
    """Raise UsageError where a model predicts no next token, its text is no whole documents, or windows cannot slide by
    a stride; 0 leaves it open."""
    shape = shape_of(of)
    if shape is not None:
        check_causal(shape.name)
    if of.text.openings:
        raise UsageError(
            f"openings = {of.text.openings} are no whole documents: score a model of a text with openings 0"
        )
    if stride < 0:
        raise UsageError(f"stride = {stride}: give 0 for half the context, or a number")
    if stride and shape is not None:
        check_stride(stride, of.context)


def check_causal(name: str, what: str = "bits per byte are") -> None:
    """Raise UsageError where an architecture predicts no next token.

    Args:
        name: the architecture's.
        what: is asked of it, as the beginning of "... asked of models that predict the next token".
    """
    if name not in CAUSAL:
        raise UsageError(
            f"{what} asked of models that predict the next token, and this one is an {name}: choose a"
            f" {' or a '.join(CAUSAL)}"
        )


def check_given(of: ModelRecipe, near: NeighboursRecipe | None, k: int, stride: int) -> None:
    """Raise UsageError where a model cannot be given k neighbours of its text's chunks.

    Args:
        of: the model.
        near: where they are; None where nobody said.
        k: how many; 0 gives none.
        stride: of its windows, which have to begin with chunks; 0 leaves it open.
    """
    if k < 0:
        raise UsageError(f"k = {k}: give 0 for no retrieval, or how many neighbours the model is given")
    if not k:
        return
    if near is None:
        raise UsageError(f"k = {k} and no neighbours to take them from: name their run with --neighbours, or set --k 0")
    check_k(k, near.most)
    if near.text != of.text:
        raise UsageError("the neighbours are those of another text than the model is scored on: give those of this one")
    shape = shape_of(of)
    if shape is not None and not hasattr(shape, "chunk"):
        raise UsageError(f"a {shape.name} reads no neighbours: set --k 0, or choose a model trained with --model retro")
    if shape is not None and getattr(shape, "chunk", near.chunk) != near.chunk:
        raise UsageError(
            f"the model's chunks have {getattr(shape, 'chunk', 0)} tokens and the library's {near.chunk}: give"
            " neighbours of chunks of its own length"
        )
    if stride:
        check_stride(stride, of.context, near.chunk)


def trained_with(of: ModelRecipe) -> NeighboursRecipe | None:
    """Return the neighbours that a model was trained with, or None where it had none."""
    while isinstance(inner := getattr(of, "of", None), ModelRecipe):
        of = inner
    found = getattr(getattr(of, "objective", None), "neighbours", None)
    return found if isinstance(found, NeighboursRecipe) else None
