"""GQA: question files ``{question id: record}``, one file or a folder of them (``train_all_questions/``).

The image id is ``imageId`` (``n578564``, ``2331963``), which is also the picture's file name without suffix; the
example id is the question id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._labels import Labels
from vltk.datasets._record import Record, unique, whole_text
from vltk.errors import DataError
from vltk.metrics.accuracy import GQAChoices, GQAQuestion
from vltk.types import AnswersTarget, Example


def read_examples(path: Path, *, balanced: bool = False) -> Iterator[Example]:
    """Yield one example for each question, in the order of the files; a folder is read one file at a time.

    The target's ``question_type`` is GQA's structural type (``query``, ``verify``, ``choose``, ...).

    Args:
        path: a question file, or a folder of them.
        balanced: keep only the questions that GQA marks as balanced (``isBalanced``).

    Raises:
        DataError: a key is missing or of another type, a question id occurs twice, or only some have an answer.
    """
    labels = Labels("answer")
    yield from unique(_questions(path, labels, balanced), lambda example: example.id, path, "question id")


def _questions(path: Path, labels: Labels, balanced: bool) -> Iterator[Example]:
    for file in _files(path):
        content = Record.of_file(file)
        for question_id in content.values:
            record = content.record(question_id)
            if balanced and not record.flag("isBalanced"):
                continue
            yield Example(
                id=whole_text(question_id, str(file)),
                image_ids=(record.image("imageId"),),
                texts=(record.clean_text("question"),),
                target=_target(record) if labels.there(record) else None,
            )


def _target(record: Record) -> AnswersTarget:
    kind = record.record("types").text("structural") if record.has("types") else ""
    return AnswersTarget(answers=(record.clean_text("answer"),), question_type=kind)


def read_questions(path: Path) -> dict[str, GQAQuestion]:
    """Return what GQA's figures need to know of each question of a question file, or of a folder of them.

    Raises:
        DataError: a key is missing or of another type.
    """
    return {name: _question(record) for file in _files(path) for name, record in _records(Record.of_file(file))}


def _records(file: Record) -> Iterator[tuple[str, Record]]:
    return ((name, file.record(name)) for name in file.values)


def _question(record: Record) -> GQAQuestion:
    types, groups = (record.record(key) if record.has(key) else None for key in ("types", "groups"))
    return GQAQuestion(
        answer=record.clean_text("answer"),
        balanced=record.flag("isBalanced"),
        structural=types.text("structural") if types is not None else "",
        detailed=types.text("detailed") if types is not None and types.has("detailed") else "",
        group=groups.text("global") if groups is not None and groups.has("global") else None,
        entailed=record.texts("entailed") if record.has("entailed") else (),
    )


def read_choices(path: Path) -> dict[str, GQAChoices]:
    """Return the valid and the plausible answers of each question (``val_choices.json``).

    Raises:
        DataError: a key is missing or of another type.
    """
    return {
        name: GQAChoices(valid=frozenset(record.texts("valid")), plausible=frozenset(record.texts("plausible")))
        for name, record in _records(Record.of_file(path))
    }


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise DataError("has no .json file in it", where=path, remedy="give a question file or a folder of them")
    return files
