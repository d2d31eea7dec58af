"""A trained model and its tokenizer, from a run or a folder."""

from __future__ import annotations

import os
from pathlib import Path

from etude.core.run import MANIFEST, Run
from etude.core.shelf import Shelf
from etude.models.decoder_model import DecoderModel
from etude.models.saved import SHAPE, WEIGHTS, load_model
from etude.text.tokenizers.live import KIND_FILE, TOKENIZER_FILE, Tokenizer, load_tokenizer


def load(source: Run | Path | str) -> tuple[DecoderModel, Tokenizer]:
    """Return a model, on the CPU and in evaluation mode, and its tokenizer.

    Args:
        source: a run; the folder of one, or any folder that holds a saved model and its tokenizer; or the id, the
            start of an id or the name of a run in `$ETUDE_RUNS` (else `runs`).

    Raises:
        UsageError: there is no such run, or it holds no model.
        DamagedError: a file is not what was written.
    """
    if not isinstance(source, Run) and (Path(source) / WEIGHTS).exists() and not (Path(source) / MANIFEST).exists():
        return load_model(source), load_tokenizer(Path(source))
    run = source if isinstance(source, Run) else Shelf(Path(os.environ.get("ETUDE_RUNS") or "runs")).find(source)
    for name in (WEIGHTS, SHAPE, KIND_FILE, TOKENIZER_FILE):
        if name in run.files:  # what is not there at all, its reader names
            run.file(name)
    return load_model(run.path), load_tokenizer(run.path)
