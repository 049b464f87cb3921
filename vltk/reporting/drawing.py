"""Drawings as SVG: a canvas with the few marks that the figures need, and the figure that comes out."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vltk.reporting.palette import FILE_FONT, HEAT, file_style

WIDTH = 360
"""Of a figure, in its own units: a phone shows it at about its size, a wide screen several side by side."""
MARGIN = 8
"""Around the drawing in a file."""
ELLIPSIS = " …"
"""Ends lines of a text that is longer than there is room."""
_LETTER = 0.61
_NARROW, _WIDE = frozenset("ijlt.,:;'|!fr()[] -"), frozenset("mwMW@%")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing that the page shows and a folder can hold.

    Attributes:
        name: of its files, without suffix.
        title: what it is of; stands in the drawing.
        alt: what there is to see, for those who do not.
        body: the marks.
        width: of the drawing, in its own units.
        height: likewise.
        caption: a sentence below it, "" where the title says all.
    """

    name: str
    title: str
    alt: str
    body: str
    width: float
    height: float
    caption: str = ""

    def inline(self) -> str:
        """Return the drawing as a part of a page, which brings the colours."""
        size = f'viewBox="0 0 {number(self.width)} {number(self.height)}" width="{number(self.width)}"'
        return f'<svg {size} role="img" aria-label="{html.escape(printable(self.alt))}">{self.body}</svg>'

    def file(self) -> str:
        """Return the drawing as a file of its own, with a margin."""
        width, height = number(self.width + 2 * MARGIN), number(self.height + 2 * MARGIN)
        corner = f'x="-{MARGIN}" y="-{MARGIN}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-{MARGIN} -{MARGIN} {width} {height}" width="{width}" '
            f"height=\"{height}\" font-family='{FILE_FONT}'><title>{html.escape(printable(self.title))}</title>"
            f"<desc>{html.escape(printable(self.alt))}</desc><style>{file_style()}</style>"
            f'<rect class="paper" {corner} width="{width}" height="{height}"/>{self.body}</svg>\n'
        )


class Canvas:
    """Collects marks; every colour is the name of a class of :mod:`vltk.reporting.palette`.

    Example:
        >>> canvas = Canvas()
        >>> canvas.text(1, 2, "a < b")
        >>> canvas.body
        '<text class="ink" x="1" y="2" font-size="12">a &lt; b</text>'
    """

    def __init__(self) -> None:
        self._marks: list[str] = []

    @property
    def body(self) -> str:
        """All marks, in the order they were made."""
        return "".join(self._marks)

    def mark(self, element: str, kind: str, content: str = "", **attributes: Any) -> None:
        """Add an element; underscores of attributes become hyphens."""
        told = "".join(
            f' {name.replace("_", "-")}="{number(value) if isinstance(value, float | int) else value}"'
            for name, value in attributes.items()
            if value is not None
        )
        end = f">{content}</{element}>" if content else "/>"
        self._marks.append(f'<{element} class="{kind}"{told}{end}')

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        kind: str = "ink",
        size: float = 12,
        anchor: str | None = None,
        bold: bool = False,
        turn: float = 0,
    ) -> None:
        """Write a line of text.

        Args:
            x: where it begins, or what ``anchor`` says.
            y: of its base line.
            content: as it is to be read.
            kind: colour.
            size: of the letters.
            anchor: "middle" or "end" for what stands at ``x`` instead of its beginning.
            bold: whether.
            turn: degrees to turn it around its point.
        """
        more: dict[str, Any] = {"text_anchor": anchor, "font_weight": 600 if bold else None}
        if turn:
            more["transform"] = f"rotate({number(turn)} {number(x)} {number(y)})"
        self.mark("text", kind, html.escape(printable(content), quote=False), x=x, y=y, font_size=size, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, kind: str = "grid", width: float = 1) -> None:
        """Draw a straight line."""
        self.mark("line", kind, x1=x1, y1=y1, x2=x2, y2=y2, stroke_width=width)

    def rectangle(self, x: float, y: float, width: float, height: float, *, kind: str, **more: Any) -> None:
        """Draw a rectangle."""
        self.mark("rect", kind, x=x, y=y, width=width, height=height, **more)

    def dot(self, x: float, y: float, *, kind: str, radius: float = 3.5) -> None:
        """Draw a dot."""
        self.mark("circle", kind, cx=x, cy=y, r=radius)

    def path(self, points: list[tuple[float, float]], *, kind: str, width: float = 2) -> None:
        """Draw a line through points."""
        steps = " ".join(f"{'L' if place else 'M'}{number(x)} {number(y)}" for place, (x, y) in enumerate(points))
        self.mark("path", kind, d=steps, stroke_width=width, stroke_linejoin="round")

    def picture(
        self,
        address: str,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fit: str = "none",
        kind: Literal["picture", "heat"] = "picture",
    ) -> None:
        """Put a picture into a rectangle.

        Args:
            address: the picture as a data address.
            x: of its left edge.
            y: of its upper edge.
            width: of the rectangle.
            height: likewise.
            fit: SVG's ``preserveAspectRatio``.
            kind: "heat" keeps the squares of a table sharp.
        """
        size: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height}
        self.mark("image", kind, href=address, **size, preserveAspectRatio=fit)

    def tick(self, x: float, y: float) -> None:
        """Draw a check mark on a base line; as a letter it would ask for a font that few machines have."""
        self.path([(x, y - 4), (x + 3, y - 1), (x + 9, y - 8)], kind="l2")

    def legend(self, names: Sequence[tuple[int, str]], y: float, *, lines: bool) -> float:
        """Write which colour is what, in as many rows as it takes; return where the drawing can begin.

        Args:
            names: number of the colour, and what it stands for.
            y: where the first row begins.
            lines: a piece of the line stands before each name, with its dashes; else a dot.
        """
        x, mark = 0.0, 22 if lines else 10
        for colour, name in names:
            label = shortened(name, 30)
            wide = mark + text_width(label, 11)
            if x and x + wide > WIDTH:
                x, y = 0.0, y + 15
            if lines:
                self.path([(x, y + 6), (x + 18, y + 6)], kind=f"l{colour} d{colour}")
            else:
                self.dot(x + 4, y + 6, kind=f"f{colour}")
            self.text(x + mark, y + 10, label, kind=f"f{colour}", size=11)
            x += wide + 12
        return y + 18

    def heading(self, title: str, subtitle: str = "") -> float:
        """Write what the figure is of into its top; return where the drawing can begin."""
        self.text(0, 14, fitted(title, WIDTH, 13), size=13, bold=True)
        if subtitle:
            self.text(0, 30, fitted(subtitle, WIDTH, 11), kind="muted", size=11)
        return 40 if subtitle else 24


def number(value: float) -> str:
    """Return a number of a drawing, which needs no more than two digits behind the point.

    Example:
        >>> number(1.0), number(0.12345), number(-0.001)
        ('1', '0.12', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def printable(text: str) -> str:
    """Return a text whose control characters, which XML does not allow, are spaces.

    Example:
        >>> printable("a\\x00b")
        'a b'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def text_width(content: str, size: float = 12) -> float:
    """Return about how wide a line of text comes out, in the wider of the fonts that machines have.

    Example:
        >>> text_width("will") < text_width("warm") < text_width("WWWW")
        True
    """
    letters = (
        0.34 if one in _NARROW else 0.9 if one in _WIDE else 0.7 if one.isupper() else _LETTER for one in content
    )
    return size * sum(letters)


def shortened(content: str, letters: int) -> str:
    """Return a text that is not longer than so many letters.

    Example:
        >>> shortened("attention", 6)
        'atten…'
    """
    return content if len(content) <= letters else content[: letters - 1].rstrip() + "…"


def fitted(content: str, width: float, size: float = 12) -> str:
    """Return a text that is about as wide as there is room, with an ellipsis where it was wider.

    Example:
        >>> fitted("word-to-region attention", 60, 10)
        'word-to-re…'
    """
    while content and text_width(content, size) > width:
        content = content.removesuffix("…")[:-1].rstrip() + "…" if len(content) > 2 else ""
    return content


def heat_address(
    values: NDArray[Any], *, largest: float | None = None, zoom: int = 6, colour: tuple[int, int, int] = HEAT
) -> str:
    """Return shares as a picture, one square a number, as a data address.

    Args:
        values: [M, N] from 0.
        largest: what is full colour; the largest value if None.
        zoom: pixels of a square.
        colour: full colour as red, green and blue.
    """
    top = float(values.max()) if largest is None else largest
    share = np.clip(np.nan_to_num(values / top if top > 0 else values), 0, 1)
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = np.round(255 * share)
    stream = io.BytesIO()
    Image.fromarray(pixels.repeat(zoom, axis=0).repeat(zoom, axis=1), "RGBA").save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
