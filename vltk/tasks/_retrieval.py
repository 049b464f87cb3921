"""Image-text retrieval: what Flickr30k, COCO and any other captions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from vltk.batching import collate_regions, collate_texts
from vltk.config.dual import DualConfig
from vltk.config.relations import IAISConfig
from vltk.config.training import TrainingConfig
from vltk.errors import UsageError
from vltk.mixture import LAYOUTS, PairSource, check_finite, special_tokens
from vltk.mixture.pictures import Pictures
from vltk.objectives.hinge import build_dual_training
from vltk.objectives.ranking import Ranking
from vltk.objectives.relations import build_iais
from vltk.stores.ordered_features import RegionOrder, ordered
from vltk.tasks._retrieval_plan import InBatchPlan, RankingPlan
from vltk.tasks._task import Split
from vltk.types import Batch


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """How pairs of picture and caption are learnt to be told apart."""

    negatives: Literal["random", "hard"] = "random"
    """Mismatched pairs drawn at random, or the hardest of many candidates (joint encoders only)."""
    pairs: int = 40
    """Matched pairs of a micro-batch with random negatives (published: 40), or of a batch of a dual encoder."""
    negative_images: int = 1
    """Other pictures that each caption is shown with, with random negatives."""
    negative_texts: int = 1
    """Other captions that each picture is shown with, with random negatives."""
    candidates: int = 399
    """Pictures or captions that hard negatives are looked for among."""
    alike: int = 0
    """How many of the negatives or candidates are the pictures that look most like the matched one, by the mean of
    their regions, or a caption of each (published: none); the others are drawn at random (joint encoders only)."""
    hard: int = 31
    """How many of them are learnt from."""
    margin: float = 0.2
    """By how much a matched pair shall score higher than a mismatched one, on sigmoids."""
    gather: Literal["correct", "official"] = "correct"
    """Show a picture whole beside candidate captions, or cut off as the authors' code did by mistake."""
    relations: IAISConfig = field(default_factory=IAISConfig)
    dual: DualConfig = field(default_factory=DualConfig)

    def __post_init__(self) -> None:
        for name in ("pairs", "candidates", "hard"):
            if getattr(self, name) < 1:
                raise UsageError(f"{getattr(self, name)} is too few", where=f"--{name}", remedy="use a positive number")
        if self.negatives == "random" and self.negative_images + self.negative_texts < 1:
            raise UsageError("no negatives", where="--negative-images", remedy="give at least one of either side")
        if min(self.negative_images, self.negative_texts) < 0:
            raise UsageError("a negative number of negatives", where="--negative-images", remedy="use 0 or more")
        if self.alike < 0:
            raise UsageError(f"{self.alike} pictures cannot be alike", where="--alike", remedy="use 0 or more")

    def model_sizes(self) -> dict[str, int]:
        """Return nothing: any encoder of texts and pictures will do."""
        return {}

    def build(self, model: nn.Module, split: Split, *, kept: Mapping[str, Any] | None = None) -> Retrieval:
        """Make the task around a joint or a dual encoder, which ``model.family`` tells.

        Raises:
            UsageError: options that a dual encoder cannot follow.
        """
        return Retrieval(self, model, split)


class Retrieval:
    """Ranking pictures for texts and texts for pictures; see :class:`~vltk.tasks._task.RetrievalTask`.

    Args:
        config: how to learn.
        model: a joint encoder like UNITER, or a dual one like VSE.
        split: whose tokenizer frames the texts.

    Raises:
        UsageError: options that a dual encoder cannot follow.
    """

    primary = "rsum"

    def __init__(self, config: RetrievalConfig, model: nn.Module, split: Split) -> None:
        self.config = config
        self.family: Literal["joint", "dual"] = getattr(model, "family", "joint")
        self.special = special_tokens(split.examples, bare=self.family == "dual")
        self.region_order: RegionOrder | None = getattr(getattr(model, "config", None), "region_order", None)
        self.module: nn.Module
        self.pictures: Pictures | None = None
        if self.family == "dual":
            self.module, self.scorer = self._dual(model, split), model
            self.pictures = _pictures_for(model, config.dual.pictures)
        else:
            self.module = self.scorer = Ranking(
                model,
                margin=config.margin,
                hard=config.hard,
                gather=config.gather,
                iais=build_iais(config.relations),
                special=self.special,
            )

    def _dual(self, model: nn.Module, split: Split) -> nn.Module:
        if self.config.negatives == "hard" or self.config.relations.iais != "off":
            problem = "hard negatives from candidates and IAIS need an encoder that sees both sides"
            raise UsageError(problem, where="--negatives", remedy="leave them out; a dual encoder takes its own batch")
        return build_dual_training(
            model, self.config.dual, tokenizer=split.examples.metadata.tokenizer, margin=self.config.margin
        )

    def describe(self) -> dict[str, Any]:
        """Return nothing: what is needed stands in the stores."""
        return {}

    def initialise_head(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Start the ranking head from image-text matching; a dual encoder has none."""
        return self.module.initialise_head(weights) if isinstance(self.module, Ranking) else []

    def plan(
        self, split: Split, training: TrainingConfig, seed: int, *, max_text_length: int
    ) -> RankingPlan | InBatchPlan:
        """Return the order of a training run."""
        source = PairSource(
            split.name,
            split.examples,
            ordered(split.features, self.region_order),
            max_text_length=max_text_length,
            located=self.family == "joint",
        )
        settings = {"micro_batches": training.micro_batches, "seed": seed}
        if self.family == "dual":
            return InBatchPlan(source, pairs=self.config.pairs, pictures=self.pictures, **settings)
        iais = build_iais(self.config.relations)
        return RankingPlan(
            source,
            self.config,
            weight=None if iais is None else partial(iais.weight, total=training.steps),
            **settings,
        )

    def text_batch(self, split: Split, ids: Sequence[str]) -> Batch:
        """Read the texts of examples."""
        layout = LAYOUTS["caption"]
        rows = [layout.row(layout.parts(split.examples.get(name), split.name), self.special)[0] for name in ids]
        return collate_texts(ids, rows, padding=self.special.padding)

    def image_batch(self, split: Split, image_ids: Sequence[str]) -> Batch:
        """Read the regions of pictures."""
        features = ordered(split.features, self.region_order)
        pictures = [features.get(image_id) for image_id in image_ids]
        batch = collate_regions(image_ids, pictures, half=True, located=self.family == "joint")
        check_finite(batch, pictures, split.name)
        return batch if self.pictures is None else replace(batch, images=self.pictures.load(image_ids))


def _pictures_for(model: Any, folder: Path | None) -> Pictures | None:
    """Return the pixels that a model of grids sees; None for a model of regions.

    Raises:
        UsageError: a model of grids without a folder of pictures.
    """
    if getattr(model, "trunk", None) is None:
        return None
    if folder is None:
        raise UsageError("is needed by a model of grids", where="--pictures", remedy="name the folder of the pictures")
    # Bottom-up attention's network is Caffe's; all others see ImageNet's normalisation.
    return Pictures.of_folder(folder, form="caffe" if model.config.backbone == "detector" else "imagenet")
