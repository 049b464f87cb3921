"""Visual commonsense reasoning: answer a question about a film still, and say why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.batching import SpecialTokens
from vltk.datasets import vcr
from vltk.errors import DataError
from vltk.metrics.accuracy import vcr_hits
from vltk.models._heads import ChoiceHead
from vltk.objectives.masked import cross_entropy
from vltk.tasks._object_tokens import ObjectTokens
from vltk.tasks._outcomes import mean_of
from vltk.tasks._prediction import AnsweringTask, PredictionModule, Row, pieces_of, size_of
from vltk.tasks._submission import Submission, choice_probabilities, csv_line, read_csv_rows
from vltk.tasks._task import Split
from vltk.types import Batch, ChoiceTarget, Example, Losses, Measurement, Prediction


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions of VCR. Image ids are the file names of the stills without folder and .jpg."""

    annotations: Path
    """train.jsonl, val.jsonl, test.jsonl."""
    pictures: Path | None = None
    """Folder vcr1images with the metadata files; without it references to objects have no boxes."""
    references: Literal["names", "numbers"] = "names"
    """How a reference to objects is written into a text: "person and car", or "[0,2]"."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each question."""
        return vcr.read_examples(self.annotations, pictures=self.pictures, references=self.references)


_GROUPS = ("answer", *(f"rationale_conditioned_on_a{place}" for place in range(vcr.CHOICES)))
_HEADER = ("annot_id", *(f"{group}_{place}" for group in _GROUPS for place in range(vcr.CHOICES)))


def _lines(predictions: Sequence[Prediction]) -> Iterator[str]:
    yield csv_line(_HEADER)
    # The server's example is in the order of the numbers in the ids.
    for one in sorted(predictions, key=_number):
        scores = np.zeros(0) if one.scores is None else one.scores
        yield csv_line((one.id, *(f"{value:.8f}" for value in choice_probabilities(scores, vcr.CHOICES))))


def _number(prediction: Prediction) -> int:
    digits = prediction.id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _read(path: Path) -> Iterator[Prediction]:
    rows = read_csv_rows(path)
    where, header = next(rows, (str(path), []))
    if tuple(header) != _HEADER:
        problem = f"begins with {','.join(header)!r:.60}, expected {','.join(_HEADER[:2])}, ... {_HEADER[-1]}"
        raise DataError(problem, where=where, remedy="write the columns of the server's example")
    for where, cells in rows:
        try:
            scores = np.array([float(cell) for cell in cells[1:]], np.float32)
        except ValueError:
            scores = np.zeros(0, np.float32)
        if len(cells) != len(_HEADER) or not np.isfinite(scores).all() or not scores.size:
            raise DataError(
                f"is {','.join(cells)!r:.60}, expected an id and 20 numbers", where=where, remedy="predict again"
            )
        # The scores that these are the probabilities of.
        yield chosen(cells[0], np.log(scores.clip(1e-30)) if scores.min() >= 0 else scores)


def chosen(name: str, scores: NDArray[np.float32]) -> Prediction:
    """Return answer and rationale with the highest scores, of eight scores or of twenty."""
    answer = int(scores[: vcr.CHOICES].argmax())
    start = (1 + (answer if len(scores) > 2 * vcr.CHOICES else 0)) * vcr.CHOICES
    rationale = int(scores[start : start + vcr.CHOICES].argmax())
    return Prediction(id=name, answer=f"{answer},{rationale}", scores=scores)


def _fault(prediction: Prediction) -> str | None:
    count = 0 if prediction.scores is None else prediction.scores.size
    wanted = len(_HEADER) - 1
    problem = f"has {count} scores, the server wants {wanted}: four answers, four rationales of each"
    return problem if count != wanted else None


SUBMISSION = Submission(
    server="the VCR leaderboard",
    name="vcr_{split}_{method}.csv",
    lines=_lines,
    read=_read,
    fault=_fault,
    sizes={"train": 212_923, "val": 26_534, "test": 25_263},
)
"""A probability of each answer, and of each rationale after each of the four answers."""


class Choices(AnsweringTask):
    """Chooses an answer, and a rationale for the right answer (UNITER, section 4.1 and A.2).

    Each question with one of its answers is a row that is right or wrong, and so is each with the right answer and one
    rationale. Without labels every answer is asked for a rationale: 20 rows, as the test server wants them.

    Args:
        model: the encoder.
        every_rationale: ask every answer for a rationale even where the right one is known.
        objects: tokens in the place of references to objects; None leaves them as words.
    """

    primary = "accuracy of Q to AR"
    targets_known: ClassVar[tuple[type, ...]] = (ChoiceTarget,)

    def __init__(self, model: nn.Module, *, every_rationale: bool, objects: ObjectTokens | None = None) -> None:
        self.every_rationale, self.objects = every_rationale, objects
        if objects is not None:
            objects.extend(model)
        super().__init__(PredictionModule(model, ChoiceHead(hidden=size_of(model).hidden), self.loss))

    def rows(self, example: Example, special: SpecialTokens) -> list[Row]:
        """Return the question with each answer, then with answer and each rationale; regions of all pictures.

        The published segments: start and question 0, answer 2 with the separators around it, rationale 3 with those.
        """
        question, *choices = pieces_of(example) if self.objects is None else self.objects.pieces(example)
        if len(choices) != 2 * vcr.CHOICES:
            problem = f"example {example.id} has {len(choices)} answers and rationales, expected {2 * vcr.CHOICES}"
            raise DataError(problem, remedy="prepare it with --task vcr")
        answers, rationales = choices[: vcr.CHOICES], choices[vcr.CHOICES :]
        rows = [_row(example, special, question, answer) for answer in answers]
        for premise in answers if self._asks_all(example) else [answers[_target(example).answer]]:
            rows += [_row(example, special, question, premise, rationale) for rationale in rationales]
        return rows

    def _asks_all(self, example: Example) -> bool:
        return self.every_rationale or example.target is None

    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return ``right`` [B], 1 for rows with the right choice and -1 for rationales of wrong answers."""
        return {"right": torch.cat([torch.tensor(self._right(example)) for example in examples])}

    def _right(self, example: Example) -> list[int]:
        target, choices = _target(example), range(vcr.CHOICES)
        right = [int(place == target.answer) for place in choices]
        for premise in choices if self._asks_all(example) else [target.answer]:
            known = premise == target.answer
            right += [int(place == target.rationale) if known else -1 for place in choices]
        return right

    def describe(self) -> dict[str, Any]:
        """Return the objects that have tokens."""
        return {} if self.objects is None else self.objects.describe()

    def loss(self, scores: Tensor, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of [B, 2] logits."""
        asked = batch.targets["right"] >= 0
        return cross_entropy(scores[asked], batch.targets["right"][asked])

    def answers(self, scores: Tensor, batch: Batch) -> list[Prediction]:
        """Return answer and rationale, and the logits of "right": four of answers, then four of each premise."""
        found, place = [], 0
        for name, rows in groupby(batch.ids):
            count = len(list(rows))
            kept = scores[place : place + count, 1].cpu().numpy().astype(np.float32)
            place += count
            found.append(chosen(name, kept))
        return found

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return the accuracies of Q to A, of QA to R (after the right answer), and of both at once."""
        counted = [(example, self.counted(example, one, split)) for example, one in self.paired(split, predictions)]
        return [mean_of(self, name, [(one, values[name]) for one, values in counted]) for name in counted[0][1]]

    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return whether both are right, and each of them alone."""
        answered, explained = _hits(prediction, _target(example))
        return {
            self.primary: float(answered and explained),
            "accuracy of Q to A": float(answered),
            "accuracy of QA to R": float(explained),
        }


def _row(example: Example, special: SpecialTokens, *parts: Sequence[int]) -> Row:
    segments = [0] * (1 + len(parts[0]))
    for segment, part in enumerate(parts[1:], 2):
        segments += [segment] * (1 + len(part))
    return Row(pieces=special.frame(*parts), segments=[*segments, segments[-1]], images=example.image_ids)


def _target(example: Example) -> ChoiceTarget:
    target = example.target
    if not isinstance(target, ChoiceTarget):
        raise DataError("has no right choice", where=f"example {example.id}", remedy="prepare it with --task vcr")
    if not (0 <= target.answer < vcr.CHOICES and 0 <= target.rationale < vcr.CHOICES):
        problem = f"has the right choices {target.answer} and {target.rationale}, expected 0 to {vcr.CHOICES - 1}"
        raise DataError(problem, where=f"example {example.id}", remedy="fix the annotation")
    return target


def _hits(prediction: Prediction, target: ChoiceTarget) -> tuple[bool, bool]:
    """Return whether answer and rationale are right, by the scores of all choices or by the two numbers alone."""
    if prediction.scores is not None:
        answer, rationale = np.array([target.answer]), np.array([target.rationale])
        (answered,), (explained,) = vcr_hits(prediction.scores[None], answer, rationale)
        return bool(answered), bool(explained)
    parts = prediction.answer.split(",")
    if len(parts) != 2 or not all(part in ("0", "1", "2", "3") for part in parts):
        problem = f"has the answer {prediction.answer!r:.40}, expected two numbers of 0 to 3, e.g. 2,3"
        raise DataError(problem, where=f"prediction {prediction.id}", remedy="write answer and rationale")
    return int(parts[0]) == target.answer, int(parts[1]) == target.rationale


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is asked of each question."""

    every_rationale: bool = False
    """Score the rationales of wrong answers too where the right one is known (20 rows a question, not 8)."""
    object_tokens: bool = False
    """Read a token of its own in the place of each reference to an object, as published; prepared words otherwise."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size: segments for answer and rationale."""
        return {"types": 4}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Choices:
        """Make the task around an encoder."""
        objects = None
        if self.object_tokens:
            objects = ObjectTokens.learnt(split) if kept is None else ObjectTokens.of(kept)
        return Choices(model, every_rationale=self.every_rationale, objects=objects)
