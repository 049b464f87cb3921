"""What every example of an evaluation counts: in means with intervals, and in the form that ``vltk compare`` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vltk.metrics.protocol import split_hash
from vltk.metrics.significance import mean_interval
from vltk.run_folder.outcomes import Outcomes, Series
from vltk.tasks._prediction import AnsweringTask
from vltk.tasks._task import Split
from vltk.types import Example, Measurement, Prediction

Rows = Sequence[tuple[Example, float]]
"""What each example counts in one figure."""


def counted_rows(
    task: AnsweringTask, split: Split, predictions: Mapping[str, Prediction], metric: str | None = None
) -> list[tuple[Example, float]]:
    """Return what each example of a split counts in a figure, the task's primary one by default.

    Raises:
        DataError: as the task's ``paired``.
    """
    name = task.primary if metric is None else metric
    return [(example, task.counted(example, one, split)[name]) for example, one in task.paired(split, predictions)]


def mean_of(task: AnsweringTask, metric: str, rows: Rows) -> Measurement:
    """Return a mean whose interval knows that the examples of one picture depend on each other (bootstrap)."""
    values = np.array([value for _, value in rows])
    numbers: dict[str, int] = {}
    clusters = np.array([numbers.setdefault(task.cluster(example), len(numbers)) for example, _ in rows])
    interval = mean_interval(values, clusters)
    return Measurement(metric=metric, value=float(values.mean()), n=len(rows), interval_95=interval)


def means_by(
    task: AnsweringTask, rows: Rows, kind: Callable[[Example], str], form: str = "accuracy of {}"
) -> list[Measurement]:
    """Return the mean of each kind of example, by its name; a kind without name is left out."""
    kinds: dict[str, list[tuple[Example, float]]] = {}
    for row in rows:
        kinds.setdefault(kind(row[0]), []).append(row)
    return [mean_of(task, form.format(name), found) for name, found in sorted(kinds.items()) if name]


def prediction_outcomes(
    task: AnsweringTask,
    split: Split,
    predictions: Mapping[str, Prediction],
    *,
    protocol: Mapping[str, Any] | None = None,
) -> Outcomes:
    """Return what each example counts.

    Args:
        task: what measures.
        split: examples with targets.
        predictions: by example id.
        protocol: rules that two evaluations must share before they are compared.

    Raises:
        DataError: as the task's ``measure``.
    """
    pairs = list(task.paired(split, predictions))
    ids, clusters = tuple(one.id for one, _ in pairs), tuple(task.cluster(one) for one, _ in pairs)
    values = [task.counted(example, prediction, split) for example, prediction in pairs]
    series = {
        name: Series(kind="score", ids=ids, values=np.array([one[name] for one in values]), clusters=clusters)
        for name in (values[0] if values else {})
    }
    right = (f"{' '.join(example.image_ids)} {example.target!r}" for example, _ in pairs)
    name = type(task).__module__.rpartition(".")[2]
    return Outcomes(task=name, split=split_hash(ids, right), protocol=dict(protocol or {}), series=series)
