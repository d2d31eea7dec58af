"""Find a circuit that is known to be there: every instrument, on a model whose weights were written by hand.

Run it anywhere: python examples/find_a_circuit.py
"""

import torch

from etude.evals.behaviours import head_scores, repeats
from etude.interp.ablation import ablate_heads
from etude.interp.attribution import attribute
from etude.interp.composition import composition
from etude.interp.lenses import logit_lens
from etude.interp.metrics import LogitDifference
from etude.interp.patching import patch_map
from etude.interp.path_patching import Node, path_map
from etude.models.planted import planted

VOCABULARY, CONTEXT = 16, 32


def strongest(scores: torch.Tensor) -> str:
    """Return the name of the head with the highest of [layers, heads]."""
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return f"L{layer}H{head}: {scores[layer, head]:.2f}"


def main() -> None:
    model = planted(VOCABULARY, CONTEXT)
    clean = torch.tensor([[3, 7, 1, 9, 4, 3, 7, 1]])  # after 7 1 came 9
    corrupted = torch.tensor([[3, 7, 1, 12, 4, 3, 7, 1]])
    metric = LogitDifference(9, 12)

    scores = head_scores(model, repeats(64, CONTEXT, VOCABULARY, seed=0))
    print("attends to the token before:", strongest(torch.from_numpy(scores.previous.mean(0))))
    print("does induction:", strongest(torch.from_numpy(scores.induction.mean(0))))

    table = logit_lens(model, clean)
    rows = table.probabilities[:, 0, -1, 0].tolist()
    print("what each layer is sure of after the last token:", ", ".join(f"{chance:.2f}" for chance in rows))

    wrote = attribute(model, clean, token=9, versus=12)
    print("writes the answer:", strongest(wrote.heads), "from position", int(wrote.by_source.sum((0, 1)).argmax()))

    patched = patch_map(model, clean, corrupted, metric, "head").recovered()
    print("brings the answer back:", strongest(patched))
    elsewhere = torch.tensor([[3, 7, 2, 9, 4, 3, 7, 1]])  # nothing came after 1: there is no place to look
    keys = path_map(model, clean, elsewhere, LogitDifference(9), [Node("L1.attn.k", head=0)]).recovered()
    print("tells L1H0's keys where to look:", strongest(keys))
    joined = torch.from_numpy(composition(model, "K").projected[0, :, 1, :])
    print("read by keys (earlier head, later head):", [round(x, 2) for x in joined.flatten().tolist()])

    lost = ablate_heads(model, clean, metric, "zero")
    print("without each head the answer keeps:", [[round(float(v), 1) for v in row[:, 0]] for row in lost.values])


if __name__ == "__main__":
    main()
