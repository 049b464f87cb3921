"""Figures as files: SVG as it is drawn, and PNG of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from PIL import ImageFont

from vltk.errors import UsageError
from vltk.reporting.drawing import Figure
from vltk.stores.whole_files import write_whole

Format = Literal["svg", "png"]
ZOOM = 3
"""Pixels of a PNG for each unit of a drawing."""


def write_figures(folder: Path, figures: Iterable[Figure], *, formats: Iterable[Format] = ("svg", "png")) -> list[Path]:
    """Write every figure into a folder; return the files.

    Args:
        folder: is made where it is not there; files of the same name are replaced.
        figures: with names of their own.
        formats: "svg", "png" or both.

    Raises:
        UsageError: PNG is wanted and what draws it is not installed.
    """
    wanted = tuple(formats)
    if "png" in wanted:
        rasteriser()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures:
        text = figure.file()
        if "svg" in wanted:
            write_whole(folder / f"{figure.name}.svg", [text])
            written.append(folder / f"{figure.name}.svg")
        if "png" in wanted:
            (folder / f"{figure.name}.png").write_bytes(as_png(text))
            written.append(folder / f"{figure.name}.png")
    return written


def rasteriser() -> Any:
    """Return the function that turns SVG into PNG.

    Raises:
        UsageError: its library is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        remedy = "pip install 'vltk-toolkit[plots]', or add --figure-format svg"
        raise UsageError("resvg-py, which draws PNG, is not installed", where="--figures", remedy=remedy) from error
    return svg_to_bytes


def as_png(text: str, *, system_fonts: bool = True) -> bytes:
    """Return an SVG file as PNG.

    Where a machine has none of the fonts that figures ask for, the one that comes with Pillow is taken, so that no
    label is lost.

    Args:
        text: the SVG file.
        system_fonts: whether the machine's fonts are looked at.
    """
    content = getattr(ImageFont.load_default(size=12), "font_bytes", b"")
    with tempfile.TemporaryDirectory() as folder:
        font = Path(folder) / "fallback.ttf"
        font.write_bytes(content)
        fonts = [str(font)] if content else None
        png = rasteriser()(svg_string=text, zoom=ZOOM, font_files=fonts, skip_system_fonts=not system_fonts)
    return bytes(png)
