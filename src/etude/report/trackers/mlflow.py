"""MLflow: a server, or a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from etude.report.trackers.base import Points, Sink, Tracker

AT_ONCE = 100
"""Parameters in one request: MLflow takes no more."""

LONGEST = 500
"""Characters of a parameter: older servers take no more."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing goes anywhere but where it was sent
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder was asked for by name; MLflow would rather have a database
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""What is set in the environment where the person has not: among them that a server that is away is soon given up."""


@dataclass(frozen=True)
class Mlflow(Tracker):
    """A run in MLflow's experiment `etude`, with the recipe's fields as parameters: on a server, or in a folder.

    MLflow cannot take a value back: where a record was written anew with other values, the later one of a step counts.
    """

    needs = extra = "mlflow"
    takes = "ADDRESS"

    def open(self, run: str, recipe: Mapping[str, Any]) -> Sink:
        return _Logged(self.place, run, recipe)


class _Logged:
    """One run in MLflow, found again by the tag `etude.run`."""

    def __init__(self, place: str, run: str, recipe: Mapping[str, Any]) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self.client = import_module("mlflow").MlflowClient(tracking_uri=place)
        experiment = self.client.get_experiment_by_name("etude")
        number = experiment.experiment_id if experiment else self.client.create_experiment("etude")
        found = self.client.search_runs([number], filter_string=f"tags.`etude.run` = '{run}'", max_results=1)
        if found:
            self.id = found[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        made = self.client.create_run(
            number, run_name=run, tags={"etude.run": run, "etude.kind": str(recipe.get("kind"))}
        )
        self.id = made.info.run_id
        param = import_module("mlflow.entities").Param
        fields = [param(name, str(value)[:LONGEST]) for name, value in _fields(recipe)]
        for first in range(0, len(fields), AT_ONCE):
            self.client.log_batch(self.id, params=fields[first : first + AT_ONCE])

    def held(self) -> Points:
        found: Points = {}
        for name in self.client.get_run(self.id).data.metrics:
            for metric in self.client.get_metric_history(self.id, name):
                found.setdefault(metric.step, {})[name] = metric.value
        return found

    def write(self, step: int, values: Mapping[str, float]) -> None:
        metric, now = import_module("mlflow.entities").Metric, int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[metric(name, value, now, step) for name, value in values.items()])

    def rewind(self, step: int) -> None:
        """MLflow keeps what it was given; of two values at a step the later one is shown."""

    def close(self, *, done: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if done else "KILLED")


def _fields(data: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a recipe's fields by dotted name."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            yield from _fields(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, data
