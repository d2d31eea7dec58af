"""The parameters of a GPT, counted before it is built."""


def count_parameters(
    layers: int, width: int, hidden: int, vocabulary: int, context: int, biases: bool, tied: bool
) -> dict[str, int]:
    """Count the learned numbers of a decoder by component, exactly (Radford et al. 2019, section 2.3).

    Args:
        layers: L, blocks of attention and feed-forward network.
        width: D, of the residual stream, and of all heads of a layer side by side.
        hidden: F, inner width of a feed-forward network.
        vocabulary: V, rows of the embedding.
        context: C, learned positions.
        biases: whether the maps of the blocks and all norms have biases.
        tied: whether the unembedding is the embedding, transposed; else it is a matrix of its own.

    Returns:
        The counts, under these keys:

        "embedding"     one vector of D numbers for each token of the vocabulary
        "positions"     one vector for each position
        "attention"     in each layer four maps, W_Q, W_K, W_V and W_O, from D numbers to D; each with a bias of D,
                        where there are biases
        "feed_forward"  in each layer a map from D to F and one from F back to D; each with a bias as long as its
                        result, where there are biases
        "norms"         two in each layer and one after the last: a gain of D each; and a bias of D, where there are
                        biases
        "unembedding"   what it adds: a map from D to V without a bias, or nothing where it is tied
        "total"         all of these

    Into how many heads a layer is divided changes none of the counts.
    """
    raise NotImplementedError
