"""The floating-point operations of a decoder, for each token that it reads."""


def forward_flops(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> dict[str, int]:
    """Count the FLOPs of the forward pass for one token of a text."""
    return {
        "maps": layers * 2 * 4 * width * width,
        "scores": layers * 2 * context * width,
        "values": layers * 2 * width * context,
        "feed_forward": layers * 2 * 2 * width * hidden,
        "unembedding": 2 * width * vocabulary,
    }


def training_flops(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> int:
    """Count the FLOPs of one token in training."""
    return 3 * sum(forward_flops(layers, width, hidden, vocabulary, context).values())


def over_6n(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> float:
    """Return the FLOPs of one token in training over the estimate 6 N."""
    entries = layers * (4 * width * width + 2 * width * hidden) + width * vocabulary
    return training_flops(layers, width, hidden, vocabulary, context) / (6 * entries)
