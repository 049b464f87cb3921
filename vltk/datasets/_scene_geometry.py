"""Outlines of the drawn shapes, their exact boxes, and the contacts between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

Point = tuple[float, float]
Box = tuple[float, float, float, float]

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
RING_HOLE = 0.52
_CIRCLE_POINTS = 48


def _circle(radius: float) -> tuple[Point, ...]:
    angles = (2 * math.pi * k / _CIRCLE_POINTS for k in range(_CIRCLE_POINTS))
    return tuple((radius * math.cos(angle), radius * math.sin(angle)) for angle in angles)


def _star(outer: float, inner: float) -> tuple[Point, ...]:
    corners = ((outer if k % 2 == 0 else inner, math.pi * k / 5 - math.pi / 2) for k in range(10))
    return tuple((reach * math.cos(angle), reach * math.sin(angle)) for reach, angle in corners)


def _cross(half: float, arm: float) -> tuple[Point, ...]:
    quarter = [(-arm, -half), (arm, -half), (arm, -arm)]
    turned: list[Point] = []
    for _ in range(4):
        turned += quarter
        quarter = [(-y, x) for x, y in quarter]
    return tuple(turned)


def _heart(width: float) -> tuple[Point, ...]:
    points = []
    for k in range(_CIRCLE_POINTS):
        angle = 2 * math.pi * k / _CIRCLE_POINTS
        x = 16 * math.sin(angle) ** 3
        y = -(13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle))
        points.append((x * width / 32, (y - 2.5) * width / 32))
    return tuple(points)


@cache
def outline(shape: str) -> tuple[Point, ...]:
    """Return the corners of a shape of radius 1 around the origin, y pointing down.

    The shapes are scaled to look equally big, not to have equal boxes.

    Example:
        >>> len(outline("triangle"))
        3
    """
    third = 2 * math.pi / 3
    made: dict[str, tuple[Point, ...]] = {
        "circle": _circle(1.0),
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": tuple(
            (1.18 * math.cos(third * k - math.pi / 2), 1.18 * math.sin(third * k - math.pi / 2) + 0.2) for k in range(3)
        ),
        "diamond": ((0.0, -1.22), (0.98, 0.0), (0.0, 1.22), (-0.98, 0.0)),
        "star": _star(1.25, 0.56),
        "cross": _cross(1.06, 0.38),
        "ring": _circle(1.06),
        "heart": _heart(2.16),
    }
    return made[shape]


@cache
def _extreme(shape: str) -> tuple[Point, ...]:
    """Return the corners on the convex hull: the only ones that can touch the box."""
    hull: list[Point] = []
    for direction in (1, -1):
        chain: list[Point] = []
        for point in sorted(set(outline(shape)))[::direction]:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 1e-12:
                chain.pop()
            chain.append(point)
        hull += chain[:-1]
    return tuple(hull)


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def place(points: Sequence[Point], x: float, y: float, radius: float, rotation: float) -> list[Point]:
    """Return unit corners turned (radians, clockwise on the picture), scaled and moved to (x, y)."""
    cosine, sine = radius * math.cos(rotation), radius * math.sin(rotation)
    return [(x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in points]


def corners(shape: str, x: float, y: float, radius: float, rotation: float) -> list[Point]:
    """Return the outline of a placed shape in pixels."""
    return place(outline(shape), x, y, radius, rotation)


def box_of(shape: str, x: float, y: float, radius: float, rotation: float) -> Box:
    """Return the exact box of a placed shape: x1, y1, x2, y2.

    Example:
        >>> box_of("circle", 10.0, 20.0, 5.0, 0.1)
        (5.0, 15.0, 15.0, 25.0)
    """
    if shape in ("circle", "ring"):
        reach = radius * outline(shape)[0][0]
        return x - reach, y - reach, x + reach, y + reach
    points = place(_extreme(shape), x, y, radius, rotation)
    columns, rows = [point[0] for point in points], [point[1] for point in points]
    return min(columns), min(rows), max(columns), max(rows)


def fall(upper: Sequence[Point], lower: Sequence[Point]) -> float:
    """Return how far ``upper`` can fall before it touches ``lower``; negative where they overlap, inf where it misses.

    Exact for polygons: a first contact is between a corner of one and an edge of the other.
    """
    left = max(min(upper)[0], min(lower)[0])
    right = min(max(upper)[0], max(lower)[0])
    landings = [min(_crossings(lower, x)) - y for x, y in upper if left <= x <= right]
    landings += [y - max(_crossings(upper, x)) for x, y in lower if left <= x <= right]
    return min(landings, default=math.inf)


def clearance(inner: Sequence[Point], outer: Sequence[Point]) -> float:
    """Return the least distance of the corners of ``inner`` to the edges of a convex ``outer``; negative outside."""
    least = math.inf
    x1, y1 = outer[-1]
    for x2, y2 in outer:
        along, down = x2 - x1, y2 - y1
        length = math.hypot(along, down)
        least = min(least, min((along * (y - y1) - down * (x - x1)) / length for x, y in inner))
        x1, y1 = x2, y2
    return least


def _crossings(polygon: Sequence[Point], x: float) -> list[float]:
    heights = []
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (x1 <= x <= x2 or x2 <= x <= x1) and x1 != x2:
            heights.append(y1 + (y2 - y1) * (x - x1) / (x2 - x1))
        x1, y1 = x2, y2
    return heights
