"""Whether the right region was found: the published overlap of referring expressions, and the plain one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vltk.metrics.detection import box_iou

HIT = 0.5
"""A region is found when it overlaps the annotated box by more than this."""

IoURule = Literal["published", "plain"]
"""``published`` counts the last pixel of a box as inside when boxes are cut, but not in their areas, as the RefCOCO
programs do (pixel-inclusive); ``plain`` takes boxes as areas."""


def published_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return [N] overlaps of N pairs of boxes as ``computeIoU`` of the RefCOCO programs gives them.

    A box x, y, w, h ends at the pixel x + w - 1, both ends are inside the intersection, and the areas are w * h; boxes
    that share a single row or column of pixels do not meet.

    Args:
        first: [N, 4] x1, y1, x2, y2, where x2 = x + w.
        second: [N, 4], or [1, 4] for all.

    Example:
        >>> published_iou(np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([[0.0, 0.0, 4.0, 8.0]])).tolist()
        [0.5]
    """
    a, b = np.broadcast_arrays(first.astype(np.float64), second.astype(np.float64))
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:]) - 1
    shared = np.where((low < high).all(axis=1), (high - low + 1).prod(axis=1), 0.0)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def overlaps(
    boxes: NDArray[np.floating], target: NDArray[np.floating], *, rule: IoURule = "published"
) -> NDArray[np.float64]:
    """Return [R] overlaps of the regions of a picture with one annotated box.

    Args:
        boxes: [R, 4] x1, y1, x2, y2.
        target: [4].
        rule: whose overlap.
    """
    if rule == "plain":
        return box_iou(boxes, target[None])[:, 0]
    return published_iou(boxes, target[None])


def is_found(boxes: NDArray[np.floating], target: NDArray[np.floating], *, rule: IoURule = "published") -> bool:
    """Return whether any of the boxes overlaps the target by more than a half.

    With the one predicted box this is the hit that accuracy counts; with all proposals of a picture it is what an
    oracle could reach (oracle recall).

    Example:
        >>> is_found(np.array([[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 12.0, 12.0]]), np.array([8.0, 8.0, 12.0, 12.0]))
        True
    """
    return bool((overlaps(boxes, target, rule=rule) > HIT).any())
