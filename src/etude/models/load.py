"""A trained model and its tokenizer: from a run, a folder, or from outside."""

from __future__ import annotations

import os
from pathlib import Path

from etude.core.errors import UsageError
from etude.core.run import MANIFEST, Run
from etude.core.shelf import Shelf
from etude.models.incoming import check_tokenizer, model_from
from etude.models.saved import SHAPE, WEIGHTS, load_model
from etude.models.sources import is_foreign, is_hub_name, opened
from etude.models.transformer import Transformer
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, Tokenizer, load_tokenizer


def load(source: Run | Path | str) -> tuple[Transformer, Tokenizer]:
    """Return a model, on the CPU and in evaluation mode, and its tokenizer.

    Args:
        source: a run; the folder of one, or any folder that holds a saved model and its tokenizer; the id, the start of
            an id or the name of a run in `$ETUDE_RUNS` (else `runs`); a Hugging Face folder or a `.bin` of llama2.c;
            or, where there is no such run or path, OWNER/NAME on the hub, or one of its old names such as `gpt2`.

    Raises:
        UsageError: there is no such run, it holds no model, or one of a kind that Etude has no parts for.
        DamagedError: a file is not what was written.
    """
    if not isinstance(source, Run):
        place = Path(source)
        if (place / WEIGHTS).exists() and (place / SHAPE).exists() and not (place / MANIFEST).exists():
            return load_model(place), load_tokenizer(place)
        if is_foreign(place) and not (place / MANIFEST).exists():
            return load_foreign(place)
    run = source if isinstance(source, Run) else _found(source)
    if run is None:
        return load_foreign(str(source))
    for name in (WEIGHTS, SHAPE, KIND_FILE, TOKENIZER_FILE):
        if name in run.files:  # what is not there at all, its reader names
            run.file(name)
    return load_model(run.path), load_tokenizer(run.path)


def load_foreign(path: Path | str) -> tuple[Transformer, Tokenizer]:
    """Return a model from outside and its tokenizer, without making a run of them. See `etude.models.sources`.

    Raises:
        UsageError: Etude does not read it, it has no tokenizer, or one of another model.
        DamagedError: a tensor is missing, misshapen or one too many.
    """
    source = opened(path)
    tokenizer = load_tokenizer(source.folder)
    check_tokenizer(tokenizer, source.reading.vocabulary, str(source.path))
    return model_from(source), tokenizer


def _found(source: Path | str) -> Run | None:
    """Return the run that is meant, or None where there is none and the text can be a hub name."""
    try:
        return Shelf(Path(os.environ.get("ETUDE_RUNS") or "runs")).find(source)
    except UsageError:
        if is_hub_name(str(source)):
            return None
        raise
