"""Closed sets of answers: where they come from, and the soft scores of what people answered (VQA, GQA)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vltk.datasets.answers import read_answers
from vltk.errors import DataError
from vltk.tasks._prediction import examples_of
from vltk.tasks._task import Split
from vltk.types import AnswersTarget, Example, LabelTarget, ScoredTarget

_SCORE = 0.3  # of each of the ten people who gave the answer, up to all of the score


class AnswerVocabulary:
    """The answers that can be given, by their label.

    Args:
        answers: in the order of their labels.

    Example:
        >>> vocabulary = AnswerVocabulary(["red", "blue"])
        >>> vocabulary.scores(AnswersTarget(answers=("red",) * 3 + ("crimson",) * 7), "question 1").tolist()
        [0.8999999761581421, 0.0]
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = tuple(answers)

    def __len__(self) -> int:
        return len(self.answers)

    @classmethod
    def of(cls, *, file: Path | None, kept: Mapping[str, Any] | None, split: Split, least: int) -> AnswerVocabulary:
        """Return the vocabulary of a run: what it was trained with, else a file's, else that of the training split.

        Args:
            file: ans2label.json or label2ans.json.
            kept: what a trained task describes itself with.
            split: what is trained on.
            least: questions that an answer must be the most frequent one of.
        """
        if kept is not None:
            return cls(kept["answers"])
        return cls(read_answers(file)) if file is not None else cls.built(split, least=least)

    @classmethod
    def built(cls, split: Split, *, least: int) -> AnswerVocabulary:
        """Return the answers that are the most frequent one of at least so many questions, frequent ones first.

        Raises:
            DataError: there is none.
        """
        counts: Counter[str] = Counter()
        for example in examples_of(split):
            if isinstance(example.target, AnswersTarget):
                counts[Counter(example.target.answers).most_common(1)[0][0]] += 1
        if not counts:
            problem = "has no answers that a vocabulary could be made of"
            raise DataError(problem, where=split.name, remedy="prepare it with its annotations, or give --answers")
        answers = sorted((a for a, count in counts.items() if count >= least), key=lambda a: (-counts[a], a))
        if not answers:
            problem = f"no answer is the most frequent one of {least} questions"
            raise DataError(problem, where=split.name, remedy="lower --min-answers, or give --answers")
        return cls(answers)

    @cached_property
    def labels(self) -> dict[str, int]:
        """The label of each answer."""
        return {answer: label for label, answer in enumerate(self.answers)}

    def scores(self, target: AnswersTarget | ScoredTarget | LabelTarget, where: str) -> Tensor:
        """Return the [C] soft scores of a target; an answer that is no part of the vocabulary counts for nothing.

        Of several people's answers each one counts 0.3, up to 1 (VQA's accuracy averaged over sets of nine people); a
        single answer counts 1.

        Raises:
            DataError: a source's own label that is none of the vocabulary.
        """
        soft = np.zeros(len(self), np.float32)
        if isinstance(target, ScoredTarget):
            for label, score in zip(target.labels, target.scores, strict=True):
                soft[self._label(label, where)] = score
        elif isinstance(target, LabelTarget):
            soft[self._label(target.label, where)] = 1
        else:
            for answer, count in Counter(target.answers).items():
                if answer in self.labels:
                    soft[self.labels[answer]] = min(1.0, _SCORE * count) if len(target.answers) > 1 else 1.0
        return torch.from_numpy(soft)

    def _label(self, label: str, where: str) -> int:
        if label in self.labels:
            return self.labels[label]
        if label.isdecimal() and int(label) < len(self):
            return int(label)
        problem = f"has the label {label!r}, which is outside the vocabulary of {len(self)} answers"
        raise DataError(problem, where=where, remedy="give the --answers that the labels were made with")

    def of_examples(self, examples: Sequence[Example]) -> Tensor:
        """Return the [N, C] soft scores of examples with targets."""
        return torch.stack([self.scores(_target(example), f"example {example.id}") for example in examples])


def _target(example: Example) -> AnswersTarget | ScoredTarget | LabelTarget:
    if isinstance(example.target, AnswersTarget | ScoredTarget | LabelTarget):
        return example.target
    raise DataError("has no answers", where=f"example {example.id}", remedy="prepare it with its annotations")
