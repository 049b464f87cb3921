"""VQA v2: questions and their ten answers, gzipped or not, with the official header or without it.

The files name pictures by COCO's number. The image id is the stem of COCO's 2014/2015 file name, made from the
header: ``COCO_<data_subtype>_<number, 12 digits>``, where ``test-dev2015`` questions are asked about ``test2015``
pictures. Without a header it is the number in 12 digits, as in COCO 2017's file names. Another naming is a pattern,
for example ``"COCO_val2014_{image_id:012d}"``. The example id is the question id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vltk.datasets._image_id import filled
from vltk.datasets._record import Record, read_json, read_lines, unique
from vltk.errors import DataError
from vltk.types import AnswersTarget, Example

ANSWERS = 10


def read_examples(
    questions: Path, *, annotations: Path | None = None, image_id: str | None = None, ten_answers: bool = True
) -> Iterator[Example]:
    """Yield one example for each question, in the order of the question file.

    Args:
        questions: ``v2_OpenEnded_mscoco_*_questions.json``.
        annotations: ``v2_mscoco_*_annotations.json``; without it the targets are None (test sets).
        image_id: pattern of the image id; ``image_id`` is COCO's number, ``subset`` the header's subset.
        ten_answers: refuse a question that has not exactly ten answers.

    Raises:
        DataError: a key is missing or of another type, an id occurs twice, the two files do not hold the
            same questions, or a question has not ten answers.
        UsageError: a pattern that cannot be filled.
    """
    file = Record.of_file(questions)
    subset = _subset(file)
    pattern = image_id or ("COCO_{subset}_{image_id:012d}" if subset else "{image_id:012d}")
    targets = None if annotations is None else _targets(annotations, ten_answers)
    asked = set()
    for record in unique(file.records("questions"), _question_id, questions, "question_id"):
        record, question_id = record.at("question_id"), _question_id(record)
        asked.add(question_id)
        if targets is not None and question_id not in targets:
            raise record.fail(f"has no answers in {annotations}", remedy="give the annotations of the same questions")
        yield Example(
            id=question_id,
            image_ids=(filled(pattern, image_id=record.integer("image_id"), **subset),),
            texts=(record.clean_text("question"),),
            target=None if targets is None else targets[question_id],
        )
    if targets is not None and (left := targets.keys() - asked):
        problem = f"{len(left)} of its {len(targets)} annotations have no question in {questions}, first {min(left)}"
        raise DataError(problem, where=annotations, remedy="give the questions of the same annotations")


def _question_id(record: Record) -> str:
    return record.identifier("question_id")


def _subset(file: Record) -> dict[str, str]:
    if not file.has("data_subtype"):
        return {}
    return {"subset": file.text("data_subtype").replace("test-dev", "test")}


def _targets(path: Path, ten_answers: bool) -> dict[str, AnswersTarget]:
    file = Record.of_file(path)
    records = unique(file.records("annotations"), _question_id, path, "question_id")
    return {_question_id(record): _target(record.at("question_id"), ten_answers) for record in records}


def _target(record: Record, ten_answers: bool) -> AnswersTarget:
    # Answers stay exactly as typed: the official score compares them before it cleans them.
    answers = tuple(item.text("answer") for item in record.records("answers"))
    if ten_answers and len(answers) != ANSWERS:
        problem = f"has {len(answers)} answers, expected {ANSWERS}"
        raise record.fail(problem, remedy="fix it, or allow it (ten_answers=False, --no-ten-answers)")
    if not answers:
        raise record.fail("has no answer")
    return AnswersTarget(
        answers=answers,
        question_type=record.text("question_type") if record.has("question_type") else "",
        answer_type=record.text("answer_type") if record.has("answer_type") else "",
    )


def read_results(path: Path) -> dict[str, str]:
    """Return a result file, ``[{question_id, answer}]``, as answers by question id.

    Raises:
        DataError: it is no such list, or a question occurs twice.
    """
    results = Record.of({"results": read_json(path)}, path).records("results")
    once = unique(results, _question_id, path, "question_id")
    return {_question_id(result): result.text("answer") for result in once}


def read_question_types(path: Path) -> tuple[str, ...]:
    """Return the official list of question types, one a line."""
    return tuple(line.strip() for _, line in read_lines(path) if line.strip())
