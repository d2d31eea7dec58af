"""Direct logit attribution: a logit as the exact sum of what each part of the model wrote to the stream.

Attention, feed-forward networks and embeddings add to the residual stream, and the unembedding reads it linearly
(Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", "Transformers Overview"). The final norm
between the two is linear as well once its scale is held at what it was in this text. So a logit, or a difference of
two (Wang et al. 2022, section 3.1), divides among all that was written. It is the direct effect alone: what a part does
by way of a later part counts for the later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from etude.core.errors import UsageError
from etude.core.site import Site
from etude.interp.metrics import require_token
from etude.interp.subject import check_text, decoder_of
from etude.models.decoder_model import DecoderModel
from etude.models.transformer import Transformer
from etude.nn.look import Seen, look
from etude.nn.multi_head import shared
from etude.nn.norm import LayerNorm, RMSNorm, centred


@dataclass(frozen=True, eq=False)
class Attribution:
    """A logit at one position, divided among the parts that wrote it. All values are in units of the logit.

    S counts the positions up to this one, which are those that it can attend to.

    Attributes:
        logit: [] as the model computes it: the logit, or the difference that was asked for.
        position: where, from 0.
        embedding: [] of the token vector at the position.
        position_vector: [] of the position vector that was added to it; 0 where none is added.
        by_source: [L H S] of each head, by the position attended to: the pattern times the value there through W_O.
            The value's bias b_V is in it, divided as the head divides its attention.
        neurons: [L F] of each feed-forward neuron: its activation times its row of W_out. F is 0 without feed-forward.
        attention_bias: [L] of b_O.
        feed_forward_bias: [L] of b_out.
        norm_bias: [] of the final norm's b.
        unembedding_bias: [] of b_U.
    """

    logit: Float[Tensor, ""]
    position: int
    embedding: Float[Tensor, ""]
    position_vector: Float[Tensor, ""]
    by_source: Float[Tensor, "L H S"]
    neurons: Float[Tensor, "L F"]
    attention_bias: Float[Tensor, " L"]
    feed_forward_bias: Float[Tensor, " L"]
    norm_bias: Float[Tensor, ""]
    unembedding_bias: Float[Tensor, ""]

    @property
    def heads(self) -> Float[Tensor, "L H"]:
        """What each head wrote, from all positions together."""
        return self.by_source.sum(-1)

    def by_layer(self) -> Float[Tensor, " L"]:
        """Return what each layer wrote: its heads, its neurons and the biases of both."""
        return self.heads.sum(-1) + self.neurons.sum(-1) + self.attention_bias + self.feed_forward_bias

    def positions(self) -> Float[Tensor, " S"]:
        """Return what came from each position: through the heads, from where they looked; all else, biases too, from
        the position itself. A head brings what the stream held where it looked, not only the token there."""
        own = self.total() - self.by_source.sum()
        there = torch.arange(self.by_source.shape[-1], device=own.device) == self.position
        return self.by_source.sum((0, 1)) + own * there

    def total(self) -> Float[Tensor, ""]:
        """Return the sum of everything, which is the logit up to rounding."""
        outside = self.embedding + self.position_vector + self.norm_bias + self.unembedding_bias
        return outside + self.by_layer().sum()


@torch.no_grad()
def attribute(
    model: Transformer,
    tokens: Int[Tensor, "*B T"],
    *,
    token: int,
    position: int = -1,
    versus: int | str | None = None,
) -> Attribution:
    """Return a token's logit at one position as a sum over the parts of the model.

    Args:
        model: a decoder in evaluation mode whose norms, if any, come before its parts. Nothing is put at its sites.
        tokens: [T] or [1 T], one text.
        token: whose logit.
        position: where; negative ones count from the end.
        versus: a token whose logit is subtracted; `mean` subtracts the mean logit of the vocabulary, since a constant
            added to all logits changes no prediction; None subtracts nothing.

    Raises:
        UsageError: the model is no decoder, post-norm, tapped or drops out; the tokens are not one text that it can
            read; the position is outside the text or a token outside the vocabulary.
    """
    decoder = _summed(decoder_of(model))
    at = _place(decoder, tokens, position)
    _check_choice(decoder, token, versus)
    # The text up to the position: nothing later is seen there, and its logits are then the last.
    text = tokens.reshape(1, -1)[:, : at + 1]
    here = look(decoder, text, _sites(decoder), positions=-1, last=1)
    values = look(decoder, text, "L*.attn.v") if decoder.spec.layers else Seen()

    W_U, b_U = decoder.unembedding()
    direction = _chosen(W_U, token, versus) * decoder.spec.logit_scale
    reader, norm_bias = _through_norm(decoder, direction, here)
    nothing = reader.new_zeros(())
    layers = [_of_layer(decoder, layer, reader, here, values) for layer in range(decoder.spec.layers)]
    return Attribution(
        logit=_chosen(here["logits"][0, 0], token, versus),
        position=at,
        embedding=here["embed.tokens"][0, 0] @ reader,
        position_vector=here["embed.positions"][0] @ reader if "embed.positions" in here else nothing,
        by_source=_stacked([layer[0] for layer in layers], reader, decoder.spec.heads, at + 1),
        neurons=_stacked([layer[1] for layer in layers], reader, decoder.spec.feedforward),
        attention_bias=_stacked([layer[2] for layer in layers], reader),
        feed_forward_bias=_stacked([layer[3] for layer in layers], reader),
        norm_bias=norm_bias,
        unembedding_bias=nothing if b_U is None else _chosen(b_U, token, versus),
    )


def _summed(model: DecoderModel) -> DecoderModel:
    """Return a model whose last stream is the sum of what its parts wrote."""
    if model.spec.norm_at == "post":
        raise UsageError(
            "the model is post-norm: its stream is normed after every addition, so it is no sum of what the parts"
            " wrote; attribute logits of a pre-norm model"
        )
    if model.watchers:
        raise UsageError("functions are put at the model's sites, and it is no sum of its own parts: close the context")
    return model


def _place(model: DecoderModel, tokens: Tensor, position: int) -> int:
    """Return the position from 0, after checking the text."""
    if tokens.ndim == 0 or tokens.shape[:-1].numel() != 1:
        raise UsageError(f"tokens of shape {list(tokens.shape)}: one text is attributed at a time, [T] or [1 T]")
    check_text(model, tokens.reshape(1, -1))
    length = tokens.shape[-1]
    if not -length <= position < length:
        raise UsageError(f"position {position} is outside a text of {length} tokens (0 to {length - 1})")
    return position % length


def _check_choice(model: DecoderModel, token: int, versus: int | str | None) -> None:
    if isinstance(versus, str) and versus != "mean":
        raise UsageError(f"versus = {versus!r}: give a token's number, 'mean', or None")
    for one in (token, versus):
        if isinstance(one, int):
            require_token(one, model.vocabulary)


def _sites(model: DecoderModel) -> list[str]:
    """Return what is read at the position, of what the model has."""
    sites = ["embed.tokens", "logits"]
    sites += ["embed.positions"] if model.embed.added != "none" else []
    sites += ["final_norm.scale"] if model.spec.norm != "none" else []
    if model.spec.layers:
        sites += ["L*.attn.pattern"] if model.spec.attention_only else ["L*.attn.pattern", "L*.mlp.post"]
    return sites


def _chosen(scores: Float[Tensor, "*N V"], token: int, versus: int | str | None) -> Float[Tensor, "*N"]:
    """Return the scores of the token less those of the other. It is linear, so it acts on W_U and b_U as on logits."""
    right = scores[..., token]
    if versus is None:
        return right
    return right - (scores.mean(-1) if isinstance(versus, str) else scores[..., versus])


def _through_norm(
    model: DecoderModel, direction: Float[Tensor, " D"], here: Seen
) -> tuple[Float[Tensor, " D"], Float[Tensor, ""]]:
    """Return the vector that reads the stream before the final norm, its scale held, and what the norm's bias adds."""
    norm, nothing = model.final_norm, direction.new_zeros(())
    if not isinstance(norm, LayerNorm | RMSNorm):
        return direction, nothing
    reader = norm.w * direction / here["final_norm.scale"][0, 0]
    if isinstance(norm, RMSNorm):
        return reader, nothing
    # A vector less its mean, times the reader, is the vector times the reader less its mean.
    return centred(reader), nothing if norm.b is None else norm.b @ direction


def _of_layer(
    model: DecoderModel, layer: int, reader: Float[Tensor, " D"], here: Seen, values: Seen
) -> tuple[Float[Tensor, "H S"], Float[Tensor, " F"], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return what a layer's heads by source, its neurons and its two biases wrote."""

    def weight(name: str) -> Tensor:
        return model.get_parameter(f"layers.{layer}.{name}")

    pattern = here[Site(f"L{layer}.attn.pattern")][0, :, 0]
    v = shared(values[Site(f"L{layer}.attn.v")], model.spec.heads)[0]
    heads = pattern * torch.einsum("shk,hk->hs", v, weight("attn.W_O") @ reader)
    nothing, biased = reader.new_zeros(()), model.spec.biases
    attention_bias = weight("attn.b_O") @ reader if biased else nothing
    if model.spec.attention_only:
        return heads, reader.new_zeros(0), attention_bias, nothing
    neurons = here[Site(f"L{layer}.mlp.post")][0, 0] * (weight("mlp.W_out") @ reader)
    return heads, neurons, attention_bias, weight("mlp.b_out") @ reader if biased else nothing


def _stacked(layers: list[Tensor], like: Tensor, *sizes: int) -> Tensor:
    """Return what each layer gives as one tensor, with its shape where there are no layers too."""
    return torch.stack(layers) if layers else like.new_zeros(0, *sizes)
