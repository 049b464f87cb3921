"""Flickr30k Entities (Plummer et al., 2015): captions whose phrases are linked to boxes, in the layout of its release.

``Sentences/<id>.txt`` holds five lines with phrases ``[/EN#<chain>/<type>... words]``; ``Annotations/<id>.xml`` holds
the boxes of the chains. Chain 0 is ``notvisual``. A phrase may have several types, a chain several boxes, a box several
chains, and a chain no box at all (a scene, or nothing to see). The image id is ``<id>``, the example id
``<id>#<0..4>``.

Boxes in the files count pixels from 1 and include the last one; as in the official parser 1 is subtracted from all
four numbers. Phrases count whitespace-separated words of the sentence without its tags.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vltk.datasets._box import Box, clip_box
from vltk.datasets._record import clean_text, read_image_list, read_lines
from vltk.errors import DataError
from vltk.types import Example, Phrase

OPENING = re.compile(r"\[/EN#(?P<chain>[^/\s]+)(?P<kinds>(?:/[^/\s]+)+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A caption and its phrases, as one line of a sentence file has them.

    Attributes:
        text: the caption without tags.
        phrases: spans of its words with chain and types, without boxes.
    """

    text: str
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What an annotation file says about the chains of one picture.

    Attributes:
        size: (width, height), or None where the file lacks it.
        boxes: for each chain its boxes as (x1, y1, x2, y2), 0-based.
        scenes: chains that are the whole scene.
        without_box: chains that are marked as having no box.
    """

    size: tuple[int, int] | None = None
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    scenes: frozenset[str] = frozenset()
    without_box: frozenset[str] = frozenset()


def read_examples(root: Path, *, images: Path | None = None, unrelated: Path | None = None) -> Iterator[Example]:
    """Yield one example for each caption; a caption without any phrase is an example too.

    Args:
        root: folder with ``Sentences/`` and, for the boxes, ``Annotations/``; without the latter no phrase has a box.
        images: a split list (``test.txt``), which also gives the order; without it all files, by name.
        unrelated: the release's ``UNRELATED_CAPTIONS``; captions listed there are left out.

    Raises:
        DataError: a file is missing or broken, with its line; a box leaves the picture.
    """
    sentences, annotations = root / "Sentences", root / "Annotations"
    if not sentences.is_dir():
        raise DataError("has no folder Sentences", where=root, remedy="give the folder of the unpacked release")
    skipped = frozenset() if unrelated is None else frozenset(read_unrelated(unrelated))
    names = (path.stem for path in sorted(sentences.glob("*.txt"))) if images is None else read_image_list(images)
    for image_id in names:
        found = Annotation()
        if annotations.is_dir():
            found = read_annotation(annotations / f"{image_id}.xml")
        for number, sentence in enumerate(read_sentences(sentences / f"{image_id}.txt")):
            example_id = f"{image_id}#{number}"
            if example_id in skipped:
                continue
            phrases = tuple(_with_boxes(phrase, found) for phrase in sentence.phrases)
            yield Example(id=example_id, image_ids=(image_id,), texts=(sentence.text,), phrases=phrases)


def _with_boxes(phrase: Phrase, annotation: Annotation) -> Phrase:
    boxes = annotation.boxes.get(phrase.entity, ())
    return Phrase(
        text=phrase.text, start=phrase.start, end=phrase.end, entity=phrase.entity, kinds=phrase.kinds, boxes=boxes
    )


def read_sentences(path: Path) -> tuple[Sentence, ...]:
    """Return the captions of one sentence file.

    Raises:
        DataError: a line is empty before the last caption, or a tag is broken (with its line).
    """
    lines = [(number, line.strip()) for number, line in read_lines(path)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise DataError("holds no sentence", where=path, remedy="download it again")
    return tuple(parse_sentence(line, f"{path}, line {number}") for number, line in lines)


def parse_sentence(line: str, where: str = "sentence") -> Sentence:
    """Return the caption and the phrases of one tagged line.

    Raises:
        DataError: a phrase that never closes, opens inside another one, or holds no word.

    Example:
        >>> sentence = parse_sentence("[/EN#1/people/other A man] sits .")
        >>> sentence.text, sentence.phrases[0].end, sentence.phrases[0].kinds
        ('A man sits .', 2, ('people', 'other'))
    """
    words: list[str] = []
    phrases: list[Phrase] = []
    opened: re.Match[str] | None = None
    start = 0
    for token in line.split():
        if token.startswith("[/EN#"):
            tag = OPENING.fullmatch(token)
            if tag is None or opened is not None:
                problem = f"has a broken tag {token!r}" if tag is None else f"opens {token!r} inside {opened[0]!r}"  # type: ignore[index]
                raise DataError(problem, where=where, remedy="expected [/EN#chain/type words]")
            opened, start = tag, len(words)
            continue
        closes = opened is not None and token.endswith("]")
        if word := token[:-1] if closes else token:
            words.append(word)
        if opened is not None and closes:
            phrases.append(_phrase(opened, start, len(words), where))
            opened = None
    if opened is not None:
        raise DataError(f"never closes {opened[0]!r}", where=where, remedy="expected [/EN#chain/type words]")
    return Sentence(text=clean_text(" ".join(words), where), phrases=tuple(phrases))


def _phrase(tag: re.Match[str], start: int, end: int, where: str) -> Phrase:
    if start == end:
        raise DataError(f"has no word in {tag[0]!r}", where=where, remedy="expected [/EN#chain/type words]")
    kinds = tuple(tag["kinds"][1:].split("/"))
    return Phrase(text=0, start=start, end=end, entity=tag["chain"], kinds=kinds)


def read_annotation(path: Path) -> Annotation:
    """Return the boxes of one annotation file.

    Raises:
        DataError: the file is absent, not XML, an object has no name, a number is none, or a box leaves the picture.
    """
    tree = _parse_xml(path)
    size = _size(tree, path)
    boxes: defaultdict[str, list[Box]] = defaultdict(list)
    flagged: dict[str, set[str]] = {"scene": set(), "nobndbox": set()}
    for number, item in enumerate(tree.iter("object")):
        where = f"{path}, object {number}"
        chains = [name.text.strip() for name in item.findall("name") if name.text]
        if not chains:
            raise DataError("has no name", where=where, remedy="expected <name>chain</name>")
        for flag, members in flagged.items():
            if (item.findtext(flag) or "0").strip() == "1":
                members.update(chains)
        for found in item.findall("bndbox"):
            box = _box(found, size, where)
            for chain in chains:
                boxes[chain].append(box)
    return Annotation(
        size=size,
        boxes={chain: tuple(items) for chain, items in boxes.items()},
        scenes=frozenset(flagged["scene"]),
        without_box=frozenset(flagged["nobndbox"]),
    )


def _parse_xml(path: Path) -> ElementTree.Element:
    text = "\n".join(line for _, line in read_lines(path))
    # Entities could expand without bound; the release declares none.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("declares a document type", where=path, remedy="annotation files have none; remove it")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"is not XML ({error})", where=path, remedy="download it again") from error


def _size(tree: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    size = tree.find("size")
    if size is None:
        return None
    width, height = (_number(size, side, f"{path}, size") for side in ("width", "height"))
    if not (1 <= width < math.inf and 1 <= height < math.inf):
        raise DataError(f"has the size {width:g} x {height:g}", where=f"{path}, size", remedy="fix the annotation")
    return int(width), int(height)


def _box(element: ElementTree.Element, size: tuple[int, int] | None, where: str) -> Box:
    x1, y1, x2, y2 = (_number(element, name, where) - 1 for name in ("xmin", "ymin", "xmax", "ymax"))
    return clip_box((x1, y1, x2, y2), size, where)


def _number(element: ElementTree.Element, name: str, where: str) -> float:
    text = element.findtext(name)
    try:
        return float(text or "")
    except ValueError as error:
        raise DataError(f"has <{name}> {text!r}, expected a number", where=where, remedy="fix it") from error


def read_unrelated(path: Path) -> tuple[str, ...]:
    """Return the ids of captions that do not describe their picture, from the release's ``UNRELATED_CAPTIONS``.

    The file counts sentences from 1; the ids returned count from 0 as example ids do.

    Raises:
        DataError: a line that is not an image id and a number from 1.
    """
    found = []
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        image_id, _, sentence = line.strip().partition(" ")
        if not sentence.isdigit() or int(sentence) < 1:
            problem = f"is {line!r}, expected an image id and a sentence number from 1"
            raise DataError(problem, where=f"{path}, line {number}", remedy="fix the line")
        found.append(f"{image_id}#{int(sentence) - 1}")
    return tuple(found)
