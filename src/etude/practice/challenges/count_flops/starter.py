"""The floating-point operations of a decoder, for each token that it reads."""


def forward_flops(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> dict[str, int]:
    """Count the FLOPs of the forward pass for one token of a text of T (Hoffmann et al. 2022, appendix F).

    A product of [n, k] with [k, m] has n k m multiplications, each with an addition: 2 n k m FLOPs.

    Args:
        layers: L.
        width: D, of the residual stream, and of all heads of a layer side by side.
        hidden: F, inner width of a feed-forward network.
        vocabulary: V.
        context: T, tokens of the text.

    Returns:
        FLOPs of one token in all layers together, under these keys:

        "maps"          its query, key and value, and the map of the heads' results back to the stream
        "scores"        its query times the keys of all T positions: the masked half too
        "values"        its row of the pattern, T shares, times the values
        "feed_forward"  its way from D to F, and back
        "unembedding"   its logits, once, after the last layer

    Only matrix products count: looking up embeddings, norms, softmax, biases and activations do not.
    """
    raise NotImplementedError


def training_flops(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> int:
    """Count the FLOPs of one token in training. The backward pass has two products for each of the forward pass: one
    for the gradient of each factor.
    """
    raise NotImplementedError


def over_6n(layers: int, width: int, hidden: int, vocabulary: int, context: int) -> float:
    """Return the FLOPs of one token in training over the estimate 6 N (Kaplan et al. 2020, section 2.1).

    N counts the entries of the matrices that each token is multiplied by: those of "maps", "feed_forward" and
    "unembedding". What the estimate leaves out is the part that grows with T.
    """
    raise NotImplementedError
