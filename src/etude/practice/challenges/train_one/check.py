"""Whether a model has learned what follows what, measured on a new text of a source whose entropy is known."""

import math
from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam

STEPS, LENGTH, WINDOWS = 100, 32, 64


def check(theirs: Any, exam: Exam) -> None:
    """Have a model trained on a Markov chain's text; look at its losses, then measure it on a new text."""
    vocabulary = exam.random.randint(10, 14)
    chain = _chain(exam, vocabulary)
    text, new = _text(exam, chain, 1, 4000)[0], _text(exam, chain, WINDOWS, LENGTH + 1)
    got = theirs.train_one(text, vocabulary, STEPS)
    exam.ask(
        isinstance(got, tuple) and len(got) == 2 and callable(got[0]) and isinstance(got[1], list),
        "train_one has to return two things: the model, which can be called, and the list of losses",
    )
    model, losses = got
    exam.ask(
        len(losses) == STEPS, f"for {STEPS} steps there are {len(losses)} losses: give the loss of each step's windows"
    )
    exam.ask(
        all(isinstance(each, float) for each in losses),
        "an entry of the losses is not a Python number: `.item()` makes one of a tensor",
    )
    exam.ask(all(map(math.isfinite, losses)), "a loss is not finite: the training has diverged")
    exam.show("loss (nats per token)", losses)
    with torch.no_grad():
        _look(exam, model, new, vocabulary)
        _measure(exam, model, losses, chain, text, new)


def _look(exam: Exam, model: Any, new: Tensor, vocabulary: int) -> None:
    """Ask for the shape of logits, and that none depends on what comes after it."""
    for shape in ((3, LENGTH), (1, 1)):
        got = model(new[: shape[0], : shape[1]])
        exam.shaped(got, (*shape, vocabulary), "what your model makes of tokens", ("text", "position", "token"))
    tokens = new[:8, :LENGTH]
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % vocabulary
    exam.ask(
        torch.allclose(model(tokens)[:, :-1], model(changed)[:, :-1], atol=1e-4),
        "your model sees the future: a change of the last token changes logits before it, so that a target can be read"
        " from the inputs",
    )


def _measure(exam: Exam, model: Any, losses: list[float], chain: Tensor, text: Tensor, new: Tensor) -> None:
    """Compare the loss on a new text with what frequencies, and the source itself, come to."""
    vocabulary = len(chain)
    inputs, targets = new[:, :-1], new[:, 1:]
    logarithms = model(inputs).log_softmax(-1)
    loss = -float(logarithms.gather(-1, targets[..., None]).mean())
    itself = -float(logarithms.gather(-1, inputs[..., None]).mean())
    least = -float(chain[inputs, targets].log().mean())
    shares = torch.bincount(text, minlength=vocabulary).double() / len(text)
    frequencies = -float(shares[targets].log().mean())
    equal, first = math.log(vocabulary), losses[0]
    early, last = sum(losses[:15]) / 15, sum(losses[-15:]) / 15
    told = (
        f"(on a new text its loss is {loss:.2f} nats; equal shares {equal:.2f}, frequencies {frequencies:.2f}, the"
        f" source itself {least:.2f})"
    )
    exam.ask(
        itself > min(loss, least),
        f"your model predicts the token that it reads, not the next: the targets are the inputs one place on {told}",
    )
    exam.ask(
        last < 1.3 * loss + 0.1,
        f"your last losses are near {last:.2f}, and the model's loss on a new text is {loss:.2f}: give the mean over"
        " the windows' targets, in nats",
    )
    exam.ask(
        first < equal + 1,
        f"the first loss is {first:.2f}, and equal shares have ln V = {equal:.2f}: the untrained model is sure of what"
        " it cannot know. Begin with smaller logits",
    )
    exam.ask(last < early + 0.3, f"the loss rises, from {first:.2f} to {last:.2f}: is the sign right? {told}")
    exam.ask(
        last > least - 0.25 or loss < last + 0.4,
        f"your last losses, near {last:.2f}, are below what any model can reach on new windows: the same few windows"
        f" were learned by heart {told}",
    )
    reached = least + 0.35 * (frequencies - least)
    exam.ask(
        first > last + 0.1 or early > last + 0.05,
        f"the loss does not fall, {first:.2f} before and {last:.2f} after: no parameter has changed much {told}",
    )
    exam.ask(
        loss < frequencies - 0.15 * (frequencies - least),
        f"your model has learned at most how frequent each token is: what follows what is not in it {told}",
    )
    exam.ask(loss < reached, f"your model has learned something, and not enough: reach {reached:.2f} {told}")


def _chain(exam: Exam, vocabulary: int) -> Tensor:
    """Return the chances of each next token (column) after each token (row): one is likely, the others unequally so."""
    ring = exam.permutation(vocabulary)
    follows = torch.empty_like(ring)
    follows[ring] = ring.roll(-1)
    rare = 1.0 / (exam.permutation(vocabulary) + 1.0).double() ** 1.5
    chain = 0.4 * (rare / rare.sum()).repeat(vocabulary, 1)
    chain[torch.arange(vocabulary), follows] += 0.6
    return chain


def _text(exam: Exam, chain: Tensor, count: int, length: int) -> Tensor:
    """Write texts, [count, length], each from a random token on."""
    edges = chain.cumsum(-1).float()
    edges[:, -1] = 2.0
    text, chances = [exam.integers(len(chain), count)], exam.uniform(length, count)
    if count == 1:
        rows, at = edges.tolist(), [int(text[0])]
        for chance in chances[1:, 0].tolist():
            at.append(next(n for n, edge in enumerate(rows[at[-1]]) if edge > chance))
        return torch.tensor([at])
    for chance in chances[1:]:
        text.append((edges[text[-1]] > chance[:, None]).int().argmax(-1))
    return torch.stack(text, 1)
