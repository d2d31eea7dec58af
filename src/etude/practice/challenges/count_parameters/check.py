"""Whether the parameters of a GPT are counted as PyTorch's own modules have them."""

from typing import Any

from torch import nn

from etude.practice.exam import Exam

GPT_2 = (12, 768, 3072, 50257, 1024, True, True)
"""The smallest GPT-2, whose released weights hold 124,439,808 numbers."""


def check(theirs: Any, exam: Exam) -> None:
    """Ask about shapes with biases and without, tied and not, and at last about GPT-2."""
    for biases, tied in ((False, False), (True, False), (False, True), (True, True)):
        layers, width, hidden, vocabulary, context = exam.sizes(5, least=3, most=23)
        given = (layers, width, hidden, vocabulary, context, biases, tied)
        _ask(theirs.count_parameters(*given), given, exam)
    got = theirs.count_parameters(*GPT_2)
    exam.same(got["total"], 124_439_808, "your total for the smallest GPT-2", tolerance=0.0)


def _ask(got: Any, given: tuple[Any, ...], exam: Exam) -> None:
    """Compare the counts of one shape, key by key."""
    L, D, F, V, C, biases, tied = given
    bias = int(biases)
    want = _built(*given)
    exam.ask(isinstance(got, dict), f"your count is a {type(got).__name__}; it should be a dict of counts")
    exam.same(sorted(got), sorted(want), "the list of your keys, sorted")
    with_or_not = "with biases" if biases else "without biases"
    of = f"(L={L}, D={D}, F={F}, V={V}, C={C}, {with_or_not}, {'tied' if tied else 'not tied'})"
    always = {True: "there are no biases here, and yet they are counted", False: "the biases are not counted"}[not bias]
    maps = 4 * (D * D + bias * D)
    feed_forward = 2 * D * F + bias * (F + D)
    norm = (1 + bias) * D
    mistakes: dict[str, dict[str, int]] = {
        "embedding": {"the embedding has one vector for each token of the vocabulary, not for each position": C * D},
        "positions": {"the positions are as many as the context is long, whatever the vocabulary": V * D},
        "attention": {
            "attention has four maps: W_O, from the heads' results back to the residual stream, is left out": (
                L * 3 * (D * D + bias * D)
            ),
            "attention is counted for one layer, and there are L": maps,
            f"in the attention {always}": L * 4 * (D * D + (1 - bias) * D),
            "attention has one bias for each of its four maps: D numbers, four times": L * (4 * D * D + D),
        },
        "feed_forward": {
            "the feed-forward network is counted for one layer, and there are L": feed_forward,
            "a bias is as long as its map's result, and the feed-forward network's second map ends in the width D": (
                L * (2 * D * F + 2 * F)
            ),
            "a bias is as long as its map's result, and the feed-forward network's first map ends in the width F": (
                L * (2 * D * F + 2 * D)
            ),
            f"in the feed-forward networks {always}": L * (2 * D * F + (1 - bias) * (F + D)),
            "a feed-forward network has two maps, from D to F and from F back to D: one is counted": (
                L * (D * F + bias * F)
            ),
        },
        "norms": {
            "the norm after the last block is left out: two in each layer, and one more": 2 * L * norm,
            "there are two norms in each layer, one before the attention and one before the feed-forward network": (
                (L + 1) * norm
            ),
            f"in the norms {always}": (2 * L + 1) * (2 - bias) * D,
        },
        "unembedding": {
            "a tied unembedding is the embedding itself: its numbers are learned once, and not counted again": V * D,
            "an unembedding that is not tied is a matrix of its own, D by V": 0,
            "the unembedding has no bias": V * D + V,
        },
        "total": {
            "the total leaves out the positions": want["total"] - want["positions"],
            "the total leaves out the embedding": want["total"] - want["embedding"],
            "the total leaves out the norms": want["total"] - want["norms"],
            "the total leaves out the unembedding": want["total"] - want["unembedding"],
        },
    }
    for key, right in want.items():
        exam.same(got[key], right, f'your count of "{key}" {of}', unless=mistakes[key], tolerance=0.0)


def _built(L: int, D: int, F: int, V: int, C: int, biases: bool, tied: bool) -> dict[str, int]:
    """Return the counts of PyTorch's modules of these sizes."""

    def held(*modules: nn.Module) -> int:
        return sum(weight.numel() for module in modules for weight in module.parameters())

    block = nn.TransformerEncoderLayer(D, 1, F, bias=biases)
    counts = {
        "embedding": held(nn.Embedding(V, D)),
        "positions": held(nn.Embedding(C, D)),
        "attention": L * held(block.self_attn),
        "feed_forward": L * held(block.linear1, block.linear2),
        "norms": L * held(block.norm1, block.norm2) + held(nn.LayerNorm(D, bias=biases)),
        "unembedding": 0 if tied else held(nn.Linear(D, V, bias=False)),
    }
    return counts | {"total": sum(counts.values())}
