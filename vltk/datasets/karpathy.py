"""Captions in Karpathy's split files: ``dataset_flickr30k.json``, ``dataset_coco.json``, ``dataset_flickr8k.json``.

The image id is the stem of ``filename`` (``COCO_val2014_000000391895``, ``1007129816``); the example id is
``sentid``. A second, simpler layout that circulates is one object ``{file name: [captions]}``; there the example id is
``<image id>#<position>``, the numbering of Flickr30k's own token file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import Record, clean_text, read_json, stem, unique, whole_text
from vltk.errors import DataError
from vltk.types import Example


def read_examples(path: Path, *, split: str, restval: bool = True, tokens: bool = False) -> Iterator[Example]:
    """Yield one example for each caption of a split, in the order of the file.

    Args:
        path: a ``dataset_*.json``.
        split: ``train``, ``val`` or ``test``.
        restval: whether ``train`` takes COCO's ``restval`` images in (113,287 images instead of 82,783), as
            all the systems here do.
        tokens: take the file's own tokens (lower case, without punctuation), joined by spaces, not ``raw``.

    Raises:
        DataError: a key is missing or of another type, a sentence id occurs twice, or the split has no image.
    """
    wanted = {split, "restval"} if split == "train" and restval else {split}
    found: Counter[str] = Counter()
    captions = unique(_captions(path, wanted, found, tokens), lambda example: example.id, path, "sentence id")
    yield from captions
    if not found.keys() & wanted:
        there = ", ".join(f"{name} ({count} images)" for name, count in sorted(found.items()))
        raise DataError(f"has no image of split {split!r}", where=path, remedy=f"it has {there or 'no image at all'}")


def _captions(path: Path, wanted: set[str], found: Counter[str], tokens: bool) -> Iterator[Example]:
    for image in Record.of_file(path).records("images"):
        split = image.text("split")
        found[split] += 1
        if split not in wanted:
            continue
        image_id = image.image("filename")
        for sentence in image.at("filename").records("sentences"):
            raw = " ".join(sentence.texts("tokens")) if tokens else sentence.text("raw")
            text = clean_text(raw, sentence.where)
            yield Example(id=sentence.identifier("sentid"), image_ids=(image_id,), texts=(text,))


def read_caption_lists(path: Path) -> Iterator[Example]:
    """Yield one example for each caption of a ``{file name: [captions]}`` file, in the order of the file.

    A last entry that is the path of the picture itself, which some published files carry, is no caption.

    Raises:
        DataError: a value is no list of texts, or an image has no caption.
    """
    record = Record.of_file(path)
    for name in record.values:
        captions = record.items(name)
        image_id = stem(whole_text(name, str(path)))
        if captions and isinstance(captions[-1], str) and captions[-1].endswith(name) and " " not in captions[-1]:
            captions = captions[:-1]
        if not captions:
            raise record.fail(f"has no caption for {name}")
        for number, caption in enumerate(captions):
            where = f"{path}, {name}[{number}]"
            if not isinstance(caption, str):
                raise DataError(f"is {caption!r:.40}, expected a caption", where=where, remedy="fix the file")
            yield Example(id=f"{image_id}#{number}", image_ids=(image_id,), texts=(clean_text(caption, where),))


def read_image_index(path: Path) -> tuple[str, ...]:
    """Return the image ids by running number from an ``id_mapping.json`` (``{"0": file name}``).

    Region features in SCAN's arrays name their pictures by these numbers.

    Raises:
        DataError: the numbers do not run from 0 without a gap, or a file name is no text.
    """
    mapping = read_json(path)
    record = Record.of(mapping, path)
    if set(mapping) != {str(number) for number in range(len(mapping))}:
        raise record.fail(
            f"does not number its {len(mapping)} images from 0", remedy="check that it is id_mapping.json"
        )
    return tuple(stem(record.text(str(number))) for number in range(len(mapping)))
