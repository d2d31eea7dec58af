"""What a model did at the last token of a conversation: its lens and its sharpest head, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etude.cli.console import say, say_table
from etude.core.errors import UsageError
from etude.text.tokenizers.live import Tokenizer
from etude.text.visible import visible

if TYPE_CHECKING:
    from torch import Tensor

    from etude.chat.session import Session

ATTENDED = 3
"""Tokens that a head is shown to look at."""


def show_last_token(session: Session) -> None:
    """Print, for each layer, what the logit lens reads of the stream before it at the last token, the head that attends
    most to one token, and where that head looks. The last row is the model's own prediction.

    Raises:
        UsageError: nothing was said yet, or the model is no decoder.
    """
    import torch

    from etude.interp.lenses import log_probabilities
    from etude.interp.subject import decoder_of
    from etude.nn.look import look

    if not session.dialogue.turns:
        raise UsageError("there is nothing to look at yet: say something first")
    model, tokenizer, ids = decoder_of(session.model), session.tokenizer, session.tokens()
    layers = model.spec.layers
    streams = [f"L{layer}.resid.pre" for layer in range(layers)] + [
        f"L{layers - 1}.resid.post" if layers else "embed.out"
    ]
    patterns = [f"L{layer}.attn.pattern" for layer in range(layers)]
    seen = look(model, torch.tensor([ids]), [*streams, *patterns], positions=-1)
    rows = []
    for layer, stream in enumerate(streams):
        with torch.no_grad():
            chances, tokens = log_probabilities(model, seen[stream][:, 0])[0].exp().topk(1)
        before = str(layer) if layer < layers else "end"
        head = _sharpest(seen[patterns[layer]][0, :, 0], tokenizer, ids) if layer < layers else ["", ""]
        rows.append([before, _quoted(tokenizer, int(tokens)), f"{float(chances):.3f}", *head])
    say(f"after {_quoted(tokenizer, ids[-1])}, token {len(ids):,}")
    say_table(["layer", "lens", "p", "head", "attends to"], rows, right=["p"])


def _sharpest(pattern: Tensor, tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Return the head [H S] that gives one token most, and what it gives to which."""
    head = int(pattern.amax(-1).argmax())
    shares, places = pattern[head].topk(min(ATTENDED, len(ids)))
    attended = (
        f"{_quoted(tokenizer, ids[at])} {share:.2f}" for share, at in zip(shares.tolist(), places.tolist(), strict=True)
    )
    return [f"H{head}", "  ".join(attended)]


def _quoted(tokenizer: Tokenizer, token: int) -> str:
    """Return a token in printable form; a row of a padded embedding, which is no token, by its number."""
    return f"'{visible(tokenizer.piece(token))}'" if token < tokenizer.vocabulary else f"[{token}]"
