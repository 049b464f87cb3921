"""The hinge loss of dual encoders with the hardest negatives of a batch (VSE++; VSE-infinity, equation 1).

A batch holds B pictures with one text each. Every other text is a negative of a picture, every other picture one of a
text.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vltk.config.dual import DualConfig
from vltk.errors import UsageError, VltkError
from vltk.objectives.generation import Generation
from vltk.objectives.size_augmentation import SizeAugmentation
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses

PAIRS, ALL, HARDEST = "pairs", "all-negatives", "hardest-negatives"
"""Names of the loss, as the items of a training plan call it: as the schedule says, or one of its two forms."""
_AT_MARGIN = 0.01
"""Share of the margin within which a loss stands at it."""
_LOG = logging.getLogger("vltk.training")


def hinge_loss(
    images: Tensor,
    texts: Tensor,
    *,
    margin: float = 0.2,
    hardest: bool = True,
    same: Tensor | None = None,
    largest: int = 1,
    average: bool = False,
) -> Losses:
    """Return how far negatives come within the margin of the right pair; the published loss is the sum, HGR's the mean.

    Args:
        images: [B, H] embeddings of pictures.
        texts: [B, H] embeddings of their texts.
        margin: by which the right pair has to be better.
        hardest: count the worst negative of each picture and text alone, else all of them.
        same: [B, B] bool, pairs beside the diagonal that are right as well; they are no negatives. The published
            code takes a second text of a picture for a negative.
        largest: with ``hardest``, the mean of so many worst negatives counts (HGR's hard_topk).
        average: divide by B, or by the B (B - 1) negatives, as HGR does for videos.

    Returns:
        [2 B] (hardest; pictures, then texts) or [2, B, B] losses with a count of 1: their mean is the published sum;
        or with the count to divide by.

    Example:
        >>> pictures, captions = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> round(hinge_loss(pictures, captions).mean().item(), 6)  # the second text is too close to the first picture
        0.0
        >>> round(hinge_loss(pictures, captions, margin=0.5).mean().item(), 6)
        0.4
    """
    scores = images @ texts.t()
    return hinge_loss_of(scores, margin=margin, hardest=hardest, same=same, largest=largest, average=average)


def order_scores(images: Tensor, texts: Tensor) -> Tensor:
    """Return [B, B] scores of order embeddings: minus the length of what of a text its picture does not cover (VSE++).

    Args:
        images: [B, H].
        texts: [B, H].

    Example:
        >>> order_scores(torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 1.0], [3.0, 5.0]])).tolist()
        [[-0.0, -4.0]]
    """
    lacking: Tensor = torch.linalg.vector_norm((texts.unsqueeze(0) - images.unsqueeze(1)).clamp(min=0), dim=-1)
    return -lacking


def hinge_loss_of(
    scores: Tensor,
    *,
    margin: float = 0.2,
    hardest: bool = True,
    same: Tensor | None = None,
    largest: int = 1,
    average: bool = False,
) -> Losses:
    """Return the loss of :func:`hinge_loss` from [B, B] scores of pictures with texts, right pairs on the diagonal."""
    right, size = scores.diagonal(), len(scores)
    none = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    none = none if same is None else none | same
    of_texts = (margin + scores - right.unsqueeze(1)).clamp(min=0).masked_fill(none, 0)
    of_images = (margin + scores - right.unsqueeze(0)).clamp(min=0).masked_fill(none, 0)
    if not hardest:
        return Losses(values=torch.stack([of_texts, of_images]), count=size * (size - 1) if average else 1)
    worst = torch.cat([_worst(of_texts, largest), _worst(of_images.t(), largest)])
    return Losses(values=worst, count=size if average else 1)


def _worst(losses: Tensor, count: int) -> Tensor:
    """Return [B] means of the ``count`` largest losses of each row."""
    return losses.amax(dim=1) if count == 1 else losses.topk(min(count, len(losses)), dim=1).values.mean(dim=1)


class Phase(NamedTuple):
    """What holds at one moment of a training run.

    Attributes:
        hardest: whether the loss counts the hardest negatives alone.
        loss_share: what the loss is multiplied by, or None where nothing scales it.
        fixed_stages: of the grid's network that are not trained: 0 to 3, None for all of it.
        rate_share: of the learning rate.
    """

    hardest: bool
    loss_share: float | None
    fixed_stages: int | None
    rate_share: float


@dataclass(frozen=True, kw_only=True)
class DualSchedule:
    """The warm-ups and the decay of dual encoders (VSE-infinity, supplement, section 1.1).

    The paper warms the learning rate up; the authors' code scales the loss instead, which Adam and clipping all but
    undo. This is the code's rule.
    """

    mean_warmup: int = 1
    """Epochs that count all negatives before the hardest ones take over; without it training often collapses."""
    embedding_warmup: int = 1
    """Epochs in which the network of a grid stands still; the loss grows from 0 in the epoch after."""
    backbone_warmup: int = 0
    """Epochs for each of three steps that free the network's stages from the top; 0 frees all at once."""
    decay_epoch: int = 15
    """Epoch, counted from 0, from which the published learning rate is a tenth."""

    def at(self, epoch: int, iteration: int, iterations: int, *, grid: bool) -> Phase:
        """Return what holds at an iteration.

        Args:
            epoch: counted from 0.
            iteration: of the epoch, counted from 0.
            iterations: full batches of an epoch.
            grid: whether the model has a network of pixels; others know no warm-up but that of the negatives.

        Example:
            >>> DualSchedule().at(1, 1, 3, grid=True)
            Phase(hardest=True, loss_share=0.25, fixed_stages=0, rate_share=1.0)
        """
        rate = 0.1 if epoch >= self.decay_epoch else 1.0
        hardest = epoch >= self.mean_warmup
        if not grid:
            return Phase(hardest, None, 0, rate)
        # The published divisor counts one batch more than an epoch has.
        share = iteration / (iterations + 1) if epoch == self.embedding_warmup else None
        return Phase(hardest, share, self._fixed(epoch), rate)

    def _fixed(self, epoch: int) -> int | None:
        if epoch < self.embedding_warmup:
            return None
        if not self.backbone_warmup:
            return 0
        return max(0, 3 - (epoch - self.embedding_warmup) // self.backbone_warmup)


class CollapseWatch:
    """Notices that all embeddings have become one: the loss then stands at 2 x batch x margin.

    Where every single loss stands there, nothing is left to learn from, and training ends. Where their mean does, some
    order is left: published settings without a warm-up can stay there for long and come free again, so that this is
    said in the log and training goes on.

    Args:
        margin: of the loss.
        patience: batches in a row that stand there.
    """

    def __init__(self, *, margin: float, patience: int = 100) -> None:
        self.margin, self.patience = margin, patience
        self.stuck = self.near = 0

    def see(self, losses: Losses) -> None:
        """Look at the [2 B] losses of the hardest negatives.

        Raises:
            VltkError: the embeddings have collapsed.
        """
        away = (losses.values.detach() - self.margin).abs() / self.margin
        self.stuck = self.stuck + 1 if float(away.max()) < _AT_MARGIN else 0
        self.near = self.near + 1 if float(away.mean()) < _AT_MARGIN else 0
        total = f"2 x batch x margin = {len(away) * self.margin:.4g} for {self.patience} batches"
        remedy = "begin with all negatives (--mean-warmup 1 or more), or lower --learning-rate"
        if self.stuck >= self.patience:
            problem = f"the hinge loss has stood at {total}: the embeddings of all pictures and texts have become one"
            raise VltkError(problem, where="training", remedy=remedy)
        if self.near == self.patience:
            problem = f"the hinge loss has stood within 1 % of {total}: the embeddings have all but become one"
            _LOG.warning("%s; %s", problem, remedy)


class DualTraining(nn.Module):
    """A dual encoder with its loss, its warm-ups and its size augmentation; what a trainer trains.

    Args:
        model: e.g. a VSE.
        margin: of the loss.
        schedule: of the warm-ups.
        augmentation: drops regions, grids and words; None drops nothing.
        count_same: take further texts of a picture for negatives, as the published code does.
        largest: so many worst negatives count, by their mean.
        average: average the loss over the batch (HGR) instead of adding it up.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        margin: float = 0.2,
        schedule: DualSchedule | None = None,
        augmentation: SizeAugmentation | None = None,
        count_same: bool = False,
        largest: int = 1,
        average: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.margin, self.augmentation, self.count_same = margin, augmentation, count_same
        self.largest, self.average = largest, average
        self.schedule = schedule or DualSchedule()
        self.collapse = CollapseWatch(margin=margin)
        self.generation = Generation.of(model)

    def forward(self, objective: str, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch.

        Args:
            objective: "pairs": what holds follows from where the run is; or :data:`ALL`, :data:`HARDEST`.
            batch: B pictures with a text each. ``targets`` may tell which pictures are the same (``image``, [B]),
                and where the run is (``epoch``, ``iteration`` and ``iterations`` of an epoch; the end without them).
            generator: of the size augmentation.

        Raises:
            UsageError: there is no such objective.
            VltkError: the embeddings have collapsed.
        """
        if objective not in (PAIRS, ALL, HARDEST):
            raise UsageError(f"no objective {objective!r}", remedy=f"use {PAIRS}, {ALL} or {HARDEST}")
        model: Any = self.model
        phase = self._phase(batch)
        hardest = phase.hardest if objective == PAIRS else objective == HARDEST
        trunk = getattr(model, "trunk", None)
        if self.training and trunk is not None:
            trunk.train_stages(phase.fixed_stages)
        whole, augmentation = batch, self.augmentation if self.training else None
        if augmentation is not None:
            batch = augmentation.corrupt(batch, generator)
        drops_grids = augmentation is not None and augmentation.regions and trunk is not None
        images, generated = self._images(batch, whole, generator if drops_grids else None)
        same = batch.targets.get("image")
        losses = hinge_loss(
            images,
            model.embed_texts(batch),
            margin=self.margin,
            hardest=hardest,
            same=None if same is None or self.count_same else same.unsqueeze(0) == same.unsqueeze(1),
            largest=self.largest,
            average=self.average,
        )
        if hardest and self.training:
            self.collapse.see(losses)
        if phase.loss_share is not None and self.training:
            losses = Losses(values=losses.values * phase.loss_share, count=losses.count)
        if generated is None:
            return losses
        return Losses(values=torch.cat([losses.values.flatten(), generated * losses.count]), count=losses.count)

    def _images(self, batch: Batch, whole: Batch, drops: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """Return embeddings of pictures, and the losses of their captions where the model generates them."""
        model: Any = self.model
        if self.generation is not None:
            images, regions = model.represent(batch)
            return images, self.generation.losses(model, regions, batch.region_mask, whole)
        return (model.embed_images(batch) if drops is None else model.embed_images(batch, drops)), None

    def _phase(self, batch: Batch) -> Phase:
        told = [batch.targets.get(name) for name in ("epoch", "iteration", "iterations")]
        if any(value is None for value in told):
            return Phase(True, None, 0, 1.0)
        epoch, iteration, iterations = (int(value.flatten()[0]) for value in told if value is not None)
        grid = getattr(self.model, "trunk", None) is not None
        return self.schedule.at(epoch, iteration, iterations, grid=grid)


def build_dual_training(
    model: nn.Module, settings: DualConfig, *, tokenizer: TokenizerDescription | None, margin: float
) -> DualTraining:
    """Put a dual encoder together with its loss.

    Args:
        model: e.g. a VSE.
        settings: of warm-ups and size augmentation.
        tokenizer: of the examples.
        margin: of the loss.

    Raises:
        DataError: the tokenizer has no mask token.
        UsageError: ``--word-pieces`` is not the vocabulary of the examples.
    """
    schedule = DualSchedule(
        mean_warmup=settings.mean_warmup,
        embedding_warmup=settings.embedding_warmup,
        backbone_warmup=settings.backbone_warmup,
    )
    augmentation = None
    if settings.drop_regions or settings.drop_words:
        augmentation = SizeAugmentation.for_texts(settings, tokenizer)
    return DualTraining(
        model,
        margin=margin,
        schedule=schedule,
        augmentation=augmentation,
        count_same=settings.count_same,
        largest=settings.hardest_count,
        average=settings.average_loss,
    )
