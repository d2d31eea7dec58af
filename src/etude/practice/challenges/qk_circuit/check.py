"""Whether a circuit holds the scores between tokens, and attention follows from it."""

from typing import Any

import torch
from torch import Tensor

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask for circuits of some heads and of one, for attention in texts with repeated tokens, and for the gradient."""
    H, V, D, K = exam.sizes(4, least=3)
    for heads, length in ((H, V + 4), (1, 1), (2, 5)):
        W_E, W_Q, W_K = exam.normal(V, D), exam.normal(heads, D, K), exam.normal(heads, D, K)
        got = theirs.qk_circuit(W_E, W_Q, W_K)
        exam.shaped(got, (heads, V, V), "your circuit", axes=("H", "V", "V"))
        want = _circuit(W_E, W_Q, W_K)
        axes = ("head", "query token", "key token")
        unless = {
            "the circuit is transposed: its rows are keys and its columns queries": want.mT,
            "the scores are already divided by sqrt(K): the circuit is what stands before that": want / K**0.5,
            "the queries' weights make the keys too: W_K is not used": _circuit(W_E, W_Q, W_Q),
            "the keys' weights make the queries too: W_Q is not used": _circuit(W_E, W_K, W_K),
            "the heads are added up: each has a circuit of its own": want.sum(0).expand_as(want),
            "the queries are those of another head than the keys: head h goes with head h": (
                _circuit(W_E, W_Q, W_K.flip(0))
            ),
        }
        exam.same(got, want, "your circuit", unless=unless, axes=axes, tolerance=1e-3)
        tokens = exam.integers(V, length)
        circuit = want / D
        shares = theirs.pattern(circuit, tokens, K)
        exam.shaped(shares, (heads, length, length), "your pattern", axes=("H", "T", "T"))
        scores = circuit[:, tokens][:, :, tokens] / K**0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden = scores.masked_fill(future, -torch.inf)
        named = {
            "the future is seen: scores of key positions after the query's are to be hidden": scores.softmax(-1),
            "the future is hidden after the softmax, so the shares of a query do not sum to 1": (
                scores.softmax(-1).masked_fill(future, 0.0)
            ),
            "the future is given the score 0, which still has a share: exp(0) is 1": (
                scores.masked_fill(future, 0.0).softmax(-1)
            ),
            "query and key tokens are swapped: the row of the circuit is the token at the query's position": (
                (scores.mT.masked_fill(future, -torch.inf)).softmax(-1)
            ),
            "the scores are not divided by sqrt(K)": (hidden * K**0.5).softmax(-1),
            "the scores are divided by K, not by its root": (hidden / K**0.5).softmax(-1),
            "the softmax runs over queries: each query shares its attention among keys, the last axis": (
                hidden.softmax(-2)
            ),
            "the tokens play no part: this is the attention between tokens 0, 1, 2, ... in order": (
                _in_order(circuit, length, K)
            ),
        }
        axes = ("head", "query", "key")
        exam.same(shares, _attention(circuit, tokens, K), "your pattern", unless=named, axes=axes)
    exam.gradients(
        lambda *weights: theirs.pattern(theirs.qk_circuit(*weights), tokens, K),
        lambda *weights: _attention(_circuit(*weights), tokens, K),
        {"W_E": W_E / D, "W_Q": W_Q, "W_K": W_K},
        "your pattern",
    )


def _circuit(W_E: Tensor, W_Q: Tensor, W_K: Tensor) -> Tensor:
    """Return the circuits, head by head, by way of the D by D matrix W_Q W_K^T."""
    return torch.stack([W_E @ (q @ k.T) @ W_E.T for q, k in zip(W_Q, W_K, strict=True)])


def _attention(circuit: Tensor, tokens: Tensor, K: int) -> Tensor:
    """Return the attention, by PyTorch's own: a query is a token's row of the circuit, a key a one-hot token."""
    key = torch.eye(circuit.shape[-1])[tokens].expand(len(circuit), -1, -1)
    value = torch.eye(len(tokens)).expand(len(circuit), -1, -1)
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(circuit[:, tokens], key, value, is_causal=True, scale=K**-0.5)


def _in_order(circuit: Tensor, length: int, K: int) -> Tensor | None:
    """Return the attention in a text of tokens 0, 1, 2, ..., where there are as many."""
    return _attention(circuit, torch.arange(length), K) if length <= circuit.shape[-1] else None
