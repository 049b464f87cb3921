"""Captions of Flickr8k: the comma-separated ``captions.txt``, or the ``image#k<TAB>caption`` of ``Flickr8k.token.txt``.

Flickr30k's ``results_20130124.token`` has the second layout too. The image id is the file name's stem
(``1056338697_4f7d7ce270``), the example id ``<image id>#<position>``. Splits are lists of file names in files of their
own (``Flickr_8k.testImages.txt``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import clean_text, read_image_list, read_lines, read_table, stem, unique
from vltk.errors import DataError
from vltk.types import Example

NUMBERED = re.compile(r"(?P<name>[^#\t]+)#(?P<number>\d+)\t(?P<caption>.*)")


def read_examples(path: Path, *, images: Path | None = None) -> Iterator[Example]:
    """Yield one example for each caption, in the order of the file.

    Args:
        path: ``captions.txt`` (header ``image,caption``) or ``Flickr8k.token.txt``.
        images: a split list; the captions of other images are left out.

    Raises:
        DataError: a line of another layout, or an image of the split list that has no caption.
    """
    wanted = None if images is None else set(read_image_list(images))
    missing = set() if wanted is None else set(wanted)
    for example in unique(_captions(path), lambda example: example.id, path, "caption"):
        image_id = example.image_ids[0]
        missing.discard(image_id)
        if wanted is None or image_id in wanted:
            yield example
    if missing:
        problem = f"{len(missing)} images of {path.name}'s split have no caption there, first {min(missing)}"
        raise DataError(problem, where=images, remedy="check that both files belong to one data set")


def _captions(path: Path) -> Iterator[Example]:
    _, first = next(read_lines(path), (0, ""))
    if first.replace(" ", "").lower() == "image,caption":
        yield from _comma_separated(path)
    elif NUMBERED.fullmatch(first):
        yield from _numbered(path)
    else:
        remedy = "expected the header 'image,caption', or lines 'name.jpg#0<TAB>caption'"
        raise DataError(f"begins with {first[:40]!r}", where=path, remedy=remedy)


def _comma_separated(path: Path) -> Iterator[Example]:
    count: Counter[str] = Counter()
    for row in read_table(path, separator=",", header="image,caption"):
        image_id, text = stem(row.text("image")), row.clean_text("caption")
        yield Example(id=f"{image_id}#{count[image_id]}", image_ids=(image_id,), texts=(text,))
        count[image_id] += 1


def _numbered(path: Path) -> Iterator[Example]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        match = NUMBERED.fullmatch(line)
        if match is None:
            raise DataError(f"is {line[:40]!r}, expected 'name.jpg#0<TAB>caption'", where=where, remedy="fix the line")
        image_id = stem(match["name"])
        text = clean_text(match["caption"], where)
        yield Example(id=f"{image_id}#{match['number']}", image_ids=(image_id,), texts=(text,))
