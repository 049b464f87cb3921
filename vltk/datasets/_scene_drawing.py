"""Pictures of drawn scenes: anti-aliased, at any size, from the same description."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from vltk.datasets._scene_geometry import RING_HOLE, Point, place
from vltk.datasets._scene_model import Dice, Scene, SceneObject
from vltk.errors import UsageError

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (222, 58, 52),
    "orange": (244, 140, 36),
    "yellow": (247, 208, 52),
    "green": (66, 168, 84),
    "blue": (52, 112, 214),
    "purple": (134, 76, 178),
    "pink": (242, 142, 184),
    "brown": (132, 86, 54),
}
_LIGHT: tuple[Colour, ...] = ((244, 240, 232), (236, 241, 245), (240, 244, 236), (245, 238, 240), (232, 232, 236))
_DARK: tuple[Colour, ...] = ((44, 50, 62), (38, 44, 52), (52, 46, 58), (36, 54, 58), (56, 54, 52))
_GRADIENTS: tuple[tuple[Colour, Colour], ...] = (
    ((204, 226, 242), (250, 238, 218)),
    ((222, 216, 240), (246, 232, 236)),
    ((208, 234, 224), (244, 246, 226)),
    ((92, 108, 138), (190, 196, 212)),
)
_NOISE: tuple[Colour, ...] = ((214, 206, 192), (200, 208, 206), (206, 204, 216), (112, 118, 124))

_OVERSAMPLING = 4
_STRIPE = 5.4  # period in pixels of a picture of 128: wide enough to show on the smallest object


def draw(drawn: Scene, *, size: int | None = None) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        drawn: the scene.
        size: side of the picture in pixels; the scene's own where not given. Only the scene's own size
            has the boxes that the scene states.

    Returns:
        [size, size, 3] RGB; the same for the same scene, whatever was drawn before.

    Raises:
        UsageError: a size of less than 16 pixels.

    Example:
        >>> from vltk.datasets.scenes import scene
        >>> draw(scene(1, 0)).shape
        (128, 128, 3)
    """
    if size is not None and size < 16:
        raise UsageError(f"cannot draw a picture of {size} pixels", where="scenes", remedy="give a size of at least 16")
    if size is not None and size != drawn.size:
        drawn = drawn.scaled(size)
    dice = Dice("look", drawn.seed, drawn.index)
    picture = _background(drawn, dice)
    for index, thing in enumerate(drawn.objects):
        _paint(picture, thing, drawn.size / 128, Dice("look", drawn.seed, drawn.index, index))
    return np.asarray(picture)


def mask(thing: SceneObject, size: int) -> NDArray[np.uint8]:
    """Return the coverage of one object in an otherwise empty picture: [size, size], 0 to 255."""
    alone = Image.new("L", (size, size))
    left, top, coverage = _coverage(thing)
    alone.paste(coverage, (left, top))
    return np.asarray(alone)


def contact_sheet(scenes: Sequence[Scene], *, columns: int = 6, size: int = 144, gap: int = 8) -> Image.Image:
    """Draw scenes side by side, at a scale for people.

    Args:
        scenes: what to show, row by row.
        columns: pictures in a row.
        size: side of each picture in pixels.
        gap: pixels between pictures.
    """
    rows = math.ceil(len(scenes) / columns)
    sheet = Image.new("RGB", (columns * (size + gap) + gap, rows * (size + gap) + gap), (255, 255, 255))
    for position, drawn in enumerate(scenes):
        row, column = divmod(position, columns)
        picture = Image.fromarray(draw(drawn, size=size))
        sheet.paste(picture, (gap + column * (size + gap), gap + row * (size + gap)))
    return sheet


def _jittered(colour: Colour, dice: Dice, spread: float) -> Colour:
    # The sum of two uniform draws: soft like a bell, but bounded, so that no colour turns into another.
    red, green, blue = (value + spread * (dice.unit() + dice.unit() - 1) for value in colour)
    return _byte(red), _byte(green), _byte(blue)


def _byte(value: float) -> int:
    return min(255, max(0, round(value)))


def _toward(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(colour, other, strict=True))
    return _byte(red), _byte(green), _byte(blue)


def _background(drawn: Scene, dice: Dice) -> Image.Image:
    side = (drawn.size, drawn.size)
    if drawn.background == "light":
        return Image.new("RGB", side, _jittered(dice.pick(_LIGHT), dice, 5))
    if drawn.background == "dark":
        return Image.new("RGB", side, _jittered(dice.pick(_DARK), dice, 6))
    if drawn.background == "gradient":
        first, last = dice.pick(_GRADIENTS)
        ramp = _ramp(drawn.size, dice.below(4))
        return Image.composite(
            Image.new("RGB", side, _jittered(last, dice, 6)), Image.new("RGB", side, _jittered(first, dice, 6)), ramp
        )
    return _paper(drawn.size, _jittered(dice.pick(_NOISE), dice, 6), dice.below(2**31))


@lru_cache(maxsize=32)
def _ramp(size: int, kind: int) -> Image.Image:
    """A soft ramp from 0 to 255: down, right, or along either diagonal."""
    down, right = np.mgrid[0:size, 0:size] / (size - 1)
    along = (down, right, (down + right) / 2, (down + 1 - right) / 2)[kind]
    return Image.fromarray(np.round(255 * (3 - 2 * along) * along**2).astype(np.uint8))


def _paper(size: int, colour: Colour, seed: int) -> Image.Image:
    """Soft blotches and a fine grain, the same pattern at every size."""
    # The legacy generator is the one whose stream NumPy has frozen.
    source = np.random.RandomState(seed)
    blotch = Image.fromarray(source.randint(0, 256, (10, 10)).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    grain = Image.fromarray(source.randint(0, 256, (96, 96)).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BILINEAR
    )
    pattern = Image.blend(blotch, grain, 0.4)
    return Image.composite(
        Image.new("RGB", (size, size), _toward(colour, (255, 255, 255), 0.38)),
        Image.new("RGB", (size, size), _toward(colour, (0, 0, 0), 0.2)),
        pattern,
    )


def _paint(picture: Image.Image, thing: SceneObject, unit: float, dice: Dice) -> None:
    left, top, coverage = _coverage(thing)
    _shade(picture, coverage, left, top, unit)
    surface = _surface(thing, coverage.size, (left, top), unit, dice)
    picture.paste(surface, (left, top), coverage)


def _shade(picture: Image.Image, coverage: Image.Image, left: int, top: int, unit: float) -> None:
    reach = math.ceil(4 * unit)
    width, height = coverage.size
    shadow = Image.new("L", (width + 2 * reach, height + 2 * reach))
    shadow.paste(coverage.point(_SHADOW), (reach, reach))
    shadow = shadow.filter(ImageFilter.BoxBlur(1.1 * unit)).filter(ImageFilter.BoxBlur(0.9 * unit))
    offset = round(1.2 * unit)
    picture.paste((18, 18, 32), (left - reach + offset, top - reach + offset), shadow)


_SHADOW = [round(0.36 * value) for value in range(256)]


def _oversampled(thing: SceneObject, left: int, top: int, factor: float = 1.0) -> list[Point]:
    # Pillow counts from pixel centres, boxes count from pixel corners.
    scaled = thing.corners
    if factor != 1.0:
        scaled = place([(x - thing.x, y - thing.y) for x, y in scaled], thing.x, thing.y, factor, 0.0)
    return [((x - left) * _OVERSAMPLING - 0.5, (y - top) * _OVERSAMPLING - 0.5) for x, y in scaled]


def _coverage(thing: SceneObject) -> tuple[int, int, Image.Image]:
    """Return the place of an object's crop and how much of each of its pixels the object covers."""
    x1, y1, x2, y2 = thing.box
    left, top = math.floor(x1), math.floor(y1)
    width, height = math.ceil(x2) - left, math.ceil(y2) - top
    fine = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    pen = ImageDraw.Draw(fine)
    pen.polygon(_oversampled(thing, left, top), fill=255)
    if thing.shape == "ring":
        pen.polygon(_oversampled(thing, left, top, RING_HOLE), fill=0)
    return left, top, fine.reduce(_OVERSAMPLING)


def _surface(
    thing: SceneObject, size: tuple[int, int], corner: tuple[int, int], unit: float, dice: Dice
) -> Image.Image:
    """Return the colours of an object's crop; they run on past the outline, so that its edge has no fringe."""
    colour = _jittered(PALETTE[thing.colour], dice, 14)
    fine = Image.new("RGB", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING), colour)
    pen = ImageDraw.Draw(fine)
    if thing.texture == "striped":
        _stripe(pen, fine.size, _toward(colour, (255, 255, 255), 0.55), thing.rotation, unit, dice)
    edge = _toward(colour, (20, 16, 40), 0.34)
    width = max(2, round(_OVERSAMPLING * unit * 1.9))
    outlines = [1.0, RING_HOLE] if thing.shape == "ring" else [1.0]
    for factor in outlines:
        path = _oversampled(thing, *corner, factor)
        pen.line([*path, path[0], path[1]], fill=edge, width=width, joint="curve")
    surface = fine.reduce(_OVERSAMPLING)
    surface.paste((255, 255, 255), (0, 0), _gloss(size))
    return surface


@lru_cache(maxsize=4096)
def _gloss(size: tuple[int, int]) -> Image.Image:
    """A faint light from the upper left."""
    ramp = ImageChops.invert(_ramp(64, 2)).point([round(0.2 * value) for value in range(256)])
    return ramp.resize(size, Image.Resampling.BILINEAR)


def _stripe(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], light: Colour, turn: float, unit: float, dice: Dice
) -> None:
    period = _STRIPE * unit * _OVERSAMPLING
    angle = turn + dice.pick((math.pi / 4, -math.pi / 4))
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    middle_x, middle_y = size[0] / 2, size[1] / 2
    reach = math.hypot(*size) / 2
    offset = -reach + period * dice.unit()
    while offset < reach:
        x, y = middle_x + across[0] * offset, middle_y + across[1] * offset
        start, end = (x - along[0] * reach, y - along[1] * reach), (x + along[0] * reach, y + along[1] * reach)
        pen.line([start, end], fill=light, width=round(period / 2))
        offset += period
