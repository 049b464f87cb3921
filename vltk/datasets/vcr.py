"""VCR (Zellers et al., 2019): one JSON object a line; a question, four answers and four rationales about a film still.

A word of a text is a string, or a list of integers that points to objects of the picture. The texts of an example are
the question, the answers, then the rationales. The image id is the stem of ``img_fn``, the example id ``annot_id``.
With the folder of the pictures' metadata each reference is a phrase with the box of its object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vltk.datasets._box import Box, clip_box
from vltk.datasets._labels import Labels
from vltk.datasets._record import Record, clean_text, read_json_lines, unique
from vltk.types import ChoiceTarget, Example, Phrase

CHOICES = 4
References = Literal["names", "numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The objects of one picture, from its metadata file.

    Attributes:
        size: (width, height).
        names: the category of each object.
        boxes: (x1, y1, x2, y2) pixels of each object.
        scores: the detector's confidence in each.
    """

    size: tuple[int, int]
    names: tuple[str, ...]
    boxes: tuple[Box, ...]
    scores: tuple[float, ...]


def read_examples(path: Path, *, pictures: Path | None = None, references: References = "names") -> Iterator[Example]:
    """Yield one example for each question, in the order of the file.

    Args:
        path: ``train.jsonl``, ``val.jsonl`` or ``test.jsonl`` (which has no labels).
        pictures: the folder ``vcr1images`` with the metadata files; without it references have no boxes.
        references: how a reference is written into a text: ``names`` gives ``person and car``, ``numbers`` ``[0,2]``.

    Raises:
        DataError: a key is missing or of another type, not four choices, a reference to an object that is not
            there, a label out of range, labels in some lines only, or metadata that does not fit.
    """
    labels = Labels("answer_label")
    examples = (_example(record.at("annot_id"), labels, pictures, references) for record in read_json_lines(path))
    yield from unique(examples, lambda example: example.id, path, "annot_id")


def _example(record: Record, labels: Labels, pictures: Path | None, references: References) -> Example:
    objects = record.texts("objects")
    if not all(map(str.split, objects)):
        raise record.fail(f"has an object without name in {list(objects)!r:.60}")
    frame = None
    if pictures is not None:
        frame = read_frame(pictures / record.text("metadata_fn"))
        if frame.names != objects:
            problem = f"has objects {list(objects)}, its metadata has {list(frame.names)}"
            raise record.fail(problem, remedy="give the metadata of the same release")
    writer = _Writer(record=record, objects=objects, frame=frame, references=references)
    choices = [*record.items("answer_choices", count=CHOICES), *record.items("rationale_choices", count=CHOICES)]
    texts = tuple(writer.text(words) for words in (record.items("question"), *choices))
    return Example(
        id=record.identifier("annot_id"),
        image_ids=(record.image("img_fn"),),
        texts=texts,
        target=_target(record, objects) if labels.there(record) else None,
        phrases=tuple(writer.phrases),
    )


def _target(record: Record, objects: tuple[str, ...]) -> ChoiceTarget:
    answer, rationale = record.integer("answer_label"), record.integer("rationale_label")
    if not (0 <= answer < CHOICES and 0 <= rationale < CHOICES):
        raise record.fail(f"has the labels {answer} and {rationale}, expected 0 to {CHOICES - 1}")
    return ChoiceTarget(answer=answer, rationale=rationale, objects=objects)


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Writes the texts of one record and notes where they speak of objects."""

    record: Record
    objects: tuple[str, ...]
    frame: Frame | None
    references: References
    phrases: list[Phrase] = field(default_factory=list)
    texts: int = 0

    def text(self, words: Any) -> str:
        """Return words as one text; a list among them refers to objects, whose places in it are kept."""
        if not isinstance(words, list):
            raise self.record.fail(f"has {words!r:.40} where a list of words is expected")
        written: list[str] = []
        for word in words:
            if isinstance(word, list):
                self._refer(word, written)
            elif isinstance(word, str):
                written.extend(word.split())
            else:
                raise self.record.fail(f"has {word!r:.40} in a text, expected a word or a list of object numbers")
        self.texts += 1
        return clean_text(" ".join(written), self.record.where)

    def _refer(self, numbers: list[Any], written: list[str]) -> None:
        if not numbers or not all(type(n) is int and 0 <= n < len(self.objects) for n in numbers):
            raise self.record.fail(f"refers to objects {numbers!r}, it has {len(self.objects)} (numbered from 0)")
        if self.references == "numbers":
            written.append(f"[{','.join(map(str, numbers))}]")
            for number in numbers:
                self._note(number, len(written) - 1, len(written))
            return
        for position, number in enumerate(numbers):
            if position:
                written.append("and")
            start = len(written)
            written.extend(self.objects[number].split())
            self._note(number, start, len(written))

    def _note(self, number: int, start: int, end: int) -> None:
        boxes = () if self.frame is None else (self.frame.boxes[number],)
        kinds = (self.objects[number],)
        self.phrases.append(Phrase(text=self.texts, start=start, end=end, entity=str(number), kinds=kinds, boxes=boxes))


def read_frame(path: Path) -> Frame:
    """Return the objects of a metadata file: boxes [n, 5] (x1, y1, x2, y2, score), names, width, height.

    Raises:
        DataError: the file is absent, a key is missing, a row has not five numbers, or the counts differ.
    """
    record = Record.of_file(path)
    size = record.size()
    names, rows = record.texts("names"), record.items("boxes")
    if len(rows) != len(names):
        raise record.fail(f"has {len(rows)} boxes for {len(names)} names")
    boxes, scores = [], []
    for number, row in enumerate(rows):
        where = f"{path}, boxes[{number}]"
        if not isinstance(row, list) or len(row) != 5:
            raise record.fail(f"has {row!r:.60} as box {number}, expected x1, y1, x2, y2, score")
        cell = Record({"box": row[:4], "score": row[4]}, where)
        boxes.append(clip_box(cell.box("box"), size, where))
        scores.append(cell.number("score"))
    return Frame(size=size, names=names, boxes=tuple(boxes), scores=tuple(scores))
