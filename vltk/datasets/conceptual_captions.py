"""Conceptual Captions: rows ``caption<TAB>url`` without a header; the same layout holds for the 12 M version, swapped.

The files name no picture. Its id is the 0-based row number, nine digits by default (``000000012``), which is how
the common downloader names the pictures that it fetches from a list; another naming is a pattern such as
``"{row}"`` or ``"{row:08d}"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets._image_id import filled
from vltk.datasets._record import clean_text, read_lines
from vltk.errors import DataError
from vltk.types import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCaption:
    """One row: a caption and the address of its picture.

    Attributes:
        row: 0-based number of the row, empty rows not counted.
        caption: the text.
        url: where the picture was.
    """

    row: int
    caption: str
    url: str


def read_captions(path: Path) -> Iterator[WebCaption]:
    """Yield the rows in order; whether the caption comes first (3 M) or the address (12 M) is seen from each row.

    Raises:
        DataError: a row has not two columns, or no address.
    """
    row = 0
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        columns = line.split("\t")
        if len(columns) != 2:
            raise DataError(f"has {len(columns)} columns, expected caption and url", where=where, remedy="use tabs")
        caption, url = columns if "://" in columns[1] else reversed(columns)
        if "://" not in url:
            raise DataError(f"has no address in {line[:60]!r}", where=where, remedy="expected caption<TAB>url")
        yield WebCaption(row=row, caption=clean_text(caption, where), url=url.strip())
        row += 1


def read_examples(path: Path, *, image_id: str = "{row:09d}") -> Iterator[Example]:
    """Yield one example for each row.

    Args:
        path: the tab-separated file.
        image_id: pattern of the image id; ``row`` is the row number.

    Raises:
        DataError: a row that is not caption and address.
        UsageError: a pattern that names something else.
    """
    for item in read_captions(path):
        name = filled(image_id, row=item.row)
        yield Example(id=name, image_ids=(name,), texts=(item.caption,))
