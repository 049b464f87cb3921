"""What every example of an evaluation counts, in the form that ``vltk compare`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vltk.metrics.protocol import split_hash
from vltk.run_folder.outcomes import Outcomes, Series
from vltk.tasks._prediction import AnsweringTask
from vltk.tasks._task import Split
from vltk.types import Prediction


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
