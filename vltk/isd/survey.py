"""A look at all examples before a model is run: what can be measured, and what cannot and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.batching import TokenBuckets, collate
from vltk.errors import DataError, first_few
from vltk.isd.objects import Annotated, Chains, Objects, annotated, objects_of
from vltk.mixture.layouts import special_tokens
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureReader
from vltk.types import Batch, Example, Progress

# Fewer make a relation of an object to itself alone.
LEAST_OBJECTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An example that is measured.

    Attributes:
        id: of the example.
        image_id: of its picture.
        objects: what is compared; None where only the losses without annotation are.
        length: word pieces, special tokens and regions.
    """

    id: str
    image_id: str
    objects: Objects | None
    length: int


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is measured, and on which data.

    Attributes:
        examples: texts with word pieces, and phrases.
        features: the pictures' regions.
        items: what is measured.
        left_out: why examples are left out, and how many.
    """

    examples: ExampleStore
    features: FeatureReader
    items: tuple[Item, ...]
    left_out: Counter[str]

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The ids of the pictures, each once."""
        return tuple(dict.fromkeys(item.image_id for item in self.items))

    def batches(self, max_tokens: int) -> list[list[int]]:
        """Return the items by similar length, as many as stay within a budget of padded tokens.

        Raises:
            DataError: one item is longer than the budget.
        """
        lengths = np.array([item.length for item in self.items], np.int32)
        rule = TokenBuckets(max_tokens=max_tokens, bucket_size=max(1, len(lengths)), multiple=1)
        filled: list[NDArray[np.int32]] = rule.filled(np.arange(len(lengths), dtype=np.int32), lengths)
        return [batch.tolist() for batch in filled]

    def batch(self, rows: Sequence[int]) -> Batch:
        """Read and pad items.

        Raises:
            DataError: a damaged record, features of several sizes, or one that is no number.
        """
        special = special_tokens(self.examples)
        items = [self.items[row] for row in rows]
        texts = [special.frame(self.examples.get(item.id).tokens[0].ids) for item in items]
        pictures = [annotated(self.features.get(item.image_id)).picture for item in items]
        batch = collate([item.id for item in items], texts, pictures, padding=special.padding)
        if not torch.isfinite(batch.regions.sum() + batch.locations.sum()):
            wrong = ~torch.isfinite(batch.regions.sum(dim=(1, 2)) + batch.locations.sum(dim=(1, 2)))
            name = items[int(wrong.int().argmax())].image_id
            raise DataError(f"a feature of image {name} is no number", where=self._name, remedy="extract it again")
        return batch

    @property
    def _name(self) -> str:
        return str(getattr(self.features, "path", "the feature store"))


def survey(
    examples: ExampleStore,
    features: FeatureReader,
    *,
    annotation: bool = True,
    chains: Chains = "merged",
    skip_missing: bool = False,
    limit: int | None = None,
    progress: Progress = lambda items: None,
) -> Survey:
    """Find the objects of all examples.

    Args:
        examples: texts with word pieces, and phrases where ``annotation`` is wanted.
        features: the pictures' regions.
        annotation: leave out what has fewer than two objects; without, every pair is measured.
        chains: as in :func:`~vltk.isd.objects.objects_of`.
        skip_missing: leave out examples whose picture has no features, where there are some others.
        limit: look at the first so many examples only.
        progress: told how many examples were looked at.

    Raises:
        DataError: no word pieces, no phrases, phrases without any region, pictures without features, or nothing that
            can be measured.
    """
    found = _Look(annotation=annotation, chains=chains)
    for example in islice(examples, limit):
        found.take(example, features)
        progress(1)
    found.check(examples, features, skip_missing=skip_missing)
    return Survey(examples=examples, features=features, items=tuple(found.items), left_out=found.left_out)


class _Look:
    def __init__(self, *, annotation: bool, chains: Chains) -> None:
        self.annotation, self.chains = annotation, chains
        self.items: list[Item] = []
        self.left_out: Counter[str] = Counter()
        self.missing: dict[str, None] = {}
        self.seen = self.phrases = self.unseen = 0
        self.name = ""
        self._picture: tuple[str, Annotated] | None = None

    def take(self, example: Example, features: FeatureReader) -> None:
        """Look at one example: keep what can be measured, and count why it cannot."""
        self.seen += 1
        if not example.tokens:
            remedy = "prepare with --tokenizer"
            raise DataError("has no word pieces", where=f"example {example.id}", remedy=remedy)
        image_id = example.image_ids[0]
        if image_id not in features:
            self.missing[image_id] = None
            self.left_out["no features of the picture"] += 1
            return
        picture = self._annotated(image_id, features)
        objects = objects_of(example, picture, chains=self.chains) if self.annotation else None
        if objects is not None:
            self.phrases += len(example.phrases)
            self.unseen += len(objects.unseen)
            self.name = self.name or next((name for names in picture.names for name in names), "")
            if len(objects) < LEAST_OBJECTS:
                self.left_out[f"fewer than {LEAST_OBJECTS} objects"] += 1
                return
        if not example.tokens[0].ids or not len(picture.picture):
            self.left_out["no word or no region"] += 1
            return
        length = len(example.tokens[0].ids) + 2 + len(picture.picture)
        self.items.append(Item(id=example.id, image_id=image_id, objects=objects, length=length))

    def _annotated(self, image_id: str, features: FeatureReader) -> Annotated:
        # The captions of a picture follow each other, and its regions are the same for all.
        if self._picture is None or self._picture[0] != image_id:
            self._picture = image_id, annotated(features.get(image_id))
        return self._picture[1]

    def check(self, examples: ExampleStore, features: FeatureReader, *, skip_missing: bool) -> None:
        """Refuse stores of which too little can be measured, with the reason that counts most."""
        where = str(getattr(features, "path", "the feature store"))
        present = self.seen - self.left_out["no features of the picture"]
        if self.missing and not (skip_missing and present):
            shown = first_few(self.missing)
            remedy = "extract them, or leave their captions out with --missing-images skip"
            raise DataError(f"lacks {len(self.missing)} images ({shown})", where=where, remedy=remedy)
        if self.annotation and not self.phrases:
            remedy = "prepare Flickr30k Entities with --entities or --phrases, or measure with --surrogates-only"
            raise DataError(f"none of {self.seen} examples has a phrase", where=examples.path, remedy=remedy)
        if self.annotation and not self.items and self.unseen:
            known = f"they are called {self.name!r} there" if self.name else "they have no ids there"
            remedy = "extract the annotated boxes with vltk extract-features --boxes Annotations"
            raise DataError(f"holds no region of any of {self.phrases} phrases ({known})", where=where, remedy=remedy)
        if not self.items:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.left_out.items()) or "it is empty"
            raise DataError(f"nothing can be measured ({reasons})", where=examples.path, remedy="give other examples")


def describe(found: Survey) -> dict[str, object]:
    """Return what a survey found, for people and receipts."""
    objects = [len(item.objects) for item in found.items if item.objects is not None]
    told: dict[str, object] = {
        "captions": len(found.items),
        "images": len(found.pictures),
        "left_out": dict(found.left_out),
    }
    return told | ({"objects_per_caption": round(float(np.mean(objects)), 2)} if objects else {})
