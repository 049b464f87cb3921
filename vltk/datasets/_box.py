"""Boxes as annotators write them, turned into 0-based pixel corners that lie inside the picture."""

from __future__ import annotations

import math

from vltk.errors import DataError

Box = tuple[float, float, float, float]

# Annotators' boxes leave the picture by a rounding, and by the 1-based inclusive corner of older tools.
# More than this means another picture, another size, or corners read as width and height.
OVERHANG_PIXELS = 2.0
OVERHANG_SHARE = 0.01


def clip_box(box: Box, size: tuple[int, int] | None, where: str) -> Box:
    """Return x1, y1, x2, y2 cut at the picture's border, if it leaves the picture by no more than a rounding.

    Allowed are 2 pixels or 1 % of the side, whichever is more. Without a size only the origin is known.

    Raises:
        DataError: not finite, x2 < x1 or y2 < y1, or farther outside than allowed.
    """
    width, height = size or (math.inf, math.inf)
    if not all(math.isfinite(value) for value in box):
        raise DataError(f"has box {list(box)}, which is not finite", where=where, remedy="fix the annotation")
    if box[2] < box[0] or box[3] < box[1]:
        raise DataError(f"has box {list(box)} with x2 < x1 or y2 < y1", where=where, remedy="fix the annotation")
    for low, high, side in ((box[0], box[2], width), (box[1], box[3], height)):
        allowed = max(OVERHANG_PIXELS, OVERHANG_SHARE * side) if math.isfinite(side) else OVERHANG_PIXELS
        if low < -allowed or high > side + allowed or low > side or high < 0:
            extent = f"the picture of {width:g} x {height:g}" if size else "the picture"
            raise DataError(
                f"has box {[round(value, 2) for value in box]} (x1, y1, x2, y2) outside {extent}",
                where=where,
                remedy="check whether it is written as the layout says, and for the unresized picture",
            )
    return (
        min(max(box[0], 0.0), width),
        min(max(box[1], 0.0), height),
        min(max(box[2], 0.0), width),
        min(max(box[3], 0.0), height),
    )


def corners(box: Box) -> Box:
    """Return x1, y1, x2, y2 of an x, y, width, height box (COCO: 0-based, x2 = x + width).

    Example:
        >>> corners((10.0, 20.0, 30.0, 40.0))
        (10.0, 20.0, 40.0, 60.0)
    """
    x, y, width, height = box
    return x, y, x + width, y + height
