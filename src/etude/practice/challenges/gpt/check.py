"""Whether a small GPT is one: against PyTorch's own attention, embedding, linear maps and layer norm."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from etude.practice.exam import Exam

MISTAKES = {
    "the positions are not added to the embeddings": "no positions",
    "every position is given the same vector of `positions`": "one position",
    "the last norm is missing: what is unembedded is norm(x)": "no final norm",
    "the blocks read x itself: attention and feed-forward read a norm of it": "no norms",
    "the norm stands behind the sum (post-norm): a layer reads norm(x), and what it returns is added to x": "post-norm",
    "no residual connection: what the attention and the feed-forward return is added to x": "no residual",
    "the feed-forward has no residual connection: what it returns is added to x": "no second residual",
    "the attention has no residual connection: what it returns is added to x": "no first residual",
    "feed_forward reads the x from before the attention: it comes after it, and reads the sum": "parallel",
    "both norms of a block are norm_1: the feed-forward has norm_2": "one norm",
    "the nonlinearity is a ReLU: GELU(y) is y times the normal distribution function at y": "relu",
    "GELU is its approximation by tanh: take the exact one": "tanh",
    "the scores are divided by sqrt(D): the vectors that are multiplied have D / H entries": "scale of all heads",
    "the scores are not divided by sqrt(D / H)": "no scale",
    "all heads are one: each has a pattern of its own, from its D / H columns": "one head",
    "heads and positions are mixed up: [B, T, D] is first cut into [B, T, H, D / H], then the axes are exchanged": (
        "mixed heads"
    ),
    "a position sees its future: the scores of keys after the query are not hidden": "no mask",
    "what the heads gather is not multiplied by W_O": "no W_O",
    "only the first block is run: there are several": "one block",
    "every block is the first one: each has weights of its own": "same block",
}


def check(theirs: Any, exam: Exam) -> None:
    """Ask with no block, one and two; for values and gradients."""
    for layers, heads, batch, length in ((0, 1, 2, 3), (1, 1, 1, 4), (1, 2, 3, 5), (2, 3, 2, 6), (1, 2, 2, 1)):
        given = _weights(exam, layers, heads)
        vocabulary = len(given["embedding"])
        tokens = exam.integers(vocabulary, batch, length)
        what = f"your gpt, with blocks: {layers} and heads: {heads}"
        got = theirs.gpt(tokens, *given.values())
        exam.shaped(got, (batch, length, vocabulary), what, ("text", "position", "token"))
        changed = tokens.clone()
        changed[:, -1] = (changed[:, -1] + 1) % vocabulary
        moved = theirs.gpt(changed, *given.values())[:, :-1]
        unless = {why: _gpt(tokens, **given, wrong=wrong) for why, wrong in MISTAKES.items()}
        if not torch.allclose(moved, got[:, :-1], atol=1e-5):
            unless["a position sees its future: a change of the last token changes logits before it"] = got
        exam.same(got, _gpt(tokens, **given), what, unless=unless, axes=("text", "position", "token"), tolerance=1e-3)
    given, tokens = _weights(exam, 1, 2), exam.integers(7, 2, 4)
    inputs = {name: given[name] for name in ("embedding", "positions", "norm")} | given["blocks"][0]

    def packed(run: Any) -> Any:
        return lambda e, p, norm, *block: run(
            tokens, e, p, [dict(zip(given["blocks"][0], block, strict=True))], norm, 2
        )

    exam.gradients(packed(theirs.gpt), packed(_gpt), inputs, "your gpt")


def _weights(exam: Exam, layers: int, heads: int) -> dict[str, Any]:
    width, inner, vocabulary, most = heads * exam.random.randint(3, 5), 11, 7, 8

    def norm() -> Tensor:
        return torch.stack([exam.uniform(width, low=0.6, high=1.6), exam.normal(width, scale=0.3)])

    square, wide = 1.5 * width**-0.5, width**-0.5
    blocks = [
        {name: exam.normal(width, width, scale=square) for name in ("W_Q", "W_K", "W_V", "W_O")}
        | {"W_in": exam.normal(width, inner, scale=wide), "b_in": exam.normal(inner, scale=0.5)}
        | {"W_out": exam.normal(inner, width, scale=wide), "b_out": exam.normal(width, scale=0.5)}
        | {"norm_1": norm(), "norm_2": norm()}
        for _ in range(layers)
    ]
    tables = {"embedding": exam.normal(vocabulary, width), "positions": exam.normal(most, width)}
    return {**tables, "blocks": blocks, "norm": norm(), "heads": heads}


def _gpt(
    tokens: Tensor,
    embedding: Tensor,
    positions: Tensor,
    blocks: list[dict[str, Tensor]],
    norm: Tensor,
    heads: int,
    wrong: str = "",
) -> Tensor:
    """Run it with PyTorch's own parts, and with a mistake where one is named."""
    width = embedding.shape[1]
    added = positions[: tokens.shape[1]] * (wrong != "no positions")
    x = F.embedding(tokens, embedding) + (positions[:1] if wrong == "one position" else added)

    def normed(y: Tensor, each: Tensor) -> Tensor:
        return F.layer_norm(y, [width], each[0], each[1])

    def inner(y: Tensor, block: dict[str, Tensor]) -> Tensor:
        hidden = F.linear(y, block["W_in"].T, block["b_in"])
        kinds = {"relu": F.relu, "tanh": lambda h: F.gelu(h, approximate="tanh")}
        return F.linear(kinds.get(wrong, F.gelu)(hidden), block["W_out"].T, block["b_out"])

    run = {"one block": blocks[:1], "same block": blocks[:1] * len(blocks)}.get(wrong, blocks)
    for block in run:
        if wrong == "post-norm":
            x = normed(x + _attention(x, block, heads, wrong), block["norm_1"])
            x = normed(x + inner(x, block), block["norm_2"])
            continue
        second = block["norm_1" if wrong == "one norm" else "norm_2"]
        gathered = _attention(x if wrong == "no norms" else normed(x, block["norm_1"]), block, heads, wrong)
        after = gathered if wrong in ("no residual", "no first residual") else x + gathered
        read = x if wrong == "parallel" else after
        made = inner(read if wrong == "no norms" else normed(read, second), block)
        x = made if wrong in ("no residual", "no second residual") else after + made
    return F.linear(x if wrong == "no final norm" else normed(x, norm), embedding)


def _attention(y: Tensor, block: dict[str, Tensor], heads: int, wrong: str) -> Tensor:
    heads = 1 if wrong == "one head" else heads
    batch, length, width = y.shape
    qkv = [F.linear(y, block[name].T) for name in ("W_Q", "W_K", "W_V")]
    if wrong == "mixed heads":
        cut = [each.reshape(batch, heads, length, width // heads) for each in qkv]
    else:
        cut = [torch.stack(each.chunk(heads, dim=-1), dim=1) for each in qkv]
    scale = {"scale of all heads": width**-0.5, "no scale": 1.0}.get(wrong)
    q, k, v = cut
    out = F.scaled_dot_product_attention(q, k, v, is_causal=wrong != "no mask", scale=scale)
    side = torch.cat(list(out.unbind(1)), dim=-1)
    return side if wrong == "no W_O" else F.linear(side, block["W_O"].T)
