"""Visual question answering on GQA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vltk.datasets import gqa
from vltk.metrics.accuracy import gqa_figures
from vltk.tasks._outcomes import counted_rows, mean_of, means_by
from vltk.tasks._questions import ClosedAnswers, QuestionConfig
from vltk.tasks._submission import JSONList, Submission
from vltk.tasks._task import Split
from vltk.tasks._vocabulary import AnswerVocabulary
from vltk.types import AnswersTarget, Example, Measurement, Prediction


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of GQA. Image ids are its imageId: n578564, 2331963."""

    questions: Path
    """A question file (val_balanced_questions.json), or a folder of them (train_all_questions/)."""
    balanced: bool = False
    """Keep only the questions that are marked as balanced."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        return gqa.read_examples(self.questions, balanced=self.balanced)


_RESULTS = JSONList(id_key="questionId", answer_key="prediction")
SUBMISSION = Submission(
    server="EvalAI's GQA challenge",
    name="gqa_{split}_{method}_predictions.json",
    lines=_RESULTS.lines,
    read=_RESULTS.read,
    fault=_RESULTS.fault,
    sizes={"testdev_balanced": 12_578},
)
"""Every question of the split; the server wants all questions of its submission file."""


class Questions(ClosedAnswers):
    """Questions of GQA, one right answer each (published vocabulary of 1,842).

    Args:
        model: the encoder.
        config: head, and the official files that further figures need.
        vocabulary: the answers.
    """

    def __init__(self, model: nn.Module, config: Config, vocabulary: AnswerVocabulary) -> None:
        self.config = config
        super().__init__(model, config.head, vocabulary)

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return accuracy over all questions and over those of each structural type, and the official figures.

        The latter count balanced questions and need --official-questions: binary, open, distribution, consistency where
        what is entailed was answered as well, validity and plausibility with the choices.
        """
        rows = counted_rows(self, split, predictions)
        by_kind = means_by(self, rows, _kind)
        return [mean_of(self, self.primary, rows), *by_kind, *self._official(predictions)]

    def _official(self, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        if self.config.official_questions is None:
            return []
        questions = gqa.read_questions(self.config.official_questions)
        choices = None if self.config.official_choices is None else gqa.read_choices(self.config.official_choices)
        answers = {name: prediction.answer for name, prediction in predictions.items()}
        figures = gqa_figures(questions, answers, choices=choices)
        return [
            Measurement(
                metric=f"official {name}",
                value=value,
                n=count,
                unit="chi-square / 100" if name == "distribution" else "percent",
                higher_is_better=name != "distribution",
            )
            for name, (value, count) in figures.items()
        ]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether the answer is the right one."""
        return {self.primary: float(prediction.answer == self._right(example))}

    def _right(self, example: Example) -> str:
        if isinstance(example.target, AnswersTarget):
            return example.target.answers[0]
        return self.vocabulary.answers[int(self.vocabulary.of_examples([example])[0].argmax())]


def _kind(example: Example) -> str:
    return example.target.question_type if isinstance(example.target, AnswersTarget) else ""


@dataclass(frozen=True, kw_only=True)
class Config(QuestionConfig):
    """What GQA's questions are answered with."""

    min_answers: int = 1
    """Without --answers: take what is the answer of at least so many questions."""
    official_questions: Path | None = None
    """The question file of what is measured (val_all_questions.json, or a folder), for GQA's further figures."""
    official_choices: Path | None = None
    """val_choices.json, for validity and plausibility; needs --official-questions."""

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Questions:
        """Make the task around an encoder."""
        return Questions(model, self, self.vocabulary(split, kept))
