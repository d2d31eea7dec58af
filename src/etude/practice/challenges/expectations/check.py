"""Whether a mean's error and interval, and a mean under another distribution, are estimated without bias."""

from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with few samples and with many, with samples far from 0, and with a distribution that can be summed over."""
    for count in (*exam.sizes(2, least=4, most=12), 400, 2):
        samples = exam.normal(count, scale=3.0) + exam.random.choice((-2, 2))
        _errors(theirs, samples, exam)
        _intervals(theirs, samples, exam)
    away = exam.normal(50) + 100_000.0
    exam.same(
        theirs.standard_error(away),
        _sem(away),
        "your standard error of 50 samples near 100,000 that differ by about 1 (the mean of squares less the square of"
        " the mean loses all digits there: sum the squares of what differs from the mean)",
        tolerance=2e-2,
    )
    _importance(theirs, exam)


def _sem(samples: Tensor) -> float:
    """Return the standard error by NumPy, in double precision."""
    return float(np.std(samples.double().numpy(), ddof=1)) / len(samples) ** 0.5


def _errors(theirs: Any, samples: Tensor, exam: Exam) -> None:
    count, spread = len(samples), samples.std()
    exam.same(
        theirs.standard_error(samples),
        _sem(samples),
        f"your standard error of {count} samples",
        unless={
            "the sum of squares is divided by S: that variance is too small, as the mean was fitted to the samples;"
            " divide by S - 1": samples.std(correction=0) / count**0.5,
            "that is the spread of single samples; the spread of their mean is smaller by sqrt(S)": spread,
            "that is the variance of single samples: the error of the mean is sqrt(variance / S)": spread**2,
            "that is the variance of the mean: its root is the standard error": spread**2 / count,
            "the spread is divided by S: a mean of S samples is sharper by sqrt(S) only": spread / count,
            "the samples are not taken from their mean before they are squared": (
                samples.square().sum() / (count - 1) / count
            ).sqrt(),
        },
    )


def _intervals(theirs: Any, samples: Tensor, exam: Exam) -> None:
    mean, error = float(samples.mean()), _sem(samples)
    got = theirs.interval(samples)
    exam.ask(isinstance(got, tuple | list) and len(got) == 2, "your interval should be two numbers: its ends")
    low, high = got
    reach = 1.96 * error
    what = f"your interval of {len(samples)} samples"
    for end, sign, name in ((low, -1, "lower"), (high, 1, "upper")):
        exam.same(
            end,
            mean + sign * reach,
            f"the {name} end of {what}",
            unless={
                "the ends are exchanged: the lower comes first": torch.tensor(mean - sign * reach),
                "the ends lie one standard error from the mean, which holds it in 68% of cases: 95% take 1.96": (
                    torch.tensor(mean + sign * error)
                ),
                "1.645 standard errors leave 5% on either side, and 10% in all: for 95% leave 2.5% on each": (
                    torch.tensor(mean + sign * 1.645 * error)
                ),
                "that holds 95% of single samples; the interval of their mean is smaller by sqrt(S)": (
                    torch.tensor(mean + sign * 1.96 * error * len(samples) ** 0.5)
                ),
                "the interval lies about 0: its middle is the mean": torch.tensor(sign * reach),
                "that is Student's interval, which is the better one for few samples: here the normal one is asked": (
                    torch.tensor(mean + sign * float(stdtrit(len(samples) - 1, 0.975)) * error)
                ),
            },
        )


def _importance(theirs: Any, exam: Exam) -> None:
    count, outcomes = exam.sizes(2, least=5, most=9)
    values, log_p = exam.normal(count), exam.normal(count, scale=0.5)
    log_q = log_p + exam.normal(count) + 0.3
    weights = (log_p - log_q).exp()
    exam.same(
        theirs.importance_mean(values, log_p, log_q),
        (values * weights).mean().item(),
        "your expectation under p",
        unless={
            "that is the mean of the values, which is the expectation under q": values.mean(),
            "the weights are q / p: a sample that q draws more often than p counts for less, so they are p / q": (
                (values / weights).mean()
            ),
            "the weights are made to sum to 1: that estimate is biased; divide by the number of samples": (
                (values * weights).sum() / weights.sum()
            ),
            "the weight is the difference of the logarithms: p / q is its exponential": (
                (values * (log_p - log_q)).mean()
            ),
            "the weights are p alone: samples come as often as q has them, so divide by q": (
                (values * log_p.exp()).mean()
            ),
            "that is the sum over the samples: an expectation is their mean": (values * weights).sum(),
        },
    )
    _unbiased(theirs, outcomes, exam)
    small = exam.normal(count, scale=0.5) - 200.0
    exam.same(
        theirs.importance_mean(values, small + 0.1, small),
        values.mean().item() * float(np.exp(0.1)),
        "your expectation where p and q are near exp(-200), which is 0 in float32 (their ratio is not: subtract the"
        " logarithms before the exponential)",
        tolerance=1e-3,
    )
    exam.gradients(
        theirs.importance_mean,
        lambda f, log_p, log_q: (f * (log_p - log_q).exp()).mean(),
        {"values": values, "log_p": log_p, "log_q": log_q},
        "your expectation under p",
    )


def _unbiased(theirs: Any, outcomes: int, exam: Exam) -> None:
    """Ask about single samples of every outcome: weighed by q, their estimates give the expectation under p exactly."""
    f, log_p, log_q = exam.normal(outcomes), exam.normal(outcomes), exam.normal(outcomes)
    log_p, log_q = log_p - log_p.logsumexp(0), log_q - log_q.logsumexp(0)
    told = [theirs.importance_mean(f[i : i + 1], log_p[i : i + 1], log_q[i : i + 1]) for i in range(outcomes)]
    exam.same(
        (torch.stack([torch.as_tensor(each) for each in told]) * log_q.exp()).sum(),
        (f * log_p.exp()).sum().item(),
        f"the mean over q of your estimates from one sample of {outcomes} outcomes",
    )
