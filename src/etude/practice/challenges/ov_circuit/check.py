"""Whether a circuit maps tokens looked at to logits, and its eigenvalues are summed up."""

import math
from typing import Any

import torch
from torch import Tensor

from etude.practice.differences import close, is_number
from etude.practice.exam import Exam

AXES = ("row", "column")
RIGHT = "the score"


def check(theirs: Any, exam: Exam) -> None:
    """Ask for a planted circuit and random ones, then for the scores of circuits with known eigenvalues."""
    K, V, D = sorted(exam.sizes(3, least=3))
    orders = (("W_E", V, D), ("W_V", D, K), ("W_O", K, D), ("W_U", D, V))
    for _ in range(2):
        W_E, W_V, W_O, W_U = (exam.normal(rows, columns) for _, rows, columns in orders)
        got = theirs.ov_circuit(W_E, W_V, W_O, W_U)
        exam.shaped(got, (V, V), "your circuit", axes=("V", "V"))
        want = _one_by_one(W_E, W_V, W_O, W_U)
        unless = {
            "the circuit is transposed: a row is the token that is looked at, a column the logit that changes": want.T,
            "the head plays no part: W_E W_U is the direct path, past all heads": W_E @ W_U,
            "the embedding stands at the end too: what is written is read by W_U": W_E @ W_V @ W_O @ W_E.T,
            "the unembedding stands at the beginning too: what is looked at is embedded by W_E": W_U.T
            @ W_V
            @ W_O
            @ W_U,
            "W_O is left out: the value is brought back by W_V transposed": W_E @ W_V @ W_V.T @ W_U,
            "W_V is left out: the value is read by W_O transposed": W_E @ W_O.T @ W_O @ W_U,
        }
        exam.same(got, want, "your circuit", unless=unless, axes=AXES, tolerance=1e-3)
    again = {name: exam.normal(rows, columns) for name, rows, columns in orders}
    exam.gradients(theirs.ov_circuit, _one_by_one, again, "your circuit")

    size = 2 * V + 1
    base = _leaning(exam, size)
    weights = exam.uniform(size, low=1.5, high=3.0)
    signs = torch.where(torch.arange(size) < exam.random.randint(2, V - 1), -1.0, 1.0)
    turning = torch.block_diag(*[_turn(exam, n) for n in range(V)], weights[:1, None] + 2.0)
    circuits = [_similar(base, form) for form in (turning, torch.diag(signs * weights), turning @ turning)]
    scores, tables = [theirs.copying_score(circuit) for circuit in circuits], [_scores(each) for each in circuits]
    for score in scores:
        exam.ask(
            not _is_complex(score), "the score is complex: the sum of all eigenvalues is real, and so is the score"
        )
        single = is_number(score) or (isinstance(score, Tensor) and score.ndim == 0)
        exam.ask(single, "the score is no single number: it sums over all eigenvalues of a circuit")
    pairs = list(zip(scores, tables, strict=True))
    fits = [why for why in tables[0] if all(close(float(score), table[why], 1e-3) for score, table in pairs)]
    for score, table in pairs:  # a mistake is named where it explains all: one score may be near another by chance
        exam.same(score, table[RIGHT], "your score", unless=dict.fromkeys(fits, score), tolerance=1e-3)
    for sign, word in ((1.0, "positive"), (-1.0, "negative")):
        score = theirs.copying_score(_similar(base, torch.diag(sign * weights)))
        exam.same(score, sign, f"the score of a circuit whose eigenvalues are all {word}", tolerance=1e-3)


def _scores(circuit: Tensor) -> dict[str, float]:
    """Return the score of a circuit, and what known mistakes give for it, by what is said of them."""
    values = torch.linalg.eigvals(circuit.double())
    real, whole = values.real, values.abs()
    diagonal, half = circuit.diagonal(), torch.linalg.eigvalsh(circuit)
    found = {
        RIGHT: real.sum() / whole.sum(),
        "eigenvalues are counted: each is to count by its size, as of the many near 0 the sign is chance": (
            (real > 0).double().mean()
        ),
        "eigenvalues are counted, the positive less the negative: each is to count by its size": real.sign().mean(),
        "positive eigenvalues alone are summed above: negative ones are to be taken away": (
            real.clamp_min(0).sum() / whole.sum()
        ),
        "absolute values of real parts are summed below: of complex eigenvalues take the absolute value, the length in"
        " the plane": real.sum() / real.abs().sum(),
        "singular values are summed below, not the absolute values of eigenvalues": (
            real.sum() / torch.linalg.svdvals(circuit).sum()
        ),
        "absolute values of the diagonal are summed below: the diagonal sums to the eigenvalues' sum, but its absolute"
        " values do not sum to theirs": diagonal.sum() / diagonal.abs().sum(),
        "the eigenvalues are those of a symmetric matrix, of which one half alone is looked at: the circuit is not"
        " symmetric": half.sum() / half.abs().sum(),
        "the eigenvalues are those of the circuit and its transpose together, a symmetric matrix": _symmetric(circuit),
        "absolute values are summed above too, so every score is 1": whole.sum() / whole.sum(),
        "the sum is not divided by that of the absolute values": real.sum(),
        "the sum is divided by the number of tokens, not by the sum of the absolute values": real.mean(),
    }
    return {why: float(value) for why, value in found.items()}


def _one_by_one(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    """Return the circuit, a token at a time, as a head acts."""
    rows = []
    for embedded in W_E:
        value = embedded @ W_V
        rows.append((value @ W_O) @ W_U)
    return torch.stack(rows)


def _similar(base: Tensor, form: Tensor) -> Tensor:
    """Return a matrix with the eigenvalues of `form`, not symmetric."""
    return base @ form @ torch.linalg.inv(base)


def _leaning(exam: Exam, size: int) -> Tensor:
    """Return an invertible matrix whose columns are far from perpendicular."""
    left, right = (torch.linalg.qr(exam.normal(size, size)).Q for _ in range(2))
    return left * torch.linspace(0.4, 2.4, size) @ right


def _turn(exam: Exam, n: int) -> Tensor:
    """Return a matrix of two complex eigenvalues, whose real part is below 0 for every third n."""
    size, angle = exam.random.uniform(1.5, 3.0), exam.random.uniform(0.4, 1.2)
    angle = math.pi - angle if n % 3 == 0 else angle
    return size * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _symmetric(circuit: Tensor) -> Tensor:
    values = torch.linalg.eigvalsh(circuit + circuit.T)
    return values.sum() / values.abs().sum()


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex())
