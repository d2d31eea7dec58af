"""The work of circuits: what the weights say of each head, what the paths add, what is lost without a head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from etude.core.errors import UsageError
from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.core.seeds import stream
from etude.evals.behaviours import Repeats, repeats, tokens_in
from etude.evals.loss import batches, chosen_windows
from etude.evals.splits import windows_of
from etude.evals.statistics import mean, paired, ratio
from etude.interp.ablation import ablate_heads, ablated
from etude.interp.circuits import Factored, copying_score, full_ov, full_qk, ov_circuit, qk_circuit, top_pairs
from etude.interp.composition import chance_of_copying, composition
from etude.interp.expansion import Streams, streams_by_path
from etude.interp.plain import plain
from etude.interp.recipes import HeadAblation, HeadCircuits, Paths
from etude.interp.subject import Subject, subject
from etude.models.decoder_model import DecoderModel
from etude.nn.linear import linear
from etude.text.batches import IGNORE
from etude.text.data import TextData

Head = tuple[int, int]

SCORES = 1 << 25
"""Scores of tokens that are held at once: 134 MB in fp32, and their logarithms in fp64 three times as much."""


def circuits(recipe: HeadCircuits, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Read every head's circuits off the weights made plain."""
    on = subject(inputs[recipe.of])
    notices = list(on.notices)
    model = on.decoder
    if model.spec.norm_at == "post":
        notices.append("norms after each addition cannot be folded: the circuits are those of the weights as they are")
    else:
        model = plain(model)
    if model.spec.positions == "rotary":
        notices.append("positions are rotary: QK circuits are those of a query and a key at one place")
    spec = model.spec
    heads = []
    for layer in range(spec.layers):
        for head in range(spec.heads):
            ov, qk = (_of_tokens(on, full(model, layer, head)) for full in (full_ov, full_qk))
            heads.append(
                {
                    "head": f"L{layer}H{head}",
                    "copying": _score(ov),
                    "matching": _score(qk),
                    "ov_norm": float(ov_circuit(model, layer, head).norm()),
                    "qk_norm": float(qk_circuit(model, layer, head).norm()),
                    "ov": _pairs(on, ov, recipe.pairs),
                    "qk": _pairs(on, qk, recipe.pairs),
                }
            )
            run.progress(len(heads), spec.layers * spec.heads, unit="heads")
    kinds = "QKV" if spec.layers > 1 else ""  # with one layer no head reads what another wrote
    found = {kind: composition(model, kind, recipe.draws, recipe.seed) for kind in kinds}
    arrays: dict[str, np.ndarray] = {}
    for kind, scores in found.items():
        arrays |= {f"{kind}.{name}": getattr(scores, name) for name in ("raw", "excess", "projected")}
    singular = [ov_circuit(model, la, he).svd().S for la in range(spec.layers) for he in range(spec.heads)]
    if singular:
        run.save("circuits.safetensors", {**arrays, "ov_singular": torch.stack(singular).numpy()})
    return {
        "heads": heads,
        "layers": spec.layers,
        "heads_per_layer": spec.heads,
        "baseline": {kind: scores.baseline for kind, scores in found.items()},
        "chance": {
            "copying": chance_of_copying(spec.width, spec.head_width, len(heads), seed=recipe.seed) if heads else None,
            **{kind: scores.projected_chance for kind, scores in found.items()},
        },
        "notices": notices,
    }


def _of_tokens(on: Subject, circuit: Factored) -> Factored:
    """Return a circuit between tokens without the rows and columns of a padded embedding, which are no token."""
    known = on.tokenizer.vocabulary
    return Factored(circuit.left[:known], circuit.right[:, :known])


def _score(circuit: Factored) -> float | None:
    """Return a circuit's copying score, or None where the circuit is 0 and has none."""
    score = float(copying_score(circuit))
    return None if math.isnan(score) else score


def _pairs(on: Subject, circuit: Factored, count: int) -> list[dict[str, Any]]:
    piece = on.tokenizer.piece
    return [
        {"from": piece(pair.row), "to": piece(pair.column), "value": pair.value} for pair in top_pairs(circuit, count)
    ]


def paths(recipe: Paths, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Divide predictions on held-out windows among the paths through the model."""
    on = subject(inputs[recipe.of])
    model = on.decoder
    examples = windows_of(recipe.of, TextData.open(inputs[recipe.of.text]), "valid")
    windows = chosen_windows(examples, recipe.windows * examples.context)
    cumulated, count, summed, worst, names = [], [], None, 0.0, ()
    for done, (tokens, targets, given) in enumerate(batches(examples, windows, torch.device("cpu"), 1)):
        found = streams_by_path(model, tokens, recipe.most, **given)
        loss, total = _by_order(model, found, targets[0])
        with torch.no_grad():
            worst = max(worst, float((total - model(tokens, **given)[0]).abs().max()))
        cumulated.append(loss)
        count.append(int((targets != IGNORE).sum()))
        lifted = _lifted(model, found, targets[0])
        summed = lifted if summed is None else summed + lifted
        names = found.paths
        run.progress(done + 1, len(windows), unit="windows")
    losses, counts = np.stack(cumulated), np.array(count)
    assert summed is not None  # there is at least one window
    order = summed.abs().argsort(descending=True).tolist()
    return {
        "orders": [ratio(losses[:, n], counts).to_json() for n in range(losses.shape[1])],
        "gains": [paired(losses[:, n], losses[:, n + 1], counts).to_json() for n in range(losses.shape[1] - 1)],
        "paths": [{"path": _named(names[i]), "value": float(summed[i]) / int(counts.sum())} for i in order[:20]],
        "count": len(names),
        "difference": worst,
        "windows": len(windows),
        "notices": list(on.notices),
    }


@torch.no_grad()
def _by_order(model: DecoderModel, found: Streams, targets: Tensor) -> tuple[np.ndarray, Tensor]:
    """Return the summed loss [N] of one text with the paths of each order and all below it, and the logits [T V] of all
    paths. Paths are summed before they are unembedded, so that the scores of one order are held at once."""
    losses, logits = [], torch.zeros(0)
    for x in found.by_order()[:, 0].cumsum(0) + found.constant[0]:
        logits = linear(x, *model.unembedding())
        losses.append(float(cross_entropy(logits.double(), targets, ignore_index=IGNORE, reduction="sum")))
    return np.array(losses), logits


@torch.no_grad()
def _lifted(model: DecoderModel, found: Streams, targets: Tensor) -> Tensor:
    """Return what each path adds to the logits of one text's true tokens beyond what it adds to all, summed, [P]."""
    scored = targets != IGNORE
    W_U, _ = model.unembedding()
    beyond = W_U.mT[targets[scored]] - W_U.mean(1)
    return torch.einsum("ptd,td->pt", found.streams[:, 0, scored], beyond).double().sum(1)


def _named(path: tuple[Head, ...]) -> str:
    return " → ".join(f"L{layer}H{head}" for layer, head in path) or "direct"


def ablation(recipe: HeadAblation, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Take heads out, each alone and some together, and measure the loss where the answer has been seen: on sequences
    other than those of `heads`, by whose scores the group may have been chosen."""
    on = subject(inputs[recipe.of])
    model = on.decoder
    among = tokens_in(TextData.open(inputs[recipe.of.text])) if recipe.drawn == "text" else on.tokenizer.vocabulary
    made = repeats(recipe.sequences, recipe.of.context, among, stream(recipe.seed, "ablated repeats"))
    spec = model.spec
    chosen = list(dict.fromkeys(_head(name, spec.layers, spec.heads) for name in recipe.group))
    groups = {"group": chosen, "placebo": _placebo(chosen, spec.layers, spec.heads, recipe.seed)}
    parts = _parted(made, on.model.vocabulary)
    found = [_alone(model, part, recipe, run, done, len(parts)) for done, part in enumerate(parts)]
    base, values = np.concatenate([b for b, _ in found]), np.concatenate([v for _, v in found], -1)
    heads = [
        {"head": f"L{layer}H{head}", "increase": mean(values[layer, head] - base).to_json()}
        for layer in range(spec.layers)
        for head in range(spec.heads)
    ]
    result: dict[str, Any] = {"loss": mean(base).to_json(), "heads": heads, "notices": list(on.notices)}
    for name, those in groups.items():
        if those:
            loss = np.concatenate([_without(model, part, those, recipe) for part in parts])
            named = [f"L{layer}H{head}" for layer, head in those]
            result[name] = {"heads": named, "loss": mean(loss).to_json(), "increase": mean(loss - base).to_json()}
    return result


def _parted(sequences: Repeats, vocabulary: int) -> list[Repeats]:
    """Return sequences in parts whose scores are held at once, of two or more each, so that one can stand in for
    another."""
    many = max(2, SCORES // (sequences.tokens.shape[1] * vocabulary))
    rows = np.array_split(np.arange(len(sequences.tokens)), max(1, len(sequences.tokens) // many))
    return [Repeats(sequences.tokens[part], sequences.period[part]) for part in rows]


def _alone(
    model: DecoderModel, part: Repeats, recipe: HeadAblation, run: Draft, done: int, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each text [N], and that without each head [L H N]."""
    found = ablate_heads(
        model,
        torch.from_numpy(part.tokens),
        RepeatedLoss(part),
        recipe.how,
        seed=stream(recipe.seed, "ablation"),
        progress=lambda layer, layers: run.progress(done * layers + layer, parts * layers, unit="layers"),
    )
    return found.base.double().numpy(), found.values.double().numpy()


class RepeatedLoss:
    """The mean cross-entropy of each text from its second period on, where every answer has been seen, in nats."""

    def __init__(self, sequences: Repeats) -> None:
        self.answers = torch.from_numpy(sequences.tokens)[:, 1:]
        place = torch.arange(self.answers.shape[1])
        self.known = (place >= torch.from_numpy(sequences.period)[:, None]).double()

    def __call__(self, logits: Tensor) -> Tensor:
        logp = log_softmax(logits[:, :-1].double(), -1)
        loss = -logp.gather(-1, self.answers[..., None]).squeeze(-1)
        return (loss * self.known).sum(1) / self.known.sum(1)


@torch.no_grad()
def _without(model: DecoderModel, part: Repeats, heads: list[Head], recipe: HeadAblation) -> np.ndarray:
    """Return the loss of each text without several heads at once, [N]."""
    tokens = torch.from_numpy(part.tokens)
    with model.tapped(ablated(model, heads, recipe.how, tokens, seed=stream(recipe.seed, "ablation"))):
        return RepeatedLoss(part)(model(tokens)).double().numpy()


def _head(name: str, layers: int, heads: int) -> Head:
    layer, _, head = name.removeprefix("L").partition("H")
    if not (name.startswith("L") and layer.isdigit() and head.isdigit() and int(layer) < layers and int(head) < heads):
        raise UsageError(f"{name!r} is no head of {layers} layers of {heads} heads: write as in L0H1")
    return int(layer), int(head)


def _placebo(chosen: list[Head], layers: int, heads: int, seed: int) -> list[Head]:
    """Return as many other heads, in each layer as many as are chosen there as far as there are: drawn, not picked."""
    draw = np.random.Generator(np.random.PCG64(stream(seed, "placebo")))
    found: list[Head] = []
    for layer in range(layers):
        wanted = sum(one == layer for one, _ in chosen)
        rest = [head for head in range(heads) if (layer, head) not in chosen]
        picked = draw.permutation(rest)[:wanted]
        found += [(layer, int(head)) for head in sorted(picked)]
    return found
