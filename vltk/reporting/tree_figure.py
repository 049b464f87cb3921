"""Trees drawn by hand as SVG: over the words of a sentence, and over the regions of a picture."""

from __future__ import annotations

import hashlib
import html
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from vltk.errors import DataError

GOLD, PREDICTED = "#111", "#d11"
_FONT = 14
_GAP, _MARGIN = 12, 10
_LEVEL, _LIFT = 15, 9
_SIDE = 280
_CROP, _ROW, _COLUMN = 44, 76, 66
_NAME = 12
"""Letters of a line of a region's name."""

Edge = Sequence[int]
"""Two places, counted from 0."""


def sentence_trees(words: Sequence[str], gold: Sequence[Edge], predicted: Sequence[Edge] = ()) -> str:
    """Draw a sentence with its gold tree above in black and a predicted one below in red (SSRP, figure 5).

    A predicted edge that the gold tree lacks is dashed.

    Args:
        words: of the sentence.
        gold: edges of the gold tree, each two places in ``words``; empty where there is none.
        predicted: edges of the predicted tree.

    Returns:
        An SVG element that stands by itself in a page.

    Raises:
        DataError: an edge of a word that is not there.

    Example:
        >>> drawn = sentence_trees(["a", "<dog>", "runs"], [(0, 1), (1, 2)], [(0, 2), (1, 2)])
        >>> drawn.count("<path"), drawn.count("dasharray"), "&lt;dog&gt;" in drawn
        (4, 1, True)
    """
    _check_edges([*gold, *predicted], len(words), "words")
    centres, width = _placed(words)
    above, below = _levels(gold), _levels(predicted)
    top = _MARGIN + _LIFT + _LEVEL * max(above, default=0)
    base = top + _FONT
    height = base + _LIFT + _LEVEL * max(below, default=0) + _MARGIN
    known = {frozenset(edge) for edge in gold}
    parts = [_arc(centres, edge, top - 3, -level, GOLD) for edge, level in zip(gold, above, strict=True)]
    parts += [
        _arc(centres, edge, base + 5, level, PREDICTED, dashed=bool(gold) and frozenset(edge) not in known)
        for edge, level in zip(predicted, below, strict=True)
    ]
    parts += [
        f'<text x="{x:.1f}" y="{base - 2}" text-anchor="middle">{html.escape(word)}</text>'
        for x, word in zip(centres, words, strict=True)
    ]
    return (
        f'<svg class="sentence-trees" role="img" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" '
        f'font-family="sans-serif" font-size="{_FONT}" fill="#222"><title>{html.escape(" ".join(words))}</title>'
        f"{''.join(parts)}</svg>"
    )


def _check_edges(edges: Sequence[Edge], count: int, what: str) -> None:
    for edge in edges:
        if len(edge) != 2 or not all(0 <= place < count for place in edge):
            problem = f"has the edge {tuple(edge)} over {count} {what}"
            raise DataError(problem, where="tree figure", remedy="an edge joins two places, counted from 0")


def _placed(words: Sequence[str]) -> tuple[list[float], float]:
    """Return the middle of each word and the width of all; nobody measures text without a browser."""
    centres, cursor = [], float(_MARGIN)
    for word in words:
        size = sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.6 for letter in word) * _FONT
        centres.append(cursor + size / 2)
        cursor += size + _GAP
    return centres, max(cursor - _GAP, _MARGIN) + _MARGIN


def _levels(edges: Sequence[Edge]) -> list[int]:
    """Return how high each arc rises: above all that it spans, and beside none that it crosses at its height."""
    spans = [(min(edge), max(edge)) for edge in edges]
    levels = [0] * len(edges)
    for place in sorted(range(len(spans)), key=lambda place: spans[place][1] - spans[place][0]):
        start, end = spans[place]
        under = [levels[other] for other, (a, b) in enumerate(spans) if levels[other] and max(a, start) < min(b, end)]
        levels[place] = 1 + max(under, default=0)
    return levels


def _arc(centres: Sequence[float], edge: Edge, line: float, level: int, colour: str, *, dashed: bool = False) -> str:
    first, last = centres[min(edge)] + 3, centres[max(edge)] - 3
    far = line + level * _LEVEL + (_LIFT if level > 0 else -_LIFT)
    bend = min(14.0, max(0.0, (last - first) / 2))
    path = (
        f"M{first:.1f} {line:.1f}C{first:.1f} {far:.1f} {first:.1f} {far:.1f} {first + bend:.1f} {far:.1f}"
        f"L{last - bend:.1f} {far:.1f}C{last:.1f} {far:.1f} {last:.1f} {far:.1f} {last:.1f} {line:.1f}"
    )
    style = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{style}/>'


# -- pictures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Canvas:
    """A picture as it is used several times in one drawing: whole, and for each region."""

    size: tuple[int, int]
    address: str | None
    name: str

    def definition(self) -> str:
        width, height = self.size
        inner = f'<rect width="{width}" height="{height}" fill="#ccd"/>'
        if self.address is not None:
            address = html.escape(self.address)
            inner = f'<image href="{address}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        return f'<defs><g id="{self.name}">{inner}</g></defs>'

    def part(self, box: Sequence[float], place: tuple[float, float], size: tuple[float, float]) -> str:
        """Show what lies inside a box of the picture, in a rectangle of the drawing."""
        x1, y1, x2, y2 = box
        view = f"{x1:.1f} {y1:.1f} {max(x2 - x1, 1):.1f} {max(y2 - y1, 1):.1f}"
        where = f'x="{place[0]:.1f}" y="{place[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
        shown = f'aria-hidden="true" viewBox="{view}" preserveAspectRatio="xMidYMid slice"'
        return f'<svg {where} {shown}><use href="#{self.name}"/></svg>'


def picture_tree(
    boxes: Sequence[Sequence[float]],
    edges: Sequence[Edge],
    *,
    size: tuple[int, int],
    picture: str | None = None,
    labels: Sequence[str] = (),
) -> str:
    """Draw the spanning tree of a picture's regions: over the picture, and beside it with a thumbnail of each region.

    Args:
        boxes: [R, 4] pixels x1, y1, x2, y2.
        edges: R - 1 pairs of regions, counted from 0.
        size: (width, height) of the picture that the boxes are of.
        picture: the picture as a data address (:func:`~vltk.reporting.plain_page.thumbnail`), of any resolution;
            None draws a plain ground.
        labels: what each region is called; their numbers where not given.

    Raises:
        DataError: edges that are no tree over the regions, or another number of labels than of regions.

    Example:
        >>> drawn = picture_tree([(0, 0, 9, 9), (5, 5, 20, 20)], [(0, 1)], size=(40, 20), labels=["dog", "ball"])
        >>> drawn.count("<use"), drawn.count("<line"), "ball" in drawn
        (3, 2, True)
    """
    names = list(labels) or [str(number) for number in range(len(boxes))]
    if len(names) != len(boxes):
        problem = f"{len(names)} labels for {len(boxes)} regions"
        raise DataError(problem, where="tree figure", remedy="give one each, or none")
    _check_edges(edges, len(boxes), "regions")
    rows = _layers(len(boxes), edges)
    told = repr((tuple(map(tuple, boxes)), tuple(map(tuple, edges)), size, picture))
    canvas = _Canvas(size=size, address=picture, name=f"picture-{hashlib.sha256(told.encode()).hexdigest()[:12]}")
    scale = _SIDE / max(size)
    shown = (size[0] * scale, size[1] * scale)
    left = shown[0] + 2 * _MARGIN
    tree_width = _COLUMN * max((len(row) for row in rows), default=1)
    width = left + tree_width + _MARGIN
    height = max(shown[1], _ROW * len(rows)) + 2 * _MARGIN
    parts = [canvas.definition(), canvas.part((0, 0, *size), (_MARGIN, _MARGIN), shown)]
    parts += _over_picture(boxes, edges, scale)
    parts += _as_tree(canvas, boxes, edges, names, rows, left, tree_width)
    return (
        f'<svg class="picture-tree" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="10" fill="#222">'
        f"{''.join(parts)}</svg>"
    )


def _over_picture(boxes: Sequence[Sequence[float]], edges: Sequence[Edge], scale: float) -> list[str]:
    placed = [[_MARGIN + value * scale for value in box] for box in boxes]
    centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in placed]
    parts = [
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" fill="none" stroke="#fff" '
        'stroke-opacity=".7"/>'
        for x1, y1, x2, y2 in placed
    ]
    parts += [_line(centres[first], centres[last]) for first, last in edges]
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{PREDICTED}"/>' for x, y in centres]


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{PREDICTED}" '
        'stroke-width="1.8"/>'
    )


def _as_tree(
    canvas: _Canvas,
    boxes: Sequence[Sequence[float]],
    edges: Sequence[Edge],
    names: Sequence[str],
    rows: Sequence[Sequence[int]],
    left: float,
    width: float,
) -> list[str]:
    corners = {
        region: (left + width * (place + 0.5) / len(row) - _CROP / 2, _MARGIN + number * _ROW)
        for number, row in enumerate(rows)
        for place, region in enumerate(row)
    }
    middles = {region: (x + _CROP / 2, y + _CROP / 2) for region, (x, y) in corners.items()}
    parts = [_line(middles[first], middles[last]) for first, last in edges]
    for region, (x, y) in corners.items():
        thumbnail = canvas.part(boxes[region], (x, y), (_CROP, _CROP))
        frame = f'<rect x="{x:.1f}" y="{y:.1f}" width="{_CROP}" height="{_CROP}" fill="none" stroke="#888"/>'
        under = f'x="{x + _CROP / 2:.1f}" y="{y + _CROP + 10:.1f}" text-anchor="middle"'
        # A white rim keeps names apart from the lines that they cross.
        rim = 'paint-order="stroke" stroke="#fff" stroke-width="3"'
        lines = textwrap.wrap(names[region], _NAME, max_lines=2, placeholder="…") or [""]
        told = "".join(
            f'<tspan x="{x + _CROP / 2:.1f}" dy="{10 if row else 0}">{html.escape(one)}</tspan>'
            for row, one in enumerate(lines)
        )
        name = f"<text {under} {rim}>{told}</text>"
        parts.append(f"<g><title>{html.escape(names[region])}</title>{thumbnail}{frame}{name}</g>")
    return parts


def _layers(count: int, edges: Sequence[Edge]) -> list[list[int]]:
    """Return the regions by their distance to the region in the middle, children beside those of their neighbours."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for first, last in edges:
        neighbours[first].append(last)
        neighbours[last].append(first)
    walks = [_walk(start, neighbours) for start in range(count)]
    best = min(walks, key=len, default=[])
    if len(edges) != max(count - 1, 0) or sum(map(len, best)) != count:
        problem = f"{len(edges)} edges over {count} regions are no tree"
        raise DataError(problem, where="tree figure", remedy="give a spanning tree")
    return best


def _walk(start: int, neighbours: Sequence[Sequence[int]]) -> list[list[int]]:
    seen, rows = {start}, [[start]]
    while True:
        row = []
        for region in rows[-1]:
            fresh = [other for other in sorted(neighbours[region]) if other not in seen]
            seen.update(fresh)
            row += fresh
        if not row:
            return rows
        rows.append(row)
