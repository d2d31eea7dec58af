"""A live tokenizer from the files of the ecosystem that a person has: which of them there are, and what reads each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from etude.core.errors import UsageError
from etude.text.tokenizers.live.byte_pair import BytePairTokenizer, check_gpt2_kind, read_tokenizer_json
from etude.text.tokenizers.live.ecosystem import EcosystemTokenizer
from etude.text.tokenizers.live.llama2c import FIRST, read_llama2c
from etude.text.tokenizers.live.marks import marks, said_beside
from etude.text.tokenizers.live.protocol import END, TOKENIZER_FILE, Tokenizer
from etude.text.tokenizers.live.wordpiece import read_wordpiece

WORDPIECE_FILE = "vocab.txt"

_READS = f"{TOKENIZER_FILE}, {WORDPIECE_FILE} (WordPiece), or llama2.c's tok*.bin"
_REMEDIES = {
    "tokenizer.model": "tokenizer.model is SentencePiece's own file: transformers' save_pretrained writes"
    f" {TOKENIZER_FILE} from it",
    "merges.txt": "vocab.json and merges.txt are read by the tokenizer gpt2",
    "vocab.bpe": "encoder.json and vocab.bpe are read by the tokenizer gpt2",
}


def tokenizer_file(path: Path | str) -> Path:
    """Return the file of a tokenizer: the path itself, or the one in that folder.

    Raises:
        UsageError: there is none that can be read.
    """
    place = Path(path).expanduser()
    if place.is_file():
        if place.name in (TOKENIZER_FILE, WORDPIECE_FILE) or place.suffix in (".json", ".txt", ".bin"):
            return place
        raise UsageError(f"no tokenizer in {str(path)!r}: give a folder with, or the file, {_READS}")
    binaries = [file for pattern in ("tok*.bin", "tokenizer*.bin") for file in sorted(place.glob(pattern))]
    for file in [place / TOKENIZER_FILE, place / WORDPIECE_FILE, *binaries[:1]]:
        if file.is_file():
            return file
    remedy = next((f"; {remedy}" for name, remedy in _REMEDIES.items() if (place / name).is_file()), "")
    raise UsageError(f"no tokenizer at {str(place / TOKENIZER_FILE)!r}: the folder needs {_READS}{remedy}")


def identity(file: Path) -> str:
    """Return a hash (64 hex) of all that decides the tokenizer: the file's bytes, and what those beside it say.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        said = json.dumps(said_beside(file), sort_keys=True)
    except OSError as error:
        raise UsageError(f"cannot read the tokenizer {str(file)!r}: {error.strerror}; check rights") from None
    return hashlib.sha256(f"{content} {said}".encode()).hexdigest()


def read_tokenizer(file: Path) -> Tokenizer:
    """Return the live tokenizer of one file. GPT-2's kind is a `BytePairTokenizer`, where it has no special tokens but
    GPT-2's and Etude's; any other is taken as it is.

    Raises:
        UsageError: it has no token that separates documents.
        DamagedError: it is not what its name says.
    """
    if file.suffix == ".bin":
        inner, said = read_llama2c(file), {"eos_token": FIRST, "bos_token": FIRST}
    elif file.suffix == ".txt":
        said = said_beside(file)
        inner = read_wordpiece(file, said)
    else:
        inner, said = read_tokenizer_json(file), said_beside(file)
    end, specials = marks(inner, said)
    if file.suffix == ".json" and _is_gpt2_kind(json.loads(inner.to_str())):
        plain = BytePairTokenizer(inner)
        if plain.end == end and plain.specials.items() >= {(r, id) for r, id in specials.items() if id != end}:
            return plain
    return EcosystemTokenizer(inner, end, specials)


def _is_gpt2_kind(settings: dict[str, object]) -> bool:
    try:
        check_gpt2_kind(settings)
    except UsageError:
        return False
    added = settings.get("added_tokens")
    contents = [str(token["content"]) for token in added] if isinstance(added, list) else []
    return END in contents and all(content.isascii() and " " not in content for content in contents)
