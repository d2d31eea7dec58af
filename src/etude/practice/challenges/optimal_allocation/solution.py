"""The best model for a budget, by a law of the loss."""


def optimal_allocation(A: float, B: float, alpha: float, beta: float, flops: float) -> tuple[float, float]:
    """Return the parameters and tokens of least loss for a budget."""
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    params = G * (flops / 6) ** (beta / (alpha + beta))
    return params, flops / (6 * params)


def loss_exponent(alpha: float, beta: float) -> float:
    """Return g in L - E proportional to C^-g, where every budget is divided as above."""
    return alpha * beta / (alpha + beta)
