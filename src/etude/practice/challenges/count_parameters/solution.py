"""The parameters of a GPT, counted before it is built."""


def count_parameters(
    layers: int, width: int, hidden: int, vocabulary: int, context: int, biases: bool, tied: bool
) -> dict[str, int]:
    """Count the learned numbers of a decoder by component, exactly."""
    bias = 1 if biases else 0
    counts = {
        "embedding": vocabulary * width,
        "positions": context * width,
        "attention": layers * 4 * (width * width + bias * width),
        "feed_forward": layers * (2 * width * hidden + bias * (hidden + width)),
        "norms": (2 * layers + 1) * (1 + bias) * width,
        "unembedding": 0 if tied else width * vocabulary,
    }
    return counts | {"total": sum(counts.values())}
