"""Sentences of MSR-VTT: the 1K-A test list, or the data set's own ``*_videodatainfo.json``.

The list is a table ``key, vid_key, video_id, sentence``, separated by commas or by semicolons. The image id is
``video_id`` (``video9771``), the example id ``key``, or ``sen_id`` of the JSON file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import Record, read_lines, read_table, unique
from vltk.errors import DataError
from vltk.types import Example

COLUMNS = ("key", "vid_key", "video_id", "sentence")


def read_examples(path: Path) -> Iterator[Example]:
    """Yield one example for each sentence, in the order of the file.

    Raises:
        DataError: the header lacks a column, a row has another number of columns, or a key occurs twice.
    """
    yield from unique(_sentences(path), lambda example: example.id, path, "key")


def read_video_data(path: Path, *, split: str) -> Iterator[Example]:
    """Yield one example for each sentence of a split's videos, in the order of ``sentences``.

    Args:
        path: ``train_val_videodatainfo.json`` or ``test_videodatainfo.json``.
        split: ``train``, ``validate`` or ``test``, as ``videos`` name it.

    Raises:
        DataError: a key is missing, a sentence id occurs twice, or the split has no video.
    """
    record = Record.of_file(path)
    splits = {video.identifier("video_id"): video.text("split") for video in record.records("videos")}
    if split not in splits.values():
        there = ", ".join(sorted(set(splits.values()))) or "no video at all"
        raise DataError(f"has no video of split {split!r}", where=path, remedy=f"it has {there}")
    yield from unique(_of_split(record, splits, split), lambda example: example.id, path, "sen_id")


def _of_split(record: Record, splits: dict[str, str], split: str) -> Iterator[Example]:
    for sentence in record.records("sentences"):
        video = sentence.identifier("video_id")
        if splits.get(video) == split:
            text = sentence.clean_text("caption")
            yield Example(id=sentence.identifier("sen_id"), image_ids=(video,), texts=(text,))


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
