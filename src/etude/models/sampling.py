"""How the next token is chosen, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.core.spec import Spec


@dataclass(frozen=True)
class Sampling(Spec):
    """How a text is continued. The fields act in their order: what is repeated is made less likely, the scores are
    divided by the temperature, and of the chances the top-k, then the top-p, then the min-p tokens are left.

    Attributes:
        repetition_penalty: 1 for none. Above it, the scores of tokens that the text holds already are divided by it
            where they are positive and multiplied by it where they are not (Keskar et al. 2019, section 4.1); 1.2 in
            the paper.
        temperature: 1 draws from the model's own distribution, less is surer, 0 takes the likeliest token always.
        top_k: 0 for all. Else only so many of the likeliest are drawn from (Fan et al. 2018, section 5.2).
        top_p: 1 for all. Else only the fewest tokens whose chances together reach this (Holtzman et al. 2020, section
            3.1).
        min_p: 0 for all. Else only those with at least this share of the likeliest one's chance (Nguyen et al. 2024,
            section 3).
        max_tokens: the most tokens to write; 0 as many as the model's context has room for.
        stop: texts that end the writing; they are not part of what is given.
        slide: whether writing goes on past the model's context: when it is full, the first half of what the model
            reads is left out, and it goes on from the rest as from a text of its own.
        seed: of what is drawn. Each text has a stream of its own, which its number and this decide.
        beams: 1 for none. Else beam search, the so many best texts kept at each step; with temperature 0.
        length_penalty: of beam search: a text's log-probability is divided by ((5 + length) / 6) to this power (Wu et
            al. 2016, equation 14). 0 favours short texts, 0.6 to 1 is usual in translation.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    slide: bool = False
    seed: int = 0
    beams: int = 1
    length_penalty: float = 0.0

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def check(self) -> None:
        if self.repetition_penalty <= 0:
            raise UsageError(f"repetition_penalty = {self.repetition_penalty} is not above 0; 1 is none")
        if self.temperature < 0:
            raise UsageError(f"temperature = {self.temperature} is below 0: 0 takes the likeliest token, 1 draws")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p = {self.top_p} is not above 0 and at most 1; 1 draws from all tokens")
        if not 0 <= self.min_p <= 1:
            raise UsageError(f"min_p = {self.min_p} is not from 0 to 1; 0 draws from all tokens")
        for name, least in {"top_k": 0, "max_tokens": 0, "beams": 1, "length_penalty": 0}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} = {getattr(self, name)} is too small: it is {least} or more")
        if "" in self.stop:
            raise UsageError("stop holds an empty text, which every text ends with: leave it out")
        lone = next((c for text in self.stop for c in text if "\ud800" <= c <= "\udfff"), None)
        if lone is not None:
            raise UsageError(f"stop has {lone!r}, which is not UTF-8; give --sampling.stop in UTF-8")
        if self.slide and not self.max_tokens:
            raise UsageError("a text that slides past the context has no end of its own: set max_tokens")
        if self.beams > 1:
            self._check_beams()

    def _check_beams(self) -> None:
        if not self.greedy:
            raise UsageError(f"beam search draws nothing: set temperature to 0, not {self.temperature}, or beams to 1")
        given = {"repetition_penalty": self.repetition_penalty != 1, "stop": bool(self.stop), "slide": self.slide}
        refused = next((name for name, here in given.items() if here), None)
        if refused:
            raise UsageError(f"beam search takes no {refused}: leave it out, or set beams to 1")
