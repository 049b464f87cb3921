"""Turns what a foreign file says of a picture into RegionFeatures, after a hard look at its boxes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.stores.features import FeatureMetadata
from vltk.types import BOX_SLACK, RegionFeatures

Boxes = NDArray[np.float32]


class RegionSource(Protocol):
    """What an export reads from: a feature store, a view of it, or several in a chain."""

    @property
    def metadata(self) -> FeatureMetadata:
        """How the features were made."""

    def ids(self) -> list[str]:
        """Return the ids of all pictures."""

    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture."""


def foreign_regions(
    *,
    source: Path,
    image_id: str,
    features: NDArray[Any],
    boxes: NDArray[Any] | None,
    size: tuple[int, int],
    strict: bool = True,
    **fields: Any,
) -> RegionFeatures:
    """Make RegionFeatures of a foreign record; numbers get vltk's types, boxes are checked.

    Args:
        source: the file, for the sentence of an error.
        image_id: id of the picture.
        features: [R, D] of any float type; float64 becomes float32.
        boxes: [R, 4] pixel x1, y1, x2, y2, or None.
        size: (width, height) in pixels.
        strict: look at the format of the boxes; RegionFeatures' own checks hold in any case.
        **fields: further fields of RegionFeatures; None where absent.

    Raises:
        DataError: a field that does not fit, or boxes that are not x1, y1, x2, y2 pixels of this picture.
    """
    where = f"{source}, image {image_id}"
    values: dict[str, Any] = {}
    for name, value in {"features": features, "boxes": boxes, **fields}.items():
        if value is not None:
            values[name] = _converted(value, name, where)
    if boxes is not None and strict:
        values["boxes"] = check_boxes(values["boxes"], size, where=where)
    values.setdefault("boxes", None)
    try:
        return RegionFeatures(image_id=image_id, size=size, **values)
    except DataError as error:
        raise DataError(error.problem, where=where if error.where else source, remedy=error.remedy) from None


def _converted(value: Any, name: str, where: str) -> NDArray[Any]:
    array = numbers(value, name, where=where, dimensions=1 + len(RegionFeatures.ARRAYS[name]))
    if name.endswith("_ids"):
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.round(array))).all():
            raise DataError(f"{name} are not whole numbers", where=where, remedy="check the fields of the source")
        return array.astype(np.int64, copy=False)
    if name in ("features", "class_probs"):
        keep = array.dtype.kind == "f" and array.dtype.itemsize in (2, 4)
        return array.astype(array.dtype.newbyteorder("=") if keep else np.float32, copy=False)
    with np.errstate(over="ignore"):  # RegionFeatures names the row that is not finite
        return array.astype(np.float32, copy=False)


def numbers(value: Any, name: str, *, where: str, dimensions: int) -> NDArray[Any]:
    """Return a foreign value as an array of numbers.

    Raises:
        DataError: it is something else, or has another number of dimensions.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or array.ndim != dimensions:
        kind = f"{array.dtype} of shape {array.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        problem = f"{name} is {kind}, expected numbers in {dimensions} dimension{'s' * (dimensions > 1)}"
        raise DataError(problem, where=where, remedy="check the fields of the source")
    return array


def check_boxes(boxes: NDArray[Any], size: tuple[int, int], *, where: str) -> Boxes:
    """Return the boxes as float32 if they are x1, y1, x2, y2 pixels inside the picture.

    Raises:
        DataError: they are not; the sentence says which format they look like.

    Example:
        >>> try:
        ...     check_boxes(np.array([[10, 10, 5, 5], [0, 0, 90, 40]]), (99, 50), where="a.tsv")
        ... except DataError as error:
        ...     print(error.problem)
        row 0 is [10.0, 10.0, 5.0, 5.0] in a picture of 99 x 50, and the boxes look like x, y, width, height
    """
    boxes = numbers(boxes, "boxes", where=where, dimensions=2).astype(np.float32, copy=False)
    if boxes.shape[1] != 4:
        raise DataError(f"boxes have shape {boxes.shape}, expected [R, 4]", where=where)
    if not len(boxes) or not np.isfinite(boxes).all():
        return boxes  # RegionFeatures names the row that is not finite
    ordered, inside = _ordered(boxes), _inside(boxes, size)
    normalised = min(size) > 2 and bool((np.abs(boxes) <= 1 + BOX_SLACK).all())
    if ordered.all() and inside.all() and not normalised:
        return boxes
    row = int(np.argmin(ordered & inside & (not normalised)))
    values = [round(float(value), 3) for value in boxes[row]]
    guess = _guess(boxes, size)
    problem = f"row {row} is {values} in a picture of {size[0]} x {size[1]}, and the boxes {guess}"
    raise DataError(problem, where=where, remedy="convert them to x1, y1, x2, y2 pixels")


def _ordered(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _inside(boxes: Boxes, size: tuple[int, int]) -> NDArray[np.bool_]:
    limit = np.array(size, np.float32)
    return np.asarray(
        (boxes[:, :2] >= -BOX_SLACK * limit).all(axis=1) & (boxes[:, 2:] <= (1 + BOX_SLACK) * limit).all(axis=1)
    )


def _guess(boxes: Boxes, size: tuple[int, int]) -> str:
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    if (np.abs(boxes) <= 1 + BOX_SLACK).all():
        kind = "x1, y1, x2, y2" if _ordered(boxes).all() else "x, y, width, height"
        return f"look like normalised {kind}"
    if (boxes[:, 2:] > 0).all() and not _ordered(boxes).all() and _inside(corners, size).all():
        return "look like x, y, width, height"
    if _ordered(boxes).all() and _inside(boxes, size[::-1]).all():
        return "fit a picture whose width and height are swapped"
    if _ordered(boxes).all() and (boxes >= 0).all():
        scale = float((boxes[:, 2:] / np.array(size)).max())
        return f"fit a picture {scale:.2f} times that size, as if it had been resized"
    return "are in no known format"


def integer(value: Any, name: str, *, where: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return a whole number out of a foreign field.

    Raises:
        DataError: it is none, or out of bounds.
    """
    try:
        number = int(value)
        whole = not isinstance(value, float | np.floating) or bool(number == value)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole or not least <= number <= most:
        bound = f"at most {most}" if whole and number > most else f"at least {least}"
        raise DataError(f"{name} is {str(value)[:40]!r}, expected a whole number of {bound}", where=where)
    return number


def pixel_boxes(regions: RegionFeatures, format_name: str) -> Boxes:
    """Return the boxes for a format that wants pixels.

    Raises:
        DataError: the store knows no pixels of this picture.
    """
    if regions.boxes is None or (regions.size == (1, 1) and regions.normalised_boxes is not None):
        problem = f"{format_name} needs boxes in pixels, and the store has none"
        raise DataError(problem, where=f"image {regions.image_id}", remedy="import the store again with --sizes")
    return regions.boxes


def unique(records: Iterable[RegionFeatures], source: Path) -> Iterable[RegionFeatures]:
    """Pass the records on; refuse an id that comes twice."""
    seen: set[str] = set()
    for record in records:
        if record.image_id in seen:
            raise DataError(f"image {record.image_id} comes twice", where=source, remedy="remove one of the two")
        seen.add(record.image_id)
        yield record
