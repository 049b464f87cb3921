"""MSR-VTT's 1K-A test list: a table ``key, vid_key, video_id, sentence``, separated by commas or by semicolons.

The image id is ``video_id`` (``video9771``), the example id ``key``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import read_lines, read_table, unique
from vltk.errors import DataError
from vltk.types import Example

COLUMNS = ("key", "vid_key", "video_id", "sentence")


def read_examples(path: Path) -> Iterator[Example]:
    """Yield one example for each sentence, in the order of the file.

    Raises:
        DataError: the header lacks a column, a row has another number of columns, or a key occurs twice.
    """
    yield from unique(_sentences(path), lambda example: example.id, path, "key")


def _sentences(path: Path) -> Iterator[Example]:
    _, header = next(read_lines(path), (0, ""))
    separator = ";" if header.count(";") > header.count(",") else ","
    names = [name.strip() for name in header.split(separator)]
    if missing := [name for name in COLUMNS if name not in names]:
        remedy = f"expected the columns {', '.join(COLUMNS)}, separated by , or ;"
        raise DataError(f"has no column {', '.join(missing)} in {header[:60]!r}", where=path, remedy=remedy)
    for row in read_table(path, separator=separator, header=header):
        video, text = row.identifier("video_id"), row.clean_text("sentence")
        yield Example(id=row.identifier("key"), image_ids=(video,), texts=(text,))
