"""Whether a decoder reads its source and nothing else: against PyTorch's module of several heads."""

from typing import Any

import torch
from torch import Tensor, nn

from etude.practice.exam import Exam


def check(theirs: Any, exam: Exam) -> None:
    """Ask with sources longer and shorter than what is written, with padding, and for gradients."""
    for heads in (1, 2, 3):
        given = _given(exam, heads)
        x, memory, kept, W_Q, W_K, W_V, W_O = given
        batch, length, source = *x.shape[:2], memory.shape[1]
        what, read = "the patterns", "source"
        got = theirs.cross_attention(*given, heads)
        exam.ask(
            isinstance(got, tuple | list) and len(got) == 2,
            "cross_attention has to return two tensors: out and the patterns",
        )
        out, pattern = got
        exam.ask(
            not isinstance(pattern, Tensor) or tuple(pattern.shape) != (batch, heads, length, length),
            f"the patterns are T by T, [{length}, {length}]: keys and values come from memory, and a pattern is T by S",
        )
        exam.ask(
            not isinstance(pattern, Tensor) or tuple(pattern.shape) != (batch, heads, source, length),
            "the patterns are S by T: the queries come from x, the keys from memory",
        )
        exam.shaped(pattern, (batch, heads, length, source), what, ("text", "head", "query", read))
        exam.shaped(out, x.shape, "out", ("text", "position", "dimension"))
        exam.ask(
            not bool(pattern.isnan().any()),
            "a row of the patterns is not a number: every key of it is hidden, though each source has a token. Which of"
            " the two is hidden, the tokens or the padding?",
        )
        exam.sums_to_one(pattern, what)
        want_out, want = _torch(x, memory, kept, W_Q, W_K, W_V, W_O, heads)
        exam.same(pattern, want, what, unless=_mistakes(*given, heads), axes=("text", "head", "query", read))
        leaked = torch.where(kept[:, None, None], 0.0, pattern)
        exam.ask(
            not bool(leaked.any()),
            "padding of the source has a share that is small and not 0: hide it with -infinity",
        )
        exam.same(
            out,
            want_out,
            "out",
            unless=_outs(want, memory, W_V, W_O, x),
            axes=("text", "position", "dimension"),
        )
    x, memory, kept, W_Q, W_K, W_V, W_O = _given(exam, 2)
    exam.gradients(
        lambda x, memory, *weights: theirs.cross_attention(x, memory, kept, *weights, 2)[0],
        lambda x, memory, q, k, v, o: _slowly(x, memory, kept, q, k, v, o, 2)[0],
        {"x": x, "memory": memory, "W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_O": W_O},
        "out",
    )


def _given(exam: Exam, heads: int) -> tuple[Any, ...]:
    """Return x, memory, kept and the weights; the sources' lengths differ, and one has no padding."""
    batch, length, source = exam.sizes(3, least=3, most=7)
    width = heads * exam.random.choice([4, 5])
    lengths = exam.integers(source, batch, low=2)
    lengths[exam.random.randrange(1, batch)] = source
    kept = torch.arange(source) < lengths[:, None]
    weights = [exam.normal(width, width, scale=width**-0.5) for _ in range(4)]
    return exam.normal(batch, length, width, scale=1.2), exam.normal(batch, source, width, scale=1.2), kept, *weights


def _torch(
    x: Tensor, memory: Tensor, kept: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, heads: int
) -> tuple[Tensor, Tensor]:
    """Run PyTorch's own module with these weights."""
    module = nn.MultiheadAttention(x.shape[-1], heads, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([W_Q.T, W_K.T, W_V.T]))
        module.out_proj.weight.copy_(W_O.T)
        out, pattern = module(x, memory, memory, key_padding_mask=~kept, average_attn_weights=False)
    return out, pattern


def _slowly(
    x: Tensor,
    memory: Tensor,
    kept: Tensor,
    W_Q: Tensor,
    W_K: Tensor,
    W_V: Tensor,
    W_O: Tensor,
    heads: int,
    wrong: str = "",
) -> tuple[Tensor, Tensor]:
    """Attend head by head and text by text, with a mistake in the pattern where one is named."""
    size = x.shape[-1] // heads
    scale = {"no scale": 1.0, "all heads": x.shape[-1] ** -0.5}.get(wrong, size**-0.5)
    patterns, outs = [], []
    for read, source, own in zip(x, memory, kept, strict=True):
        patterns.append([])
        gathered = []
        for h in range(heads):
            columns = slice(h * size, (h + 1) * size)
            q, k = read @ W_Q[:, columns], source @ W_K[:, columns]
            if wrong == "mixed":
                q = (read @ W_Q).reshape(heads, -1, size)[h]
                k = (source @ W_K).reshape(heads, -1, size)[h]
            scores = torch.einsum("tk,sk->ts", q, k) * scale
            hidden = {"no mask": own & False, "inverted": own}.get(wrong, ~own).expand(scores.shape)
            if wrong == "causal":
                hidden = hidden | torch.ones_like(hidden).triu(1)
            powers = (scores - scores.amax()).exp()
            powers = torch.where(hidden, 1e-30 if wrong == "inverted" else 0.0, powers)
            if wrong == "zero":
                powers = torch.where(hidden, 0.0, scores).exp()
            if wrong == "after":
                powers = (scores - scores.amax()).exp()
            shares = powers / powers.sum(0 if wrong == "axis" else -1, keepdim=True)
            patterns[-1].append(shares * ~hidden if wrong == "after" else shares)
            gathered.append(shares @ (source @ W_V[:, columns]))
        outs.append(torch.cat(gathered, -1) @ W_O)
    return torch.stack(outs), torch.stack([torch.stack(each) for each in patterns])


def _mistakes(*given: Any) -> dict[str, Tensor]:
    """Return the patterns that known mistakes come to."""
    named = {
        "padding of the source has a share: where kept is false it is 0": "no mask",
        "a score of 0 does not hide the padding, exp(0) is 1: it takes -infinity": "zero",
        "the mask is the wrong way round: it hides the tokens and shows the padding": "inverted",
        "there is a causal mask: every position of the decoder may read the whole source": "causal",
        "the scores are not divided by sqrt(D / H)": "no scale",
        "the scores are divided by sqrt(D): the vectors that are multiplied have D / H entries": "all heads",
        "heads and positions are mixed up: [B, N, D] is first cut into [B, N, H, D / H], then the axes are exchanged": (
            "mixed"
        ),
    }
    return {why: _slowly(*given, wrong=wrong)[1] for why, wrong in named.items()}


def _outs(pattern: Tensor, memory: Tensor, W_V: Tensor, W_O: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Return what known mistakes make of the right patterns."""
    heads, length = pattern.shape[1:3]

    def gather(values: Tensor) -> Tensor:
        cut = values.unflatten(2, (heads, -1)).transpose(1, 2)
        return pattern @ cut

    right = gather(memory @ W_V)
    return {
        "what the heads gather is not multiplied by W_O": right.transpose(1, 2).flatten(2),
        "heads and positions are mixed up on the way back: [B, H, T, D / H] goes to [B, T, H, D / H] before the heads"
        " are put side by side": right.reshape(len(memory), length, -1) @ W_O,
        "x is added to out: the residual connection is not part of the attention": (
            right.transpose(1, 2).flatten(2) @ W_O + x
        ),
        "the values are memory itself: V = memory W_V": gather(memory).transpose(1, 2).flatten(2) @ W_O,
    }
