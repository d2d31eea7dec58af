"""Which answer does a language model find likeliest?"""

import torch
from torch import Tensor


def log_likelihood(logits: Tensor, tokens: Tensor, prompt: int) -> Tensor:
    """Return the logarithm of the probability of tokens from `prompt` on, given those before."""
    logarithms = logits[prompt - 1 : -1].log_softmax(dim=-1)
    answer = tokens[prompt:]
    return logarithms.gather(1, answer[:, None]).sum()


def choose(log_likelihoods: list[float], answers: list[str], per_byte: bool) -> int:
    """Return the number of the answer with the highest score."""
    sizes = [len(answer.encode()) if per_byte else 1 for answer in answers]
    scores = [value / size for value, size in zip(log_likelihoods, sizes, strict=True)]
    return max(range(len(scores)), key=lambda n: scores[n])
