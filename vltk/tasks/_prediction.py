"""What the tasks that answer each example share: how rows of a split become a batch, and the module that is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.batching import SpecialTokens, collate
from vltk.errors import DataError, UsageError, first_few
from vltk.mixture import Names, check_finite, special_tokens
from vltk.models._heads import AlignmentHead, Head, begin_head
from vltk.tasks._task import Split
from vltk.types import Batch, EncoderOutput, Example, Losses, Measurement, Prediction, RegionFeatures

Loss = Callable[[Tensor, Batch, torch.Generator], Losses]
"""Losses of a head's scores on a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the encoder: a text beside the regions of one picture, or of several one after the other.

    Attributes:
        pieces: the framed word pieces.
        images: ids of the pictures.
        segments: the segment of each piece, None for 0 throughout.
        image_segments: the segment of the regions of each picture.
    """

    pieces: list[int]
    images: tuple[str, ...]
    segments: list[int] | None = None
    image_segments: tuple[int, ...] = ()


class PredictionModule(nn.Module):
    """An encoder with a head and its loss.

    Args:
        model: the encoder.
        head: on top of it.
        loss: of the head's scores.

    Raises:
        UsageError: the head needs relations, which the encoder does not give.
    """

    def __init__(self, model: nn.Module, head: Head, loss: Loss) -> None:
        super().__init__()
        self.relational = isinstance(head, AlignmentHead) and head.relational
        if self.relational and not hasattr(model, "relations"):
            problem = f"{type(model).__name__} has no relation probes, which this head reads"
            raise UsageError(problem, where="--head", remedy="choose another head, or an encoder with probes (SSRP)")
        self.model, self.head, self._loss = model, head, loss

    def scores(self, batch: Batch) -> Tensor:
        """Return the head's scores of a batch."""
        output = self._encoded(batch)
        relations = (cast(Any, self.model).relations(output, batch),) if self.relational else ()
        scores: Tensor = self.head(output, batch, *relations)
        return scores

    def _encoded(self, batch: Batch) -> EncoderOutput:
        model = cast(Any, self.model)
        shortened = not self.training and not self.relational and self.head.pooled_only
        if not (shortened and hasattr(model, "encode_pooled")):
            output: EncoderOutput = model(batch)
            return output
        text, regions = model.embed_text(batch), model.embed_regions(batch)
        pooled = model.encode_pooled(text, batch.text_mask, regions, batch.region_mask)
        return EncoderOutput(text=text[:, :0], regions=regions[:, :0], pooled=pooled)

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch with targets; there is one objective, whatever it is called."""
        return self._loss(self.scores(batch), batch, generator)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Index:
    """What is known of a split after one pass over its examples.

    Attributes:
        text_lengths: [N] word pieces of the longest row, special tokens left out.
        lengths: [N] word pieces and regions of all rows.
        learnable: [N] bool, whether there is something to compare with.
        images: the pictures, each once.
        places: where each stands.
    """

    text_lengths: NDArray[np.int32]
    lengths: NDArray[np.int32]
    learnable: NDArray[np.bool_]
    images: Names
    places: dict[str, int] = field(repr=False)


class AnsweringTask(ABC):
    """A task that answers each example; the six differ in their rows, their targets and their figures.

    Args:
        module: what is trained.
    """

    primary = "accuracy"
    targets_known: ClassVar[tuple[type, ...]] = ()
    """The kinds of target that the task can learn from."""

    def __init__(self, module: PredictionModule) -> None:
        self.module: nn.Module = module
        self.blind = False
        self._indexes: dict[Split, _Index] = {}

    @abstractmethod
    def rows(self, example: Example, special: SpecialTokens) -> list[Row]:
        """Return the rows of the encoder that an example becomes."""

    @abstractmethod
    def targets(self, examples: Sequence[Example], split: Split) -> dict[str, Tensor]:
        """Return what the loss compares with; every example has a target.

        Raises:
            DataError: a target that the task does not know.
        """

    @abstractmethod
    def answers(self, scores: Tensor, batch: Batch) -> list[Prediction]:
        """Return the predictions that scores stand for, one an example."""

    @abstractmethod
    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return the official figures of predictions by example id."""

    @abstractmethod
    def counted(self, example: Example, prediction: Prediction, split: Split) -> dict[str, float]:
        """Return what a prediction counts, 0 to 1, in each figure that is a mean over examples."""

    def cluster(self, example: Example) -> str:
        """Return the name of what an example shares with those that it depends on: its picture."""
        return example.image_ids[0]

    def protocol(self, split: Split) -> dict[str, Any]:
        """Return the rules that the figures of a split depend on, for its receipt."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what a run folder must keep of the data."""
        return {}

    def initialise_head(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Begin the head from a fine-tuned model's, where ``weights`` hold it; say what became of it."""
        return [begin_head(self._module.head, weights)]

    @property
    def _module(self) -> PredictionModule:
        return cast(PredictionModule, self.module)

    def training_rows(self, split: Split, *, max_text_length: int) -> NDArray[np.int32]:
        """Return the rows with a target and a text of at most so many word pieces.

        Raises:
            DataError: a target that the task does not know, a picture without features, or no row is left.
        """
        index = self._index(split)
        short = index.text_lengths <= max_text_length
        rows = np.flatnonzero(short & index.learnable).astype(np.int32)
        if not len(rows):
            problem = f"nothing to learn from: of {len(split)} examples {int((~short).sum())} are too long"
            problem += f" and {int((~index.learnable).sum())} have no target to learn from"
            raise DataError(problem, where=split.name, remedy="prepare annotations with labels, or allow longer texts")
        return rows

    def lengths(self, split: Split) -> NDArray[np.int32]:
        """Return [N] word pieces and regions of every example, over all of its rows.

        Raises:
            DataError: a picture without features, or examples of another task.
        """
        return self._index(split).lengths

    def batch(self, split: Split, rows: Sequence[int] | NDArray[np.int32]) -> Batch:
        """Read and pad examples; the ids repeat where an example has several rows.

        Raises:
            DataError: a damaged record, a feature that is no number, or an example of another task.
        """
        examples = [split.examples.get(split.ids[int(row)]) for row in rows]
        special = special_tokens(split.examples)
        entries = [
            (example.id, row) for example in examples for row in self.rows(self._checked(example, split), special)
        ]
        pictures = {image: split.features.get(image) for image in self._needed(split, [row for _, row in entries])}
        regions = [self._regions(split, row, pictures) for _, row in entries]
        segmented = any(row.segments is not None for _, row in entries)
        types = [row.segments or [0] * len(row.pieces) for _, row in entries] if segmented else None
        pieces = [row.pieces for _, row in entries]
        names = [name for name, _ in entries]
        batch = collate(names, pieces, regions, padding=special.padding, types=types, half=True)
        check_finite(batch, regions, split.name)
        batch = replace(batch, region_types=self._region_types(split, [row for _, row in entries], pictures, batch))
        with_targets = all(example.target is not None for example in examples)
        return replace(batch, targets=self.targets(examples, split) if with_targets else {})

    def predict(self, batch: Batch) -> list[Prediction]:
        """Return one prediction an example of the batch, in its order."""
        batch = batch.to(next(self.module.parameters()).device)
        return self.answers(self._module.scores(batch).float(), batch)

    def paired(self, split: Split, predictions: Mapping[str, Prediction]) -> Iterator[tuple[Example, Prediction]]:
        """Yield every example of a split with its prediction.

        Raises:
            DataError: predictions are missing or of unknown examples, or the split has no targets.
        """
        wanted = set(split.ids)
        check_ids(predictions, wanted, split.name)
        for example in examples_of(split):
            if example.target is None:
                problem = f"example {example.id} has no target to measure against"
                raise DataError(problem, where=split.name, remedy="vltk submit writes the file for the test server")
            yield self._checked(example, split), predictions[example.id]

    def _checked(self, example: Example, split: Split) -> Example:
        target = example.target
        if target is not None and not isinstance(target, self.targets_known):
            known = " or ".join(kind.__name__ for kind in self.targets_known)
            problem = f"example {example.id} has a {type(target).__name__}, expected {known}"
            raise DataError(problem, where=split.name, remedy="prepare the examples for this task")
        return example

    def _learnable(self, example: Example, split: Split) -> bool:
        """Say whether an example can be learnt from, after its target was looked at."""
        if example.target is None:
            return False
        self.targets([example], split)
        return True

    def _index(self, split: Split) -> _Index:
        if split not in self._indexes:
            self._indexes[split] = self._read(split)
        return self._indexes[split]

    def _read(self, split: Split) -> _Index:
        special = special_tokens(split.examples)
        places: dict[str, int] = {}
        counts: dict[str, int] = {}
        missing: list[str] = []
        texts, totals, learnable = [], [], []
        for example in examples_of(split):
            rows = self.rows(self._checked(example, split), special)
            for image in (image for row in rows for image in row.images):
                if image not in places:
                    places[image] = len(places)
                    there = image in split.features
                    counts[image] = split.features.region_count(image) if there else 0
                    missing += [] if there else [image]
            framing = [row.pieces.count(special.separator) + 1 for row in rows]
            texts.append(max(len(row.pieces) - frame for row, frame in zip(rows, framing, strict=True)))
            totals.append(sum(len(row.pieces) + sum(counts[image] for image in row.images) for row in rows))
            learnable.append(not missing and self._learnable(example, split))
        if missing:
            shown = first_few(missing)
            problem = f"{len(missing)} of {len(places)} images have no features ({shown})"
            raise DataError(problem, where=split.name, remedy="extract them, or leave their examples out")
        return _Index(
            text_lengths=np.array(texts, np.int32),
            lengths=np.array(totals, np.int32),
            learnable=np.array(learnable, np.bool_),
            images=Names(places),
            places=places,
        )

    def _needed(self, split: Split, rows: Sequence[Row]) -> list[str]:
        """Return the pictures to read, each once."""
        own = dict.fromkeys(image for row in rows for image in row.images)
        return list(dict.fromkeys(self._shown(split, image) for image in own)) if self.blind else list(own)

    def _shown(self, split: Split, image: str) -> str:
        """Return the picture that is shown in place of another one to a blind model."""
        index = self._index(split)
        count = len(index.images)
        if count < 2:
            raise DataError("has one picture, no other can be shown", where=split.name, remedy="measure it with sight")
        return index.images[(index.places[image] + count // 2) % count]

    def _regions(self, split: Split, row: Row, pictures: Mapping[str, RegionFeatures]) -> RegionFeatures:
        """Return the regions of a row, those of several pictures one after the other."""
        return joined([pictures[self._shown(split, image) if self.blind else image] for image in row.images])

    def _region_types(
        self, split: Split, rows: Sequence[Row], pictures: Mapping[str, RegionFeatures], batch: Batch
    ) -> Tensor | None:
        if not any(row.image_segments for row in rows):
            return None
        types = torch.ones(batch.region_mask.shape, dtype=torch.long)
        for place, row in enumerate(rows):
            start = 0
            for image, segment in zip(row.images, row.image_segments, strict=True):
                end = start + len(pictures[self._shown(split, image) if self.blind else image])
                types[place, start:end] = segment
                start = end
        return types


def examples_of(split: Split) -> Iterator[Example]:
    """Yield the examples of a split that count, in their order."""
    return islice(split.examples, len(split))


def joined(parts: Sequence[RegionFeatures]) -> RegionFeatures:
    """Return the regions of several pictures as one row of them, features and locations only."""
    if len(parts) == 1:
        return parts[0]
    widths = {part.features.shape[1] for part in parts}
    if len(widths) > 1:
        problem = f"features of sizes {' and '.join(map(str, sorted(widths)))} in one example"
        raise DataError(problem, where=f"image {parts[0].image_id}", remedy="use stores of one detector")
    # Each picture's own size made its locations, so the row keeps those and not pixels.
    return RegionFeatures.trusted(
        image_id="+".join(part.image_id for part in parts),
        size=(1, 1),
        features=np.concatenate([part.features for part in parts]),
        normalised_boxes=np.concatenate([part.location()[:, :6] for part in parts]),
    )


def check_ids(predictions: Mapping[str, Any], wanted: set[str], where: str) -> None:
    """Make sure that there is one prediction for each example and no other.

    Raises:
        DataError: there is not, with an example of what is amiss.
    """
    for odd, what in ((wanted - predictions.keys(), "have no prediction"), (predictions.keys() - wanted, "")):
        if odd:
            shown = first_few(sorted(odd))
            problem = (
                f"{len(odd)} of {len(wanted)} examples {what}" if what else f"{len(odd)} predictions have no example"
            )
            raise DataError(f"{problem} ({shown})", where=where, remedy="predict this very split")


def top(scores: Tensor, names: Sequence[str], answers: Sequence[str]) -> list[Prediction]:
    """Return the best of C answers for each row of [N, C] scores."""
    best = scores.argmax(dim=1).tolist()
    kept = scores.cpu().numpy().astype(np.float32)
    return [
        Prediction(id=name, answer=answers[place], scores=row)
        for name, place, row in zip(names, best, kept, strict=True)
    ]


def size_of(model: nn.Module) -> Any:
    """Return the configuration that an encoder was built from."""
    return cast(Any, model).config


def one_text(example: Example, special: SpecialTokens) -> list[int]:
    """Return the framed pieces of an example's first text.

    Raises:
        DataError: the examples were prepared without a tokenizer.
    """
    return special.frame(pieces_of(example)[0])


def pieces_of(example: Example) -> list[tuple[int, ...]]:
    """Return the word pieces of each text.

    Raises:
        DataError: the examples were prepared without a tokenizer.
    """
    if not example.tokens:
        problem = f"example {example.id} has no word pieces"
        raise DataError(problem, remedy="prepare with --tokenizer")
    return [tokens.ids for tokens in example.tokens]
