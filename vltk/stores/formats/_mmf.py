"""The record that MMF keeps of a picture, in its .npy files and in its LMDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vltk.errors import DataError
from vltk.stores.formats._regions import foreign_regions, integer, numbers, pixel_boxes
from vltk.stores.formats._sizes import Sizes
from vltk.types import RegionFeatures


def regions_of(source: Path, image_id: str, features: Any, info: dict[str, Any], sizes: Sizes | None) -> RegionFeatures:
    """Make RegionFeatures of MMF's features and info.

    Rows that only fill up to ``max_features`` are cut off. Where sizes are given they win over the record's: MMF's
    own extractor writes those of the resized picture, and its LMDB tool the width twice.

    Raises:
        DataError: fields that are missing or do not fit.
    """
    where = f"{source}, image {image_id}"
    features = numbers(features, "features", where=where, dimensions=2)
    boxes = None if info.get("bbox") is None else numbers(info["bbox"], "bbox", where=where, dimensions=2)
    rows = len(features) if boxes is None else min(len(features), len(boxes))
    if info.get("num_boxes") is not None:
        rows = min(rows, integer(info["num_boxes"], "num_boxes", where=where))
    objects, probabilities = info.get("objects"), info.get("cls_prob")
    if objects is not None:
        objects = numbers(objects, "objects", where=where, dimensions=1)[:rows]
    if probabilities is not None:
        two_sided = isinstance(probabilities, np.ndarray) and probabilities.ndim == 2
        probabilities = numbers(probabilities, "cls_prob", where=where, dimensions=1 + two_sided)[:rows]
    size = (1, 1)
    if boxes is not None:
        size = _size(info, where) if sizes is None else sizes[image_id]
    two_sided = probabilities is not None and probabilities.ndim == 2
    return foreign_regions(
        source=source,
        image_id=image_id,
        features=features[:rows],
        boxes=None if boxes is None else boxes[:rows],
        size=size,
        class_ids=objects,
        class_probs=probabilities if two_sided else None,
        scores=None if two_sided else probabilities,
    )


def _size(info: dict[str, Any], where: str) -> tuple[int, int]:
    sides = [info.get("image_width"), info.get("image_height")]
    if any(side is None for side in sides):
        raise DataError("has no image_width and image_height", where=where, remedy="pass the sizes with --sizes")
    return integer(sides[0], "width", where=where, least=1), integer(sides[1], "height", where=where, least=1)


def info_of(regions: RegionFeatures) -> dict[str, Any]:
    """Return MMF's info of a picture, nothing where it has no boxes; scores stand in for unknown distributions."""
    if regions.boxes is None:
        return {}
    return {
        "image_id": regions.image_id,
        "bbox": pixel_boxes(regions, "MMF"),
        "num_boxes": len(regions),
        "image_width": regions.size[0],
        "image_height": regions.size[1],
        "objects": regions.class_ids,
        "cls_prob": regions.scores if regions.class_probs is None else regions.class_probs,
    }
