"""The order of a run of a task that answers each example: passes over token buckets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.batching import TokenBuckets
from vltk.errors import DataError
from vltk.mixture import seed_of
from vltk.tasks._task import PredictionTask, Split
from vltk.types import Batch

OBJECTIVE = "task"
"""What a plan of buckets calls the loss of a task."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """One micro-batch.

    Attributes:
        rows: examples, by their place in the split.
        seed: of everything random in training on it.
        objective: always "task".
    """

    rows: NDArray[np.int32]
    seed: int
    objective: str = OBJECTIVE


class BucketPlan:
    """Passes over the examples that can be learnt from, each in an order of its own, in batches of similar length.

    Args:
        task: reads the batches.
        split: what is trained on.
        buckets: how examples become batches.
        micro_batches: of one step, over all processes.
        seed: of the order.
        max_text_length: examples with longer texts are left out.

    Raises:
        DataError: nothing to learn from, or fewer examples than fill one batch.
    """

    def __init__(
        self,
        task: PredictionTask,
        split: Split,
        *,
        buckets: TokenBuckets,
        micro_batches: int,
        seed: int,
        max_text_length: int,
    ) -> None:
        self.task, self.split, self.buckets, self.micro_batches, self.seed = task, split, buckets, micro_batches, seed
        self.rows = task.training_rows(split, max_text_length=max_text_length)
        self.lengths = task.lengths(split)
        if not self.batches(0):
            problem = f"{len(self.rows)} examples do not fill one batch"
            raise DataError(problem, where=split.name, remedy="use --batching full, or fewer --batch-tokens")

    def batches(self, number: int) -> list[NDArray[np.int32]]:
        """Return the micro-batches of one pass, as rows of the split."""
        made = self.buckets.batches(self.lengths[self.rows], seed=seed_of("buckets", self.seed, number))
        return [self.rows[batch] for batch in made]

    def steps(self, start: int = 0) -> Iterator[list[Rows]]:
        """Yield the micro-batches of each step without end, from step ``start`` on."""
        step, passes, batches = start, 0, self.batches(0)
        place = start * self.micro_batches
        while True:
            works = []
            for micro in range(self.micro_batches):
                while place >= len(batches):
                    place -= len(batches)
                    passes += 1
                    batches = self.batches(passes)
                works.append(Rows(rows=batches[place], seed=seed_of("work", self.seed, step, micro)))
                place += 1
            yield works
            step += 1

    def load(self, work: Rows) -> Batch:
        """Read a micro-batch."""
        return self.task.batch(self.split, work.rows)

    def tokens(self, work: Rows) -> tuple[int, int]:
        """Return how many tokens and regions a micro-batch has, and how many places with its padding."""
        lengths = self.lengths[work.rows]
        return int(lengths.sum()), int(lengths.max()) * len(lengths)
