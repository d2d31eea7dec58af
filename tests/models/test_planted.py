"""The planted circuit does what it says, and comes as a run like any model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import etude
from etude.core.errors import UsageError
from etude.core.lab import Lab
from etude.models.planted import planted
from etude.models.recipes import Generate, Planted
from etude.models.sampling import Sampling
from etude.nn.look import look
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair


@pytest.mark.parametrize(("vocabulary", "context"), [(7, 20), (8, 20), (5, 4), (3, 12)])
def test_it_continues_what_came_before_and_knows_nothing_else(vocabulary: int, context: int):
    model = planted(vocabulary, context)
    tokens = torch.arange(context)[None] % (vocabulary - 1)
    with torch.no_grad():
        chance = model(tokens).softmax(-1)[0]
    seen = vocabulary - 1
    for t in range(seen, context - 1):
        assert chance[t].argmax() == tokens[0, t + 1] and chance[t].max() > 0.999
    # Before anything came twice it falls back on what all alike show, which is no certainty about the next token.
    assert all(chance[t, tokens[0, t + 1]] < 0.5 for t in range(1, min(seen, context) - 1))


def test_its_heads_look_where_they_should():
    model = planted(6, 12, back=3)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]])
    pattern = look(model, tokens, "L*.attn.pattern")
    previous, induction = pattern["L0.attn.pattern"][0, 0], pattern["L1.attn.pattern"][0, 0]
    assert all(previous[t, t - 1] > 0.999 for t in range(1, 12)) and previous[0, 0] == 1
    assert all(induction[t, t - 4] > 0.999 for t in range(5, 10)), "after the last occurrence, 5 before"
    assert all(pattern["L0.attn.pattern"][0, 1, t, t - 3] > 0.999 for t in range(3, 12))
    torch.testing.assert_close(pattern["L1.attn.pattern"][0, 1, 7, :8], torch.full((8,), 1 / 8))


def test_as_a_run_it_is_loaded_and_written_with_like_any_model(tmp_path: Path):
    lab = Lab(tmp_path, threads=1, quiet=True)
    recipe = Planted(length=24)
    model, tokenizer = etude.load(lab.run(recipe))
    assert tokenizer.vocabulary == 257 and model.spec.context == recipe.context == 24
    greedy = Generate(recipe, prompt="xyzabcxyza", sampling=Sampling(temperature=0.0, max_tokens=4))
    assert lab.run(greedy).result["texts"][0]["text"] == "bcxy"


def test_what_cannot_be_planted():
    with pytest.raises(UsageError, match="length = 3, back = 0"):
        Planted(length=3)
    with pytest.raises(UsageError, match="reads bytes, and bpe makes other tokens"):
        Planted(data=Tokens(tokenizer=BytePair()))
