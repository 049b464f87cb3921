"""Draws regions on their picture, so that a person can see what a detector found."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vltk.detection.images import ImageFile, decode
from vltk.detection.loading import Loading
from vltk.stores.features import FeatureStore
from vltk.types import RegionFeatures

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStyle:
    """How much is drawn.

    Attributes:
        boxes: the most boxes; those of the highest score.
        labels: the most labels.
        side: the longer side of the drawing in pixels at least, so that labels on small pictures can be read.
        attribute_score: attributes below it are not named.
    """

    boxes: int = 36
    labels: int = 16
    side: int = 1000
    attribute_score: float = 0.1


def draw_regions(
    pixels: NDArray[np.uint8],
    regions: RegionFeatures,
    *,
    labels: Sequence[str] = (),
    attribute_labels: Sequence[str] = (),
    style: PreviewStyle | None = None,
) -> Image.Image:
    """Draw boxes with class, attribute and score on a picture.

    A class has the same colour in every picture. The best regions get a label each, which covers no other label;
    regions without room for one keep a thin box.

    Args:
        pixels: [H, W, 3] RGB bytes of the unresized picture.
        regions: what is drawn; without boxes the picture comes back as it is.
        labels: class names in the order of the class ids; without them the ids are shown.
        attribute_labels: attribute names in the order of their ids.
        style: how much is drawn.
    """
    style = style or PreviewStyle()
    picture = Image.fromarray(pixels)
    factor = max(style.side / max(picture.size), 1.0)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)
    if regions.boxes is None:
        return picture
    layer = Image.new("RGBA", picture.size)
    canvas = _Canvas(layer, base=max(picture.size))
    rows = _best(regions, style.boxes)
    texts = [_text(regions, row, labels, attribute_labels, style.attribute_score) for row in rows]
    colours = [_colour(row if regions.class_ids is None else int(regions.class_ids[row])) for row in rows]
    boxes = [tuple(float(value) for value in regions.boxes[row] * factor) for row in rows]
    places = canvas.places(boxes, texts[: style.labels])
    # The best come last, on top of the others.
    for index in reversed(range(len(rows))):
        canvas.box(boxes[index], colours[index], strong=index < len(places) and places[index] is not None)
    for place, text, colour in zip(places, texts, colours, strict=False):
        if place is not None:
            canvas.label(place, text, colour)
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def write_previews(
    store: FeatureStore,
    files: Iterable[ImageFile],
    folder: Path,
    *,
    loading: Loading,
    style: PreviewStyle | None = None,
) -> list[Path]:
    """Draw what a store holds of some pictures, and return the files written.

    Names of classes and attributes are those that the store's metadata carries as ``labels`` and
    ``attribute_labels``. Pictures that the store does not hold are passed over.
    """
    names = store.metadata.extra
    written = []
    for file in files:
        if file.image_id not in store:
            continue
        pixels = decode(file.path, max_pixels=loading.max_pixels, transparency=loading.transparency)
        drawing = draw_regions(
            pixels,
            store.get(file.image_id),
            labels=names.get("labels", ()),
            attribute_labels=names.get("attribute_labels", ()),
            style=style,
        )
        path = folder / f"{file.image_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.save(path, quality=90)
        written.append(path)
    return written


def _best(regions: RegionFeatures, count: int) -> list[int]:
    if regions.scores is None:
        return list(range(min(len(regions), count)))
    order: list[int] = np.argsort(-regions.scores, kind="stable").tolist()
    return order[:count]


def _text(
    regions: RegionFeatures, row: int, labels: Sequence[str], attributes: Sequence[str], attribute_score: float
) -> str:
    parts = []
    if regions.attribute_ids is not None and attributes:
        sure = regions.attribute_scores is None or regions.attribute_scores[row] >= attribute_score
        parts += [_name(attributes, int(regions.attribute_ids[row]), "attribute")] if sure else []
    if regions.class_ids is not None:
        parts.append(_name(labels, int(regions.class_ids[row]), "class"))
    if regions.scores is not None:
        parts.append(f"{regions.scores[row]:.2f}")
    elif regions.region_ids is not None:
        parts.append(regions.region_ids[row])
    return " ".join(parts)


def _name(names: Sequence[str], number: int, kind: str) -> str:
    # Vocabularies of Visual Genome list synonyms with commas; the first one is the name.
    return names[number].split(",")[0] if number < len(names) else f"{kind} {number}"


def _colour(number: int) -> Colour:
    """Return a clear colour; numbers that follow each other lie far apart on the circle of hues."""
    hue = (number * 0.618034 + 0.07) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, 0.56 if number % 2 else 0.48, 0.72)
    return round(255 * red), round(255 * green), round(255 * blue)


class _Canvas:
    """A transparent layer with room for labels that do not cover each other."""

    def __init__(self, layer: Image.Image, *, base: int) -> None:
        self.draw = ImageDraw.Draw(layer)
        self.size = layer.size
        self.line = max(base // 330, 2)
        self.padding = max(base // 250, 3)
        self.font = ImageFont.load_default(size=max(base // 55, 12))
        # Labels of one height: letters with and without descenders on one line look alike.
        self.height = self.draw.textbbox((0, 0), "Agp", font=self.font)[3] + self.padding

    def places(self, boxes: Sequence[tuple[float, ...]], texts: Sequence[str]) -> list[Rectangle | None]:
        """Return where each label goes, or None where every place would cover a label that is more important."""
        taken: list[Rectangle] = []
        found: list[Rectangle | None] = []
        for box, text in zip(boxes, texts, strict=False):
            free = next((one for one in self._candidates(box, text) if not _overlaps(one, taken)), None)
            found.append(free)
            taken += [free] if free else []
        return found

    def _candidates(self, box: tuple[float, ...], text: str) -> list[Rectangle]:
        width, height = self.draw.textlength(text, font=self.font) + 2 * self.padding, self.height
        x1, y1, x2, y2 = box
        corners = [
            (x1, y1 - height),
            (x1, y1),
            (x2 - width, y1 - height),
            (x1, y2),
            (x2 - width, y2 - height),
            (x1, y2 - height),
        ]
        limit_x, limit_y = self.size[0] - width, self.size[1] - height
        inside = [(min(max(x, 0.0), limit_x), min(max(y, 0.0), limit_y)) for x, y in corners]
        return [(x, y, x + width, y + height) for x, y in inside]

    def box(self, box: tuple[float, ...], colour: Colour, *, strong: bool) -> None:
        """Draw the outline of a region: a light one inside a dark one, to be seen on any ground."""
        x1, y1, x2, y2 = (round(value) for value in box)
        width = self.line if strong else max(self.line // 2, 1)
        if strong:
            self.draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0, 110), width=width + 2)
        self.draw.rectangle((x1, y1, x2, y2), outline=(*colour, 255 if strong else 150), width=width)

    def label(self, place: Rectangle, text: str, colour: Colour) -> None:
        """Write a label on a ground of the region's colour."""
        self.draw.rounded_rectangle(place, radius=self.padding, fill=(*colour, 235))
        luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        ink = (0, 0, 0, 255) if luminance > 140 else (255, 255, 255, 255)
        self.draw.text((place[0] + self.padding, place[1] + self.padding // 2), text, font=self.font, fill=ink)


def _overlaps(one: Rectangle, others: Sequence[Rectangle]) -> bool:
    return any(one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3] for other in others)
