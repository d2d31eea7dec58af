"""llama2.c's tokenizer file: a SentencePiece vocabulary (Kudo and Richardson 2018) of scored pieces, joined greedily.

Layout, little-endian: int32 length of the longest piece, then for each token float32 score, int32 length, and that many
bytes. The first three are unknown, `<s>` and `</s>`, then come the 256 bytes as `<0x00>` to `<0xFF>`, then pieces, with
spaces written as spaces.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from etude.core.errors import DamagedError

if TYPE_CHECKING:
    import tokenizers

FIRST = "<s>"
"""Opens a text and separates documents: the models were trained on stories with this between them, and llama2.c's
program stops at it. `</s>` never occurs."""

_UNKNOWN = "<unk>"
_BEFORE_PIECES = 3 + 256
_TOKEN = struct.Struct("<fi")


def read_llama2c(path: Path) -> tokenizers.Tokenizer:
    """Return the library's tokenizer of a file such as `tok512.bin`.

    llama2.c puts a space before the text, takes it character by character (by bytes, where there is no such token), and
    then again and again joins the two neighbours whose joint piece has the highest score, the leftmost of equals. Here
    the same is a list of merges in the order of the scores: every way of parting a piece into two is one. SentencePiece
    gives no two pieces of such a vocabulary one score; were there any, the one that comes first would be joined first.

    Raises:
        DamagedError: it is cut short, no such file, or has a piece twice.
    """
    from tokenizers import AddedToken, decoders, models, normalizers, processors
    from tokenizers import Tokenizer as Library

    scored = _read(path)
    if [name.strip() for name, _ in scored[:3]] != [_UNKNOWN, FIRST, "</s>"]:
        raise _damaged(path, "is no tokenizer of llama2.c: its first tokens are not <unk>, <s> and </s>")
    names = [name.strip() if id < 3 else name for id, (name, _) in enumerate(scored)]
    vocabulary = {name: id for id, name in enumerate(names)}
    if len(vocabulary) < len(names):
        twice = next(name for id, name in enumerate(names) if vocabulary[name] != id)
        raise DamagedError(f"{str(path)!r} has the piece {twice!r} twice; fetch it again")
    inner = Library(
        models.BPE(vocab=vocabulary, merges=_merges(scored), unk_token=_UNKNOWN, byte_fallback=True, fuse_unk=True)
    )
    inner.normalizer = normalizers.Prepend(" ")
    inner.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    inner.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A", pair=f"{FIRST} $A {FIRST} $B", special_tokens=[(FIRST, vocabulary[FIRST])]
    )
    inner.add_special_tokens([AddedToken(name, normalized=False) for name in names[:3]])
    return inner


def _merges(scored: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """Return every pair of pieces that is a piece together, by falling score."""
    pieces = dict(scored[_BEFORE_PIECES:])
    by_score = sorted(pieces, key=lambda name: -pieces[name])
    parted = ((name[:at], name[at:]) for name in by_score for at in range(1, len(name)))
    return [(left, right) for left, right in parted if left in pieces and right in pieces]


def _read(path: Path) -> list[tuple[str, float]]:
    """Return the pieces and their scores."""
    data, at, found = path.read_bytes(), 4, []
    while at < len(data):
        if at + _TOKEN.size > len(data):
            raise _damaged(path, "is cut short")
        score, length = _TOKEN.unpack_from(data, at)
        at += _TOKEN.size
        if length < 1 or at + length > len(data):
            raise _damaged(path, f"is cut short, or token {len(found)} is damaged")
        try:
            found.append((data[at : at + length].decode(), score))
        except ValueError:
            raise _damaged(path, f"has a token {len(found)} that is not UTF-8") from None
        at += length
    if [name for name, _ in found[3:_BEFORE_PIECES]] != [f"<0x{byte:02X}>" for byte in range(256)]:
        raise _damaged(path, "is no tokenizer of llama2.c: its tokens 3 to 258 are not the bytes")
    return found


def _damaged(path: Path, how: str) -> DamagedError:
    return DamagedError(f"{str(path)!r} {how}; fetch it again")
