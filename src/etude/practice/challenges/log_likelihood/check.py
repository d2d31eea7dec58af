"""Whether an answer is scored by its own tokens alone, each predicted from those before it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from etude.practice.exam import Exam

LETTERS = "abcdefg éß語"


def check(theirs: Any, exam: Exam) -> None:
    """Ask for sums over answers of several lengths, chains of conditions and gradients; then for choices."""
    for _ in range(3):
        prompt, answer, vocabulary = exam.sizes(3, least=3)
        length = prompt + answer
        logits, tokens = exam.normal(length, vocabulary, scale=2.0), exam.integers(vocabulary, length)
        got = theirs.log_likelihood(logits, tokens, prompt)
        exam.ask(
            not isinstance(got, Tensor) or got.ndim == 0,
            "your log-likelihood has axes: it is one number, the sum over the answer's tokens",
        )
        exam.same(got, _sum(logits, tokens, prompt), "your log-likelihood", unless=_mistakes(logits, tokens, prompt))
        first = theirs.log_likelihood(logits[: prompt + 1], tokens[: prompt + 1], prompt)
        rest = theirs.log_likelihood(logits, tokens, prompt + 1)
        exam.same(
            first + rest, got, "the log-likelihood of an answer's first token and of the rest given it, together,"
        )
    _edges(theirs, exam)
    for _ in range(4):
        _choice(theirs, exam)


def _edges(theirs: Any, exam: Exam) -> None:
    """Ask with an empty answer and with large logits, and for gradients."""
    prompt, length, vocabulary = 3, 8, 6
    logits, tokens = exam.normal(length, vocabulary, scale=2.0), exam.integers(vocabulary, length)
    got = theirs.log_likelihood(logits, tokens, length)
    exam.same(got, torch.tensor(0.0), "the log-likelihood of an empty answer")
    large = 300.0 * logits
    large[:, 0] += 500.0
    unlikely = tokens.clone()
    unlikely[prompt:] = large[prompt - 1 : -1].argmin(-1)
    got = theirs.log_likelihood(large, unlikely, prompt)
    exam.ask(
        bool(torch.as_tensor(got).isfinite()),
        "with logits in the hundreds it is not finite: a share is rounded to 0 before its logarithm is taken, or an"
        " exponential overflows",
    )
    exam.same(got / 1000, _sum(large, unlikely, prompt) / 1000, "a thousandth of it, with logits in the hundreds,")
    exam.gradients(
        lambda logits: theirs.log_likelihood(logits, tokens, prompt),
        lambda logits: _sum(logits, tokens, prompt),
        {"logits": logits},
        "your log-likelihood",
    )


def _sum(logits: Tensor, tokens: Tensor, prompt: int) -> Tensor:
    """Return the log-likelihood as PyTorch's cross-entropy, with the prompt's targets ignored."""
    targets = tokens.clone()
    targets[:prompt] = -100
    return -cross_entropy(logits[:-1], targets[1:], ignore_index=-100, reduction="sum")


def _mistakes(logits: Tensor, tokens: Tensor, prompt: int) -> dict[str, Tensor]:
    """Return what known mistakes come to."""
    count = len(tokens) - prompt
    right = _sum(logits, tokens, prompt)
    by_logits = logits[prompt - 1 : -1].gather(1, tokens[prompt:, None]).sum()
    each = logits[prompt - 1 : -1].softmax(-1).gather(1, tokens[prompt:, None])
    return {
        "token t is looked up in the logits at position t, which predict token t + 1: those at t - 1 predict it": (
            -cross_entropy(logits[prompt:], tokens[prompt:], reduction="sum")
        ),
        "token t is looked up in the logits at position t - 2: those at t - 1 predict it": -cross_entropy(
            logits[prompt - 2 : -2], tokens[prompt:], reduction="sum"
        ),
        "the prompt's tokens count too: they are given, and the sum is over the answer's": _sum(logits, tokens, 1),
        "the answer's first token is left out: the logits at the prompt's last position predict it": _sum(
            logits, tokens, prompt + 1
        ),
        "the prompt's last token counts too: the sum begins with the answer's first": _sum(logits, tokens, prompt - 1),
        "the answer's last token is left out": _sum(logits[:-1], tokens[:-1], prompt),
        "this is the mean over the answer's tokens: the log-likelihood is their sum": right / count,
        "the sign is wrong: the logarithm of a probability is never above 0": -right,
        "the logits are added as they are: ln softmax takes the logarithm of the row's sum away": by_logits,
        "the shares are added, without logarithms": each.sum(),
        "this is the probability itself: its logarithm is asked for": each.prod(),
        "the softmax runs over the positions: shares are of the vocabulary": (
            logits[prompt - 1 : -1].log_softmax(0).gather(1, tokens[prompt:, None]).sum()
        ),
    }


def _choice(theirs: Any, exam: Exam) -> None:
    """Ask with answers among which each known mistake chooses another."""
    answers: list[str] = []
    values: list[float] = []
    chosen: set[int] = set()
    right = letters = plain = lowest = 0
    while len(chosen) < 3 or lowest in chosen:
        answers = ["".join(exam.random.choices(LETTERS, k=exam.random.randint(2, 16))) for _ in range(6)]
        values = [-exam.random.uniform(0.6, 1.6) * len(answer.encode()) for answer in answers]
        right = _best([value / len(answer.encode()) for value, answer in zip(values, answers, strict=True)])
        letters = _best([value / len(answer) for value, answer in zip(values, answers, strict=True)])
        plain, lowest = _best(values), _best([-value for value in values])
        chosen = {right, letters, plain}
    least = "the answer with the lowest score is chosen: the highest is likeliest (log-likelihoods are below 0)"
    got = theirs.choose(list(values), list(answers), False)
    what = f"choose({[round(value, 2) for value in values]}, {answers}, per_byte={{}})"
    exam.same(
        got,
        plain,
        what.format(False),
        unless={
            least: lowest,
            "the log-likelihood is divided by the answer's bytes, though per_byte is false": right,
        },
    )
    exam.same(
        theirs.choose(list(values), list(answers), True),
        right,
        what.format(True),
        unless={
            "scores are divided by letters: `é` is one letter and two bytes of UTF-8": letters,
            "the log-likelihood is not divided by the answer's bytes, though per_byte is true": plain,
        },
    )


def _best(scores: list[float]) -> int:
    return scores.index(max(scores))
