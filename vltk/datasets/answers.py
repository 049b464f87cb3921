"""Answer vocabularies of VQA and GQA: ``ans2label.json`` ({answer: label}) or ``label2ans.json`` ([answer])."""

from __future__ import annotations

from pathlib import Path

from vltk.datasets._record import read_json
from vltk.errors import DataError


def read_answers(path: Path) -> tuple[str, ...]:
    """Return the answers by their label, from either of the two layouts.

    The empty answer is an answer: VQA's published list has it as label 0.

    Raises:
        DataError: an answer occurs twice, or the labels do not run from 0 without a gap.
    """
    content = read_json(path)
    if isinstance(content, dict):
        labels = list(content.values())
        if not all(type(label) is int for label in labels) or sorted(labels) != list(range(len(labels))):
            problem = f"gives {len(labels)} answers labels that do not run from 0 without a gap"
            raise DataError(problem, where=path, remedy="check that it is an ans2label.json")
        content = sorted(content, key=content.__getitem__)
    if not isinstance(content, list) or not content or not all(isinstance(answer, str) for answer in content):
        remedy = "expected {answer: label} or [answer, ...]"
        raise DataError("is no answer vocabulary", where=path, remedy=remedy)
    if len(set(content)) != len(content):
        twice = next(answer for answer in content if content.count(answer) > 1)
        raise DataError(f"answer {twice!r} occurs twice", where=path, remedy="keep one of them")
    return tuple(content)
