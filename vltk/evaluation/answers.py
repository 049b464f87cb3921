"""A split of questions, statements or expressions predicted and measured, with sight and blind."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.evaluation.opening import Opened
from vltk.evaluation.prediction_files import read_prediction_file
from vltk.evaluation.retrieval import Bar
from vltk.evaluator import Execution, predict
from vltk.run_folder.predictions import PREDICTIONS, PredictionLog, write_predictions
from vltk.tasks._task import PredictionTask
from vltk.types import Prediction


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerEvaluation:
    """Predicts a split with a task that answers each example.

    Attributes:
        opened: the task on its split.
        execution: where and how.
        bar: shows how far it is.
        num_workers: processes that read batches.
        all_scores: keep the scores of any number of choices.
    """

    opened: Opened
    execution: Execution
    bar: Bar
    num_workers: int = 0
    all_scores: bool = False

    @property
    def task(self) -> PredictionTask:
        """The task.

        Raises:
            UsageError: it ranks pictures and texts.
        """
        task = self.opened.task
        if not isinstance(task, PredictionTask):
            raise UsageError(f"{self.opened.name} answers nothing", remedy="measure scores and not predictions")
        return task

    def predict(
        self, folder: Path, *, blind: bool = False, wait: Callable[[], None] = lambda: None
    ) -> dict[str, Prediction] | None:
        """Predict the split into ``folder/predictions.jsonl``, going on with what is there.

        Args:
            folder: of the evaluation.
            blind: show each example another picture; the file is ``blind-predictions.jsonl``.
            wait: returns when every process has called it.

        Returns:
            The predictions by example id; None in helping processes.

        Raises:
            UsageError: the predictions that are there are of something else.
            StoppedEarlyError: it was asked to stop.
        """
        number, processes = self.execution.share
        name = f"blind-{PREDICTIONS}" if blind else PREDICTIONS
        provenance = {**self.opened.provenance, "precision": self.execution.precision, "blind": blind}
        if (folder / name).is_file():
            return None if number else PredictionLog(folder / name, provenance).predictions()
        log = PredictionLog(folder / f".{name}.part{number}", provenance, all_scores=self.all_scores)
        wait()
        parts = sorted(folder.glob(f".{name}.part*"))
        for part in parts:
            log.ids |= PredictionLog(part, provenance).ids if part != log.path else set()
        wait()
        self.task.blind = blind
        try:
            with self.bar(-(-len(self.opened.split) // processes), "predict blind" if blind else "predict") as progress:
                execution = replace(self.execution, progress=progress)
                predict(self.task, self.opened.split, log, execution=execution, num_workers=self.num_workers)
        finally:
            self.task.blind = False
        wait()
        if number:
            return None
        return self._joined(folder, name, provenance)

    def _joined(self, folder: Path, name: str, provenance: Mapping[str, Any]) -> dict[str, Prediction]:
        """Write what all processes predicted as one file in the order of the split."""
        parts = sorted(folder.glob(f".{name}.part*"))
        found: dict[str, Prediction] = {}
        for part in parts:
            found |= PredictionLog(part, provenance).predictions()
        ordered = [found[one] for one in self.opened.split.ids]
        write_predictions(folder / name, ordered, provenance, all_scores=self.all_scores)
        for part in parts:
            part.unlink()
        return {one.id: one for one in ordered}


def averaged_predictions(
    paths: Sequence[Path], *, task: str, weights: Sequence[float] | None = None
) -> dict[str, Prediction]:
    """Return the predictions of several models as one: what the weighted mean of their scores chooses.

    Which answer a choice stands for is seen in the predictions themselves, unless the module of the task says it with
    a function ``chosen`` of an id and its scores (VCR).

    Args:
        paths: files of predictions with scores of the same examples and choices; one file is returned as it is.
        task: name of the task.
        weights: one for each file; equal ones if None.

    Raises:
        UsageError: another number of weights than files.
        DataError: scores are missing or of different choices, examples differ, or nothing tells what a choice means.
    """
    files = [read_prediction_file(path, task=task) for path in paths]
    weights = [1.0] * len(files) if weights is None else list(weights)
    if len(weights) != len(files):
        raise UsageError(f"{len(weights)} weights for {len(files)} files of predictions", remedy="give one for each")
    if len(files) == 1:
        return files[0]
    for path, file in zip(paths, files, strict=True):
        odd = sorted(file.keys() ^ files[0].keys())
        if odd:
            problem = f"has other examples than {paths[0]} ({odd[0]})"
            raise DataError(problem, where=path, remedy="average predictions of one split")
    chosen = getattr(importlib.import_module(f"vltk.tasks.{task}"), "chosen", None)
    choose = chosen or _Meanings([one for file in files for one in file.values()])
    return {key: choose(key, _mean([file[key] for file in files], weights)) for key in files[0]}


def _mean(predictions: Sequence[Prediction], weights: Sequence[float]) -> NDArray[np.float32]:
    scores = [one.scores for one in predictions if one.scores is not None]
    where = f"example {predictions[0].id}"
    if len(scores) < len(predictions):
        remedy = "evaluate with --keep-scores"
        raise DataError(f"{len(predictions) - len(scores)} files keep no scores", where=where, remedy=remedy)
    if len({len(one) for one in scores}) > 1:
        sizes = " and ".join(str(len(one)) for one in scores)
        raise DataError(f"has {sizes} scores", where=where, remedy="average predictions of the same choices")
    return np.average(np.stack(scores), axis=0, weights=weights).astype(np.float32)


class _Meanings:
    """Which answer a choice stands for: the same in all examples, or known of the example alone (RefCOCO)."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self.shared: dict[int, set[str]] = {}
        self.own: dict[tuple[str, int], str] = {}
        for one in predictions:
            if one.scores is not None:
                best = int(one.scores.argmax())
                self.shared.setdefault(best, set()).add(one.answer)
                self.own[one.id, best] = one.answer

    def __call__(self, key: str, scores: NDArray[np.float32]) -> Prediction:
        best = int(scores.argmax())
        shared = self.shared.get(best, set())
        answer = self.own.get((key, best)) or (next(iter(shared)) if len(shared) == 1 else None)
        if answer is None:
            problem = f"no file tells which answer the choice {best} is"
            raise DataError(problem, where=f"example {key}", remedy="average more predictions")
        return Prediction(id=key, answer=answer, scores=scores)


def plan_of(opened: Opened) -> dict[str, Any]:
    """Return what predicting a split takes."""
    task = opened.task
    if not isinstance(task, PredictionTask):
        raise UsageError(f"{opened.name} answers nothing", remedy="measure scores and not predictions")
    lengths = task.lengths(opened.split)
    return {"examples": len(opened.split), "tokens": int(lengths.sum()), "longest": int(lengths.max())}
