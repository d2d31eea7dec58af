"""A page with every block in it, of the size that a study's page has, for whoever works on how reports look.

`python -m etude.report.specimen FOLDER` draws it, and the tests do. Its numbers are made up.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np

from etude.report.blocks import (
    Attention,
    Chart,
    Code,
    Context,
    Contexts,
    Details,
    Drawing,
    Finding,
    Findings,
    Heatmap,
    Link,
    Report,
    RunCard,
    RunRef,
    Section,
    Strong,
    Table,
    Track,
    Value,
    text,
)
from etude.report.charts import Axis, Rule, bars, lines, scatter
from etude.report.publish import publish

STORY = (
    "The| fox| went| to| the| river|,| and| the| fox| saw| a| heron|.|\n|The| heron| went| to| the| mill|,| and| the|"
    " heron| saw| the| fox|.|\n|def| look|(|model|,| tokens|):|\n|   | return| model|.|at|(|tokens|)|\n|The| miller|"
    " put| the| lamp| by| the| door|,| and| the| fox| saw| the| lamp|."
)
TOKENS = tuple((STORY.split("|") * 2)[:64])
METHODS = ("svd", "pca", "kmeans", "infovae")
SIZES = (1, 5, 10, 20, 50, 100)


def run_id(n: int) -> str:
    """Return the name of the nth made-up run."""
    return f"{('train', 'compress', 'evaluate')[n % 3]}-{hashlib.sha256(str(n).encode()).hexdigest()[:12]}"


def patterns(layers: int, heads: int, side: int, seed: int = 0) -> np.ndarray:
    """Causal patterns of the kinds that are seen: previous token, first token, same token before, and spread."""
    numbers = np.random.default_rng(seed)
    here = np.arange(side)
    found = np.empty((layers, heads, side, side), dtype=np.float32)
    for layer in range(layers):
        for head in range(heads):
            scores = numbers.normal(0, 1, (side, side))
            scores += 5 * (head % 4 == 0) * (here[:, None] - 1 == here) + 5 * (head % 4 == 1) * (here == 0)
            scores += 4 * (head % 4 == 2) * ((here[:, None] - here) % 9 == 8) - 0.1 * np.abs(here[:, None] - here)
            weights = np.exp(scores) * np.tri(side)
            found[layer, head] = weights / weights.sum(-1, keepdims=True)
    return found


def measured(number: float, n: int, unit: str = "", spread: float = 0.04, digits: int = 3) -> Value:
    """Return a made-up measurement with an interval."""
    return Value(number, number - spread, number + spread, run_id(n % 20), unit, digits, "validation loss")


def cards(count: int) -> tuple[RunCard, ...]:
    """Return cards of made-up runs."""
    return tuple(
        RunCard(
            id=run_id(n),
            recipe={"kind": run_id(n).split("-")[0], "version": 1, "seed": n, "model": {"width": 128, "layers": 2}},
            seconds=3.7 * 1.6 ** (n % 12),
            command=f"etude run compress --of {run_id(0)} --site L1.attn.out --method infovae --method.latent {n}",
            machine="Linux x86-64, 2 cores, torch 2.13.0",
            seed=n,
            code="0.1.0 (9f3c2a1)",
            what="decoder, attention only" if n % 3 == 0 else "InfoVAE at L1.attn.out",
        )
        for n in range(count)
    )


def charts() -> list[Chart]:
    """Return five charts: curves with bands, a sweep with bars, bars, points and a logarithmic scale."""
    steps = [
        {"step": s, "loss": 2.1 + lift + 4 / (1 + s / 150), "low": 2.0 + lift + 4 / (1 + s / 150), "run": run_id(i),
         "high": 2.2 + lift + 4 / (1 + s / 150), "model": name}
        for i, (name, lift) in enumerate((("attention only", 0.35), ("with feed-forward", 0.0)))
        for s in range(0, 2001, 50)
    ]  # fmt: skip
    sweep = [
        {"size": size, "loss": 2.1 + 3 / (1 + size / (3 + 2 * i)), "low": 2.05 + 3 / (1 + size / (3 + 2 * i)),
         "high": 2.16 + 3 / (1 + size / (3 + 2 * i)), "method": method, "run": run_id(i + j)}
        for i, method in enumerate(METHODS) for j, size in enumerate(SIZES)
    ]  # fmt: skip
    floors = [Rule("bigram", 4.1, run_id(4)), Rule("unigram", 5.2, run_id(5)), Rule("uniform, ln 512", 6.24)]
    latent = Axis("size", "latent size (dimensions)", log=True, ticks=SIZES)
    loss = Axis("loss", "validation loss (nats per token)")
    ends: dict[str, Any] = {"low": "low", "high": "high", "run": "run"}
    scores = [
        {"head": f"L{layer} H{head}", "score": s, "low": max(0, s - 0.05), "high": s + 0.05, "run": run_id(0)}
        for layer in range(2) for head, s in enumerate((0.02, 0.05, 0.81 if layer else 0.04, 0.11))
    ]  # fmt: skip
    return [
        lines(steps, Axis("step", "training step"), loss, colour="model", rules=floors, points=False, **ends,
              caption="Validation loss while training, with 95% intervals over documents."),
        lines(sweep, latent, loss, colour="method", interval="bars", rules=[Rule("unharmed", 2.1, run_id(0))], **ends,
              caption="Loss after each method took the place of the activation at L1.attn.out."),
        bars(scores, Axis("head", "head"), Axis("score", "induction score (share of weight)"), **ends,
             rules=[Rule("chance", 0.03)], caption="Induction score of each head on repeated random sequences."),
        scatter(sweep, Axis("size", "cost (bits per token)", log=True), loss, colour="method", **ends,
                caption="The same against the cost in bits."),
        lines(sweep[:6], latent, Axis("loss", "KL to the unharmed model (nats)", log=True), colour="method",
              caption="One method alone, on a logarithmic scale.", run="run"),
    ]  # fmt: skip


def tables() -> list[Table]:
    """Return eight tables."""
    first = Table(
        ("model", "loss (nats)", "bits per byte", "parameters", "run"),
        (
            ("attention only", measured(2.451, 0), measured(1.392, 0, spread=0.02), 1_254_912, RunRef(run_id(0))),
            ("with feed-forward", measured(2.104, 1), measured(1.271, 1, spread=0.02), 2_304_512, RunRef(run_id(1))),
            ("bigram", measured(4.1, 4), measured(2.02, 4), 262_144, RunRef(run_id(4))),
            ("uniform", Value(6.238), None, 0, None),
        ),
        "Validation loss beside the baselines; intervals are 95% over documents.",
        lowest=("loss (nats)", "bits per byte"),
    )
    sweeps = [
        Table(
            ("latent size", *METHODS),
            tuple((size, *(measured(2 + 3 / (size + m), size + m + k) for m in range(4))) for size in SIZES),
            f"Loss after compression, site {k}.",
            lowest=METHODS,
        )
        for k in range(7)
    ]
    return [first, *sweeps]


def contexts() -> Contexts:
    """Return five places where a made-up latent was high."""
    rows = tuple(
        Context(TOKENS[i - 9 : i], TOKENS[i], TOKENS[i + 1 : i + 9], Value(4.2 - i / 20, run=run_id(3), digits=2))
        for i in (10, 22, 33, 41, 48)
    )
    return Contexts(rows, "Latent 3 of 20: the five places where it was highest.", "activation")


def drawing() -> Drawing:
    """Return a ball that goes to and fro under a number that counts the ends."""
    count = "".join(f'<text class="soft" x="0" y="{16 + 20 * n}">{n}</text>' for n in range(3))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 56" width="200" height="56">'
        '<rect class="ground" width="200" height="56" fill="#FFFFFF"/>'
        '<path class="line" d="M10 50h180" stroke="#59616B"/>'
        '<circle class="ink" data-part="ball" cx="0" cy="40" r="9" transform="translate(190 0)"/>'
        f'<svg x="96" y="4" width="40" height="20"><g data-part="count" transform="translate(0 -40)">{count}</g></svg>'
        "</svg>"
    )
    ends = ((10, 0), (190, 0), (10, 0), (190, 0), (190, 0))
    ball = Track("ball", "place", (0.0, 0.25, 0.5, 0.75, 1.0), ends, smooth=True)
    counted = Track("count", "place", (0.0, 0.25, 0.5), ((0, 0), (0, -20), (0, -40)))
    return Drawing(svg, "A ball, and how often it came back.", "A ball on a line", (ball, counted), 4.0, (run_id(3),))


def report(runs: int = 60) -> Report:
    """Return the page: 5 charts, 2 attention views (2 layers, 4 heads, 64 tokens), 8 tables and a card for each run."""
    chart, table = charts(), tables()
    shared: dict[str, Any] = {
        "caption": text("Patterns of the ", Strong("two-layer model"), " over a story."),
        "runs": (run_id(0),),
    }
    scores = Heatmap(
        np.array([[0.02, 0.05, 0.04, 0.11], [0.03, 0.12, 0.81, 0.07]]), ("L0", "L1"), ("H0", "H1", "H2", "H3"),
        "Previous-token score of each head.", "share of weight", "layer", "head", runs=(run_id(0), run_id(1)),
    )  # fmt: skip
    signed = Heatmap(
        np.sin(np.arange(40 * 40).reshape(40, 40) / 37), tuple(f"L{i}" for i in range(40)),
        tuple(f"latent {i}" for i in range(40)), "Correlation of latents, signed.", "correlation", signed=True,
    )  # fmt: skip
    return Report(
        title="How far does attention compress?",
        question="Two small decoders, one without feed-forward layers: what do the last five numbers of a head mean?",
        abstract=(
            text("The model with feed-forward layers reached ", measured(2.104, 1, "nats"), ", the one without ",
                 measured(2.451, 0, "nats"), ". Twenty numbers kept ",
                 Value(91.2, 88.0, 94.1, (run_id(2), run_id(0)), "%", 1),
                 " of what the attention output did."),
            Findings((
                Finding(text("Feed-forward layers lower the loss by ", measured(0.347, 1, "nats"), "."), "clear"),
                Finding(text("At 50 dimensions pca and InfoVAE differ by ", measured(0.012, 2, "nats"), ", within the "
                             "interval."), "uncertain"),
                Finding(text("No head of the one-layer model copies: the highest induction score is ",
                             Value(0.03, run=run_id(0)), "."), "none"),
            )),
        ),
        sections=(
            Section("Training", (chart[0], table[0], text("Trained with ", Code("etude run train"), "; see ",
                    Link("the paper", "https://arxiv.org/abs/1706.03762"), " and ", RunRef(run_id(0)), "."))),
            Section("Compression", (
                chart[1], Section("Against the cost", (chart[3], chart[4])), Section("Every number", (
                    Details("Seven tables, one a site", tuple(table[1:])),)),
            ), intro="Each method takes the place of an activation, and the loss is measured again."),
            Section("What the model looks at", (
                Attention(TOKENS, patterns(2, 4, 64), **shared), chart[2], scores,
                Attention(TOKENS, patterns(2, 4, 64, 1), **shared), contexts(), signed, drawing(),
            )),
            Section("How to make this again", (Code("make demo\netude report progress-report"),)),
        ),
        runs=cards(runs),
        made="12 May 2026",
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(f"{publish(report(), sys.argv[1])}\n")
