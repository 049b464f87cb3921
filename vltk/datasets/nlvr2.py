"""NLVR2: one JSON object a line, a statement about two pictures.

An identifier ``dev-850-2-0`` is split, set, picture pair and sentence. The image ids are the stems of the published
file names, left one first: ``dev-850-2-img0``, ``dev-850-2-img1``. Statements with one group, the identifier without
the pair number (``dev-850-0``), are one sentence over different pairs: consistency asks that all of them are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._labels import Labels
from vltk.datasets._record import Record, read_json_lines, unique
from vltk.types import Example, LabelTarget

LABELS = ("True", "False")


def read_examples(path: Path) -> Iterator[Example]:
    """Yield one example for each statement, in the order of the file; the votes are those of the validators.

    Raises:
        DataError: a key is missing or of another type, an identifier that has not four parts or occurs twice,
            a label that is neither True nor False, or labels in some lines only.
    """
    labels = Labels("label")
    examples = (_example(record.at("identifier"), labels) for record in read_json_lines(path))
    yield from unique(examples, lambda example: example.id, path, "identifier")


def _example(record: Record, labels: Labels) -> Example:
    identifier = record.identifier("identifier")
    parts = identifier.split("-")
    if len(parts) != 4 or not all(parts):
        raise record.fail("has not the four parts split-set-pair-sentence")
    split, group, pair, sentence = parts
    return Example(
        id=identifier,
        image_ids=(f"{split}-{group}-{pair}-img0", f"{split}-{group}-{pair}-img1"),
        texts=(record.clean_text("sentence"),),
        target=_target(record) if labels.there(record) else None,
        group=f"{split}-{group}-{sentence}",
    )


def _target(record: Record) -> LabelTarget:
    # Some re-written copies have JSON's true and false instead of the texts.
    label = str(record.value("label"))
    if label not in LABELS:
        raise record.fail(f"has the label {label!r}, expected {' or '.join(LABELS)}")
    rounds = [record.record(key) for key in ("validation", "extra_validations") if record.has(key)]
    return LabelTarget(label=label, votes=tuple(votes.text(worker) for votes in rounds for worker in votes.values))
