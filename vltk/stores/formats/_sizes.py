"""The sizes of pictures, for formats that store none, or the wrong ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vltk.errors import DataError
from vltk.stores.formats._regions import integer

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SizeOptions:
    """How a format that stores no sizes of pictures, or wrong ones, is helped."""

    sizes: Path | None = None
    """Sizes of the pictures: JSON {id: [width, height]}, COCO's layout, lines "id width height", or their folder."""

    def table(self) -> Sizes | None:
        """Return the sizes, or None where none are given."""
        return None if self.sizes is None else Sizes(self.sizes)


class Sizes:
    """Width and height of each picture.

    Args:
        path: a JSON file {id: [width, height]} or in COCO's layout, lines "id width height", or a folder of pictures.

    Raises:
        DataError: it is none of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table: dict[str, Size] = {}
        self._pictures: dict[str, Path] = {}
        if path.is_dir():
            self._pictures = {file.stem: file for file in sorted(path.rglob("*")) if file.is_file()}
        elif path.suffix == ".json":
            self._table = dict(_from_json(path))
        else:
            self._table = dict(_from_lines(path))

    def __getitem__(self, image_id: str) -> Size:
        if image_id in self._pictures:
            try:
                with Image.open(self._pictures[image_id]) as picture:
                    return picture.size
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise DataError(f"is no picture ({error})", where=self._pictures[image_id]) from None
        if image_id not in self._table:
            raise DataError(f"has no size of picture {image_id}", where=self.path, remedy="its name must be the id")
        return self._table[image_id]


def _checked(image_id: Any, size: Sequence[Any], where: str) -> tuple[str, Size]:
    width, height = size
    return str(image_id), (
        integer(width, "width", where=where, least=1),
        integer(height, "height", where=where, least=1),
    )


def _from_json(path: Path) -> Iterable[tuple[str, Size]]:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            content = {Path(item["file_name"]).stem: (item["width"], item["height"]) for item in content["images"]}
        return [_checked(image_id, size, str(path)) for image_id, size in content.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "expected is {id: [width, height]} or COCO's layout"
        raise DataError(f"holds no picture sizes ({error})", where=path, remedy=remedy) from None


def _from_lines(path: Path) -> Iterable[tuple[str, Size]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="expected are lines: id width height") from None
    for number, line in enumerate(lines, 1):
        parts = line.replace(",", " ").split()
        if len(parts) != 3:
            raise DataError(f"is {line[:60]!r}", where=f"{path}, line {number}", remedy="expected is: id width height")
        yield _checked(parts[0], parts[1:], f"{path}, line {number}")
