"""The work of reading sentences that differ in nothing but the group that they name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.evals.asking import Ask, Asker, ask_for
from etude.evals.risk_recipes import GroupTerms
from etude.evals.statistics import Estimate, mean, ratio
from etude.models.load import load
from etude.text.tokenizers.live import Tokenizer

SENTENCES = Path(__file__).with_name("group_terms.json")
"""Kinds of groups with their terms, sentences, and pairs of a favourable and an unfavourable one."""

BITS = "bits.safetensors"
"""Of each kind `KIND.plain` [G N], the bits of the words behind the name of each group in each sentence; `KIND.own`
[G N], those of the name; `KIND.pairs` [G M 2], as `plain`, of pairs."""

WHO = "{who}"


@dataclass(frozen=True)
class Sentence:
    """A sentence with a place for a name.

    Attributes:
        before: up to the name, without the space.
        after: from behind it to the end.
    """

    before: str
    after: str

    @classmethod
    def of(cls, text: str) -> Sentence:
        """Return the parts of a text in which `WHO` stands once, behind a space."""
        before, after = text.split(" " + WHO)
        return cls(before, after)

    def asks(self, tokenizer: Tokenizer, who: str) -> tuple[Ask, Ask]:
        """Return the requests for a name, and for what stands behind it."""
        named = ask_for(tokenizer, self.before, " " + who, opened=True)
        return named, ask_for(tokenizer, f"{self.before} {who}", self.after, opened=True)


def group_terms(recipe: GroupTerms, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Ask for every sentence with every name in it, and compare within each kind.

    Raises:
        UsageError: the model is no decoder.
        DivergedError: a likelihood is not finite.
    """
    model, tokenizer = load(inputs[recipe.of])
    asker, held = Asker(model, recipe.at_once), json.loads(SENTENCES.read_text(encoding="utf-8"))
    room = min(recipe.of.context, model.spec.context)
    everyone = [who for kind in held["kinds"].values() for who in names(kind)]
    plain = [Sentence.of(text) for text in held["plain"]]
    pairs = [(Sentence.of(good), Sentence.of(bad)) for good, bad in held["pairs"]]
    read_plain = [one for one in plain if _fits(tokenizer, [one], everyone, room)]
    read_pairs = [pair for pair in pairs if _fits(tokenizer, pair, everyone, room)]
    result: dict[str, Any] = {
        "sentences": len(read_plain),
        "pairs": len(read_pairs),
        "left_out": len(plain) + len(pairs) - len(read_plain) - len(read_pairs),
        "kinds": {},
    }
    bits: dict[str, np.ndarray] = {}
    for number, (kind, said) in enumerate(held["kinds"].items(), 1):
        own, after = bits_of(asker, tokenizer, read_plain, names(said))
        both = [bits_of(asker, tokenizer, [pair[side] for pair in read_pairs], names(said))[1] for side in (0, 1)]
        bits |= {f"{kind}.own": own, f"{kind}.plain": after, f"{kind}.pairs": np.stack(both, axis=-1)}
        told = {
            "named": [mean(row) for row in own] if read_plain else None,
            "cost": costs(after, sizes(read_plain)) if read_plain else None,
            "leaning": leanings(bits[f"{kind}.pairs"]) if read_pairs else None,
        }
        result["kinds"][kind] = [
            {"term": term, **{name: each[g].to_json() if each else None for name, each in told.items()}}
            for g, term in enumerate(said["terms"])
        ]
        run.progress(number, len(held["kinds"]), unit="kinds of groups")
    run.save(BITS, bits)
    if read_plain:
        every = np.concatenate([bits[f"{kind}.plain"] for kind in held["kinds"]])
        result["bits_per_byte"] = ratio(every.sum(0), len(every) * sizes(read_plain)).to_json()
    return result


def names(kind: Mapping[str, Any]) -> list[str]:
    """Return a kind's groups as they are named in a sentence."""
    return [kind["who"].replace("{term}", term) for term in kind["terms"]]


def sizes(sentences: Sequence[Sentence]) -> Float[np.ndarray, " N"]:
    """Return the bytes of what stands behind each sentence's name."""
    return np.array([len(one.after.encode()) for one in sentences], np.float64)


def costs(bits: Float[np.ndarray, "G N"], bytes: Float[np.ndarray, " N"]) -> list[Estimate]:
    """Return for each group by how many bits a byte the words behind its name cost more than behind the groups' on
    average, itself among them, paired by sentence."""
    return [ratio(row, bytes) for row in bits - bits.mean(axis=0)]


def leanings(bits: Float[np.ndarray, "G N 2"]) -> list[Estimate]:
    """Return for each group by how many bits unfavourable words cost more than favourable ones, less the mean of that
    over the groups, paired by pair: below 0, unfavourable words are likelier behind its name than behind others'."""
    dearer = bits[..., 1] - bits[..., 0]
    return [mean(row) for row in dearer - dearer.mean(axis=0)]


def bits_of(
    asker: Asker, tokenizer: Tokenizer, sentences: Sequence[Sentence], names: Sequence[str]
) -> tuple[Float[np.ndarray, "G N"], Float[np.ndarray, "G N"]]:
    """Return the bits of each name in each sentence, and those of what stands behind it."""
    groups = [[ask] for name in names for one in sentences for ask in one.asks(tokenizer, name)]
    said = np.empty(len(groups))
    for batch in asker.batches(groups):
        for number, (answer,) in zip(batch.groups, asker.answer(groups, batch), strict=True):
            said[number] = -answer.log_probability / math.log(2)
    shaped = said.reshape(len(names), len(sentences), 2)
    return shaped[..., 0], shaped[..., 1]


def _fits(tokenizer: Tokenizer, sentences: Sequence[Sentence], everyone: Sequence[str], room: int) -> bool:
    """Return whether sentences fit the context with every name, so that all groups are read in the same ones."""
    return all(len(one.asks(tokenizer, who)[1].tokens) - 1 <= room for one in sentences for who in everyone)
