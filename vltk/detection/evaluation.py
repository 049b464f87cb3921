"""How well a detector finds what was annotated: precision, attributes, and objects that lie inside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vltk.detection.region_head import AttributeHeadsConfig
from vltk.errors import DataError
from vltk.metrics.detection import Boxes, average_precision, match
from vltk.types import RegionFeatures


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotated:
    """The true objects of one picture.

    Attributes:
        boxes: [N, 4] pixels.
        classes: [N].
        attributes: for each question [N], negative where nobody answered.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    attributes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """[N] whether the object's box lies within the box of another one."""
        a, b = self.boxes[:, None], self.boxes[None]
        within = np.logical_and((a[..., :2] >= b[..., :2]).all(axis=-1), (a[..., 2:] <= b[..., 2:]).all(axis=-1))
        alone = np.eye(len(self.boxes), dtype=bool)
        return np.asarray((within & ~alone).any(axis=1))


def evaluate(
    truth: Sequence[Annotated],
    found: Sequence[RegionFeatures],
    *,
    attributes: AttributeHeadsConfig | None = None,
    names: Sequence[str] = (),
) -> dict[str, object]:
    """Compare detections with annotations of the same pictures.

    Suppression is that of the preset that found the regions. Classes and attributes are counted on the detection that
    an object is matched with, at an overlap of 0.5 and whatever its class.

    Args:
        truth: annotations.
        found: detections in the same order.
        attributes: the questions that the detector answers, if it does.
        names: of the classes, for the table.

    Raises:
        DataError: the two differ in number, or a picture has no classes.
    """
    if len(truth) != len(found):
        raise DataError(f"{len(truth)} annotated pictures, {len(found)} with regions", remedy="give the same pictures")
    true_boxes = [Boxes(boxes=picture.boxes.astype(np.float64), labels=picture.classes) for picture in truth]
    seen = [_boxes(regions) for regions in found]
    precision = {overlap: average_precision(true_boxes, seen, iou=overlap) for overlap in (0.5, 0.75)}
    counts = _Counts()
    for picture, regions in zip(truth, found, strict=True):
        _count(counts, picture, regions, attributes)
    return {
        "pictures": len(truth),
        "objects": counts.total["all"],
        "mAP@0.5": _mean(precision[0.5]),
        "mAP@0.75": _mean(precision[0.75]),
        "recall": counts.share("found", "all"),
        "class accuracy": counts.share("class", "found"),
        **{f"{question} accuracy": counts.share(question, f"{question} asked") for question in counts.questions},
        "objects inside others": counts.total["inside"],
        "recall inside others": counts.share("found inside", "inside"),
        "class accuracy inside others": counts.share("class inside", "found inside"),
        "AP@0.5": {names[label] if names else str(label): value for label, value in precision[0.5].items()},
    }


class _Counts:
    def __init__(self) -> None:
        self.total: dict[str, int] = {"all": 0, "inside": 0}
        self.questions: list[str] = []

    def add(self, name: str, count: int) -> None:
        self.total[name] = self.total.get(name, 0) + int(count)

    def share(self, part: str, whole: str) -> float | None:
        return self.total.get(part, 0) / self.total[whole] if self.total.get(whole) else None


def _boxes(regions: RegionFeatures) -> Boxes:
    if regions.boxes is None or regions.class_ids is None or regions.scores is None:
        raise DataError("has no classes", where=f"image {regions.image_id}", remedy="give regions of a detector")
    boxes, scores = regions.boxes.astype(np.float64), regions.scores.astype(np.float64)
    return Boxes(boxes=boxes, labels=regions.class_ids, scores=scores)


def _count(counts: _Counts, truth: Annotated, found: RegionFeatures, attributes: AttributeHeadsConfig | None) -> None:
    seen = _boxes(found)
    order = np.argsort(-(seen.scores if seen.scores is not None else np.zeros(0)), kind="stable")
    matched = match(truth.boxes, seen.boxes, order, iou=0.5)
    rows = np.flatnonzero(matched >= 0)
    objects, inside = matched[rows], truth.inside
    right = seen.labels[rows] == truth.classes[objects]
    for name, value in (
        ("all", len(truth.boxes)),
        ("inside", inside.sum()),
        ("found", len(rows)),
        ("found inside", inside[objects].sum()),
        ("class", right.sum()),
        ("class inside", (right & inside[objects]).sum()),
    ):
        counts.add(name, value)
    if attributes is None or found.attribute_ids is None:
        return
    answers = attributes.answers(found.attribute_ids[rows])
    counts.questions = list(answers)
    for question, given in answers.items():
        wanted = truth.attributes.get(question, np.full(len(truth.boxes), -1))[objects]
        counts.add(f"{question} asked", (wanted >= 0).sum())
        counts.add(question, ((wanted == given) & (wanted >= 0)).sum())


def _mean(values: Mapping[int, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None
