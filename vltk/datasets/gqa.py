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


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise DataError("has no .json file in it", where=path, remedy="give a question file or a folder of them")
    return files
