"""Natural language for visual reasoning: is a statement about two pictures true?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.batching import SpecialTokens
from vltk.datasets import nlvr2
from vltk.errors import DataError
from vltk.metrics.accuracy import group_hits
from vltk.models._heads import AlignmentHead, Head, PairAttentionHead, PairHead, TripletHead
from vltk.objectives.classification import binary_cross_entropy
from vltk.objectives.masked import cross_entropy
from vltk.tasks._outcomes import counted_rows, mean_of
from vltk.tasks._prediction import AnsweringTask, PredictionModule, Row, one_text, size_of, top
from vltk.tasks._submission import Submission, csv_line, read_csv_rows
from vltk.tasks._task import Split
from vltk.types import Batch, Example, LabelTarget, Losses, Measurement, Prediction

Setting = Literal["triplet", "pair", "pair-biattn", "alignment", "relations"]
ANSWERS = ("False", "True")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Statements of NLVR2. Image ids are file names without .png: dev-850-0-img0, dev-850-0-img1."""

    annotations: Path
    """train.json, dev.json, test1.json: one JSON object a line."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each statement and picture pair."""
        return nlvr2.read_examples(self.annotations)


def _lines(predictions: Sequence[Prediction]) -> Iterator[str]:
    return (csv_line((one.id, one.answer)) for one in predictions)


def _read(path: Path) -> Iterator[Prediction]:
    for where, cells in read_csv_rows(path):
        # The official program compares without regard to case.
        answer = cells[-1].strip().capitalize()
        if len(cells) != 2 or answer not in ANSWERS:
            problem = f"is {','.join(cells)!r:.60}, expected an identifier and True or False"
            raise DataError(problem, where=where, remedy="write identifier,True")
        yield Prediction(id=cells[0].strip(), answer=answer)


def _fault(prediction: Prediction) -> str | None:
    wrong = prediction.answer not in ANSWERS
    return f"has the answer {prediction.answer!r:.40}, expected True or False" if wrong else None


SUBMISSION = Submission(
    server="the authors of NLVR2 (a file for test-P, one for test-U)",
    name="{split}.csv",
    lines=_lines,
    read=_read,
    fault=_fault,
    sizes={"train": 86_373, "dev": 6_982, "test1": 6_967, "test2": 6_970},
)
"""Identifier and answer of each statement, without a header."""


class Statements(AnsweringTask):
    """Statements about two pictures (UNITER, section 4.3 and table 5; SSRP's supplement, A.1 to A.3).

    The regions of the left picture stand in segment 1, those of the right one in segment 2.

    Args:
        model: the encoder.
        setting: how the two pictures meet.
    """

    targets_known: ClassVar[tuple[type, ...]] = (LabelTarget,)

    def __init__(self, model: nn.Module, setting: Setting) -> None:
        self.setting = setting
        super().__init__(PredictionModule(model, _head(model, setting), self.loss))

    def rows(self, example: Example, special: SpecialTokens) -> list[Row]:
        """Return the statement beside both pictures, or once beside each."""
        if len(example.image_ids) != 2:
            problem = f"example {example.id} has {len(example.image_ids)} picture, a statement is about two"
            raise DataError(problem, remedy="prepare it with --task nlvr2")
        pieces = one_text(example, special)
        if self.setting == "triplet":
            return [Row(pieces=pieces, images=example.image_ids, image_segments=(1, 2))]
        return [
            Row(pieces=pieces, images=(image,), image_segments=(segment,))
            for segment, image in enumerate(example.image_ids, 1)
        ]

    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return ``label`` [B]: 1 where the statement is true."""
        return {"label": torch.tensor([ANSWERS.index(self._label(example)) for example in examples])}

    def _label(self, example: Example) -> str:
        label = example.target.label if isinstance(example.target, LabelTarget) else ""
        if label not in ANSWERS:
            problem = f"has the label {label!r}, expected True or False"
            raise DataError(problem, where=f"example {example.id}", remedy="prepare it with --task nlvr2")
        return label

    def loss(self, scores: Tensor, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of [B, 2] logits, or of the supplement's [B, 1]."""
        label = batch.targets["label"]
        if scores.shape[1] == 1:
            return binary_cross_entropy(scores, label.unsqueeze(1).float())
        return cross_entropy(scores, label)

    def answers(self, scores: Tensor, batch: Batch) -> list[Prediction]:
        """Return True or False, with the logits of both."""
        both = F.pad(scores, (1, 0)) if scores.shape[1] == 1 else scores
        return top(both, list(dict.fromkeys(batch.ids)), ANSWERS)

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return accuracy, and consistency: the share of sentences that are judged rightly of all their pairs."""
        rows = counted_rows(self, split, predictions)
        names = [example.group or example.id for example, _ in rows]
        right = group_hits(names, [hit == 1 for _, hit in rows])
        one_each = {name: example for name, (example, _) in zip(names, rows, strict=True)}
        sentences = [(one_each[name], float(hit)) for name, hit in right.items()]
        return [mean_of(self, self.primary, rows), mean_of(self, "consistency", sentences)]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether the statement is judged rightly."""
        return {self.primary: float(prediction.answer == self._label(example))}

    def cluster(self, example: Example) -> str:
        """Return the set of pictures that a statement was written about; its statements share pictures and words."""
        return example.group.rpartition("-")[0] or example.id


def _head(model: nn.Module, setting: Setting) -> Head:
    size = size_of(model)
    if setting == "triplet":
        return TripletHead(hidden=size.hidden)
    if setting == "pair":
        return PairHead(hidden=size.hidden)
    if setting == "pair-biattn":
        return PairAttentionHead(hidden=size.hidden, heads=size.heads, dropout=size.dropout)
    return AlignmentHead(hidden=size.hidden, outputs=1, pictures=2, relational=setting == "relations")


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a statement meets two pictures."""

    setting: Setting = "pair-biattn"
    """Both pictures at once, each alone, each alone with attention across (published best), or SSRP's heads."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: a segment for the right picture."""
        return {"types": 3}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Statements:
        """Make the task around an encoder."""
        return Statements(model, self.setting)
