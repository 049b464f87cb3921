"""Average precision of detections as COCO counts it (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# COCO reads the precision at these recalls.
RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The boxes of one picture, true or detected.

    Attributes:
        boxes: [R, 4] x1, y1, x2, y2.
        labels: [R] classes.
        scores: [R] confidences; None for true boxes.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return [N, M] intersections over unions of [N, 4] and [M, 4] boxes; two empty boxes share nothing."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def match(
    truth: NDArray[np.floating], found: NDArray[np.floating], order: NDArray[np.int64], *, iou: float
) -> NDArray[np.int64]:
    """Give each detection, in ``order``, the free true box that it overlaps most.

    Args:
        truth: [N, 4] true boxes.
        found: [M, 4] detections.
        order: indices of the detections, best first.
        iou: least overlap of a match.

    Returns:
        [M] index of the matched true box, -1 where there is none.
    """
    overlap = box_iou(found, truth)
    matched = np.full(len(found), -1, np.int64)
    free = np.ones(len(truth), bool)
    for row in order:
        candidates = np.where(free, overlap[row], -1.0)
        best = int(candidates.argmax()) if len(truth) else -1
        if best >= 0 and candidates[best] >= iou:
            matched[row], free[best] = best, False
    return matched


def average_precision(
    truth: Sequence[Boxes], found: Sequence[Boxes], *, iou: float = 0.5, limit: int = 100
) -> dict[int, float]:
    """Return the average precision of each class that has true boxes (COCO's 101-point interpolation).

    Args:
        truth: true boxes, one entry a picture.
        found: detections of the same pictures in the same order.
        iou: least overlap of a hit.
        limit: detections a picture and class that count, best first.

    Raises:
        ValueError: the two sequences differ in length.

    Example:
        >>> box = np.array([[0.0, 0.0, 4.0, 4.0]])
        >>> one = Boxes(boxes=box, labels=np.array([3]))
        >>> average_precision([one], [Boxes(boxes=box, labels=np.array([3]), scores=np.array([0.9]))])
        {3: 1.0}
    """
    if len(truth) != len(found):
        raise ValueError(f"{len(truth)} pictures with true boxes, {len(found)} with detections")
    classes = np.unique(np.concatenate([picture.labels for picture in truth])) if truth else np.array([], np.int64)
    return {int(label): _class_precision(truth, found, int(label), iou=iou, limit=limit) for label in classes}


def _class_precision(truth: Sequence[Boxes], found: Sequence[Boxes], label: int, *, iou: float, limit: int) -> float:
    scores, hits, total = [], [], 0
    for real, seen in zip(truth, found, strict=True):
        boxes = real.boxes[real.labels == label]
        rows = np.flatnonzero(seen.labels == label)
        confidence = np.zeros(0) if seen.scores is None else seen.scores[rows]
        order = np.argsort(-confidence, kind="stable")[:limit]
        matched = match(boxes, seen.boxes[rows], order, iou=iou)
        total += len(boxes)
        scores.append(confidence[order])
        hits.append(matched[order] >= 0)
    ranked = np.concatenate(hits)[np.argsort(-np.concatenate(scores), kind="stable")]
    return _interpolate(ranked, total)


def _interpolate(hits: NDArray[np.bool_], total: int) -> float:
    """Average the best precision at or beyond each of the 101 recalls."""
    right = np.cumsum(hits)
    recall = right / total
    precision = right / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALL_POINTS, side="left")
    reached = place < len(hits)
    return float(np.where(reached, best_from_here[np.minimum(place, len(hits) - 1)], 0.0).mean()) if len(hits) else 0.0


def mean_average_precision(truth: Sequence[Boxes], found: Sequence[Boxes], *, iou: float = 0.5) -> float:
    """Return the mean of :func:`average_precision` over the classes that have true boxes; nan without any."""
    values = list(average_precision(truth, found, iou=iou).values())
    return float(np.mean(values)) if values else float("nan")
