"""Lenses: what the model would predict if it ended at an earlier layer.

A lens reads the residual stream before a layer as the model reads its last one: through the final norm and the
unembedding. That is the logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"). With an affine translator
before it, trained for that layer, it is the tuned lens (Belrose et al. 2023, section 3), which `tuned_lens.py` trains.

A post-norm model has no final norm, since what leaves a layer has been normed there. Its lens is the unembedding alone,
and before layer 0 it reads vectors that were never normed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from etude.core.errors import UsageError
from etude.interp.subject import check_text, decoder_of
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.embedding import outside_vocabulary
from etude.nn.linear import linear
from etude.nn.look import look

SCORES_BYTES = 40_000_000
"""Bytes of scores made at once: 198 rows of 50,257 in fp32. What is computed of them takes seven times as much. Below
32 MB glibc keeps what is freed, in pieces: with half of this the peak is more than twice as high."""


def lens(model: DecoderModel, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T V"]:
    """Return the logits that a model gives where x is the stream behind its last layer."""
    x = model.final_norm(x)
    return linear(x * model.spec.logit_scale if model.spec.mup_base else x, *model.unembedding())


def log_probabilities(model: DecoderModel, x: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
    """Return the lens of some vectors of the stream as log-probabilities in nats, in fp32 at least."""
    logits = lens(model, x[None])[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def divergence(final: Float[Tensor, "N V"], other: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Return KL(final || other) in nats, both given as log-probabilities."""
    return (final.exp() * (final - other)).sum(-1)


def translate(x: Float[Tensor, "*N D"], A: Float[Tensor, "D D"], b: Float[Tensor, " D"]) -> Float[Tensor, "*N D"]:
    """Return x + x A + b: a translator of the tuned lens, written so that zeros are the logit lens."""
    return x + linear(x, A, b)


class Translators(nn.Module):
    """One affine translator before each layer of a model. They begin as the identity.

    The stream behind the last layer is what they translate to, so it needs none and is left as it is. They are saved
    and loaded by `state_dict` and `load_state_dict`.

    Attributes:
        A: [L D D].
        b: [L D].
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(layers, width, width))
        self.b = nn.Parameter(torch.zeros(layers, width))

    def forward(self, layer: int, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Translate the stream before a layer; the number of layers stands for behind the last.

        Raises:
            UsageError: there is no such layer.
        """
        layers = len(self.A)
        if not 0 <= layer <= layers:
            raise UsageError(f"layer = {layer}: the translators are of layers 0 to {layers}, and leave {layers} alone")
        return x if layer == layers else translate(x, self.A[layer], self.b[layer])

    def check(self, model: DecoderModel) -> None:
        """Raise UsageError where these are translators of a model of another shape."""
        (layers, width), spec = self.b.shape, model.spec
        if (layers, width) != (spec.layers, spec.width):
            raise UsageError(
                f"the translators are of {layers} layers of width {width}, the model has {spec.layers} of"
                f" {spec.width}: train a tuned lens on this model"
            )


@dataclass(frozen=True, eq=False)
class LensTable:
    """What each lens predicts at each position of each text.

    Row l of the first axis reads the stream before layer l. The last row, one more than there are layers, reads it
    behind the last layer and is the model's own prediction.

    Attributes:
        tokens: [L+1 B T N] the N likeliest tokens, the likeliest first.
        probabilities: [L+1 B T N] theirs.
        entropy: [L+1 B T] of the whole distribution, in nats.
        rank: [L+1 B T] how many tokens are likelier than the answer, 0 where it is the likeliest; -1 where there is
            no answer.
        log_probability: [L+1 B T] of the answer, in nats; NaN where there is none.
        divergence: [L+1 B T] KL(final || lens) in nats, from the model's own prediction.
    """

    tokens: Int[Tensor, "L B T N"]
    probabilities: Float[Tensor, "L B T N"]
    entropy: Float[Tensor, "L B T"]
    rank: Int[Tensor, "L B T"]
    log_probability: Float[Tensor, "L B T"]
    divergence: Float[Tensor, "L B T"]


@torch.no_grad()
def logit_lens(
    model: Transformer,
    tokens: Int[Tensor, "B T"],
    top: int = 5,
    translators: Translators | None = None,
    answers: Int[Tensor, "B2 T2"] | None = None,
) -> LensTable:
    """Return what the lens of each layer predicts: the logit lens, or the tuned lens where translators are given.

    The model runs once. Scores over the vocabulary are made for a layer and some positions at a time.

    Args:
        model: a decoder, in evaluation mode.
        tokens: the texts, without padding.
        top: how many of the likeliest tokens to list.
        translators: of this model.
        answers: [B T] the true token after each position, negative where there is none. By default the text's own
            next token, which the last position has not.

    Raises:
        UsageError: the model is no decoder or drops out; the texts are empty, too long or of another vocabulary; the
            answers are not one token for each position; `top` is not from 1 to the vocabulary; or the translators are
            of another model.
    """
    decoder = decoder_of(model)
    check_text(decoder, tokens)
    if not 1 <= top <= decoder.vocabulary:
        raise UsageError(f"top = {top} of a vocabulary of {decoder.vocabulary}: ask for 1 to {decoder.vocabulary}")
    answers = _next_tokens(tokens) if answers is None else answers
    if answers.shape != tokens.shape:
        raise UsageError(
            f"answers are {list(answers.shape)} and tokens {list(tokens.shape)}: give one at each position"
        )
    if (answers >= decoder.vocabulary).any():
        raise outside_vocabulary(answers.clamp_min(0), decoder.vocabulary)
    read = streams(decoder, tokens)
    if translators is not None:
        translators.check(decoder)
        read = [translators(layer, x) for layer, x in enumerate(read)]
    rows = max(1, SCORES_BYTES // (4 * decoder.vocabulary))
    of_rows = zip(*(x.flatten(0, 1).split(rows) for x in read), strict=True)
    parts = zip(of_rows, answers.flatten().split(rows), strict=True)
    columns = zip(*(_read(decoder, some, those, top) for some, those in parts), strict=True)
    return LensTable(*(torch.cat(column, 1).unflatten(1, tokens.shape) for column in columns))


def streams(model: DecoderModel, tokens: Int[Tensor, "B T"], **given: Any) -> list[Float[Tensor, "B T D"]]:
    """Return the residual stream before each layer and, last, behind them all.

    Args:
        model: in evaluation mode.
        tokens: the texts.
        given: what else the model is called with.
    """
    layers = model.spec.layers
    sites = ["L*.resid.pre", f"L{layers - 1}.resid.post"] if layers else "embed.out"
    return list(look(model, tokens, sites, **given).values())


def _next_tokens(tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Return the token after each, and -1 behind the last."""
    return torch.cat([tokens[:, 1:], torch.full_like(tokens[:, :1], -1)], 1)


def _read(
    model: DecoderModel, rows: Sequence[Float[Tensor, "N D"]], answers: Int[Tensor, " N"], top: int
) -> list[Tensor]:
    """Return the columns of the table for some positions, each with an axis of layers in front."""
    final = log_probabilities(model, rows[-1])
    earlier = (_predicted(log_probabilities(model, x), final, answers, top) for x in rows[:-1])
    layers = (*earlier, _predicted(final, final, answers, top))
    return [torch.stack(column) for column in zip(*layers, strict=True)]


def _predicted(
    logp: Float[Tensor, "N V"], final: Float[Tensor, "N V"], answers: Int[Tensor, " N"], top: int
) -> tuple[Tensor, ...]:
    """Return the columns of one layer, in the order of the table."""
    likeliest, none = logp.topk(top), answers < 0
    answer = logp.gather(-1, answers.clamp_min(0)[:, None])
    rank = (logp > answer).sum(-1).masked_fill(none, -1)
    entropy = -(logp.exp() * logp).sum(-1)
    answer = answer.squeeze(-1).masked_fill(none, math.nan)
    return likeliest.indices, likeliest.values.exp(), entropy, rank, answer, divergence(final, logp)
