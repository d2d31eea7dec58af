"""A transformer with a known circuit, its weights written by hand: an instrument that is any good finds this and
nothing else (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", on induction heads)."""

from __future__ import annotations

import math

import torch

from etude.models.decoder_model import DecoderModel
from etude.models.recipes import planted_shape

SHARP = 30.0
"""How far the score of what a head looks for is above all others: attention is then all or nothing, for a rest of
1e-10 of the longest text."""

CERTAIN = 20.0
"""Logit of the token that the circuit predicts; all others have 0."""


def planted(vocabulary: int, context: int, back: int = 0) -> DecoderModel:
    """Return an attention-only model of two layers of two heads that continues what it has read before.

    The stream holds four parts side by side: the token, its position, the token before (written by L0H0), and the
    prediction (written by L1H0).

    - L0H0, the previous-token head, looks at the position before (the first position at itself) and copies its token.
    - L0H1 looks `back` positions back and writes nothing: what would pass for induction if every period were
      `back` + 1. Without `back` it looks at all alike.
    - L1H0, the induction head, looks where the token before is the present one, wherever that is, and predicts the
      token there: its K-composition with L0H0 is the whole circuit.
    - L1H1 looks at all alike and writes nothing.

    Args:
        vocabulary: how many tokens.
        context: the longest text.
        back: of L0H1.
    """
    V, T = vocabulary, context
    token, place, before, answer = (slice(a, a + n) for a, n in ((0, V), (V, T), (V + T, V), (2 * V + T, V)))
    spec = planted_shape(V, T)
    model = spec.module(V)
    sharp = SHARP * math.sqrt(spec.head_width)  # scores are divided by the root
    weight = model.get_parameter
    with torch.no_grad():
        weight("embed.W_E")[:, token] = torch.eye(V)
        weight("embed.W_pos")[:, place] = torch.eye(T)
        q, k, v, o = (weight(f"layers.0.attn.W_{letter}") for letter in "QKVO")
        q[place, 0, :T] = sharp * torch.eye(T)
        k[place, 0, :T] = torch.diag(torch.ones(T - 1), 1)  # position s answers to a query from s + 1
        if back:
            q[place, 1, :T] = sharp * torch.eye(T)
            k[place, 1, :T] = torch.diag(torch.ones(T - back), back)
        v[token, 0, :V] = torch.eye(V)
        o[0, :V, before] = torch.eye(V)
        q, k, v, o = (weight(f"layers.1.attn.W_{letter}") for letter in "QKVO")
        q[token, 0, :V] = sharp * torch.eye(V)
        k[before, 0, :V] = torch.eye(V)
        k[V, 0, :V] = -2.0  # the first position has nothing before it, and L0H0 shows itself there
        v[token, 0, :V] = torch.eye(V)
        o[0, :V, answer] = torch.eye(V)
        weight("unembed.W_U")[answer] = CERTAIN * torch.eye(V)
    return model.eval()
