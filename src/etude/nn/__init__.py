"""The parts of a transformer, from scratch. Each file holds one idea: a pure typed function, then a thin module.

Axes have one-letter names, the same everywhere: in signatures (`Float[Tensor, "B T D"]`), in the shapes of sites, and
in weights. Importing this package imports no PyTorch.
"""

AXES = {
    "B": "batch",
    "T": "position",
    "S": "position that is attended to (source)",
    "D": "model width",
    "H": "head",
    "G": "group of heads that share keys and values",
    "K": "head width",
    "F": "feed-forward width",
    "V": "vocabulary",
    "C": "class",
    "U": "chunk",
    "J": "neighbour of a chunk",
    "R": "position in a neighbour and its continuation",
    "E": "width of another model that is read",
    "L": "layer",
    "N": "sample",
}
"""Every axis by its letter. `1` stands for an axis that is kept with size one."""
