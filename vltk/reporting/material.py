"""The stores and pictures that examples on a page come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vltk.detection.images import decode, list_images
from vltk.errors import VltkError
from vltk.evaluation import Stores
from vltk.isd.objects import Annotated, annotated
from vltk.reporting.drawing import Canvas, number, shortened, text_width
from vltk.reporting.evidence import Evidence, Measured, located
from vltk.reporting.plain_page import Thumbnails
from vltk.run_folder import WEIGHTS, find_checkpoint, read_about
from vltk.tasks._task import Split
from vltk.training_run import TRAINED_ON
from vltk.types import Example

LARGE, SMALL = 440, 150
_LABEL = 32
Boxes = NDArray[Any] | Sequence[Any]
"""Corners x1, y1, x2, y2 in pixels, of one box or of several."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Where examples come from.

    Attributes:
        pictures: files by image id; empty where no folder was named.
        examples: stores to use where those that a receipt names are not there.
        features: likewise.
        count: how many examples of a kind are shown.
        device: where models compute.
    """

    pictures: Mapping[str, Path] = field(default_factory=dict)
    examples: tuple[Path, ...] = ()
    features: tuple[Path, ...] = ()
    count: int = 3
    device: str = "cpu"

    @cached_property
    def _thumbnails(self) -> Thumbnails:
        return Thumbnails(self.pictures)

    def address(self, image_id: str, side: int) -> str | None:
        """Return a picture as a data address; None where there is none."""
        return self._thumbnails.get(image_id, side)

    def size(self, image_id: str) -> tuple[int, int] | None:
        """Return width and height of a picture in pixels; None where there is none, or none that can be read."""
        path = self.pictures.get(image_id)
        try:
            pixels = None if path is None else decode(path)
        except VltkError:
            return None
        return None if pixels is None else (pixels.shape[1], pixels.shape[0])

    def stores(self, one: Measured | None) -> tuple[tuple[Path, ...], tuple[Path, ...]] | None:
        """Return the example and feature stores of a measurement, else those that were named; None without any."""
        found = []
        for name, instead in (("examples", self.examples), ("features", self.features)):
            paths = () if one is None else tuple(located(path, one.path) for path in one.paths(name))
            there = bool(paths) and all(path.is_dir() for path in paths)
            found.append(paths if there else instead)
        return (found[0], found[1]) if all(found) else None

    def split(self, run: Evidence, one: Measured | None) -> Split | None:
        """Open the split of a measurement as the run sees it; None where its stores are not there.

        Raises:
            DataError: a store is damaged.
        """
        found = self.stores(one)
        if found is None:
            return None
        return Stores(examples=found[0], features=found[1]).open(trained_on(Path(run.source)))[0]


def trained_on(run: Path) -> Mapping[str, object]:
    """Return which regions a run was trained on; nothing where it is no run with weights."""
    for name in ("best", "last"):
        folder = find_checkpoint(run / name)
        if folder is not None and (folder / WEIGHTS).is_file():
            told = read_about(folder / WEIGHTS).get(TRAINED_ON, {})
            return told if isinstance(told, dict) else {}
    return {}


def find_pictures(folder: Path | None) -> dict[str, Path]:
    """Return the files of a folder by both ids that extraction may have given them: name, and path below the folder.

    Names that two files share are left out.

    Raises:
        VltkError: there is no such folder, or it cannot be read.
    """
    if folder is None:
        return {}
    found = {one.image_id: one.path for one in list_images(folder, ids="path").files}
    names = Counter(path.stem for path in found.values())
    return {path.stem: path for path in found.values() if names[path.stem] == 1} | found


def region_names(split: Split, image_id: str) -> list[str]:
    """Return what each region of a picture is called: attribute and class, else its number."""
    regions = split_regions(split, image_id).picture
    extra = getattr(getattr(split.features, "metadata", None), "extra", {}) or {}
    classes, attributes = extra.get("labels", ()), extra.get("attribute_labels", ())
    names = []
    for row in range(len(regions)):
        parts = []
        if regions.attribute_ids is not None and 0 <= regions.attribute_ids[row] < len(attributes):
            parts.append(str(attributes[regions.attribute_ids[row]]))
        if regions.class_ids is not None and 0 <= regions.class_ids[row] < len(classes):
            parts.append(str(classes[regions.class_ids[row]]))
        names.append(" ".join(parts) or f"region {row + 1}")
    return names


def split_regions(split: Split, image_id: str) -> Annotated:
    """Return the regions of a picture, each box once, as encoders are shown them here."""
    return annotated(split.features.get(image_id))


def sentence(example: Example) -> str:
    """Return the first text of an example."""
    return " ".join(example.texts[0].split())


# -- pictures with marks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A picture in a drawing.

    Attributes:
        size: (width, height) in pixels, those of its boxes.
        address: the picture as a data address, or None for a plain ground.
        x: of its left edge in the drawing.
        y: of its upper edge.
        width: in the drawing.
    """

    size: tuple[int, int]
    address: str | None
    x: float = 0
    y: float = 0
    width: float

    @property
    def height(self) -> float:
        """In the drawing."""
        return self.width * self.size[1] / self.size[0]

    def draw(self, canvas: Canvas) -> None:
        """Draw the picture."""
        if self.address is None:
            canvas.rectangle(self.x, self.y, self.width, self.height, kind="grid")
        else:
            canvas.picture(self.address, self.x, self.y, self.width, self.height)

    def place(self, box: Boxes) -> tuple[float, float, float, float]:
        """Return a box of the picture as x, y, width, height in the drawing."""
        scale = self.width / self.size[0]
        x1, y1, x2, y2 = (float(value) for value in box)
        return self.x + x1 * scale, self.y + y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale


def label_boxes(canvas: Canvas, ground: Ground, boxes: Boxes, labels: list[str], *, most: int = 14) -> None:
    """Draw boxes with their labels, none over another; boxes without room for a label are thin."""
    places = [ground.place(box) for box in boxes]
    spots: dict[int, tuple[float, float, float, float]] = {}
    for row, (x, y, _, height) in enumerate(places[:most]):
        wide = text_width(shortened(labels[row], _LABEL), 10) + 6
        left = min(max(x, ground.x), ground.x + ground.width - wide)
        free = (
            (left, top, wide, 13.0)
            for top in (y - 14, y + height + 1, y + 1)
            if ground.y <= top and top + 13 <= ground.y + ground.height
        )
        spot = next((one for one in free if not any(_overlap(one, other) for other in spots.values())), None)
        if spot is not None:
            spots[row] = spot
    for row in sorted(range(len(places)), key=lambda row: row in spots):
        x, y, width, height = places[row]
        if row in spots:
            canvas.rectangle(x, y, width, height, kind="edge", stroke_width=3.5, stroke_opacity=0.8)
        more = {"stroke_width": 2} if row in spots else {"stroke_width": 0.8, "stroke_opacity": 0.6}
        canvas.rectangle(x, y, width, height, kind=f"l{row % 5}", **more)
    for row, (left, top, wide, height) in spots.items():
        canvas.rectangle(left, top, wide, height, kind="paper", fill_opacity=0.88, rx=2)
        canvas.text(left + 3, top + 10, shortened(labels[row], _LABEL), size=10)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def shade(ground: Ground, boxes: Boxes, shares: list[float], *, most: int = 10) -> str:
    """Return marks that shade the regions with the largest shares, the most where most is; the first is outlined."""
    top = max(shares, default=0.0)
    order = sorted(range(len(shares)), key=lambda row: -shares[row])[:most]
    marks = []
    for rank, row in enumerate(order):
        x, y, width, height = (number(value) for value in ground.place(boxes[row]))
        place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        strength = shares[row] / top if top > 0 else 0.0
        if strength >= 0.05:
            marks.append(f'<rect class="f1" {place} fill-opacity="{number(0.6 * strength)}"/>')
        if not rank:
            marks.append(f'<rect class="edge" {place} stroke-width="4"/><rect class="l1" {place} stroke-width="2.5"/>')
    return "".join(marks)
