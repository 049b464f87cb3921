"""Predictions of a task that answers each example: in batches of similar length, resumable to the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from vltk.errors import StoppedEarlyError, VltkError
from vltk.evaluator.execution import Execution
from vltk.evaluator.pairs import batches_by_length
from vltk.run_folder.predictions import PredictionLog
from vltk.tasks._task import PredictionTask, Split
from vltk.types import Batch


class _Loads(Dataset[tuple[Any, Batch]]):
    def __init__(self, task: PredictionTask, split: Split) -> None:
        self.task, self.split = task, split

    def __getitem__(self, rows: Any) -> tuple[Any, Batch]:
        return rows, self.task.batch(self.split, rows)


def predict(
    task: PredictionTask, split: Split, log: PredictionLog, *, execution: Execution, num_workers: int = 0
) -> None:
    """Predict the examples of a split that are not in the log yet.

    Killed at any moment and called again, it predicts what an undisturbed call does, bit for bit on one machine: a
    batch of which something is missing is predicted again as a whole.

    Args:
        task: what predicts.
        split: the examples.
        log: gets the predictions.
        execution: where and how; ``progress`` is told how many examples are done.
        num_workers: processes that read batches.

    Raises:
        StoppedEarlyError: it was asked to stop; what was predicted is in the log.
        VltkError: a score is NaN.
        DataError: an example or a picture cannot be read.
    """
    number, processes = execution.share
    todo: list[NDArray[np.int64]] = []
    for rows in batches_by_length(task.lengths(split), execution.tokens)[number::processes]:
        if all(split.ids[row] in log.ids for row in rows):
            execution.progress(len(rows))
        else:
            todo.append(rows)
    loader = DataLoader(_Loads(task, split), batch_size=None, sampler=todo, num_workers=num_workers)
    with execution.inference(task.module):
        for rows, batch in loader:
            found = task.predict(batch.to(execution.device))
            _check(found, [split.ids[row] for row in rows], split.name)
            log.add(found)
            execution.progress(len(found))
            if execution.stop():
                problem = f"stopped after {len(log.ids):,} of {len(split):,} examples"
                raise StoppedEarlyError(problem, where=split.name, remedy="the same command resumes")


def _check(found: Sequence[Any], ids: Sequence[str], where: str) -> None:
    for prediction in found:
        if prediction.scores is not None and np.isnan(prediction.scores).any():
            problem = f"a score of example {prediction.id} is NaN"
            raise VltkError(problem, where=where, remedy="use fp32, or another checkpoint")
    if [prediction.id for prediction in found] != list(ids):
        raise VltkError(f"predictions of other examples than {ids[0]} and on", where=where, remedy="mend the task")
