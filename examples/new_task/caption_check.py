"""Caption checking: is a caption true of its picture? A whole task in one file, to copy into vltk/tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from vltk.datasets._record import read_json_lines
from vltk.tasks._outcomes import counted_rows, mean_of
from vltk.tasks._questions import ClosedAnswers
from vltk.tasks._task import Split
from vltk.tasks._vocabulary import AnswerVocabulary
from vltk.types import Example, LabelTarget, Measurement, Prediction

LABELS = ("true", "false")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Captions with their judgement, one JSON object a line."""

    annotations: Path
    """JSON lines of id, image, caption and label (true or false)."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each line."""
        for line in read_json_lines(self.annotations):
            yield Example(
                id=line.text("id"),
                image_ids=(line.text("image"),),
                texts=(line.text("caption"),),
                target=LabelTarget(label=line.text("label")),
            )


class CaptionCheck(ClosedAnswers):
    """Two labels, learnt with cross entropy on a head of UNITER; the base class reads, batches and predicts."""

    targets_known: ClassVar[tuple[type, ...]] = (LabelTarget,)

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return accuracy, with its interval over pictures."""
        return [mean_of(self, self.primary, counted_rows(self, split, predictions))]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether the label is the right one."""
        right = isinstance(example.target, LabelTarget) and prediction.answer == example.target.label
        return {self.primary: float(right)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How checking is learnt: an option is a field with its help below it, such as this one."""

    loss: Literal["cross-entropy", "bce"] = "cross-entropy"
    """Cross entropy of the two labels, or binary cross entropy of each."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: nothing."""
        return {}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> CaptionCheck:
        """Make the task around an encoder."""
        return CaptionCheck(model, "mlp", AnswerVocabulary(LABELS), soft=self.loss == "bce")
