"""Captions of videos as HGR keeps them: ``annotation/RET/ref_captions.json``, ``{video: [sentences]}``.

The split is a list of videos, ``public_split/{split}_names.npy``. The image id is the video's name, the example id
``<video>#<position>``. A sentence of two videos stays with both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import Record, clean_text
from vltk.errors import DataError
from vltk.stores.formats.hgr_frames import read_names
from vltk.types import Example


def read_examples(path: Path, *, names: Path) -> Iterator[Example]:
    """Yield one example for each sentence, video after video in the order of the split.

    Args:
        path: ``ref_captions.json``.
        names: the videos of the split.

    Raises:
        DataError: a video without sentences, or a sentence that is no text.
    """
    record = Record.of_file(path)
    for name in read_names(names):
        if not record.has(name):
            raise DataError(f"has no sentence of video {name}", where=path, remedy=f"check that {names} belongs to it")
        sentences = record.texts(name)
        if not sentences:
            raise record.fail(f"has no sentence of video {name}")
        for number, sentence in enumerate(sentences):
            text = clean_text(sentence, f"{path}, {name}[{number}]")
            yield Example(id=f"{name}#{number}", image_ids=(name,), texts=(text,))
