"""What every task brings so that one trainer and one evaluator serve them all.

A task file ``tasks/T.py`` has a dataclass ``Config``, whose fields are the options of ``--task T``. Its ``build`` makes
a task object of one of two kinds: one that answers each example (:class:`PredictionTask`), or one that compares every
text with every picture (:class:`RetrievalTask`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.config.training import TrainingConfig
from vltk.stores.chained_examples import Examples
from vltk.stores.features import FeatureReader
from vltk.types import Batch, EncoderOutput, Losses, Measurement, Plan, Prediction


@dataclass(frozen=True, kw_only=True)
class Split:
    """The examples of one split with the features of their pictures.

    A row is the place of an example in :attr:`ids`; everything here counts in rows.

    Attributes:
        name: what to call it in messages and receipts, e.g. the name of the store.
        examples: texts with word pieces and targets.
        features: the regions of the pictures.
        limit: count only so many examples, the first ones; None for all.
    """

    name: str
    examples: Examples
    features: FeatureReader
    limit: int | None = None

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The ids of all examples, in the order of their annotation file."""
        return tuple(self.examples.ids()[: self.limit])

    def __len__(self) -> int:
        return len(self.ids)


class TaskModule(Protocol):
    """What is trained: an encoder, a head and a loss, as one ``nn.Module``.

    Parameters whose name begins with ``model.`` are the encoder's; all others are the head, which fine-tuning may
    give a rate of its own (``--head-rate``; published as lr_mul).

    Attributes:
        model: the encoder or dual encoder that ``build`` was given.
    """

    model: nn.Module

    def __call__(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch of ``PredictionTask.batch`` or ``Plan.load``.

        Args:
            objective: the ``objective`` of the plan's item; "task" in plans of token buckets.
            batch: on the device of the module.
            generator: of everything random besides dropout.
        """


class Task(Protocol):
    """What both kinds of task have.

    Attributes:
        primary: name of the measurement that decides which checkpoint is best.
        module: what is trained; an ``nn.Module`` with the interface of :class:`TaskModule`.
    """

    primary: str
    module: nn.Module

    def describe(self) -> dict[str, Any]:
        """Return what a run folder must keep of the data, as JSON values, e.g. the answer vocabulary.

        The ``build`` of ``eval`` gets it back as ``kept``, because a test split cannot tell it.
        """


@runtime_checkable
class PredictionTask(Task, Protocol):
    """A task that answers each example: VQA, GQA, NLVR2, RefCOCO, SNLI-VE, VCR.

    Attributes:
        blind: show each example the regions of another picture, to see what the texts alone give away. The switch may
            be turned between two batches.
    """

    blind: bool

    def training_rows(self, split: Split, *, max_text_length: int) -> NDArray[np.int32]:
        """Return the rows that can be learnt from: with a target, and a text of at most so many word pieces.

        Raises:
            DataError: a target that the task does not know, or no row is left.
        """

    def lengths(self, split: Split) -> NDArray[np.int32]:
        """Return [N] tokens plus regions of every row of a split as the encoder meets them, for token buckets."""

    def batch(self, split: Split, rows: Sequence[int] | NDArray[np.int32]) -> Batch:
        """Read and pad rows; ``targets`` hold what the loss compares with, where the split has targets.

        A pure function of split, rows and ``blind``; called in data loading processes.
        """

    def predict(self, batch: Batch) -> list[Prediction]:
        """Return one prediction for each example of a batch, in its order; the caller turns gradients off."""

    def measure(self, split: Split, predictions: Mapping[str, Prediction]) -> list[Measurement]:
        """Return the official figures of predictions by example id, the primary one among them.

        Raises:
            DataError: predictions that are missing or name unknown examples, or a split without targets.
        """


class JointScorer(Protocol):
    """Scores pairs with an encoder that sees both; each side is embedded once (UNITER, SSRP)."""

    def embed_text(self, batch: Batch) -> Tensor:
        """Return [B, T, H] embeddings of texts."""

    def embed_regions(self, batch: Batch) -> Tensor:
        """Return [B, R, H] embeddings of regions."""

    def encode(
        self,
        text: Tensor,
        text_mask: Tensor,
        regions: Tensor,
        region_mask: Tensor,
        *,
        attention_scores: Collection[int] = (),
    ) -> EncoderOutput:
        """Encode [B, T, H] and [B, R, H] embeddings as B pairs."""

    def match_scores(self, pooled: Tensor) -> Tensor:
        """Return [B] raw scores of [B, H] pooled states; larger is a better match, no sigmoid."""


class DualScorer(Protocol):
    """Embeds each side alone; the score of a pair is the inner product of its embeddings (VSE, VSRN)."""

    def embed_images(self, batch: Batch) -> Tensor:
        """Return [B, H] embeddings of the batch's regions."""

    def embed_texts(self, batch: Batch) -> Tensor:
        """Return [B, H] embeddings of the batch's texts."""


@runtime_checkable
class RetrievalTask(Task, Protocol):
    """A task that ranks pictures for texts and texts for pictures: Flickr30k, COCO, any captions.

    Attributes:
        family: whether ``scorer`` is a :class:`JointScorer` or a :class:`DualScorer`.
        scorer: gives the score matrix; it shares its weights with ``module``.
    """

    family: Literal["joint", "dual"]
    scorer: Any

    def plan(self, split: Split, training: TrainingConfig, seed: int, *, max_text_length: int) -> Plan:
        """Return the order of a training run: positives with their negatives, a pure function of the arguments.

        The plan also has the ``tokens`` of a :class:`~vltk.training_run.MeasuredPlan`.
        """

    def text_batch(self, split: Split, ids: Sequence[str]) -> Batch:
        """Read the texts of examples; R is 0."""

    def image_batch(self, split: Split, image_ids: Sequence[str]) -> Batch:
        """Read the regions of pictures; T is 0."""


@runtime_checkable
class StartsFromWeights(Protocol):
    """A task whose head can begin from weights beside the encoder's (retrieval: from image-text matching)."""

    def initialise_head(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Take what the head can use of the weights of ``--init``.

        Args:
            weights: everything but the encoder's, under vltk's names (``matching.weight``, ``word_bias``, ...), and
                the head of a fine-tuned model under the names of its module (``head.weight``, ...).

        Returns:
            What was taken or stayed fresh, for people.
        """


@runtime_checkable
class GroupsParameters(Protocol):
    """A model or task module with published optimiser groups of its own (VSE: BERT at a tenth of the rate)."""

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups of an optimiser; ``multiplier`` of a group scales the scheduled rate (default 1)."""


class TaskConfig(Protocol):
    """The ``Config`` of a task file: a frozen dataclass whose fields, each with its help, are the task's options."""

    def model_sizes(self) -> dict[str, int]:
        """Return what the task demands of the model's size, e.g. {"types": 3} for NLVR2's second picture."""

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Task:
        """Make the task around a model.

        Args:
            model: the encoder (UNITER) or dual encoder (VSE, VSRN); ``model.config`` tells its size.
            split: what is trained on, or for ``eval`` what is measured.
            kept: what :meth:`Task.describe` returned when the model was trained; None for a fresh one, which learns
                its vocabularies from ``split``.
        """
