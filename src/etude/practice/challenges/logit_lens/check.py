"""Whether a lens reads every layer as the model reads its last, and divergences are told from the model's own words."""

import math
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for the logits of some streams, for divergences of moderate and of large logits, and for gradients."""
    L, T, V = exam.sizes(3, least=3)
    D, epsilon = 11, 0.05
    for layers, positions in ((L, T), (0, 1)):
        stream = exam.normal(layers + 1, positions, D, scale=1.5) + exam.normal(layers + 1, positions, 1)
        gain, shift, W_U = exam.uniform(D, low=0.5, high=2.0), exam.normal(D), exam.normal(D, V)
        got = theirs.logit_lens(stream, gain, shift, W_U, epsilon)
        exam.shaped(got, (layers + 1, positions, V), "your lens", axes=("L + 1", "T", "V"))
        normed = (_lens(stream, gain.double() * 0 + 1, shift * 0, torch.eye(D), epsilon)).float()
        away = stream - stream.mean(-1, keepdim=True)
        last = away[-1].square().mean(-1, keepdim=True).add(epsilon).sqrt()
        unless = {
            "the final norm is missing: early streams are short, and the unembedding is made for normed vectors": (
                stream @ W_U
            ),
            "the gain of the final norm is missing": (normed + shift) @ W_U,
            "the shift of the final norm is missing": normed * gain @ W_U,
            "the shift is multiplied by the gain too: it is added behind it": (normed + shift) * gain @ W_U,
            "the mean is not taken away: this is a norm by the root mean square alone": (
                (stream / stream.square().mean(-1, keepdim=True).add(epsilon).sqrt() * gain + shift) @ W_U
            ),
            "epsilon is added to the deviation: it is added to the variance, under the root": (
                (away / (away.square().mean(-1, keepdim=True).sqrt() + epsilon) * gain + shift) @ W_U
            ),
            "the variance is divided by D - 1: a layer norm divides by D": (
                (away / (away.square().sum(-1, keepdim=True) / (D - 1) + epsilon).sqrt() * gain + shift) @ W_U
            ),
            "every layer is divided by the last one's deviation: the lens gives each its own": (
                (away / last * gain + shift) @ W_U
            ),
        }
        want = _lens(stream, gain, shift, W_U, epsilon).float()
        exam.same(got, want, "your lens", unless=unless, axes=("layer", "position", "token"), tolerance=1e-3)
    exam.gradients(
        lambda x, W: theirs.logit_lens(x, gain, shift, W, epsilon),
        lambda x, W: _lens(x, gain, shift, W, epsilon).float(),
        {"the stream": exam.normal(2, T, D), "W_U": W_U},
        "your lens",
    )
    for layers, scale in ((L, 1.0), (1, 2.0), (0, 1.0), (L, 200.0)):
        logits = exam.normal(layers + 1, T, V, scale=scale)
        got = theirs.divergence_from_end(logits)
        exam.shaped(got, (layers + 1, T), "your table of divergences", axes=("L + 1", "T"))
        exam.ask(
            bool(got.isfinite().all()),
            f"with logits of some {math.ceil(scale)} the divergence is not finite: a probability becomes 0 and its"
            " logarithm minus infinity. Which function gives the logarithm without the probability?",
        )
        p, q = logits[-1].double().softmax(-1), logits.double().softmax(-1)
        want = _divergence(logits)
        before = torch.cat((logits[1:], logits[-1:]))
        if scale > 10:
            exam.same(
                got,
                want.float(),
                "your table of divergences of large logits",
                axes=("layer", "position"),
                tolerance=1e-3,
            )
            continue
        unless = {
            "the divergence is the wrong way round: the model's own prediction p_L is the one that is averaged over": (
                q * (q / p).log()
            ).sum(-1),
            "the divergence is a mean over the vocabulary: it is a sum, each token weighed by p_L alone": want / V,
            "the divergence is in bits: with the natural logarithm it is in nats": want / math.log(2),
            "each layer is compared with the next one: all are compared with the last": torch.stack(
                [_divergence(torch.stack(pair))[0] for pair in zip(logits, before, strict=True)]
            ),
            "each layer is compared with layer 0: all are compared with the last, the model's own prediction": (
                _divergence(logits.flip(0)).flip(0)
            ),
            "this is a cross-entropy: the entropy of p_L is still to be taken away, and the last layer would get 0": (
                -(p * q.log()).sum(-1)
            ),
        }
        unless = {why: value.float() for why, value in unless.items()}
        exam.same(
            got, want.float(), "your table of divergences", unless=unless, axes=("layer", "position"), tolerance=1e-3
        )
    exam.gradients(
        theirs.divergence_from_end,
        lambda logits: _divergence(logits).float(),
        {"the logits": exam.normal(3, T, V)},
        "your table of divergences",
    )


def _lens(stream: Tensor, gain: Tensor, shift: Tensor, W_U: Tensor, epsilon: float) -> Tensor:
    """Return the lens in float64 from the definition."""
    x = stream.double()
    away = x - x.mean(-1, keepdim=True)
    deviation = (away.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return (away / deviation * gain.double() + shift.double()) @ W_U.double()


def _divergence(logits: Tensor) -> Tensor:
    """Return KL(last || each) in float64, by PyTorch's own."""
    log_q = logits.double().log_softmax(-1)
    log_p = log_q[-1].expand_as(log_q)
    return torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
