"""Whether losses are averaged and converted as they should be: against a geometric mean of shares."""

import math
from statistics import fmean, geometric_mean
from typing import Any

from etude.practice.exam import Exam

LETTERS = "abc déß語😀"


def check(theirs: Any, exam: Exam) -> None:
    """Ask for each unit with texts of unequal lengths, for equal shares, for empty texts and for a long one."""
    for _ in range(3):
        losses, texts = _given(exam)
        _each(theirs, exam, losses, texts)
    size = exam.random.randint(5, 5000)
    equal = [[math.log(size)] * 7, [math.log(size)] * 2]
    exam.same(theirs.perplexity(equal), float(size), f"the perplexity where each of {size} tokens has the same share")
    exam.same(
        theirs.bits_per_token([[math.log(8)] * 3]), 3.0, "bits per token where each of 8 tokens has the same share"
    )
    exam.same(theirs.perplexity([[0.0, 0.0]]), 1.0, "the perplexity where every token is certain")
    losses, texts = _given(exam)
    exam.same(
        theirs.perplexity([[], *losses]), theirs.perplexity(losses), "the perplexity with a text without tokens more"
    )
    exam.same(
        theirs.bits_per_byte([[], *losses], ["", *texts]),
        theirs.bits_per_byte(losses, texts),
        "bits per byte with a text without tokens more",
    )


def _given(exam: Exam) -> tuple[list[list[float]], list[str]]:
    """Return losses of three texts of different lengths, of which the short ones are harder, and the texts."""
    lengths = exam.random.sample(range(3, 12), 2)
    losses = [[exam.random.uniform(3.0, 6.0) for _ in range(count)] for count in lengths]
    losses.append([exam.random.uniform(0.2, 2.0) for _ in range(30)])
    texts = ["".join(exam.random.choices(LETTERS, k=3 * len(each))) + "語é" for each in losses]
    return losses, texts


def _each(theirs: Any, exam: Exam, losses: list[list[float]], texts: list[str]) -> None:
    given = [list(each) for each in losses]
    every = [loss for each in losses for loss in each]
    mean, tokens, nats = fmean(every), len(every), math.fsum(every)
    want = geometric_mean([1 / math.exp(-loss) for loss in every])
    long = [loss for loss in every for _ in range(60)]
    got = theirs.perplexity(losses)
    exam.same(
        got,
        want,
        "your perplexity",
        unless={
            "the perplexities of the texts are averaged: take exp of the mean over all tokens": fmean(
                math.exp(fmean(each)) for each in losses
            ),
            "each text counts the same, however long it is: every token counts the same": math.exp(
                fmean(fmean(each) for each in losses)
            ),
            "the losses are in nats, and are raised to a power of 2: nats belong to e": 2**mean,
            "this is the mean of exp(loss) over the tokens: exp is taken of the mean": fmean(map(math.exp, every)),
            "this is the mean loss: the perplexity is its exponential": mean,
            "this is exp of minus the mean: a perplexity is at least 1": math.exp(-mean),
            "this is exp of the sum: divide by the number of tokens before": math.exp(nats),
            "this is exp of the sum of all losses over the number of texts: it is over the number of tokens": math.exp(
                min(700.0, nats / len(losses))
            ),
        },
        tolerance=1e-3,
    )
    try:
        got = theirs.perplexity([long])
    except ArithmeticError as error:
        exam.ask(
            False,
            f"with a text of {len(long):,} tokens it raises {type(error).__name__}: the exponential of a sum, or a"
            " product of so many shares, is no float any more. Take the mean first",
        )
        raise
    exam.ask(
        math.isfinite(got),
        f"with a text of {len(long):,} tokens the perplexity is {got}: the exponential of a sum, or a product of so"
        " many shares, is no float any more. Take the mean first",
    )
    exam.same(got, want, f"the perplexity of {len(long):,} tokens", tolerance=1e-3)
    exam.same(
        theirs.bits_per_token(losses),
        mean * math.log2(math.e),
        "bits per token",
        unless={
            "these are nats per token: a nat is 1 / ln 2 bits": mean,
            "the nats are multiplied by ln 2, where they are to be divided by it": mean * math.log(2),
            "this is log2 of the mean loss: the loss is a logarithm already": math.log2(mean),
            "these are the bits of all tokens together: divide by their number": nats / math.log(2),
        },
    )
    data, letters = sum(len(text.encode("utf-8")) for text in texts), sum(map(len, texts))
    bits = nats / math.log(2)
    exam.same(
        theirs.bits_per_byte(losses, texts),
        bits / data,
        "bits per byte",
        unless={
            "the bits are divided by letters: `é` is one letter and two bytes of UTF-8": bits / letters,
            "these are nats per byte: a nat is 1 / ln 2 bits": nats / data,
            "the bits are divided by tokens, not by bytes": bits / tokens,
            "the bits of a token are divided by all bytes: all bits belong to them": bits / tokens / data,
            "each text counts the same: divide all bits by all bytes": fmean(
                sum(each) / math.log(2) / len(text.encode()) for each, text in zip(losses, texts, strict=True)
            ),
            "the nats are multiplied by ln 2, where they are to be divided by it": nats * math.log(2) / data,
        },
    )
    exam.ask(losses == given, "the lists of losses are changed: leave them as they were given")
