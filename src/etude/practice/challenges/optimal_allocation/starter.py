"""The best model for a budget, by a law of the loss."""


def optimal_allocation(A: float, B: float, alpha: float, beta: float, flops: float) -> tuple[float, float]:
    """Divide a budget between parameters and tokens (Hoffmann et al. 2022, section 3.3, equation 4).

    The loss of a model of N parameters, trained on D tokens, and what its training costs are

        L(N, D) = E + A / N^alpha + B / D^beta,        C = 6 N D.

    With all of the budget spent, the loss is a function of N alone; where its derivative is 0 the loss is least:

        N = G (C / 6)^(beta / (alpha + beta))
        D = G^-1 (C / 6)^(alpha / (alpha + beta)),     G = (alpha A / (beta B))^(1 / (alpha + beta)).

    Args:
        A: size of what too few parameters cost, above 0.
        B: size of what too few tokens cost, above 0.
        alpha: how fast the one falls, above 0.
        beta: how fast the other falls, above 0.
        flops: C, the budget, above 0.

    Returns:
        N and D of least loss, as real numbers.

    Derive the formula once by yourself: put D = C / (6 N) into L, and find where the derivative by log N is 0.
    """
    raise NotImplementedError


def loss_exponent(alpha: float, beta: float) -> float:
    """Return g in L - E proportional to C^-g, where every budget is divided as above.

    It follows from the exponents of N and D in C; A and B do not enter.
    """
    raise NotImplementedError
