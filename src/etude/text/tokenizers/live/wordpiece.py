"""BERT's bare `vocab.txt` (Devlin et al. 2019): a WordPiece vocabulary, one token a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.core.errors import DamagedError

if TYPE_CHECKING:
    import tokenizers

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NEEDED = ("[UNK]", "[CLS]", "[SEP]")


def read_wordpiece(path: Path, said: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Return the library's tokenizer of a `vocab.txt`.

    Args:
        path: the file.
        said: `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` as `tokenizer_config.json` has them. Where
            it is silent on case, text is lower-cased unless the vocabulary itself has capital letters.

    Raises:
        DamagedError: a line is empty or comes twice, or a special token is missing.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = _read(path)
    lower = said.get("do_lower_case", not any(token != token.lower() for token in vocabulary if token[0] != "["))
    inner = Library(models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=said.get("tokenize_chinese_chars", True),
        strip_accents=said.get("strip_accents"),
        lowercase=lower,
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    inner.add_special_tokens([token for token in _SPECIAL if token in vocabulary])
    return inner


def _read(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except ValueError:
        raise DamagedError(f"{str(path)!r} is not UTF-8; fetch it again") from None
    vocabulary: dict[str, int] = {}
    for number, token in enumerate(lines):
        if not token or token in vocabulary:
            state = f"comes again: {token[:40]!r}" if token else "is empty"
            raise DamagedError(f"{str(path)!r}, line {number + 1} {state}; each line is one token: fetch it again")
        vocabulary[token] = number
    if missing := [token for token in _NEEDED if token not in vocabulary]:
        raise DamagedError(f"{str(path)!r} has no {missing[0]}, which a WordPiece vocabulary needs; fetch it again")
    return vocabulary
