"""What a drawn scene is: objects with exact boxes, and relations between them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from vltk.datasets._scene_geometry import SHAPES, Box, Point, box_of, clearance, corners, fall
from vltk.errors import UsageError, did_you_mean

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("solid", "striped")
SIZES = ("small", "large")
BACKGROUNDS = ("light", "dark", "gradient", "noise")
RELATIONS = ("left of", "right of", "above", "below", "on", "inside", "bigger than", "smaller than")
CONVERSES = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "bigger than": "smaller than",
    "smaller than": "bigger than",
}
ATTRIBUTES = {"size": SIZES, "texture": TEXTURES, "colour": COLOURS, "shape": SHAPES}
CONTAINERS = ("circle", "square", "diamond")

T = TypeVar("T")


class Dice:
    """Random choices that are the same on every machine and Python version.

    Only ``random.Random.random`` is used: its sequence is the one thing that Python promises to keep.

    Example:
        >>> Dice(1, "x").below(1000) == Dice(1, "x").below(1000)
        True
    """

    def __init__(self, *key: object) -> None:
        self.unit = random.Random("/".join(map(str, key))).random

    def below(self, count: int) -> int:
        """Return an integer of 0 .. count - 1."""
        return int(self.unit() * count)

    def between(self, low: float, high: float) -> float:
        """Return a float of [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self.unit() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.below(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Which scenes are drawn.

    Raises:
        UsageError: a value that no scene can have.
    """

    size: int = 128
    """Side of the square picture in pixels."""
    min_objects: int = 2
    """Fewest objects of a scene."""
    max_objects: int = 6
    """Most objects of a scene."""
    inside: float = 0.45
    """Probability of planting one object inside another, where the shapes allow it."""
    on: float = 0.45
    """Probability of planting one object on top of another."""

    def __post_init__(self) -> None:
        for name, low, high in (("size", 32, 4096), ("min_objects", 1, 6), ("max_objects", self.min_objects, 6)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(f"{value!r} is not a whole number of {low} to {high}", where=f"scenes: {name}")
        for name in ("inside", "on"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UsageError(f"{value!r} is not a probability of 0 to 1", where=f"scenes: {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One shape of a scene; lengths are pixels of the scene's picture, y points down.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS.
        texture: one of TEXTURES.
        size: one of SIZES.
        x: centre of the shape, not of its box.
        y: the same, downwards.
        radius: scale of the shape; the larger of two radii looks bigger, whatever the shapes.
        rotation: radians, clockwise.
        box: exact extent x1, y1, x2, y2, hidden parts included.
        centre: centre of the box.
    """

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    rotation: float
    box: Box = field(init=False, compare=False)
    centre: Point = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = box = box_of(self.shape, self.x, self.y, self.radius, self.rotation)
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "centre", ((x1 + x2) / 2, (y1 + y2) / 2))

    @property
    def corners(self) -> list[Point]:
        """The outline; a circle is a polygon of many corners."""
        return corners(self.shape, self.x, self.y, self.radius, self.rotation)

    def attribute(self, name: str) -> str:
        """Return the value of "size", "texture", "colour" or "shape"."""
        value: str = getattr(self, name)
        return value

    def but(self, name: str, value: str) -> SceneObject:
        """Return the object with another texture, colour or shape; :func:`resized` changes its size."""
        change: dict[str, Any] = {name: value}
        return replace(self, **change)

    def moved(self, right: float, down: float) -> SceneObject:
        """Return the object at another place."""
        return replace(self, x=self.x + right, y=self.y + down)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scene: a background and two to six objects, drawn in their order (later ones cover earlier ones).

    Attributes:
        seed: the seed of the world.
        index: the place of the scene in the world's stream.
        size: side of the square picture in pixels.
        background: one of BACKGROUNDS.
        objects: the objects, containers before what is inside them.
    """

    seed: int
    index: int
    size: int
    background: str
    objects: tuple[SceneObject, ...]

    def scaled(self, size: int) -> Scene:
        """Return the same scene for a picture of another size."""
        factor = size / self.size
        grown = (replace(o, x=o.x * factor, y=o.y * factor, radius=o.radius * factor) for o in self.objects)
        return replace(self, size=size, objects=tuple(grown))

    def relation(self, name: str, first: int, second: int) -> bool | None:
        """Say whether object ``first`` stands in a relation to object ``second``.

        Returns:
            True where a person would agree, False where a person would deny it, None in the
            margin between the two.

        Raises:
            UsageError: the relation is not one of RELATIONS.

        Example:
            >>> from vltk.datasets.scenes import scene
            >>> drawn = scene(1, 0)
            >>> drawn.relation("left of", 0, 1) == drawn.relation("right of", 1, 0)
            True
        """
        if name not in RELATIONS:
            raise UsageError(f"no relation {name!r}", where="scenes", remedy=did_you_mean(name, RELATIONS))
        if first == second:
            return False
        return judge_relation(name, self.objects[first], self.objects[second], self.size)

    @cached_property
    def related(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """For each relation the ordered pairs of objects that it is True of."""
        pairs = list(itertools.permutations(range(len(self.objects)), 2))
        objects, size = self.objects, self.size
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for name in RELATIONS:
            if name in ("right of", "below", "smaller than"):
                found[name] = tuple(sorted((b, a) for a, b in found[CONVERSES[name]]))
            else:
                found[name] = tuple((a, b) for a, b in pairs if judge_relation(name, objects[a], objects[b], size))
        return found


def judge_relation(name: str, a: SceneObject, b: SceneObject, size: int) -> bool | None:
    """Say whether ``a`` stands in a relation to ``b`` in a picture of the given side; see :meth:`Scene.relation`.

    * left of, right of, above, below: each centre lies clear of the other's extent on that axis by
      2 % of the side; denied where the centres differ by less than 2 % or the other way.
    * on: ``a`` touches ``b`` from above (could fall by at most 1 % of the side) with its centre over ``b``;
      denied where it could fall by 2.5 % or its centre is not over ``b``.
    * inside: the outline of ``a`` lies within ``b`` by 1 % of the side; denied where the boxes are not nested.
    * bigger than, smaller than: a radius 1.3 times the other; denied where it is not larger at all.
    """
    unit = size / 100
    if name in ("right of", "below", "smaller than"):
        name, a, b = CONVERSES[name], b, a
    if name == "left of":
        return _beyond(b.centre[0] - a.centre[0], max(a.box[2] - a.box[0], b.box[2] - b.box[0]), unit)
    if name == "above":
        return _beyond(b.centre[1] - a.centre[1], max(a.box[3] - a.box[1], b.box[3] - b.box[1]), unit)
    if name == "bigger than":
        return True if a.radius >= 1.3 * b.radius else False if a.radius <= b.radius else None
    return _on(a, b, unit) if name == "on" else _inside(a, b, unit)


def _beyond(distance: float, extent: float, unit: float) -> bool | None:
    if distance >= extent / 2 + 2 * unit:
        return True
    return False if distance < 2 * unit else None


def _on(a: SceneObject, b: SceneObject, unit: float) -> bool | None:
    # The boxes rule out nearly every pair, and cost far less than the outlines.
    if a.box[3] < b.box[1] - 3 * unit or a.box[1] >= b.box[1] or not b.box[0] <= a.centre[0] <= b.box[2]:
        return False
    drop = fall(a.corners, b.corners)
    if drop >= 2.5 * unit or drop <= -2.5 * unit:
        return False
    return True if abs(drop) <= unit else None


def _inside(a: SceneObject, b: SceneObject, unit: float) -> bool | None:
    nested = b.box[0] <= a.box[0] and b.box[1] <= a.box[1] and a.box[2] <= b.box[2] and a.box[3] <= b.box[3]
    if not nested:
        return False
    return True if b.shape in CONTAINERS and clearance(a.corners, b.corners) >= unit else None
