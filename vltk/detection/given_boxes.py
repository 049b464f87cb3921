"""Boxes that come from an annotator or from another detector, for pictures whose features are to be made there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.types import BOX_SLACK

# An annotated box leaves its picture by a rounding; more than this means another picture or another size of it.
OVERHANG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenBoxes:
    """The boxes of one picture.

    Attributes:
        boxes: [R, 4] float32 pixels of the unresized picture.
        region_ids: R ids of what the boxes were drawn for: annotations, chains of phrases, rows of another store.
    """

    boxes: NDArray[np.float32]
    region_ids: tuple[str, ...]

    def within(self, size: tuple[int, int], *, where: str) -> NDArray[np.float32]:
        """Return the boxes cut at the border of a picture of (width, height).

        Raises:
            DataError: a box lies farther outside than a rounding explains, or its corners are swapped.
        """
        limit = np.array([*size, *size], np.float32)
        allowed = np.maximum(OVERHANG, BOX_SLACK * limit)
        inside = ((self.boxes >= -allowed) & (self.boxes <= limit + allowed)).all(axis=1)
        ordered = (self.boxes[:, 2:] >= self.boxes[:, :2]).all(axis=1)
        for good, problem in (
            (inside, f"outside the picture of {size[0]} x {size[1]}"),
            (ordered, "has x2 < x1 or y2 < y1"),
        ):
            if not good.all():
                row = int(np.argmin(good))
                box = [round(float(value), 1) for value in self.boxes[row]]
                remedy = "give x1, y1, x2, y2 in pixels of the unresized picture"
                raise DataError(f"box {self.region_ids[row]} {box} {problem}", where=where, remedy=remedy)
        clipped: NDArray[np.float32] = np.clip(self.boxes, 0, limit)
        return clipped


def collect(entries: Iterable[tuple[str, str, tuple[float, float, float, float]]]) -> dict[str, GivenBoxes]:
    """Gather (image id, region id, box) entries by picture, in their order.

    Example:
        >>> given = collect([("7", "a", (0, 0, 5, 5)), ("8", "b", (1, 1, 2, 2)), ("7", "c", (2, 2, 9, 9))])
        >>> given["7"].region_ids
        ('a', 'c')
    """
    found: dict[str, tuple[list[str], list[tuple[float, float, float, float]]]] = {}
    for image_id, region_id, box in entries:
        ids, boxes = found.setdefault(image_id, ([], []))
        ids.append(region_id)
        boxes.append(box)
    return {
        image_id: GivenBoxes(boxes=np.array(boxes, np.float32), region_ids=tuple(ids))
        for image_id, (ids, boxes) in found.items()
    }


def hash_of(given: Mapping[str, GivenBoxes]) -> str:
    """Return a hash of all boxes and their ids, whatever file they were read from."""
    digest = hashlib.sha256()
    for image_id in sorted(given):
        digest.update(f"{image_id}\n{given[image_id].region_ids}\n".encode(errors="surrogateescape"))
        digest.update(given[image_id].boxes.tobytes())
    return digest.hexdigest()
