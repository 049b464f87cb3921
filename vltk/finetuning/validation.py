"""How well a task does on held-out examples while it is trained; the best checkpoint is chosen by it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from vltk.batching import TokenBuckets
from vltk.errors import DataError
from vltk.evaluator.dual import embeddings, similarities
from vltk.evaluator.execution import Execution
from vltk.evaluator.joint import score_matrix
from vltk.evaluator.sides import Sides
from vltk.metrics.retrieval import evaluate_retrieval
from vltk.tasks._task import PredictionTask, RetrievalTask, Split
from vltk.types import Measurement, Prediction


class RetrievalMeasuring:
    """Recalls both ways in a pool of held-out pictures, every caption of the pool against every picture.

    Args:
        task: whose scorer is measured.
        split: held-out captions.
        images: of the pool, the first ones.
        captions: of each picture, the first ones.
        precision: of the forward pass.

    Raises:
        DataError: a picture of the pool has no features.
    """

    def __init__(self, task: RetrievalTask, split: Split, *, images: int, captions: int, precision: str) -> None:
        self.task, self.precision = task, precision
        pool: dict[str, list[str]] = {}
        for example in islice(split.examples, len(split)):
            image = example.image_ids[0]
            if image in pool or len(pool) < images:
                own = pool.setdefault(image, [])
                own += [example.id] if len(own) < captions else []
        missing = [image for image in pool if image not in split.features]
        if missing:
            problem = f"{len(missing)} of {len(pool)} images have no features (first {missing[0]})"
            raise DataError(problem, where=split.name, remedy="extract them, or leave their captions out")
        texts = [text for own in pool.values() for text in own]
        self.sides = Sides(task=task, split=split, text_ids=texts, image_ids=list(pool))
        self.image_of = np.repeat(np.arange(len(pool)), [len(own) for own in pool.values()])

    def __call__(self, processes: Any, module: nn.Module) -> tuple[float, dict[str, float]]:
        """Return the sum of the recalls, and every figure by its name."""
        share = (processes.process_index, processes.num_processes)
        execution = Execution(device=processes.device, precision=self.precision, share=share)
        scores = np.full((len(self.sides.text_ids), len(self.sides.image_ids)), np.nan, np.float32)
        if self.task.family == "dual":
            texts, images = (embeddings(self.sides, side, execution=execution) for side in ("texts", "images"))
            similarities(texts, images, scores)
        else:
            score_matrix(self.sides, scores, execution=execution)
            if processes.num_processes > 1:  # each process has scored its share
                mine = torch.from_numpy(np.nan_to_num(scores, nan=0.0)).to(processes.device)
                scores = processes.reduce(mine, "sum").cpu().numpy()
        found = evaluate_retrieval(
            scores.T, self.image_of, image_ids=self.sides.image_ids, caption_ids=self.sides.text_ids
        )
        return found.figures[self.task.primary], found.figures

    def rows(self, figures: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the figures as rows of the receipt."""
        pictures, texts = len(self.sides.image_ids), len(self.sides.text_ids)
        made = []
        for name, value in figures.items():
            rank = name.endswith("rank")
            n = pictures if name.startswith("i2t") else texts
            made.append(
                Measurement(
                    metric=name, value=value, n=n, unit="rank" if rank else "percent", higher_is_better=not rank
                ).row()
            )
        return made


class PredictionMeasuring:
    """The official figures of a task on held-out examples.

    Args:
        task: what is measured.
        split: held-out examples with targets.
        buckets: how examples become batches.
    """

    def __init__(self, task: PredictionTask, split: Split, *, buckets: TokenBuckets) -> None:
        self.task, self.split = task, split
        self.batches = buckets.batches(task.lengths(split), seed=0)
        self.measured: list[Measurement] = []

    def __call__(self, processes: Any, module: nn.Module) -> tuple[float, dict[str, float]]:
        """Return the primary figure, and every figure by its name; each process predicts its share."""
        found: list[Prediction] = []
        for rows in self.batches[processes.process_index :: processes.num_processes]:
            found += self.task.predict(self.task.batch(self.split, rows).to(processes.device))
        if processes.num_processes > 1:
            found = processes.gather_for_metrics(found, use_gather_object=True)
        predictions = {prediction.id: prediction for prediction in found}
        self.measured = self.task.measure(self.split, predictions)
        figures = {one.metric: one.value for one in self.measured}
        if self.task.primary not in figures:
            raise DataError(f"no {self.task.primary} among the figures", where=self.split.name)
        quality = figures[self.task.primary]
        better = next(one.higher_is_better for one in self.measured if one.metric == self.task.primary)
        return (quality if better else -quality), figures

    def rows(self, figures: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the figures as rows of the receipt; what this process did not measure, without its interval."""
        rows = {one.metric: one.row() for one in self.measured}
        known = {name: row for name, row in rows.items() if figures.get(name) == row["value"]}
        bare = {name: {"metric": name, "value": value, "n": len(self.split)} for name, value in figures.items()}
        for name in bare.keys() & rows.keys():  # another validation's value is of the same kind
            bare[name] |= {key: rows[name][key] for key in ("unit", "higher_is_better")}
        return [*(bare | known).values()]
