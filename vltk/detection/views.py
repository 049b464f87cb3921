"""Views of pictures and of their regions: turned, mirrored, with moved borders, described by the detector anew.

SSRP (Gu et al. 2020) compares a picture with augmented views of it. A view of the whole picture carries its boxes
along. A view of the regions leaves them where they are: each is described as its crop looks when it is mirrored or
turned (pooled from the turned picture, so that the surroundings turn with it), or as a larger or smaller box sees it.

A view is kept under ``IMAGE@VIEW``, so that it stands in one store, or beside the store of the originals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vltk.detection.extractor import Picture, PreparedImage, Provenance
from vltk.detection.given_boxes import GivenBoxes
from vltk.detection.images import ImageFile
from vltk.detection.region_extractors import GivenRegions
from vltk.errors import DataError, UsageError, did_you_mean
from vltk.stores.features import FeatureStore
from vltk.types import RegionFeatures

SEPARATOR = "@"
_JITTER = re.compile(r"roi-jitter-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a view is made.

    Attributes:
        name: as it stands behind the id of the picture.
        mirrored: left and right are exchanged, before the turn.
        turns: quarter turns against the clock.
        scale: sides of the boxes over those of the original boxes, about their centres.
        regions_only: boxes stay where the original has them.
    """

    name: str
    mirrored: bool = False
    turns: int = 0
    scale: float = 1.0
    regions_only: bool = False

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the [H, W, 3] picture of the view."""
        seen = pixels[:, ::-1] if self.mirrored else pixels
        return np.ascontiguousarray(np.rot90(seen, self.turns))

    def boxes(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Return where the picture of the view has the boxes of the original.

        Args:
            boxes: [R, 4] pixels of the original.
            size: (width, height) of the original.

        Example:
            >>> VIEWS["rotate-90"].boxes(np.array([[0, 0, 10, 20]], np.float32), (100, 50)).tolist()
            [[0.0, 90.0, 20.0, 100.0]]
        """
        width, height = size
        x1, y1, x2, y2 = self.kept(boxes, size).T
        if self.mirrored:
            x1, x2 = width - x2, width - x1
        for _ in range(self.turns % 4):
            x1, y1, x2, y2 = y1, width - x2, y2, width - x1
            width, height = height, width
        return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)

    def kept(self, boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Return the scaled boxes in the original picture, cut at its border."""
        if self.scale == 1.0:
            return boxes
        centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        limit = np.array([*size, *size], np.float32)
        scaled = np.concatenate([centre - self.scale * side / 2, centre + self.scale * side / 2], axis=1)
        cut: NDArray[np.float32] = np.clip(scaled, 0, limit).astype(np.float32)
        return cut


VIEWS = {
    view.name: view
    for view in (
        View(name="flip", mirrored=True),
        View(name="flip-vertical", mirrored=True, turns=2),
        *(View(name=f"rotate-{90 * turns}", turns=turns) for turns in (1, 2, 3)),
        View(name="roi-flip", mirrored=True, regions_only=True),
        *(View(name=f"roi-rotate-{90 * turns}", turns=turns, regions_only=True) for turns in (1, 2, 3)),
    )
}
"""The views without a number of their own; ``roi-jitter-SCALE`` exists for every scale."""

PUBLISHED = (
    "flip",
    "roi-flip",
    "roi-rotate-90",
    "roi-rotate-180",
    "roi-rotate-270",
    "roi-jitter-0.8",
    "roi-jitter-1.2",
)
"""What SSRP takes."""


def find_view(name: str) -> View:
    """Return the view of a name.

    Raises:
        UsageError: there is none.

    Example:
        >>> find_view("roi-jitter-0.8").scale
        0.8
    """
    if jitter := _JITTER.fullmatch(name):
        scale = float(jitter[1])
        if not 0 < scale <= 4:
            raise UsageError(f"got the scale {scale:g}", where=name, remedy="give one above 0 and at most 4")
        return View(name=name, scale=scale, regions_only=True)
    if name not in VIEWS:
        remedy = did_you_mean(name, [*VIEWS, "roi-jitter-0.8", "roi-jitter-1.2"])
        raise UsageError(f"there is no view {name!r}", where="--view", remedy=remedy)
    return VIEWS[name]


def view_id(image_id: str, view: str) -> str:
    """Return the id of a view of a picture."""
    return f"{image_id}{SEPARATOR}{view}"


def split_view(record_id: str) -> tuple[str, str]:
    """Return (image id, view) of the id of a view.

    Example:
        >>> split_view("frame@0@roi-flip")
        ('frame@0', 'roi-flip')
    """
    image_id, _, view = record_id.rpartition(SEPARATOR)
    return image_id, view


def view_files(files: Sequence[ImageFile], views: Sequence[View]) -> list[ImageFile]:
    """Return one entry for each view of each picture, sorted by id, as an extraction takes them."""
    entries = [ImageFile(view_id(file.image_id, view.name), file.path) for file in files for view in views]
    return sorted(entries, key=lambda entry: entry.image_id)


class ViewBoxes(Mapping[str, GivenBoxes]):
    """Where each view has the boxes that a feature store keeps for its picture.

    Args:
        store: features of the originals.
        views: the views.
    """

    def __init__(self, store: FeatureStore, views: Sequence[View]) -> None:
        self.store, self.views = store, {view.name: view for view in views}

    def __getitem__(self, record_id: str) -> GivenBoxes:
        image_id, name = split_view(record_id)
        original = self.store.get(image_id)
        if original.boxes is None:
            raise DataError("has no boxes", where=f"image {image_id}", remedy="extract it again with boxes")
        boxes = self.views[name].boxes(original.boxes, original.size)
        return GivenBoxes(boxes=boxes, region_ids=tuple(str(row) for row in range(len(original))))

    def __contains__(self, record_id: object) -> bool:
        image_id, name = split_view(str(record_id))
        return name in self.views and image_id in self.store

    def __iter__(self) -> Iterator[str]:
        return (view_id(image_id, name) for image_id in self.store.ids() for name in self.views)

    def __len__(self) -> int:
        return len(self.store) * len(self.views)


class ViewExtractor:
    """Describes views of pictures whose regions are known; ids are those of :func:`view_id`.

    Args:
        regions: the detector, with a :class:`ViewBoxes` as the boxes that are given.
        boxes: that mapping.
    """

    def __init__(self, regions: GivenRegions, boxes: ViewBoxes) -> None:
        self._regions, self._boxes = regions, boxes

    @property
    def provenance(self) -> Provenance:
        """The detector; the views stand in the store's own record."""
        return self._regions.provenance

    def prepare(self, picture: Picture) -> PreparedImage:
        """Turn the picture and prepare it.

        Raises:
            DataError: the store has no boxes for it, or the file is not the picture that was described there.
        """
        image_id, name = split_view(picture.image_id)
        known = self._boxes.store.get(image_id).size
        if known != picture.size:
            problem = f"is {picture.size[0]} x {picture.size[1]}, the store knows it as {known[0]} x {known[1]}"
            raise DataError(problem, where=f"image {image_id}", remedy="give the pictures that were extracted")
        turned = self._boxes.views[name].picture(picture.pixels)
        return self._regions.prepare(Picture(image_id=picture.image_id, pixels=turned))

    def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
        """Describe views whose inputs have one shape."""
        return [self._placed(found) for found in self._regions.extract(images)]

    def _placed(self, found: RegionFeatures) -> RegionFeatures:
        image_id, name = split_view(found.image_id)
        view, original = self._boxes.views[name], self._boxes.store.get(image_id)
        if not view.regions_only or original.boxes is None:
            return found
        values = {**found.arrays(), "boxes": view.kept(original.boxes, original.size)}
        return RegionFeatures(image_id=found.image_id, size=original.size, region_ids=found.region_ids, **values)
