"""Referring expressions on RefCOCO, RefCOCO+ and RefCOCOg: which object does a phrase mean?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.batching import SpecialTokens
from vltk.datasets import phraseloceval, refcoco
from vltk.datasets._box import clip_box
from vltk.datasets._record import Record
from vltk.errors import DataError
from vltk.metrics.grounding import HIT, is_found, overlaps
from vltk.mixture import Exclusion
from vltk.models._heads import RegionHead
from vltk.objectives.classification import region_cross_entropy, region_ranking
from vltk.tasks._outcomes import mean_of
from vltk.tasks._prediction import AnsweringTask, PredictionModule, Row, one_text, size_of
from vltk.tasks._source import Layout, read_one
from vltk.tasks._submission import JSONList, Submission
from vltk.tasks._task import Split
from vltk.types import Batch, BoxTarget, Example, Losses, Measurement, Prediction, RegionFeatures

LAYOUTS = (
    Layout(
        file="references",
        needs=("instances",),
        takes=("split",),
        read=lambda source: refcoco.read_examples(source.references, source.instances, split=source.split),
    ),
    Layout(file="phrases", read=lambda source: phraseloceval.read_expressions(source.phrases)),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Expressions in one of two layouts. Image ids are COCO's file names: COCO_train2014_000000274266."""

    references: Path | None = None
    """refs(unc).p, refs(umd).p or refs(google).p as published by refer (it is read, not run); needs --instances."""
    instances: Path | None = None
    """instances.json beside --references."""
    phrases: Path | None = None
    """phraseloceval's annotation_*.json."""
    split: Literal["train", "val", "test", "testA", "testB"] | None = None
    """Which split of --references: testA and testB (RefCOCO, RefCOCO+) or test (RefCOCOg); all without it."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each sentence."""
        return read_one(self, LAYOUTS)


def _sides(answer: str) -> list[float]:
    x1, y1, x2, y2 = map(float, json.loads(answer))
    return [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)]


def _corners(record: Record, key: str) -> str:
    x, y, width, height = record.box(key)
    return json.dumps([x, y, x + width, y + height])


def _fault(prediction: Prediction) -> str | None:
    try:
        x1, y1, x2, y2 = read_box(prediction)[0].tolist()
    except DataError as error:
        return error.problem
    return None if x2 > x1 and y2 > y1 else f"has the empty box {prediction.answer:.60}"


_RESULTS = JSONList(id_key="sent_id", answer_key="pred_box", to_answer=_sides, from_answer=_corners)
SUBMISSION = Submission(
    server="no server: the result file that the RefCOCO programs write",
    name="{split}_{method}.json",
    lines=_RESULTS.lines,
    read=_RESULTS.read,
    fault=_fault,
    sizes={
        "refcoco_testA": 5_657,
        "refcoco_testB": 5_095,
        "refcoco+_testA": 5_726,
        "refcoco+_testB": 4_889,
        "refcocog_test": 9_602,
    },
)
"""The box x, y, w, h of each sentence, in pixels."""

PLAIN = "accuracy by plain overlap"
_ORACLE, _UNSEEN = "oracle recall", "accuracy on unseen images"


class Grounding(AnsweringTask):
    """Finds the region that an expression refers to (UNITER, section 4.1 and A.2).

    The regions of annotated boxes and those that a detector proposed are told apart by the store: the former carry the
    ids of their annotations. To learn from proposals, the one that overlaps the annotated box most counts as right.

    Args:
        model: the encoder.
        config: head and loss.
        boxes: which regions it was made for, "given" or "detected".
    """

    targets_known: ClassVar[tuple[type, ...]] = (BoxTarget,)

    def __init__(self, model: nn.Module, config: Config, *, boxes: str) -> None:
        self.config, self.boxes = config, boxes
        self.seen = Exclusion.of(config.seen_images)
        head = RegionHead(hidden=size_of(model).hidden, layers=config.head_layers)
        super().__init__(PredictionModule(model, head, self.loss))

    def rows(self, example: Example, special: SpecialTokens) -> list[Row]:
        """Return the expression beside its picture."""
        return [Row(pieces=one_text(example, special), images=example.image_ids[:1])]

    def batch(self, split: Split, rows: Sequence[int] | NDArray[np.int32]) -> Batch:
        """Read and pad expressions; ``targets`` also hold ``boxes`` [B, R, 4], the pixels of the regions."""
        batch = super().batch(split, rows)
        pictures = [split.features.get(split.examples.get(name).image_ids[0]) for name in batch.ids]
        boxes = torch.zeros(*batch.region_mask.shape, 4)
        for place, picture in enumerate(pictures):
            boxes[place, : len(picture)] = torch.from_numpy(np.array(pixel_boxes(picture)))
        return replace(batch, targets=batch.targets | {"boxes": boxes})

    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return ``region`` [B], the region that is meant, -1 where no proposal overlaps the annotated box enough."""
        regions = [self._region(example, split.features.get(example.image_ids[0])) for example in examples]
        return {"region": torch.tensor(regions)}

    def _region(self, example: Example, picture: RegionFeatures) -> int:
        target, boxes = gold_box(example, picture), pixel_boxes(picture)
        ids = picture.region_ids or ()
        annotation = example.target.annotation_id if isinstance(example.target, BoxTarget) else ""
        if annotation in ids:
            return ids.index(annotation)
        overlap = overlaps(boxes, target)
        best = int(overlap.argmax()) if len(overlap) else -1
        return best if len(overlap) and overlap[best] > HIT else -1

    def _learnable(self, example: Example, split: Split) -> bool:
        return example.target is not None and int(self.targets([example], split)["region"]) >= 0

    def _regions(self, split: Split, row: Row, pictures: Mapping[str, RegionFeatures]) -> RegionFeatures:
        """Return the regions to show; a blind model sees as many of another picture."""
        if not self.blind:
            return pictures[row.images[0]]
        other = pictures[self._shown(split, row.images[0])]
        return other.take(np.arange(split.features.region_count(row.images[0])) % len(other))

    def loss(self, scores: Tensor, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of [B, R] scores."""
        region, summed = batch.targets["region"], self.config.reduction == "sum"
        if self.config.loss == "cross-entropy":
            return region_cross_entropy(scores, region, summed=summed)
        return region_ranking(
            scores,
            batch.region_mask,
            region,
            margin=self.config.margin,
            hard_share=self.config.hard_share,
            summed=summed,
            generator=generator,
        )

    def answers(self, scores: Tensor, batch: Batch) -> list[Prediction]:
        """Return the box (x1, y1, x2, y2 in pixels, as JSON) of the best region, with the scores of all."""
        counts = batch.region_mask.sum(dim=1).tolist()
        best = scores.argmax(dim=1).tolist()
        found = []
        for place, name in enumerate(batch.ids):
            box = [round(value, 3) for value in batch.targets["boxes"][place, best[place]].tolist()]
            kept = scores[place, : counts[place]].cpu().numpy().astype(np.float32)
            found.append(Prediction(id=name, answer=json.dumps(box), scores=kept))
        return found

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return accuracy by the published overlap and by the plain one, and what the given regions allow at most.

        Answers made elsewhere are measured without features as well; what regions allow is then left out.
        """
        found: dict[str, list[tuple[Example, float]]] = {self.primary: [], PLAIN: [], _ORACLE: [], _UNSEEN: []}
        for example, prediction in self.paired(split, predictions):
            counted = self.counted(example, prediction, split)
            for name, value in counted.items():
                found[name].append((example, value))
            picture = _picture(example, split)
            if picture is not None:
                possible = is_found(pixel_boxes(picture), gold_box(example, picture))
                found[_ORACLE].append((example, float(possible)))
            if self.config.seen_images and example.image_ids[0] not in self.seen:
                found[_UNSEEN].append((example, counted[self.primary]))
        if len(found[_ORACLE]) < len(found[self.primary]):
            del found[_ORACLE]
        return [mean_of(self, name, rows) for name, rows in found.items() if rows]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether the box is found, by the published overlap and by the plain one."""
        target, box = gold_box(example, _picture(example, split)), read_box(prediction)
        return {self.primary: float(is_found(box, target)), PLAIN: float(is_found(box, target, rule="plain"))}

    def protocol(self, split: Split) -> dict[str, Any]:
        """Return which boxes were chosen from, and when one counts as found."""
        return {"boxes": boxes_of(split), "found": f"overlap > {HIT}, the last pixel inside (published)"}

    def describe(self) -> dict[str, Any]:
        """Return which boxes the regions are of."""
        return {"boxes": self.boxes}


def boxes_of(split: Split) -> str:
    """Return which boxes the regions of a split are of: "given" by annotators, "detected", or "unknown".

    The regions of given boxes carry the ids of their annotations.
    """
    example = next(iter(split.examples), None)
    picture = None if example is None else _picture(example, split)
    if picture is None:
        return "unknown"
    return "detected" if picture.region_ids is None else "given"


def _picture(example: Example, split: Split) -> RegionFeatures | None:
    return split.features.get(example.image_ids[0]) if example.image_ids[0] in split.features else None


def pixel_boxes(picture: RegionFeatures) -> NDArray[np.float32]:
    """Return [R, 4] x1, y1, x2, y2 in pixels.

    Raises:
        DataError: the store knows no boxes, or not the size of the picture.
    """
    if picture.boxes is None or picture.size == (1, 1):
        problem = "no boxes" if picture.boxes is None else "boxes as fractions of a picture of unknown size"
        remedy = "import it with the sizes of its pictures (--sizes)"
        raise DataError(f"has {problem}", where=f"image {picture.image_id}", remedy=remedy)
    return picture.boxes


def gold_box(example: Example, picture: RegionFeatures | None) -> NDArray[np.float64]:
    """Return [4] the annotated box of an expression; where the picture is known, it must lie inside.

    Raises:
        DataError: it lies outside the picture.
    """
    if not isinstance(example.target, BoxTarget):
        raise DataError("has no box", where=f"example {example.id}", remedy="prepare it with its annotations")
    size = None if picture is None or picture.size == (1, 1) else picture.size
    return np.array(clip_box(example.target.box, size, f"example {example.id}"))


def read_box(prediction: Prediction) -> NDArray[np.float64]:
    """Return [1, 4] the box that a prediction names.

    Raises:
        DataError: it names none.
    """
    try:
        box = np.array(json.loads(prediction.answer), np.float64)
    except (ValueError, TypeError):
        box = np.zeros(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        problem = f"has the answer {prediction.answer!r:.40}, expected a box [x1, y1, x2, y2] in pixels"
        raise DataError(problem, where=f"prediction {prediction.id}", remedy="write it as JSON")
    return box[None]


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a region is found."""

    head_layers: Literal[1, 2] = 1
    """Projections of the head (published: 1 for RefCOCO and RefCOCOg, 2 for RefCOCO+)."""
    loss: Literal["cross-entropy", "ranking"] = "cross-entropy"
    """Cross entropy over the regions (published runs), or a hinge against one wrong region."""
    reduction: Literal["sum", "mean"] = "sum"
    """Add the expressions of a batch up (published), or take their mean."""
    margin: float = 0.2
    """Of the ranking loss."""
    hard_share: float = 0.3
    """Probability that the ranking loss takes the wrong region with the highest score, not any."""
    seen_images: tuple[Path, ...] = ()
    """Lists of images that the detector or the pre-training saw; accuracy without them is reported as well."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: nothing."""
        return {}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Grounding:
        """Make the task around an encoder."""
        return Grounding(model, self, boxes=boxes_of(split))
