"""Byte-pair encoding (Sennrich et al. 2016) over bytes, trained on the corpus by the tokenizers library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from etude.core.errors import UsageError
from etude.text.tokenizers.base import TokenizerSpec
from etude.text.tokenizers.live import END, BytePairTokenizer, Tokenizer, check_roles
from etude.text.tokenizers.live.byte_pair import add_gpt2_parts, add_specials


@dataclass(frozen=True)
class BytePair(TokenizerSpec):
    """Starts from the 256 bytes and joins the most frequent pair again and again, within words as GPT-2 splits them.

    The same text gives the same merges, whatever the number of threads.

    Attributes:
        vocabulary: how many tokens, the separator among them. A small corpus may not have so many pairs that occur
            twice; then there are fewer.
        train_bytes: about how many bytes of the training split to learn from, in pieces spread evenly over it; 0 is
            all of it. Learning holds them in memory.
        specials: roles of special tokens to have, last in the vocabulary and counted in it: of `mask`, `first`,
            `separator`, `pad`. A text with letters such as `<|mask|>` has letters there, not the special token.
        lowercase: whether texts are read in lower case, so that a word is one word wherever it stands. Capitals do not
            come back.
    """

    vocabulary: int = 2048
    train_bytes: int = 32 * 2**20
    specials: tuple[str, ...] = ()
    lowercase: bool = False

    def check(self) -> None:
        check_roles(self.specials, "bpe.specials")
        if self.vocabulary < (least := 257 + len(self.specials)):
            also = f" and {len(self.specials)} special" if self.specials else ""
            raise UsageError(
                f"bpe.vocabulary = {self.vocabulary}: give at least {least}, for 256 bytes and a separator{also}"
            )
        if self.train_bytes < 0:
            raise UsageError(f"bpe.train_bytes = {self.train_bytes}: give a number of bytes, or 0 for the whole split")

    def expected_vocabulary(self) -> int:
        return self.vocabulary

    def build(self, texts: Callable[[], Iterator[str]]) -> Tokenizer:
        from tokenizers import Tokenizer as Library
        from tokenizers import models, normalizers, pre_tokenizers, trainers

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        library = Library(models.BPE())
        if self.lowercase:
            library.normalizer = normalizers.Lowercase()
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary - len(self.specials),
            min_frequency=2,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(sample(texts(), self.train_bytes) if self.train_bytes else texts(), trainer)
        return BytePairTokenizer(add_specials(add_gpt2_parts(library), self.specials))


def sample(texts: Iterator[str], budget: int) -> list[str]:
    """Return texts spread evenly over all that come, of at most `budget` bytes together, in one pass and without
    knowing how many will come: every text at first, and each time the budget is full, every second of those kept.

    Between half of the budget and all of it is used, unless single texts are a large part of it.
    """
    kept: list[str] = []
    sizes: list[int] = []
    every, total = 1, 0
    for number, text in enumerate(texts):
        if number % every:
            continue
        kept.append(text)
        sizes.append(len(text.encode()))
        total += sizes[-1]
        while total > budget and len(kept) > 1:
            kept, sizes, every = kept[::2], sizes[::2], every * 2
            total = sum(sizes)
    return kept
