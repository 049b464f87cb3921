"""How scenes are sampled: looks first, then planted pairs, then places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from vltk.datasets._scene_geometry import SHAPES, Box, clearance, fall
from vltk.datasets._scene_model import (
    BACKGROUNDS,
    COLOURS,
    CONTAINERS,
    TEXTURES,
    Dice,
    Scene,
    SceneConfig,
    SceneObject,
)

# Lengths below are for a picture of 128 pixels and grow with it.
_SIDE = 128.0
_RADII = {"small": (8.0, 11.0), "large": (16.0, 22.0)}
_CONTAINER_RADII, _INNER_RADII = (20.0, 24.0), (9.0, 11.0)
_BORDER, _GAP, _TURN = 2.0, 4.0, 0.2


def scene(seed: int, index: int, config: SceneConfig | None = None) -> Scene:
    """Return one scene: a pure function of the seed, the index and the configuration.

    Example:
        >>> scene(1, 5) == scene(1, 5)
        True
    """
    config = config or SceneConfig()
    dice = Dice("scene", seed, index)
    count = config.min_objects + dice.below(config.max_objects - config.min_objects + 1)
    background = dice.pick(BACKGROUNDS)
    looks = [_Look(dice) for _ in range(count)]
    groups = _plant(dice, looks, config)
    objects = _arrange(dice, groups)
    drawn = Scene(seed=seed, index=index, size=int(_SIDE), background=background, objects=tuple(objects))
    return drawn if config.size == _SIDE else drawn.scaled(config.size)


def stream(seed: int, config: SceneConfig | None = None, *, start: int = 0, step: int = 1) -> Iterator[Scene]:
    """Yield scenes without end; ``start`` and ``step`` share one stream among processes.

    Example:
        >>> next(stream(3, start=7)) == scene(3, 7)
        True
    """
    for index in itertools.count(start, step):
        yield scene(seed, index, config)


def resized(thing: SceneObject, size: str, side: int, dice: Dice) -> SceneObject:
    """Return an object as "small" or "large", in a picture of the given side."""
    low, high = _RADII[size]
    return replace(thing, size=size, radius=dice.between(low, high) * side / _SIDE)


class _Look:
    """What an object will look like, before it has a place."""

    __slots__ = ("colour", "shape", "texture")

    def __init__(self, dice: Dice) -> None:
        self.shape, self.colour, self.texture = dice.pick(SHAPES), dice.pick(COLOURS), dice.pick(TEXTURES)

    def differ(self, dice: Dice, other: _Look) -> None:
        """Take another colour than a touching object, so that the outline shows."""
        if self.colour == other.colour:
            self.colour = dice.pick([colour for colour in COLOURS if colour != other.colour])

    def made(self, dice: Dice, size: str, radii: tuple[float, float] | None = None, turn: float = _TURN) -> SceneObject:
        radius, rotation = dice.between(*(radii or _RADII[size])), dice.between(-turn, turn)
        return SceneObject(
            shape=self.shape,
            colour=self.colour,
            texture=self.texture,
            size=size,
            x=0.0,
            y=0.0,
            radius=radius,
            rotation=rotation,
        )


_Group = tuple[str, list[_Look]]


def _plant(dice: Dice, looks: list[_Look], config: SceneConfig) -> list[_Group]:
    """Divide the objects into singles, nested pairs and stacked pairs."""
    free, groups = list(looks), []
    for kind in dice.shuffled(("inside", "on")):
        wanted = dice.chance(config.inside if kind == "inside" else config.on)
        bases = [look for look in free if kind == "on" or look.shape in CONTAINERS]
        if wanted and bases and len(free) > 1:
            base = dice.pick(bases)
            free.remove(base)
            top = dice.pick(free)
            free.remove(top)
            top.differ(dice, base)
            if kind == "inside":
                # Stripes behind a small object hide its outline.
                base.texture = "solid"
            groups.append((kind, [base, top]))
    return groups + [("single", [look]) for look in free]


def _arrange(dice: Dice, groups: list[_Group]) -> list[SceneObject]:
    """Give every group sizes and a place; crowded scenes are tried again, with ever fewer large objects."""
    large = 0.5
    while True:
        built = [_build(dice, kind, looks, large) for kind, looks in groups]
        built.sort(key=lambda group: -_area(_hull(group)))
        placed: list[list[SceneObject]] = []
        boxes: list[Box] = []
        for group in built:
            if (moved := _place(dice, group, boxes)) is None:
                break
            placed.append(moved)
            boxes.append(_hull(moved))
        else:
            return _mixed(dice, placed)
        large *= 0.93


def _mixed(dice: Dice, placed: list[list[SceneObject]]) -> list[SceneObject]:
    """Return the objects in an order that tells nothing about their places, but for containers that come first."""
    return [member for group in dice.shuffled(placed) for member in group]


def _build(dice: Dice, kind: str, looks: list[_Look], large: float) -> list[SceneObject]:
    if kind == "inside":
        outer = looks[0].made(dice, "large", _CONTAINER_RADII)
        while True:
            inner = looks[1].made(dice, "small", _INNER_RADII)
            inner = inner.moved(dice.between(-2.5, 2.5), dice.between(-2.5, 2.5))
            if clearance(inner.corners, outer.corners) >= 0.0125 * _SIDE:
                return [outer, inner]
    sizes = ["large" if dice.chance(large) else "small" for _ in looks]
    if kind == "single":
        return [looks[0].made(dice, sizes[0])]
    sizes.sort()
    lower, upper = (look.made(dice, size, turn=0.06) for look, size in zip(looks, sizes, strict=True))
    x1, _, x2, _ = lower.box
    upper = upper.moved(lower.centre[0] - upper.centre[0] + 0.1 * (x2 - x1) * dice.between(-1, 1), -4 * _SIDE)
    return [lower, upper.moved(0, fall(upper.corners, lower.corners) + 0.25)]


def _hull(group: list[SceneObject]) -> Box:
    x1, y1, x2, y2 = zip(*(member.box for member in group), strict=True)
    return min(x1), min(y1), max(x2), max(y2)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _place(dice: Dice, group: list[SceneObject], taken: list[Box]) -> list[SceneObject] | None:
    x1, y1, x2, y2 = _hull(group)
    if max(x2 - x1, y2 - y1) > _SIDE - 2 * _BORDER:
        return None
    for _ in range(40):
        right = dice.between(_BORDER - x1, _SIDE - _BORDER - x2)
        down = dice.between(_BORDER - y1, _SIDE - _BORDER - y2)
        left, top, far, bottom = x1 + right - _GAP, y1 + down - _GAP, x2 + right + _GAP, y2 + down + _GAP
        if not any(left < b[2] and b[0] < far and top < b[3] and b[1] < bottom for b in taken):
            return [member.moved(right, down) for member in group]
    return None
