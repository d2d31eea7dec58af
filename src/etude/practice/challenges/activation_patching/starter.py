"""Activation patching: which place of the residual stream carries what matters."""

from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, Tensor]]


def patch_effects(run: Run, clean: Tensor, corrupted: Tensor, right: int, wrong: int) -> Tensor:
    """Put each vector of the clean run's stream into the corrupted run, one at a time, and measure what it restores.

    With m the difference of logits at the last position,

        m = logits[-1, right] - logits[-1, wrong]
        effect[l, t] = (m_patched - m_corrupted) / (m_clean - m_corrupted)

    where m_patched is that of the corrupted text, with the stream before layer l at position t as it is in the clean
    text. An effect of 1 restores the clean answer; 0 changes nothing (Meng et al. 2022, section 2; Wang et al. 2022).

    Args:
        run: `run(tokens)` returns logits, [T, V], and the stream before each layer, [L, T, D]. In
            `run(tokens, patch=(l, t, vector))` layer l and all after it read `vector`, [D], at position t.
        clean: tokens, [T].
        corrupted: tokens of another text of the same length, [T].
        right: the token that the clean text asks for.
        wrong: the token that its logit is compared with.

    Returns:
        Effects, of shape [L, T].
    """
    raise NotImplementedError
