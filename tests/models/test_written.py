"""The recipe of writing texts: its run holds them, and it works from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.models.architectures.decoder import Decoder
from etude.models.generation import generate
from etude.models.load import load
from etude.models.recipes import Generate
from etude.models.sampling import Sampling
from etude.text.corpora.fable import Fable
from etude.text.recipes import Tokens
from etude.text.tokenizers.byte import Byte
from etude.train.recipes import Train

TRAINED = Train(
    data=Tokens(Fable(stories=40), Byte()),
    model=Decoder(layers=1, width=16, heads=2, feedforward=32, context=32),
    steps=0,
    precision="fp32",
    compiled="no",
    chunked="no",
    recompute="no",
)


def test_a_run_holds_the_texts_and_their_tokens(tmp_path: Path) -> None:
    lab, sampling = Lab(tmp_path, threads=1, quiet=True), Sampling(max_tokens=5, seed=2)
    trained = TRAINED.resolve()
    recipe = Generate(trained, "A dog, a", 2, sampling)
    texts = lab.run(recipe).result["texts"]
    model, tokenizer = load(lab.run(trained))
    expected = generate(model, tokenizer, ["A dog, a"] * 2, sampling)
    assert [text["ids"] for text in texts] == [list(text.ids) for text in expected]
    assert [text["text"] for text in texts] == [text.text for text in expected]
    assert texts[0]["ids"] != texts[1]["ids"]
    assert next(iter(texts[0])) == "log_probability", "else the command line would take the text for a name"
    for text in texts:
        assert len(text["ids"]) == len(text["tokens"]) == len(text["log_probabilities"]) <= 5
        assert text["log_probability"] == pytest.approx(sum(text["log_probabilities"]))
    assert Generate.from_json(recipe.to_json()) == recipe
    assert recipe.fingerprint() == Generate(trained, "A dog, a", 2, sampling, batch=1).fingerprint()


def test_a_stop_text_is_utf8() -> None:
    with pytest.raises(UsageError, match=r"stop has .* which is not UTF-8; give --sampling\.stop in UTF-8"):
        Sampling(stop=("a", "\udce9"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "a\udce9"}, "is not UTF-8"),
    ({"texts": 0}, "texts = 0 is too small: it is 1 or more"),
    ({"texts": 2, "sampling": Sampling(temperature=0)}, "texts = 2 would be the same: set sampling.temperature"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_what_cannot_be_written_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Generate(TRAINED, **fields)
