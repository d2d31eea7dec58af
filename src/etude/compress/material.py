"""What a compressor is fitted to: activations or a weight, and whatever of the model and the text a method asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from etude.core.site import Site
from etude.evals.recording import Rows
from etude.models.transformer import Transformer
from etude.text.batches import Examples
from etude.text.tokenizers.live import Tokenizer

SOMEWHERE = Site("L0.attn.out")


@dataclass(frozen=True, eq=False)
class Material:
    """What a method is fitted to. Everything is of the training split.

    Attributes:
        values: activations [N D] at the site, fp32, perhaps mapped from disk; or a weight as the matrix [M N] of its
            map, inputs by outputs.
        site: where the compressor is to stand.
        inputs: [N M] what the component, or the weight, reads at the same tokens; None for a method that does not
            ask (`Method.reads_input`).
        rows: of which token each row of the activations is; None where nothing was recorded.
        heads: how many heads the axis D is divided among, one after the other; 1 where it is not.
        model: in evaluation mode, with nothing at its sites. Whoever changes it puts it back.
        examples: the training split.
        windows: those of its windows that were recorded, in the order of the rows.
        tokenizer: of the text.
    """

    values: Float[Tensor, "N D"]
    site: Site = SOMEWHERE
    inputs: Float[Tensor, "_N M"] | None = None  # not the N of a weight's values
    rows: Rows | None = None
    heads: int = 1
    model: Transformer | None = None
    examples: Examples | None = None
    windows: np.ndarray | None = None
    tokenizer: Tokenizer | None = None
