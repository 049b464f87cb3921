"""Predictions that were made elsewhere: read in any known form, measured by the official rules, to be compared."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.config import listing
from vltk.errors import UsageError
from vltk.run_folder.outcomes import Outcomes
from vltk.run_folder.predictions import PREDICTIONS
from vltk.tasks._outcomes import prediction_outcomes
from vltk.tasks._prediction import AnsweringTask
from vltk.tasks._submission import Submission, read_any
from vltk.tasks._task import Split
from vltk.types import Measurement, Prediction


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionReport:
    """What predictions are worth.

    Attributes:
        measurements: the official figures.
        outcomes: what every example counts, for ``vltk compare``.
    """

    measurements: list[Measurement]
    outcomes: Outcomes


def submission_of(task: str) -> Submission | None:
    """Return what the test server of a task wants, None where there is no server."""
    found: Submission | None = getattr(importlib.import_module(f"vltk.tasks.{task}"), "SUBMISSION", None)
    return found


def server_of(task: str) -> Submission:
    """Return what the test server of a task wants.

    Raises:
        UsageError: it has none.
    """
    found = submission_of(task)
    if found is None:
        served = ", ".join(name for name in listing("vltk.tasks") if submission_of(name) is not None)
        raise UsageError(f"{task} has no test server", where="--task", remedy=f"tasks with one: {served}")
    return found


def read_prediction_file(path: Path, *, task: str) -> dict[str, Prediction]:
    """Read predictions by example id: vltk's ``predictions.jsonl``, its folder, or a file in the test server's form.

    Raises:
        DataError: it is none of them, or an id comes twice.
    """
    return read_any(path / PREDICTIONS if path.is_dir() else path, submission_of(task))


def measure_predictions(
    task: AnsweringTask, split: Split, predictions: Mapping[str, Prediction], *, protocol: Mapping[str, Any]
) -> PredictionReport:
    """Measure predictions of a split.

    Args:
        task: what measures.
        split: examples with targets.
        predictions: one for each example.
        protocol: rules beside the task's own that two evaluations must share before they are compared.

    Raises:
        DataError: predictions are missing or of unknown examples, or the split has no targets.
    """
    card = {**task.protocol(split), **protocol}
    outcomes = prediction_outcomes(task, split, predictions, protocol=card)
    return PredictionReport(measurements=task.measure(split, predictions), outcomes=outcomes)
