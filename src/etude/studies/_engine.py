"""The work of any study: answer, tell, and publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etude.core.recipe import Recipe
from etude.core.run import Draft, Run
from etude.report.publish import publish
from etude.studies.base import Study


def carry_out(study: Study, inputs: Mapping[Recipe, Run], run: Draft) -> dict[str, Any]:
    """Write a study's page beside its numbers, which are the run's result."""
    publish(study.tell(inputs), run.path)
    return study.answer(inputs)
