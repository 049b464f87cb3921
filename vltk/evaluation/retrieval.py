"""A retrieval split scored and measured: in full, or re-ranked after a first stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.evaluation.opening import Opened
from vltk.evaluator import Execution, Sides, embeddings, pair_cost, score_matrix, similarities
from vltk.evaluator.pool import Pool
from vltk.finetuning import open_run
from vltk.rerank import merged_scores, propose, recall_ceiling
from vltk.stores.embedding_files import Embeddings, write_embeddings
from vltk.stores.score_files import ScoreFile, read_scores
from vltk.stores.score_matrix import ScoreMatrix
from vltk.tasks._task import RetrievalTask
from vltk.types import Progress

Bar = Callable[[int, str], AbstractContextManager[Progress]]
"""Shows how far something is: given a total and a label."""

SCORES, SECOND_STAGE = "scores", "second-stage"


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalEvaluation:
    """Scores a pool with a retrieval task.

    Attributes:
        opened: the task on its split.
        pool: what is searched.
        execution: where and how.
        bar: shows how far it is.
        first: scores of a first stage, in the order of the pool; None to score every pair that the protocol compares.
        candidates: pictures of each text and texts of each picture that the first stage proposes.
    """

    opened: Opened
    pool: Pool
    execution: Execution
    bar: Bar
    first: ScoreMatrix | None = None
    candidates: int = 0

    @cached_property
    def sides(self) -> Sides:
        """The texts and pictures of the pool."""
        task = self.opened.task
        if not isinstance(task, RetrievalTask):
            raise UsageError(f"{self.opened.name} ranks nothing", remedy="evaluate it without a protocol")
        return Sides(task=task, split=self.opened.split, text_ids=self.pool.text_ids, image_ids=self.pool.image_ids)

    @cached_property
    def wanted(self) -> NDArray[np.bool_] | None:
        """[C, I] the pairs that are scored; None for all."""
        if self.first is None:
            return self.pool.compared
        return propose(
            self.first.scores, candidates=self.candidates, fold_of=self.pool.fold_of, columns=self.pool.columns
        )

    def plan(self) -> dict[str, Any]:
        """Return what the evaluation takes, counted exactly before it begins."""
        texts, images = len(self.pool.text_ids), len(self.pool.image_ids)
        plan: dict[str, Any] = {"texts": texts, "images": images}
        if self.sides.task.family == "dual":
            return plan | {"embeddings": texts + images}
        full = pair_cost(self.sides, execution=self.execution, wanted=self.pool.compared)
        if self.first is None:
            return plan | {"pairs": full.pairs, "flops": full.flops}
        wanted = self.wanted
        if wanted is None:
            raise TypeError("a first stage proposes pairs")
        cost = pair_cost(self.sides, execution=self.execution, wanted=wanted)
        return plan | {
            "candidates": self.candidates,
            "pairs": cost.pairs,
            "pairs_of_all": full.pairs,
            "flops": cost.flops,
            "flops_of_all": full.flops,
            "recall_ceiling": recall_ceiling(wanted, self.pool.columns),
        }

    def score(self, folder: Path, *, wait: Callable[[], None] = lambda: None) -> NDArray[Any] | None:
        """Score the pool into ``folder/scores``, going on with what is there; return [C, I], None in helping processes.

        Args:
            folder: of the evaluation.
            wait: returns when every process has called it.

        Raises:
            UsageError: the scores that are there are of something else.
            StoppedEarlyError: it was asked to stop.
        """
        number, _ = self.execution.share
        name = SCORES if self.first is None else SECOND_STAGE
        if number:
            wait()
        file = ScoreFile(folder / name, self.pool.empty(self._provenance, name))
        if not number:
            wait()
        if not file.finished:
            self._fill(file, folder)
        wait()
        if number:
            return None
        if not file.finished:
            file.finish()
        return file.scores if self.first is None else self._merged(file, folder)

    def _fill(self, file: ScoreFile, folder: Path) -> None:
        if self.sides.task.family == "joint":
            total = file.scores.size if self.wanted is None else int(np.count_nonzero(self.wanted))
            processes = self.execution.share[1]
            with self.bar(-(-total // processes), "score pairs") as progress:
                execution = replace(self.execution, progress=progress)
                score_matrix(self.sides, file.scores, execution=execution, wanted=self.wanted)
        elif not self.execution.share[0]:
            texts, images = embed_both(self.sides, execution=self.execution, bar=self.bar)
            for name, ids, vectors in (("texts", self.pool.text_ids, texts), ("images", self.pool.image_ids, images)):
                found = Embeddings(ids=ids, vectors=vectors, provenance=self._provenance)
                write_embeddings(folder / name, found, overwrite=True)
            similarities(texts, images, file.scores)

    def _merged(self, second: ScoreFile, folder: Path) -> NDArray[Any]:
        if self.first is None:
            raise TypeError("a second stage without a first")
        merged = ScoreFile(folder / SCORES, self.pool.empty(self._provenance, SCORES), dtype=np.float64)
        if not merged.finished:
            merged.scores[:] = merged_scores(self.first.scores, second.scores)
            merged.finish()
        return merged.scores

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        made = {**self.opened.provenance, "precision": self.execution.precision, "protocol": self.pool.protocol.name}
        if self.first is None:
            return made
        return made | {"first_stage": dict(self.first.provenance), "candidates": self.candidates}


def embed_both(sides: Sides, *, execution: Execution, bar: Bar) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the embeddings of texts and of pictures of a dual encoder."""
    found = []
    for side, ids in (("texts", sides.text_ids), ("images", sides.image_ids)):
        with bar(len(ids), f"embed {side}") as progress:
            found.append(embeddings(sides, side, execution=replace(execution, progress=progress)))  # type: ignore[arg-type]
    return found[0], found[1]


def first_stage(source: Path, opened: Opened, pool: Pool, *, execution: Execution, bar: Bar) -> ScoreMatrix:
    """Return the scores that propose candidates: of a file, or of a run of a dual encoder.

    Args:
        source: a score matrix, or the folder of a run.
        opened: what re-ranks, for the split.
        pool: what is searched.
        execution: where and how.
        bar: shows how far it is.

    Raises:
        UsageError: the run is no dual encoder.
        DataError: the matrix lacks texts or pictures of the pool.
    """
    if not (source / "task.json").is_file():
        return read_scores(source).take(pool.text_ids, pool.image_ids)
    try:
        found = open_run(source, opened.split)
    except DataError as error:
        remedy = "evaluate it on stores of its own, and name the scores that this writes"
        raise DataError(error.problem, where=source, remedy=remedy) from error
    task = found.task
    if not isinstance(task, RetrievalTask) or task.family != "dual":
        problem = f"is a {found.model} fine-tuned for {found.name}, which embeds no side alone"
        raise UsageError(problem, where=source, remedy="name a dual encoder, or a score matrix")
    sides = Sides(task=task, split=opened.split, text_ids=pool.text_ids, image_ids=pool.image_ids)
    scores = np.empty((len(pool.text_ids), len(pool.image_ids)), np.float32)
    similarities(*embed_both(sides, execution=execution, bar=bar), scores)
    told = {"run": source.name, "weights": found.about.get("sha256"), "checkpoint": found.checkpoint.name}
    return replace(pool.empty(told, str(source)), scores=scores)


def said(plan: dict[str, Any]) -> list[str]:
    """Return a plan in words.

    Example:
        >>> said({"texts": 5, "images": 1, "pairs": 5, "flops": 2_000_000_000})
        ['scores 5 pairs of 5 texts and 1 images: 0.002 TFLOP']
    """
    sizes = f"{plan['texts']:,} texts and {plan['images']:,} images"
    if "pairs" not in plan:
        return [f"embeds {sizes}"]
    work = f"{plan['flops'] / 1e12:.3g} TFLOP"
    if "pairs_of_all" not in plan:
        return [f"scores {plan['pairs']:,} pairs of {sizes}: {work}"]
    share = 100 * plan["pairs"] / plan["pairs_of_all"]
    ceiling = plan["recall_ceiling"]
    return [
        f"re-ranks {plan['pairs']:,} of {plan['pairs_of_all']:,} pairs ({share:.1f} %) of {sizes}: {work} of "
        f"{plan['flops_of_all'] / 1e12:.3g}",
        f"recall ceiling of {plan['candidates']} candidates: text to image {100 * ceiling['t2i']:.2f} %, "
        f"image to text {100 * ceiling['i2t']:.2f} %",
    ]


def listed_images(path: Path, read: Callable[[Path], Sequence[str]]) -> list[str]:
    """Return the images of a split file, each once.

    Raises:
        DataError: it is empty.
    """
    found = list(dict.fromkeys(read(path)))
    if not found:
        raise DataError("names no image", where=path, remedy="one id a line")
    return found
