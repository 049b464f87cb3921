"""A page of a heading and parts, with thumbnails inside the one file; what search and probing show."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from vltk.detection.images import decode
from vltk.errors import VltkError

SIDE = 220
"""Longest side of a thumbnail in pixels."""
_BODY = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; background: #fff; }
"""


def plain_page(title: str, parts: Iterable[str], *, style: str) -> str:
    """Return a page that needs no other file and runs nothing.

    Args:
        title: its heading, as plain text.
        parts: HTML below it.
        style: CSS of the parts.

    Example:
        >>> "<h1>a &lt;dog&gt;</h1><p>b</p></body>" in plain_page("a <dog>", ["<p>b</p>"], style="")
        True
    """
    heading = html.escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{_BODY}{style}</style></head><body><h1>{heading}</h1>{''.join(parts)}</body></html>\n"
    )


class Thumbnails:
    """Small pictures as data addresses, each made once.

    Args:
        pictures: files by image id.
    """

    def __init__(self, pictures: Mapping[str, Path]) -> None:
        self.pictures = pictures
        self._made: dict[tuple[str, int], str | None] = {}

    def get(self, image_id: str, side: int = SIDE) -> str | None:
        """Return the address of a picture; None where there is no file, or none that can be read.

        Args:
            image_id: of the picture.
            side: longest side in pixels.
        """
        if (image_id, side) not in self._made:
            path = self.pictures.get(image_id)
            self._made[image_id, side] = None if path is None else thumbnail(path, side=side)
        return self._made[image_id, side]


def thumbnail(path: Path, *, side: int = SIDE) -> str | None:
    """Return a small picture as a data address; None where the file cannot be read."""
    try:
        picture = Image.fromarray(decode(path))
    except VltkError:
        return None
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
