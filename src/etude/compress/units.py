"""The units of a code, and what each does on text: one number of it, or one entry of a codebook as on or off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from etude.compress.codec import Codebook, Linear, Text
from etude.compress.compressor import Part
from etude.compress.methods.base import Counted
from etude.core.errors import UsageError
from etude.core.site import Site
from etude.evals.recording import passing
from etude.models.transformer import Transformer
from etude.text.batches import IGNORE, Examples

RARE = 0.01
"""A unit is active where its variance is more than this share of the greatest. Burda, Grosse and Salakhutdinov (2016)
ask for as much of the mean of a variational code, where the prior has a variance of 1; this holds on every scale."""

NUMBER = -1
"""In place of the number of an entry: the unit is a number of the code."""


@dataclass(frozen=True, eq=False)
class Passed:
    """What passed a site on windows of text, and its code. N counts windows, T positions.

    Attributes:
        code: [N T ...] as the codec gives it, with an axis of its own even where it is one number.
        values: [N T D] what was at the site, unharmed.
        tokens: [N T].
        real: [N T] false where there is padding.
    """

    code: Shaped[Tensor, "N T R"]
    values: Float[Tensor, "N T D"]
    tokens: Int[np.ndarray, "N T"]
    real: Bool[np.ndarray, "N T"]

    @property
    def window(self) -> Int[np.ndarray, " P"]:
        """The number of the window that each of the P real positions is in."""
        return np.nonzero(self.real)[0]


@dataclass(frozen=True, eq=False)
class Units:
    """Units of a code. U counts them.

    Attributes:
        values: [N T U] what each does; NaN where there is padding.
        names: of the units, as `latent 3` or `code 17`.
        columns: [U] the number in the code that a unit is, or that names it.
        entry: [U] the entry of a codebook that a unit stands for; `NUMBER` where it is a number itself.
    """

    values: Float[np.ndarray, "N T U"]
    names: tuple[str, ...]
    columns: Int[np.ndarray, " U"]
    entry: Int[np.ndarray, " U"]

    @property
    def discrete(self) -> bool:
        """Whether any unit is an entry of a codebook, so that a rotation of the code has no meaning."""
        return bool((self.entry != NUMBER).any())


@torch.no_grad()
def passed(model: Transformer, site: Site, part: Part, examples: Examples, windows: np.ndarray) -> Passed:
    """Return what passes a site while the model, with nothing put into it, reads windows, and the code of it."""
    codes, values, tokens, real = [], [], [], []
    wanted = [site] if part.reads is None else [site, part.reads]
    for batch in passing(model, examples, windows, wanted):
        codes.append(encoded(part, batch.values[part.reads or site], batch.tokens))
        values.append(batch.values[site].float())
        tokens.append(batch.tokens.numpy())
        real.append(batch.targets.numpy() != IGNORE)
    return Passed(torch.cat(codes), torch.cat(values), np.concatenate(tokens), np.concatenate(real))


def encoded(part: Part, read: Float[Tensor, "B T M"], tokens: Int[Tensor, "B T"]) -> Shaped[Tensor, "B T R"]:
    """Return the code of what a codec reads, with an axis of its own even where it is one number."""
    given: Iterable[Text] = (Text.of(tokens),) if part.codec.reads_text else ()
    code = part.codec.encode(read.float(), *given)
    return code[..., None] if code.ndim == 2 else code


def decoded(part: Part, code: Shaped[Tensor, "B T R"]) -> Float[Tensor, "B T D"]:
    """Return what a code of `encoded` stands for."""
    return part.codec.decode(code[..., 0] if isinstance(part.codec, Codebook) else code)


def require_units(part: Part, name: str) -> None:
    """Refuse a codec without a code of each token.

    Raises:
        UsageError: it codes nothing, or a weight, or as a floor says at random what was there.
    """
    cost = part.codec.cost()
    drawn = part.method is not None and part.method.group == "floor" and not isinstance(part.codec, Linear)
    if drawn or not (cost.dimensions or cost.bits):
        raise UsageError(f"{name} has no code of each token, and so no latents; choose another method, such as infovae")


def units_of(code: Shaped[Tensor, "N T R"], real: Bool[np.ndarray, "N T"], counts: Counted) -> Units:
    """Return the units of a code: each number; of codebooks (`counts` is `codes`), and of the expert that acts
    (`experts`: the first number), each entry that occurs, as 1 where it stands and 0 where another does.
    """
    numbers = code.numpy()
    named = {"codes": range(code.shape[-1]), "experts": range(1)}.get(counts, range(0))
    found: list[tuple[int, int]] = []
    for column in range(code.shape[-1]):
        entries = np.unique(numbers[real][:, column]).astype(int).tolist() if column in named else [NUMBER]
        found += [(column, entry) for entry in entries]
    columns, entries = (np.array(each, dtype=np.int64) for each in zip(*found, strict=True))
    values = numbers[..., columns].astype(np.float32)
    values = np.where(entries == NUMBER, values, values == entries)
    names = tuple(_name(column, entry, counts, len(named) > 1) for column, entry in found)
    return Units(np.where(real[..., None], values, np.float32(np.nan)), names, columns, entries)


def _name(column: int, entry: int, counts: Counted, several: bool) -> str:
    if entry == NUMBER:
        return f"latent {column}"
    return f"{'expert' if counts == 'experts' else 'code'} {entry}" + (f" of part {column}" if several else "")


def rates(units: Units) -> Float[np.ndarray, " U"]:
    """Return the share of tokens at which each unit is not 0."""
    seen = np.isfinite(units.values[..., 0])
    return (units.values[seen] != 0).mean(0)


def variances(units: Units) -> Float[np.ndarray, " U"]:
    """Return the variance of each unit over the tokens."""
    seen = np.isfinite(units.values[..., 0])
    return units.values[seen].var(0, dtype=np.float64)


def active(variance: Float[np.ndarray, " U"]) -> int:
    """Return how many units are active (see `RARE`)."""
    return int((variance > RARE * variance.max()).sum()) if variance.size and variance.max() > 0 else 0
