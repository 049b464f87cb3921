"""Visual entailment on SNLI-VE: does a sentence follow from a picture?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from vltk.datasets import snli_ve
from vltk.tasks._outcomes import counted_rows, mean_of, means_by
from vltk.tasks._questions import ClosedAnswers, HeadName
from vltk.tasks._task import Split
from vltk.tasks._vocabulary import AnswerVocabulary
from vltk.types import Example, LabelTarget, Measurement, Prediction, ScoredTarget


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pairs of SNLI-VE. Image ids are those of Flickr30k: 2248275918."""

    annotations: Path
    """snli_ve_train.jsonl, snli_ve_dev.jsonl, snli_ve_test.jsonl."""
    images: Path | None = None
    """List of the images of a split (flickr30k_test.lst), one a line; other pairs are left out."""
    premise: bool = False
    """Add the premise's caption as a second text behind the hypothesis."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each pair."""
        return snli_ve.read_examples(self.annotations, images=self.images, premise=self.premise)


class Entailment(ClosedAnswers):
    """Three-way entailment of a sentence by a picture (UNITER, section 4.1; the labels in the published order).

    Args:
        model: the encoder.
        head: name of the head.
        soft: the published binary cross entropy, or the paper's cross entropy.
        votes: score a label by the share of annotators who gave it.
    """

    targets_known: ClassVar[tuple[type, ...]] = (LabelTarget, ScoredTarget)

    def __init__(self, model: nn.Module, head: HeadName, *, soft: bool, votes: bool) -> None:
        self.votes = votes
        super().__init__(model, head, AnswerVocabulary(snli_ve.LABELS), soft=soft)

    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return ``scores`` [B, 3]."""
        return super().targets([_voted(example) for example in examples] if self.votes else examples, split)

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return accuracy over all pairs and over those of each label."""
        rows = counted_rows(self, split, predictions)
        return [mean_of(self, self.primary, rows), *means_by(self, rows, self._right)]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether the label is the right one."""
        return {self.primary: float(prediction.answer == self._right(example))}

    def _right(self, example: Example) -> str:
        return self.vocabulary.answers[int(self.vocabulary.of_examples([example])[0].argmax())]


def _voted(example: Example) -> Example:
    """Return an example whose label is scored by the share of its votes."""
    target = example.target
    if not isinstance(target, LabelTarget) or not target.votes:
        return example
    counts = Counter(vote for vote in target.votes if vote in snli_ve.LABELS)
    scores = tuple(count / counts.total() for count in counts.values())
    return replace(example, target=ScoredTarget(labels=tuple(counts), scores=scores))


@dataclass(frozen=True, kw_only=True)
class Config:
    """What entailment is learnt from."""

    loss: Literal["bce", "cross-entropy"] = "bce"
    """Binary cross entropy of each label (published code), or cross entropy of the three (paper)."""
    label_scores: Literal["gold", "votes"] = "gold"
    """Score the gold label with 1, or each label with the share of annotators who gave it."""
    head: HeadName = "mlp"
    """UNITER's head, or SSRP's with relations (an encoder with probes) or by alignment alone."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: nothing."""
        return {}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Entailment:
        """Make the task around an encoder."""
        return Entailment(model, self.head, soft=self.loss == "bce", votes=self.label_scores == "votes")
