"""Phrase localisation files of J. Wang and Specia (ICCV 2019): Flickr30k Entities and RefCOCO in one simple layout.

A list of ``{box: [x, y, width, height], image, entity, phrase: [words], ...}``. Flickr30k: 1-based pixels, one box a
chain, only phrases that have a box, captions in a file of their own. RefCOCO, RefCOCO+ and RefCOCOg: COCO's own 0-based
box, one item a sentence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vltk.datasets._box import Box, clip_box, corners
from vltk.datasets._record import Record, read_json, stem, unique
from vltk.datasets.karpathy import read_caption_lists
from vltk.errors import DataError
from vltk.types import BoxTarget, Example, Phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedPhrase:
    """A phrase of a Flickr30k caption with its box, as the file has it.

    Attributes:
        image_id: stem of the picture's file name.
        caption: number of the caption, from 0.
        start: first token of the phrase.
        end: one past its last token.
        words: the tokens of the phrase.
        entity: id of the chain.
        categories: types of the chain, e.g. ("people",).
        box: (x1, y1, x2, y2), 0-based, as in :mod:`vltk.datasets.flickr30k_entities`.
        where: the place in the file.
    """

    image_id: str
    caption: int
    start: int
    end: int
    words: tuple[str, ...]
    entity: str
    categories: tuple[str, ...]
    box: Box
    where: str


def read_phrases(path: Path) -> Iterator[LocatedPhrase]:
    """Yield the phrases of a Flickr30k file in order.

    Raises:
        DataError: a key is missing or of another type, or ``image`` is not ``id#caption``.
    """
    for record in _items(path):
        image, _, caption = record.text("image").partition("#")
        if not image or not caption.isdigit():
            raise record.fail(f"has image {record.text('image')!r}, expected id#caption")
        x, y, width, height = record.box("box")
        # Stored is width = xmax - xmin + 1; the official parser subtracts 1 from xmin and from xmax.
        box = (x - 1, y - 1, x + width - 2, y + height - 2)
        yield LocatedPhrase(
            image_id=stem(image),
            caption=int(caption),
            start=record.integer("start"),
            end=record.integer("end"),
            words=record.texts("phrase"),
            entity=record.identifier("entity"),
            categories=record.texts("categories"),
            box=clip_box(box, None, record.where),
            where=record.where,
        )


def read_captions(phrases: Path, captions: Path) -> Iterator[Example]:
    """Yield one example for each caption of Flickr30k with the phrases that have a box, in the order of the captions.

    A few captions are tokenised otherwise than the phrases' file had them (``creature(`` for ``creature (``): a
    phrase is placed on the words that hold its characters, nearest to where the file says.

    Args:
        phrases: ``annotation_*.json``.
        captions: ``{file name: [captions]}``.

    Raises:
        DataError: a phrase whose caption is missing or does not contain it.
    """
    by_caption: defaultdict[str, list[LocatedPhrase]] = defaultdict(list)
    for phrase in read_phrases(phrases):
        by_caption[f"{phrase.image_id}#{phrase.caption}"].append(phrase)
    for example in read_caption_lists(captions):
        found = by_caption.pop(example.id, [])
        placed = tuple(_placed(phrase, example.texts[0].split()) for phrase in found)
        yield Example(id=example.id, image_ids=example.image_ids, texts=example.texts, phrases=placed)
    if by_caption:
        orphan = next(iter(by_caption.values()))[0]
        problem = f"belongs to caption {orphan.caption} of image {orphan.image_id}, which {captions} lacks"
        raise DataError(problem, where=orphan.where, remedy="give the captions of the same split")


def _placed(phrase: LocatedPhrase, words: list[str]) -> Phrase:
    start, end = phrase.start, phrase.end
    if tuple(words[start:end]) != phrase.words:
        start, end = _span(phrase, words)
    return Phrase(text=0, start=start, end=end, entity=phrase.entity, kinds=phrase.categories, boxes=(phrase.box,))


def _span(phrase: LocatedPhrase, words: list[str]) -> tuple[int, int]:
    text, wanted = "".join(words), "".join(phrase.words)
    owner = [number for number, word in enumerate(words) for _ in word]
    starts = [at for at in range(len(text)) if text.startswith(wanted, at)] if wanted else []
    if not starts:
        problem = f"has phrase {' '.join(phrase.words)!r}, which its caption {' '.join(words)!r} does not contain"
        raise DataError(problem, where=phrase.where, remedy="give the captions that the phrases were marked in")
    at = min(starts, key=lambda start: abs(owner[start] - phrase.start))
    return owner[at], owner[at + len(wanted) - 1] + 1


def read_expressions(path: Path) -> Iterator[Example]:
    """Yield one example for each referring expression of a RefCOCO file, in order.

    The image id is the stem of ``imageName`` (``COCO_train2014_000000274266``), the example id the sentence id.

    Raises:
        DataError: a key is missing or of another type, or a sentence id occurs twice.
    """
    yield from unique(map(_expression, _items(path)), lambda example: example.id, path, "phraseId")


def _expression(record: Record) -> Example:
    record = record.at("phraseId")
    words = record.texts("phrase")
    if not any(words):
        raise record.fail("has an empty phrase")
    box = clip_box(corners(record.box("box")), None, record.where)
    return Example(
        id=record.identifier("phraseId"),
        image_ids=(record.image("imageName"),),
        texts=(" ".join(words),),
        target=BoxTarget(box=box, annotation_id=record.identifier("entity")),
    )


def _items(path: Path) -> Iterator[Record]:
    return Record.of({"items": read_json(path)}, path).records("items")
