"""A training small enough to be done many times, and one of it that was never stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etude.core.lab import Lab
from etude.core.run import Run
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.text.corpora.brackets import Brackets
from etude.text.corpora.fable import Fable
from etude.text.corpora.mix import Mix, Part
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.objectives.classification import Classification
from etude.train.recipes import Train
from etude.train.schedule import Schedule

TINY = Train(
    data=Tokens(Fable(stories=60), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=16),
    schedule=Schedule(peak=1e-2, warmup=4),
    batch=4,
    steps=12,
    evaluate_every=5,
    evaluate_tokens=256,
    keep_every=4,
    precision="fp32",
)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Train]:
    """Make the tiny training with other fields; those of its model as `model=dict(...)`."""

    def change(*, model: dict[str, Any] | None = None, **fields: Any) -> Train:
        return dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, **(model or {})), **fields)

    return change


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Train], Run]:
    """Return the run of a training that nothing disturbs."""
    lab = Lab(tmp_path_factory.mktemp("undisturbed"), threads=1, quiet=True)
    return lab.run


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs", threads=1, quiet=True)


@pytest.fixture
def a_checkpoint_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the loop's clock, so that saving takes no time, and ask for a checkpoint after every step."""
    monkeypatch.setattr("etude.train.loop.time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setitem(_choices_of_the_loop(), "save_seconds", 0.0)


def _choices_of_the_loop() -> dict[str, Any]:
    from etude.train.loop import advance  # here: torch is imported only by the tests that need it

    assert advance.__kwdefaults__ is not None
    return advance.__kwdefaults__


@pytest.fixture(scope="session")
def labelled() -> Train:
    """A classifier of texts made from words of two kinds."""
    parts = (Part(Fable(stories=60)), Part(Brackets(problems=400)))
    return dataclasses.replace(
        TINY,
        data=Tokens(Mix(parts=parts), Byte(specials=("mask", "first", "separator", "pad"))),
        model=Encoder(layers=1, width=16, heads=2, feedforward=32, context=16, classes=2),
        objective=Classification(),
    )
