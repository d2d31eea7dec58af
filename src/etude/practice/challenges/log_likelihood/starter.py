"""Which answer does a language model find likeliest?"""

import torch
from torch import Tensor


def log_likelihood(logits: Tensor, tokens: Tensor, prompt: int) -> Tensor:
    """Return the logarithm of an answer's probability given its prompt, in nats.

        ln p(answer | prompt) = sum over t = P, ..., N - 1 of ln softmax(logits_t')[tokens_t]

    where logits_t' are the logits that predict token t. The model that they come from reads from left to right: what it
    gives at a position is its prediction of the token *after* that one.

    Args:
        logits: what the model gives at each position, [N, V].
        tokens: the prompt's tokens, then the answer's, [N].
        prompt: how many of them are the prompt's: P, at least 1 and at most N. They are given, and count for nothing.

    Returns:
        One number, as a tensor without axes, never above 0. An empty answer has 0. Logits may be in the hundreds.
    """
    raise NotImplementedError


def choose(log_likelihoods: list[float], answers: list[str], per_byte: bool) -> int:
    """Return which answer is chosen, by its number: the one with the highest score.

    Args:
        log_likelihoods: of each answer, in nats. No two scores are equal.
        answers: the answers' texts, none of them empty.
        per_byte: whether an answer's score is its log-likelihood divided by its number of UTF-8 bytes, so that a long
            answer does not lose for its length alone. Where false, the score is the log-likelihood itself.
    """
    raise NotImplementedError
