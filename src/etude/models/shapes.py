"""Published shapes as architectures, each with its source and its parameter count as that states it.

Papers round, and count differently. `exact` is the number in the released weights where those are public; `stated` is
the paper's. What a published model has and no architecture here says is counted apart, in `elsewhere`:

- Gopher and Chinchilla have relative positions (Dai et al. 2019) with a map of the width to itself in each layer. Ours
  is learned by nothing there: positions are `none`.
- The heads of six of the 50 models in Hoffmann et al.'s table A9 (3,530, 4,084, 11,452, 12,569, 13,735 and 14,940
  million) do not make up their width. They are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from etude.core.errors import unknown
from etude.models.architectures.base import Architecture
from etude.models.architectures.decoder import Decoder
from etude.models.architectures.encoder import Encoder
from etude.models.architectures.encoder_decoder import EncoderDecoder
from etude.nn.attention.banded import Banded
from etude.nn.attention.sliding import Sliding

M = 10**6


@dataclass(frozen=True)
class Shape:
    """A published model's shape.

    Attributes:
        name: what it is asked for by.
        family: the models that it belongs to.
        spec: its architecture.
        vocabulary: rows of its embedding.
        stated: parameters as its paper states them.
        source: the paper and table.
        exact: parameters in the released weights, or 0 where these are not public.
        elsewhere: of these, those that the architecture has no part for.
        remark: what differs, or why a number was changed.
    """

    name: str
    family: str
    spec: Architecture
    vocabulary: int
    stated: float
    source: str
    exact: int = 0
    elsewhere: int = 0
    remark: str = ""

    @property
    def parameters(self) -> int:
        """Parameters of the architecture, by arithmetic."""
        return self.spec.parameters(self.vocabulary)


def named(name: str) -> Shape:
    """Return a published shape.

    Raises:
        UsageError: there is none of that name.
    """
    by_name = {shape.name: shape for shape in SHAPES}
    if name not in by_name:
        raise unknown("shape", name, by_name)
    return by_name[name]


def families() -> dict[str, list[Shape]]:
    """Return the shapes by family, in the order of `SHAPES`."""
    found: dict[str, list[Shape]] = {}
    for shape in SHAPES:
        found.setdefault(shape.family, []).append(shape)
    return found


def _transformer() -> Iterator[Shape]:
    paper = "Vaswani et al. 2017, table 3"
    fixed: dict[str, Any] = {"norm_at": "post", "positions": "sinusoidal", "activation": "relu", "tied": True}
    for name, width, heads, stated in (("base", 512, 8, 65 * M), ("big", 1024, 16, 213 * M)):
        spec = EncoderDecoder(layers=6, width=width, heads=heads, feedforward=4 * width, context=1024, dropout=0.1,
                              scaled_embeddings=True, **fixed)  # fmt: skip
        yield Shape(f"transformer-{name}", "transformer", spec, 37_000, stated, paper,
                    remark="of a vocabulary of about 37,000; its released code has no biases in attention")  # fmt: skip


def _gpt() -> Iterator[Shape]:
    fixed: dict[str, Any] = {"activation": "gelu-tanh", "tied": True, "dropout": 0.1}
    first = Decoder(layers=12, width=768, heads=12, feedforward=3072, context=512, norm_at="post", **fixed)
    yield Shape("gpt", "gpt", first, 40_478, 117 * M, "Radford et al. 2018, section 4.1", 116_534_784)
    paper = "Radford et al. 2019, table 2, and the released weights"
    sizes = (
        ("gpt2", 12, 768, 12, 117, 124_439_808),
        ("gpt2-medium", 24, 1024, 16, 345, 354_823_168),
        ("gpt2-large", 36, 1280, 20, 762, 774_030_080),
        ("gpt2-xl", 48, 1600, 25, 1542, 1_557_611_200),
    )
    for name, layers, width, heads, stated, exact in sizes:
        spec = Decoder(layers=layers, width=width, heads=heads, feedforward=4 * width, context=1024, **fixed)
        wrong = "the paper's count is too low, as its authors said later" if name != "gpt2-xl" else ""
        yield Shape(name, "gpt2", spec, 50_257, stated * M, paper, exact, remark=wrong)
    distilled = Decoder(layers=6, width=768, heads=12, feedforward=3072, context=1024, **fixed)
    yield Shape("distilgpt2", "gpt2", distilled, 50_257, 82 * M, "distilGPT-2's model card, 2019", 81_912_576)


def _gpt3() -> Iterator[Shape]:
    paper = "Brown et al. 2020, table 2.1"
    sizes = (
        ("small", 12, 768, 12, 125, ""),
        ("medium", 24, 1024, 16, 350, ""),
        ("large", 24, 1536, 16, 760, ""),
        ("xl", 24, 2048, 16, 1300, "the table's 24 heads of 128 do not make up its width of 2,048: 16 do"),
        ("2.7b", 32, 2560, 32, 2700, ""),
        ("6.7b", 32, 4096, 32, 6700, ""),
        ("13b", 40, 5120, 40, 13_000, "the table's width of 5,140 is no multiple of its 40 heads: 5,120 is"),
        ("175b", 96, 12288, 96, 175_000, ""),
    )
    for name, layers, width, heads, stated, remark in sizes:
        spec = Decoder(layers=layers, width=width, heads=heads, feedforward=4 * width, context=2048,
                       attention=Banded(), activation="gelu-tanh", tied=True)  # fmt: skip
        yield Shape(f"gpt3-{name}", "gpt3", spec, 50_257, stated * M, paper, remark=remark)


def _pythia() -> Iterator[Shape]:
    paper = "Biderman et al. 2023, table 1, and the released weights"
    sizes = (
        ("70m", 6, 512, 8, 50_304, 70, 70_426_624),
        ("160m", 12, 768, 12, 50_304, 160, 162_322_944),
        ("410m", 24, 1024, 16, 50_304, 410, 405_334_016),
        ("1b", 16, 2048, 8, 50_304, 1000, 1_011_781_632),
        ("1.4b", 24, 2048, 16, 50_304, 1400, 1_414_647_808),
        ("2.8b", 32, 2560, 32, 50_304, 2800, 2_775_208_960),
        ("6.9b", 32, 4096, 32, 50_432, 6900, 6_857_302_016),
        ("12b", 36, 5120, 40, 50_688, 12_000, 11_846_072_320),
    )
    for name, layers, width, heads, vocabulary, stated, exact in sizes:
        spec = Decoder(layers=layers, width=width, heads=heads, feedforward=4 * width, context=2048,
                       positions="rotary", rotary_fraction=0.25, parallel=True)  # fmt: skip
        yield Shape(f"pythia-{name}", "pythia", spec, vocabulary, stated * M, paper, exact,
                    remark="the embedding is padded: the tokenizer has 50,277 tokens")  # fmt: skip


def _relative(family: str, name: str, layers: int, width: int, heads: int, stated: int, source: str) -> Shape:
    """Return a shape of the Gopher kind: RMS norm, no biases, 32,000 tokens, relative positions."""
    spec = Decoder(layers=layers, width=width, heads=heads, feedforward=4 * width, context=2048, positions="none",
                   norm="rms", biases=False, tied=True, activation="gelu-tanh")  # fmt: skip
    return Shape(name, family, spec, 32_000, stated * M, source, elsewhere=layers * width**2,
                 remark="the count has relative positions, layers × width² numbers that are not ours")  # fmt: skip


def _gopher() -> Iterator[Shape]:
    paper = "Rae et al. 2021, table 1"
    sizes = (
        ("44m", 8, 512, 16, 44),
        ("117m", 12, 768, 12, 117),
        ("417m", 12, 1536, 12, 417),
        ("1.4b", 24, 2048, 16, 1400),
        ("7.1b", 32, 4096, 32, 7100),
        ("280b", 80, 16384, 128, 280_000),
    )
    for name, layers, width, heads, stated in sizes:
        yield _relative("gopher", f"gopher-{name}", layers, width, heads, stated, paper)


def _chinchilla() -> Iterator[Shape]:
    paper = "Hoffmann et al. 2022, table A9"
    # millions of parameters, width, heads, layers
    table = """
        44 512 8 8 · 57 576 9 9 · 74 640 10 10 · 90 640 10 13 · 106 640 10 16 · 117 768 12 12 · 140 768 12 15
        163 768 12 18 · 175 896 14 14 · 196 896 14 16 · 217 896 14 18 · 251 1024 16 16 · 278 1024 16 18
        306 1024 16 20 · 425 1280 10 18 · 489 1280 10 21 · 509 1408 11 18 · 552 1280 10 24 · 587 1408 11 21
        632 1536 12 19 · 664 1408 11 24 · 724 1536 12 22 · 816 1536 12 25 · 893 1792 14 20 · 1018 1792 14 23
        1143 1792 14 26 · 1266 2048 16 22 · 1424 2176 17 22 · 1429 2048 16 25 · 1593 2048 16 28
        1609 2176 17 25 · 1731 2304 18 24 · 1794 2176 17 28 · 2007 2304 18 28 · 2283 2304 18 32
        2298 2560 20 26 · 2639 2560 20 30 · 2980 2560 20 34 · 3802 2816 22 36 · 4516 3072 24 36
        6796 3584 28 40 · 9293 4096 32 42 · 12295 4608 36 44 · 16183 5120 40 47"""
    numbers = [int(word) for word in table.replace("·", " ").split()]
    for stated, width, heads, layers in zip(*(numbers[n::4] for n in range(4)), strict=True):
        yield _relative("chinchilla", f"chinchilla-{stated}m", layers, width, heads, stated, paper)
    yield _relative("chinchilla", "chinchilla-70b", 80, 8192, 64, 70_000, "Hoffmann et al. 2022, table 4")


def _bert() -> Iterator[Shape]:
    fixed: dict[str, Any] = {"norm_at": "post", "norm_epsilon": 1e-12, "pooling": "first", "head": "bert",
                             "norm_embeddings": True, "tied": True, "context": 512, "dropout": 0.1}  # fmt: skip
    paper = "Devlin et al. 2019, section 3, and the released weights"
    remark = "with both heads of the pretraining"
    for name, layers, width, heads, stated, exact in (
        ("base", 12, 768, 12, 110, 110_106_428),
        ("large", 24, 1024, 16, 340, 336_226_108),
    ):
        spec = Encoder(layers=layers, width=width, heads=heads, feedforward=4 * width, segments=2, next_sentence=True,
                       **fixed)  # fmt: skip
        yield Shape(f"bert-{name}", "bert", spec, 30_522, stated * M, paper, exact, remark=remark)
    distilled = Encoder(layers=6, width=768, heads=12, feedforward=3072, **fixed)
    yield Shape("distilbert", "bert", distilled, 30_522, 66 * M, "Sanh et al. 2019, table 3, and the released weights",
                66_985_530, remark="with the head of the masked language model")  # fmt: skip


def _llama() -> Iterator[Shape]:
    fixed: dict[str, Any] = {"positions": "rotary", "norm": "rms", "activation": "silu", "gated": True, "biases": False}
    sizes: tuple[tuple[str, int, int, int, int, int, int, float, int, int, str], ...] = (
        ("llama-7b", 32, 4096, 32, 11_008, 2048, 32_000, 6.7e9, 0, 6_738_415_616, "Touvron et al. 2023a, table 2"),
        ("llama-13b", 40, 5120, 40, 13_824, 2048, 32_000, 13e9, 0, 13_015_864_320, "Touvron et al. 2023a, table 2"),
        ("llama-33b", 60, 6656, 52, 17_920, 2048, 32_000, 32.5e9, 0, 32_528_943_616, "Touvron et al. 2023a, table 2"),
        ("llama-65b", 80, 8192, 64, 22_016, 2048, 32_000, 65.2e9, 0, 65_285_660_672, "Touvron et al. 2023a, table 2"),
        ("llama2-70b", 80, 8192, 64, 28_672, 4096, 32_000, 70e9, 8, 68_976_648_192, "Touvron et al. 2023b, table 1"),
    )
    for name, layers, width, heads, feedforward, context, vocabulary, stated, groups, exact, source in sizes:
        spec = Decoder(layers=layers, width=width, heads=heads, kv_heads=groups, feedforward=feedforward,
                       context=context, norm_epsilon=1e-6, **fixed)  # fmt: skip
        yield Shape(name, "llama", spec, vocabulary, stated, source, exact)
    mistral = Decoder(layers=32, width=4096, heads=32, kv_heads=8, feedforward=14_336, context=32_768,
                      attention=Sliding(4096), **fixed)  # fmt: skip
    yield Shape("mistral-7b", "llama", mistral, 32_000, 7.3e9, "Jiang et al. 2023, table 1", 7_241_732_096)
    stories = Decoder(layers=5, width=64, heads=8, kv_heads=4, feedforward=172, context=512, tied=True, **fixed)
    yield Shape("stories260k", "llama", stories, 512, 260_000, "llama2.c, doc/stories260K.md", 260_032)


SHAPES: tuple[Shape, ...] = (
    *_transformer(),
    *_gpt(),
    *_gpt3(),
    *_pythia(),
    *_gopher(),
    *_chinchilla(),
    *_bert(),
    *_llama(),
)
"""Every published shape, by family."""
