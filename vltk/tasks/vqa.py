"""Visual question answering on VQA v2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vltk.datasets import visual_genome, vqa
from vltk.errors import UsageError
from vltk.metrics.accuracy import vqa_scores
from vltk.tasks._outcomes import counted_rows, mean_of, means_by
from vltk.tasks._questions import ClosedAnswers, QuestionConfig
from vltk.tasks._submission import JSONList, Submission
from vltk.tasks._task import Split
from vltk.types import AnswersTarget, Example, Measurement, Prediction


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of VQA v2 and, to train on more, of Visual Genome. Files may be gzipped."""

    questions: Path | None = None
    """v2_OpenEnded_mscoco_*_questions.json."""
    annotations: Path | None = None
    """v2_mscoco_*_annotations.json with the ten answers; leave it out for test sets."""
    visual_genome: Path | None = None
    """Visual Genome's question_answers.json, added behind the questions; image ids are Visual Genome's numbers."""
    image_id: str | None = None
    """Image id of a question's picture, which the files know by number. By default COCO's file name without .jpg,
    "COCO_{subset}_{image_id:012d}", or "{image_id:012d}" where the file has no header with the subset."""
    ten_answers: bool = True
    """Refuse a question that has not exactly ten answers."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        if self.questions is None and self.visual_genome is None:
            raise UsageError("no annotation file is given", remedy="give --questions or --visual-genome")
        if self.questions is None and self.annotations is not None:
            raise UsageError("--annotations is given without --questions", remedy="give --questions as well")
        return self._examples()

    def _examples(self) -> Iterator[Example]:
        if self.questions is not None:
            yield from vqa.read_examples(
                self.questions, annotations=self.annotations, image_id=self.image_id, ten_answers=self.ten_answers
            )
        if self.visual_genome is not None:
            yield from visual_genome.read_examples(self.visual_genome)


_RESULTS = JSONList(id_key="question_id", answer_key="answer", whole_ids=True)
SUBMISSION = Submission(
    server="EvalAI's VQA challenge",
    name="vqa_OpenEnded_mscoco_{split}_{method}_results.json",
    lines=_RESULTS.lines,
    read=_RESULTS.read,
    fault=_RESULTS.fault,
    sizes={"train2014": 443_757, "val2014": 214_354, "test-dev2015": 107_394, "test2015": 447_793},
)
"""Every question of the split; the server wants all of test2015 for test-standard as well as for test-dev."""


class Questions(ClosedAnswers):
    """Questions of VQA v2, ten people's answers each (UNITER, section 4.1 and A.2; published vocabulary of 3,129)."""

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return the accuracy over all questions, over those of each answer type and of each question type."""
        rows = counted_rows(self, split, predictions)
        by_type = [means_by(self, rows, kind, "accuracy of {!r}") for kind in (_answer_type, _question_type)]
        return [mean_of(self, self.primary, rows), *by_type[0], *by_type[1]]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return the official accuracy of one question."""
        return {self.primary: self._score(example, prediction.answer)}

    def _score(self, example: Example, answer: str) -> float:
        if isinstance(example.target, AnswersTarget):
            return float(vqa_scores([answer], [example.target.answers])[0])
        scores = self.vocabulary.of_examples([example])[0]
        return float(scores[self.vocabulary.labels[answer]]) if answer in self.vocabulary.labels else 0.0


def _answer_type(example: Example) -> str:
    return example.target.answer_type if isinstance(example.target, AnswersTarget) else ""


def _question_type(example: Example) -> str:
    return example.target.question_type if isinstance(example.target, AnswersTarget) else ""


@dataclass(frozen=True, kw_only=True)
class Config(QuestionConfig):
    """What VQA's questions are answered with."""

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Questions:
        """Make the task around an encoder."""
        return Questions(model, self.head, self.vocabulary(split, kept))
