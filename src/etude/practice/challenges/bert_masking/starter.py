"""BERT's masking: some tokens are hidden, and are to be told from the rest."""

import torch
from torch import Tensor


def masked(
    tokens: Tensor, special: Tensor, chosen_u: Tensor, kind_u: Tensor, other: Tensor, mask: int, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Hide tokens, as drawn, and say what is to be predicted (Devlin et al. 2019, section 3.1, task 1).

    A position is chosen where chosen_u < share and its token is not special. What the model reads there:

        the mask                where kind_u < 0.8            (80% of those chosen)
        the token of `other`    where 0.8 <= kind_u < 0.9     (10%)
        the token as it was     where 0.9 <= kind_u           (10%)

    Args:
        tokens: the texts, [B, T].
        special: true where a token is special, as in [CLS], [SEP] and padding, [B, T]. These are never chosen.
        chosen_u: drawn evenly from 0 up to 1, at every position anew, [B, T].
        kind_u: the same, drawn independently, [B, T].
        other: any tokens, drawn evenly from the vocabulary, [B, T].
        mask: the number of the token [MASK].
        share: how many of the ordinary tokens are chosen.

    Returns:
        What the model reads, [B, T]: the tokens as they were where none is chosen. And the labels, [B, T]: where a
        position is chosen, whatever is read there, the token as it was; everywhere else -100, which no loss counts.
    """
    raise NotImplementedError
