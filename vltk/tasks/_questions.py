"""Questions about one picture with answers of a closed set: what VQA and GQA share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vltk.batching import SpecialTokens
from vltk.models._heads import AlignmentHead, AnswerHead, Head
from vltk.objectives.classification import binary_cross_entropy
from vltk.objectives.masked import cross_entropy
from vltk.tasks._prediction import AnsweringTask, PredictionModule, Row, one_text, size_of, top
from vltk.tasks._task import Split
from vltk.tasks._vocabulary import AnswerVocabulary
from vltk.types import AnswersTarget, Batch, Example, Losses, Prediction, ScoredTarget

HeadName = Literal["mlp", "alignment", "relations"]


def answer_head(name: HeadName, model: nn.Module, answers: int) -> Head:
    """Return the head that scores a closed set of answers.

    Args:
        name: UNITER's ``mlp``, or that of SSRP's supplement with ``relations`` (A.4, A.5) or by ``alignment`` alone.
        model: the encoder.
        answers: C.
    """
    hidden = size_of(model).hidden
    if name == "mlp":
        return AnswerHead(hidden=hidden, answers=answers)
    return AlignmentHead(hidden=hidden, outputs=answers, relational=name == "relations")


class ClosedAnswers(AnsweringTask):
    """A task of one text and one picture with answers of a closed set.

    Args:
        model: the encoder.
        head: name of the head.
        vocabulary: the answers.
        soft: binary cross entropy on soft scores (published), or cross entropy on the best answer.
    """

    targets_known: ClassVar[tuple[type, ...]] = (AnswersTarget, ScoredTarget)

    def __init__(self, model: nn.Module, head: HeadName, vocabulary: AnswerVocabulary, *, soft: bool = True) -> None:
        self.vocabulary, self.soft = vocabulary, soft
        super().__init__(PredictionModule(model, answer_head(head, model, len(vocabulary)), self.loss))

    def rows(self, example: Example, special: SpecialTokens) -> list[Row]:
        """Return the question beside its picture."""
        return [Row(pieces=one_text(example, special), images=example.image_ids[:1])]

    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return ``scores`` [B, C], the soft score of each answer."""
        return {"scores": self.vocabulary.of_examples(examples)}

    def loss(self, scores: Tensor, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of [B, C] logits."""
        targets = batch.targets["scores"]
        return binary_cross_entropy(scores, targets) if self.soft else cross_entropy(scores, targets.argmax(dim=1))

    def answers(self, scores: Tensor, batch: Batch) -> list[Prediction]:
        """Return the answer with the highest logit, with all logits."""
        return top(scores, batch.ids, self.vocabulary.answers)

    def describe(self) -> dict[str, Any]:
        """Return the answers in the order of their labels."""
        return {"answers": list(self.vocabulary.answers)}


@dataclass(frozen=True, kw_only=True)
class QuestionConfig:
    """What questions about pictures are answered with."""

    answers: Path | None = None
    """The answers that can be given, ans2label.json or label2ans.json; without it those of the training questions."""
    min_answers: int = 9
    """Without --answers: take what is the most frequent answer of at least so many questions."""
    head: HeadName = "mlp"
    """UNITER's head, or SSRP's with relations (an encoder with probes) or by alignment alone."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: nothing."""
        return {}

    def vocabulary(self, split: Split, kept: Any) -> AnswerVocabulary:
        """Return the answers of a run, see :meth:`AnswerVocabulary.of`."""
        return AnswerVocabulary.of(file=self.answers, kept=kept, split=split, least=self.min_answers)
