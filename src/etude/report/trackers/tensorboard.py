"""TensorBoard: event files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from etude.report.trackers.base import Points, Sink, Tracker


@dataclass(frozen=True)
class Tensorboard(Tracker):
    """Event files for TensorBoard, in a folder named by the run in `place`, which `tensorboard --logdir` shows.

    Values are kept in single precision, as TensorBoard keeps them. The files are written with TensorBoard's own writer,
    the one that PyTorch's goes through, so that PyTorch is not needed.
    """

    needs = extra = "tensorboard"

    def open(self, run: str, recipe: Mapping[str, Any]) -> Sink:
        return _Events(Path(self.place).expanduser() / run, recipe)


class _Events:
    """One run's folder of event files. Opened again it gets another file, when there is something to write."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        self.folder, self.recipe = folder, recipe
        self._writer: Any = None

    def held(self) -> Points:
        if not any(self.folder.glob("*tfevents*")):
            return {}
        reading = import_module("tensorboard.backend.event_processing.event_accumulator")
        events = reading.EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        events.Reload()
        found: Points = {}
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                found.setdefault(event.step, {})[name] = event.value
        return found

    def write(self, step: int, values: Mapping[str, float]) -> None:
        summary = _proto("summary")
        scalars = [summary.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=summary.Summary(value=scalars))

    def rewind(self, step: int) -> None:
        session = _proto("event").SessionLog
        self._add(step=step, session_log=session(status=session.START))  # what stands from here on is passed over

    def close(self, *, done: bool) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, **parts: Any) -> None:
        if self._writer is None:
            is_new = not self.folder.exists()
            writing = import_module("tensorboard.summary.writer.event_file_writer")
            self._writer = writing.EventFileWriter(str(self.folder), flush_secs=1)
            if is_new:
                self._add(step=0, summary=_as_text("recipe", json.dumps(self.recipe, indent=1)))
        self._writer.add_event(_proto("event").Event(wall_time=time.time(), **parts))


def _as_text(name: str, words: str) -> Any:
    """Return words as TensorBoard's plugin for text takes them, indented so that it shows them as they are."""
    summary, shapes = _proto("summary"), _proto("tensor_shape")
    shown = "\n".join(f"    {line}" for line in words.splitlines())
    shape = shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=1)])
    tensor = _proto("tensor").TensorProto(dtype="DT_STRING", string_val=[shown.encode()], tensor_shape=shape)
    plugin = summary.SummaryMetadata.PluginData(plugin_name="text")
    about = summary.SummaryMetadata(plugin_data=plugin)
    return summary.Summary(value=[summary.Summary.Value(tag=name, metadata=about, tensor=tensor)])


def _proto(name: str) -> Any:
    """Return a module of TensorBoard's messages."""
    return import_module(f"tensorboard.compat.proto.{name}_pb2")
