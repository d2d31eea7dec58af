"""The circuits of a head: what it looks for (QK) and what it does with what it finds (OV), read off the weights.

A head's two factors mean nothing apart: any K x K map between W_Q and W_K, or between W_V and W_O, could be moved from
one to the other. Their products are what acts (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits",
section "Splitting attention head terms into query-key and output-value circuits"). Rows are what is read and columns
what is written, since here a vector stands to the left of its weight: the paper's OV circuit is this one's transpose.
In a QK circuit rows are queries and columns keys, there as here.

Biases and the weights of norms are no part of a circuit. Take `etude.interp.plain.plain(model)` first: it moves all of
them that can be moved into the weights.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from etude.core.errors import UsageError
from etude.interp.factored import Factored
from etude.models.decoder_model import DecoderModel
from etude.nn.multi_head import MultiHead

CHUNK = 2**22
"""Numbers of a circuit that `top_pairs` holds at once: 17 MB in fp32."""


class Pair(NamedTuple):
    """One place of a circuit.

    Attributes:
        row: what is read, or the query.
        column: what is written, or the key.
        value: what stands there.
    """

    row: int
    column: int
    value: float


@torch.no_grad()
def qk_circuit(model: DecoderModel, layer: int, head: int, distance: int = 0) -> Factored:
    """Return W_Q W_Kᵀ [D D]: x C yᵀ is the score of a query that reads x for a key that reads y, before it is scaled
    (by 1/√K, and otherwise under µP).

    Args:
        model: the model.
        layer: number of the layer.
        head: number of the head. Keys that heads share serve each of them.
        distance: how many positions the query is ahead of the key. With rotary positions each distance has a circuit
            of its own; with others it is the same at all.

    Raises:
        UsageError: there is no such head, or no text has that distance.
    """
    attention, group = _attention(model, layer, head)
    if not 0 <= distance < model.spec.context:
        raise UsageError(f"distance = {distance}: within the context it is from 0 to {model.spec.context - 1}")
    W_Q, W_K = attention.W_Q[:, head], attention.W_K[:, group]
    if attention.rotary is not None:
        at = torch.tensor([[distance]], device=W_Q.device)
        W_Q = attention.rotary(W_Q[None, None], at)[0, 0]
    return Factored(W_Q.clone(), W_K.mT.clone())


@torch.no_grad()
def ov_circuit(model: DecoderModel, layer: int, head: int) -> Factored:
    """Return W_V W_O [D D]: x C is what the head writes when it looks at a position alone whose vector it reads as x.

    Args:
        model: the model.
        layer: number of the layer.
        head: number of the head. Values that heads share serve each of them.

    Raises:
        UsageError: there is no such head.
    """
    attention, group = _attention(model, layer, head)
    return Factored(attention.W_V[:, group].clone(), attention.W_O[head].clone())


@torch.no_grad()
def full_qk(model: DecoderModel, layer: int, head: int, distance: int = 0) -> Factored:
    """Return the QK circuit between tokens, W_E W_Q W_Kᵀ W_Eᵀ [V V]: how much one token (row) wants to look at another
    (column), as far as the embedding alone decides. Position vectors are not in it. Biases and norms are not either:
    take `plain(model)` first.

    Args:
        model: the model.
        layer: number of the layer.
        head: number of the head.
        distance: how many positions the query is ahead of the key; see `qk_circuit`.

    Raises:
        UsageError: there is no such head, or no text has that distance.
    """
    W_E = _token_vectors(model)
    return W_E @ qk_circuit(model, layer, head, distance) @ W_E.mT


@torch.no_grad()
def full_ov(model: DecoderModel, layer: int, head: int) -> Factored:
    """Return the OV circuit between tokens, W_E W_V W_O W_U [V V]: what looking at one token (row) adds to the logit of
    another (column), as far as no later head takes part, and before the norms divide. Biases and the weights of norms
    are not in it: take `plain(model)` first.

    Args:
        model: the model.
        layer: number of the layer.
        head: number of the head.

    Raises:
        UsageError: there is no such head.
    """
    W_U, _ = model.unembedding()
    return _token_vectors(model) @ ov_circuit(model, layer, head) @ (W_U * model.spec.logit_scale)


@torch.no_grad()
def top_pairs(circuit: Factored, count: int = 10) -> list[Pair]:
    """Return the largest values of a circuit, the largest first, and where they stand.

    The matrix is made some rows at a time, of which only the largest values are kept.

    Args:
        circuit: [m n].
        count: how many, or all where there are fewer.

    Raises:
        UsageError: the circuit has leading axes, or the count is below 1.
    """
    if len(circuit.shape) != 2 or count < 1:
        raise UsageError(
            f"count = {count} of a circuit {list(circuit.shape)}: ask for 1 or more of a single one, as in circuit[0]"
        )
    width = circuit.shape[1]
    rows = max(1, CHUNK // width)
    values, places = circuit.left.new_zeros(0), torch.zeros(0, dtype=torch.long, device=circuit.left.device)
    for start in range(0, circuit.shape[0], rows):
        part = (circuit.left[start : start + rows] @ circuit.right).flatten()
        if len(values) == count and part.max() <= values[-1]:
            continue  # sorting it would cost many times what looking at it does
        best, at = part.topk(min(count, len(part)))
        values, places = torch.cat((values, best)), torch.cat((places, at + start * width))
        values, kept = values.topk(min(count, len(values)))
        places = places[kept]
    found = zip(places.tolist(), values.tolist(), strict=True)
    return [Pair(place // width, place % width, value) for place, value in found]


@torch.no_grad()
def copying_score(circuit: Factored) -> Float[Tensor, "*N"]:
    """Return Σλ / Σ|λ| over a square circuit's eigenvalues: 1 where a token raises itself or tokens that raise it in
    turn, as with a copying head's full OV circuit, -1 where it lowers them (Elhage et al. 2021, section "Summarizing
    OV/QK matrices"). The sum is real, since the circuit is. NaN where the circuit is 0.

    Args:
        circuit: [*N m m].

    Raises:
        UsageError: it is not square.
    """
    values = circuit.eigenvalues()
    return values.sum(-1).real / values.abs().sum(-1)


def _attention(model: DecoderModel, layer: int, head: int) -> tuple[MultiHead, int]:
    """Return a layer's attention, and the group whose keys and values a head reads.

    Raises:
        UsageError: there is no such layer or head.
    """
    spec = model.spec
    for name, number, count in (("layer", layer, spec.layers), ("head", head, spec.heads)):
        if not 0 <= number < count:
            raise UsageError(f"there is no {name} {number}: the model has {count}, counted from 0")
    attention = cast("MultiHead", model.layers[layer].attn)
    return attention, head * attention.W_K.shape[1] // spec.heads


def _token_vectors(model: DecoderModel) -> Float[Tensor, "V D"]:
    W_E = model.embed.W_E.detach()
    return W_E * model.spec.width**0.5 if model.spec.scaled_embeddings else W_E
