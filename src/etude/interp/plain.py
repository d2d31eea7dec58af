"""A model made plain: another model of the same predictions, whose weights are what its circuits say.

A model has freedoms that its predictions do not show: where a norm's weights stand, what is added to all coordinates of
the stream before a norm takes it away again, what is added to all logits, which bias holds a constant. Each function
here uses up one of them and returns a new model. Log-probabilities are unchanged, and what is read off the weights
afterwards (`etude.interp.circuits`) is no artefact of that freedom. TransformerLens does the same as a model is loaded
there (Nanda and Bloom 2022, `fold_ln`, `center_writing_weights`, `center_unembed`, `fold_value_biases`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from etude.core.errors import UsageError
from etude.models.architectures.decoder import Decoder
from etude.models.decoder_model import DecoderModel
from etude.models.hollow import hollow, materialised
from etude.nn.multi_head import shared
from etude.nn.norm import centred

Weights = dict[str, Tensor]
Step = Callable[[Decoder, Weights], Decoder]
"""Changes weights, and returns the architecture that they are then of."""

_WRITERS = ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out")
"""What is added to the stream: the last axis of each is D."""


def plain(model: DecoderModel) -> DecoderModel:
    """Return the model with all done that applies: `folded_norms`, `folded_value_biases`, `centred_writing` where the
    norm is layer norm, and `centred_unembedding`. Norms come first, since folding them
    changes the value biases.

    Raises:
        UsageError: its norms come after each addition.
    """
    layer_norm = [_centre_writing] if model.spec.norm == "layer" else []
    return _changed(model, _fold_norms, _fold_value_biases, *layer_norm, _centre_unembedding)


def folded_norms(model: DecoderModel) -> DecoderModel:
    """Return the model with every norm's w and b moved into the weights that read it; its norms keep a w of 1 and a b
    of 0, and divide alone.

    With y = x̂ w + b, y W + b' is x̂ (w W) + (b W + b'). The unembedding gets a bias where the last norm has a b, and
    weights of its own where it was tied. What layer norm gives has no mean over the width (x̂ sums to 0), so that a part
    of a weight that is alike in every row reads nothing: it is taken out.

    Raises:
        UsageError: its norms come after each addition.
    """
    return _changed(model, _fold_norms)


def folded_value_biases(model: DecoderModel) -> DecoderModel:
    """Return the model with b_V moved through W_O into b_O, and b_V of 0: the rows of a pattern sum to 1, so a head's
    value bias adds the same constant wherever the head looks.

    Raises:
        UsageError: its norms come after each addition.
    """
    return _changed(model, _fold_value_biases)


def centred_writing(model: DecoderModel) -> DecoderModel:
    """Return the model with all that is written to the stream less its mean over the width, which every layer norm
    takes away before anything is read. A tied unembedding gets weights of its own. Sinusoids are no weights, and stay.

    Raises:
        UsageError: the norm is not layer norm, or comes after each addition.
    """
    if model.spec.norm != "layer":
        raise UsageError(
            f"norm = {model.spec.norm!r} reads the mean of the stream, so that writing cannot be centred: only layer"
            " norm takes the mean away"
        )
    return _changed(model, _centre_writing)


def centred_unembedding(model: DecoderModel) -> DecoderModel:
    """Return the model with W_U and b_U less their means over the vocabulary: all logits of a position lose one number,
    which a softmax does not see. A tied unembedding gets weights of its own.

    Raises:
        UsageError: its norms come after each addition.
    """
    return _changed(model, _centre_unembedding)


@torch.no_grad()
def _changed(model: DecoderModel, *steps: Step) -> DecoderModel:
    """Return a new model of weights that each step has changed in turn."""
    spec = model.spec
    if spec.norm_at != "pre":
        raise UsageError("norm_at = 'post' norms the stream itself, and no weight alone reads it: plain is for 'pre'")
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for step in steps:
        spec = step(spec, weights)
    made = materialised(hollow(spec, model.vocabulary), weights)
    return cast("DecoderModel", made.to(model.embed.W_E.device).train(model.training))


def _fold_norms(spec: Decoder, weights: Weights) -> Decoder:
    if spec.norm == "none":
        return spec
    spec = _untied(spec, weights)
    for norm, readers in _readers(spec):
        w, b = weights[f"{norm}.w"], weights.get(f"{norm}.b")
        for name in readers:
            W = weights[name]
            if b is not None:
                _add(weights, _bias_of(name), torch.tensordot(b, W, 1), spec)
            W = torch.einsum("d,d...->d...", w, W)
            weights[name] = W - W.mean(0) if spec.norm == "layer" else W
        weights[f"{norm}.w"] = torch.ones_like(w)
        if b is not None:
            weights[f"{norm}.b"] = torch.zeros_like(b)
    return replace(spec, unembed_bias="unembed.b_U" in weights)


def _readers(spec: Decoder) -> Iterator[tuple[str, list[str]]]:
    """Yield each norm and the weights that read it."""
    into = ("W_in", "W_gate") if spec.gated else ("W_in",)
    for n in range(spec.layers):
        yield f"layers.{n}.attn_norm", [f"layers.{n}.attn.W_{letter}" for letter in "QKV"]
        if not spec.attention_only:
            yield f"layers.{n}.mlp_norm", [f"layers.{n}.mlp.{name}" for name in into]
    yield "final_norm", ["unembed.W_U"]


def _bias_of(weight: str) -> str:
    """Return the name of the bias beside a weight: `unembed.b_U` beside `unembed.W_U`."""
    part, _, name = weight.rpartition(".")
    return f"{part}.b{name[1:]}"


def _add(weights: Weights, name: str, more: Tensor, spec: Decoder) -> None:
    """Add to a bias, which the unembedding may lack. Under µP it is fed what the norm gives times a scale."""
    if name == "unembed.b_U":
        more = more * spec.logit_scale
    weights[name] = weights[name] + more if name in weights else more


def _fold_value_biases(spec: Decoder, weights: Weights) -> Decoder:
    for n in range(spec.layers if spec.biases else 0):
        b_V, b_O, W_O = (f"layers.{n}.attn.{name}" for name in ("b_V", "b_O", "W_O"))
        each = shared(weights[b_V][None, None], spec.heads)[0, 0]
        weights[b_O] = weights[b_O] + torch.einsum("hk,hkd->d", each, weights[W_O])
        weights[b_V] = torch.zeros_like(weights[b_V])
    return spec


def _centre_writing(spec: Decoder, weights: Weights) -> Decoder:
    spec = _untied(spec, weights)
    for name, weight in weights.items():
        if name.rpartition(".")[2] in _WRITERS:
            weights[name] = centred(weight)
    return spec


def _centre_unembedding(spec: Decoder, weights: Weights) -> Decoder:
    spec = _untied(spec, weights)
    for name in ("unembed.W_U", "unembed.b_U"):
        if name in weights:
            weights[name] = centred(weights[name])
    return spec


def _untied(spec: Decoder, weights: Weights) -> Decoder:
    if spec.tied:
        weights["unembed.W_U"] = weights["embed.W_E"].mT.clone(memory_format=torch.contiguous_format)
    return replace(spec, tied=False)
