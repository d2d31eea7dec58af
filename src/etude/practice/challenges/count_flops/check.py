"""Whether the FLOPs of a token are those of the matrix products that a text goes through."""

from typing import Any

from etude.practice.exam import Exam

KEYS = ("maps", "scores", "values", "feed_forward", "unembedding")


def check(theirs: Any, exam: Exam) -> None:
    """Ask about shapes of sizes that all differ, about a text twice as long, and about the estimate 6 N."""
    for _ in range(3):
        given = tuple(exam.sizes(5, least=3, most=23))
        _forward(theirs, given, exam)
        _training(theirs, given, exam)
        _estimate(theirs, given, exam)


def _forward(theirs: Any, given: tuple[int, ...], exam: Exam) -> None:
    """Compare the forward pass part by part."""
    L, D, F, V, T = given
    got = theirs.forward_flops(*given)
    exam.ask(isinstance(got, dict), f"your count is a {type(got).__name__}; it should be a dict of counts")
    exam.same(sorted(got), sorted(KEYS), "the list of your keys, sorted")
    want = _products(*given)
    mistakes = {
        "maps": {"the output map W_O is left out: a layer has four maps from D to D": L * 2 * 3 * D * D},
        "scores": {
            "a token has one query, which is met by T keys: T products of D numbers, not T times T": L * 2 * T * T * D,
            "half of the scores are masked, and yet computed: count all T keys": L * T * D,
        },
        "values": {
            "the pattern's product with the values is left out: T shares times T values of D numbers": 0,
            "a token has one row of the pattern: T shares, not T times T": L * 2 * T * T * D,
        },
        "feed_forward": {"a feed-forward network has two maps, and one is counted": L * 2 * D * F},
        "unembedding": {
            "the unembedding stands once, after the last layer, and not in every layer": L * 2 * D * V,
            "the logits are left out: the unembedding is a product of D numbers for each token of the vocabulary": 0,
        },
    }
    of = f"(L={L}, D={D}, F={F}, V={V}, T={T})"
    for key in KEYS:
        right = want[key]
        unless = {
            "a multiplication with its addition is two FLOPs, and is counted as one": right // 2,
            "one layer is counted, and there are L": right // L,
            "the FLOPs are those of the whole text; one token has a T-th of them": right * T,
        }
        exam.same(got[key], right, f'your count of "{key}" {of}', unless=mistakes[key] | unless, tolerance=0.0)


def _training(theirs: Any, given: tuple[int, ...], exam: Exam) -> None:
    """Compare training with the forward pass."""
    forward = sum(_products(*given).values())
    exam.same(
        theirs.training_flops(*given),
        3 * forward,
        "your count of FLOPs in training",
        unless={
            "the backward pass alone costs twice the forward pass; training has both": 2 * forward,
            "training is more than the forward pass: the backward pass is left out": forward,
            "the backward pass has two products for each of the forward pass, and one is counted for it": 4 * forward,
        },
        tolerance=0.0,
    )


def _estimate(theirs: Any, given: tuple[int, ...], exam: Exam) -> None:
    """Compare with the estimate, which is exact where the text is left out."""
    L, D, F, V, T = given
    products = _products(*given)
    entries = (products["maps"] + products["feed_forward"] + products["unembedding"]) // 2
    training = 3 * sum(products.values())
    exam.same(
        theirs.over_6n(*given),
        training / (6 * entries),
        "your ratio of training to 6 N",
        unless={
            "N counts the unembedding too: the token is multiplied by it": training / (6 * (entries - D * V)),
            "N counts the embedding, which is looked up: no token is multiplied by it": (
                training / (6 * (entries + D * V))
            ),
            "the estimate is 6 N for training, and is compared here with the forward pass": (
                training / 3 / (6 * entries)
            ),
            "the estimate of training is 6 N, not 2 N, which is the forward pass": training / (2 * entries),
            "the ratio is the wrong way round: the exact count stands over the estimate": 6 * entries / training,
        },
        tolerance=1e-6,
    )
    exam.ask(
        theirs.over_6n(L, D, F, V, 2 * T) > theirs.over_6n(L, D, F, V, T),
        "in a text twice as long the ratio should be larger: attention grows with T, and 6 N does not",
    )


def _products(L: int, D: int, F: int, V: int, T: int) -> dict[str, int]:
    """Return the FLOPs of a token from the shapes of all products that a whole text of T tokens goes through."""
    once = {"unembedding": [(T, D, V)]}
    each = {
        "maps": [(T, D, D), (T, D, D), (T, D, D), (T, D, D)],
        "scores": [(T, D, T)],
        "values": [(T, T, D)],
        "feed_forward": [(T, D, F), (T, F, D)],
    }
    every = {name: shapes * L for name, shapes in each.items()} | once
    return {name: sum(2 * n * k * m for n, k, m in shapes) // T for name, shapes in every.items()}
