"""Whether two texts are in the same tokens: as far as recipes tell, and for sure by a hash of the tokenizer."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from etude.core.errors import UsageError
from etude.core.files import sha256_of
from etude.core.spec import Spec
from etude.text.recipes import Tokens
from etude.text.tokenizers.bpe import BytePair
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, Tokenizer


def hash_of(tokenizer: Tokenizer) -> str:
    """Return a hash (64 hex) of what a tokenizer saves of itself."""
    with tempfile.TemporaryDirectory(prefix="etude-") as folder:
        tokenizer.save(Path(folder))
        files = [Path(folder) / name for name in (KIND_FILE, TOKENIZER_FILE)]
        parts = [sha256_of(file) if file.exists() else "" for file in files]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def told_apart(one: Spec, other: Spec) -> bool:
    """Return whether two specs are known to decide different outcomes. While one leaves a choice to the machine they
    are not: it is looked at again when the choice is made."""
    try:
        return one.fingerprint() != other.fingerprint()
    except UsageError:
        return False


def may_share(one: Tokens, other: Tokens) -> bool:
    """Return whether two texts can have one tokenizer, as far as their recipes tell."""
    one, other = _origin(one), _origin(other)
    if type(one.tokenizer) is not type(other.tokenizer) or told_apart(one.tokenizer, other.tokenizer):
        return False
    trained = isinstance(one.tokenizer, BytePair)  # on the training split of its corpus
    return not (trained and told_apart(one.corpus, other.corpus))


def _origin(tokens: Tokens) -> Tokens:
    """Return the tokens that a text has its tokenizer of."""
    return tokens if tokens.like is None else _origin(tokens.like)
