"""Visual Genome's ``question_answers.json``, which UNITER and LXMERT add to VQA's training questions.

The image id is Visual Genome's number (``2331963``), the example id ``vg-<qa_id>``, which no VQA question has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._record import Record, read_json, unique
from vltk.types import AnswersTarget, Example


def read_examples(path: Path) -> Iterator[Example]:
    """Yield one example with one answer for each question, in the order of the file.

    Answers stay as written (``Purple.``): cleaning them is the answer vocabulary's business.

    Raises:
        DataError: a key is missing or of another type, or a ``qa_id`` occurs twice.
    """
    file = Record.of({"images": read_json(path)}, path)
    yield from unique(_questions(file), lambda example: example.id, path, "qa_id")


def _questions(file: Record) -> Iterator[Example]:
    for image in file.records("images"):
        for record in image.at("id").records("qas"):
            target = AnswersTarget(answers=(record.clean_text("answer"),))
            yield Example(
                id=f"vg-{record.identifier('qa_id')}",
                image_ids=(record.identifier("image_id"),),
                texts=(record.clean_text("question"),),
                target=target,
            )
