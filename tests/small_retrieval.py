"""A retrieval task on stores of random pairs, for tests of what evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.small_pairs import TINY_MODEL, VOCABULARY, WIDTH, write_pairs
from vltk.evaluator import Sides
from vltk.models.uniter import UNITERConfig
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.tasks._task import Split
from vltk.tasks.captions import Config
from vltk.types import Batch


def split_of(examples: Path, features: Path) -> Split:
    return Split(name=examples.stem, examples=ExampleStore.open(examples), features=FeatureStore.open(features))


def uniter(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = UNITERConfig(vocabulary=VOCABULARY, region_dim=WIDTH, **TINY_MODEL).build()
    # Fresh weights are so small that all pairs score almost alike.
    for parameter in model.parameters():
        parameter.data.mul_(5)
    return model


class MeanOfBoth(torch.nn.Module):
    """A dual encoder: the mean of the words' vectors against the projected mean of the regions."""

    family = "dual"

    def __init__(self) -> None:
        super().__init__()
        self.words, self.project = torch.nn.Embedding(VOCABULARY, 4), torch.nn.Linear(WIDTH, 4)

    def training_module(self, *, margin: float) -> torch.nn.Module:
        return self

    def embed_texts(self, batch: Batch) -> torch.Tensor:
        weights = batch.text_mask / batch.text_mask.sum(dim=1, keepdim=True)
        return (self.words(batch.input_ids) * weights.unsqueeze(-1)).sum(dim=1)

    def embed_images(self, batch: Batch) -> torch.Tensor:
        weights = batch.region_mask / batch.region_mask.sum(dim=1, keepdim=True)
        return (self.project(batch.regions) * weights.unsqueeze(-1)).sum(dim=1)


def sides_of(split: Split, model: Any, image_ids: Sequence[str] | None = None) -> Sides:
    task: Any = Config().build(model, split)
    if getattr(model, "family", "") != "dual":
        torch.nn.init.normal_(task.scorer.head.weight, generator=torch.Generator().manual_seed(1))
    return Sides(task=task, split=split, text_ids=split.ids, image_ids=image_ids or split.features.ids())


def small_sides(folder: Path, model: Any = None, *, images: int = 6, captions: int = 2) -> Sides:
    return sides_of(split_of(*write_pairs(folder, "test", images=images, captions=captions)), model or uniter())
