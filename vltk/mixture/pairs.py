"""Texts and the regions of their pictures, with what a plan needs to know of each pair."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.batching import beside, collate_regions, collate_texts
from vltk.detection.views import split_view, view_id
from vltk.errors import DataError, first_few
from vltk.mixture.layouts import LAYOUTS, special_tokens
from vltk.mixture.names import Names
from vltk.mixture.trees import Told, told, told_otherwise, tree_targets
from vltk.stores.chained_examples import Examples
from vltk.stores.features import FeatureReader
from vltk.types import Batch, Example, Progress, RegionFeatures


class PairSource:
    """Captions and the regions of their pictures.

    All examples are read once, some 10 s and 50 MB for a million; their texts and features are read when a batch
    needs them.

    Args:
        name: what the set is called.
        examples: texts with word pieces.
        features: the pictures' regions.
        max_text_length: pairs with longer texts are left out (published: 60; VCR 220).
        excluded: pictures that must not be seen, e.g. an :class:`~vltk.mixture.Exclusion`.
        layout: which texts are read, a key of :data:`~vltk.mixture.LAYOUTS`.
        located: whether the model asks where regions are; without, pictures need no boxes and texts no frame.
        views: augmented views of the pictures, under ``IMAGE@VIEW``, or None.
        progress: told how many examples were looked at.

    Raises:
        DataError: no word pieces, a picture without features, or no pair left.
    """

    def __init__(
        self,
        name: str,
        examples: Examples,
        features: FeatureReader,
        *,
        max_text_length: int = 60,
        excluded: Container[str] = frozenset(),
        layout: str = "caption",
        located: bool = True,
        views: FeatureReader | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.located, self.max_text_length = located, max_text_length
        self.views, self.view_names = views, () if views is None else view_names(views)
        self.name, self.examples, self.features, self.layout = name, examples, features, LAYOUTS[layout]
        self.special = special_tokens(examples, bare=not located)
        self._read(max_text_length, excluded, progress)
        self._check_features()
        counts = (features.region_count(image_id) for image_id in self.image_ids)
        self.region_counts: NDArray[np.int32] = np.fromiter(counts, np.int32, len(self.image_ids))

    def _read(self, max_text_length: int, excluded: Container[str], progress: Progress | None) -> None:
        ids: list[str] = []
        places: dict[str, int] = {}
        images, lengths = [], []
        self.too_long = self.excluded = self.parsed = self.paraphrased = self.longest_paraphrase = 0
        for example in self.examples:
            length = sum(map(len, self.layout.parts(example, self.name)))
            image_id = example.image_ids[0]
            if length > max_text_length:
                self.too_long += 1
            elif image_id in excluded:
                self.excluded += 1
            else:
                ids.append(example.id)
                images.append(places.setdefault(image_id, len(places)))
                lengths.append(length)
                others = [len(one.pieces) for one in told_otherwise(example, max_text_length)]
                self.parsed += bool(told(example, ()).parse)
                self.paraphrased += bool(others)
                self.longest_paraphrase = max(self.longest_paraphrase, *others, 0)
            if progress:
                progress(1)
        if not ids:
            problem = f"no pair is left of {len(self.examples)} ({self.too_long} too long, {self.excluded} excluded)"
            raise DataError(problem, where=self.name, remedy="allow longer texts or exclude fewer images")
        self.ids, self.image_ids = Names(ids), Names(places)
        self.image_of: NDArray[np.int32] = np.array(images, np.int32)
        self.text_lengths: NDArray[np.int32] = np.array(lengths, np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def special_count(self) -> int:
        """How many special tokens frame a text."""
        return len(self.special.frame(*([] for _ in self.layout.segments)))

    def _check_features(self) -> None:
        missing = [image_id for image_id in self.image_ids if image_id not in self.features]
        if missing:
            shown = first_few(missing)
            problem = f"{len(missing)} of {len(self.image_ids)} images have no features ({shown})"
            raise DataError(problem, where=self.name, remedy="extract them, or exclude them with --exclude-images")

    def pictures(self, *, seed: int, mismatch: float) -> NDArray[np.int32]:
        """Return for each text the place of the picture that it is shown with.

        Args:
            seed: of the draw.
            mismatch: probability of another picture (published image-text matching: 0.5).
        """
        if not mismatch or len(self.image_ids) < 2:
            return self.image_of
        dice = np.random.default_rng(seed)
        other = dice.random(len(self), np.float32) < mismatch
        # A step of 1 .. n - 1 around the circle of pictures never ends where it began.
        step = dice.integers(1, len(self.image_ids), len(self), np.int32)
        drawn: NDArray[np.int32] = np.where(other, (self.image_of + step) % len(self.image_ids), self.image_of)
        return drawn.astype(np.int32, copy=False)

    def batch(
        self,
        rows: Sequence[int] | NDArray[np.int32],
        images: Sequence[int] | NDArray[np.int32],
        *,
        augmented: float = 0.0,
        seed: int = 0,
    ) -> Batch:
        """Read and pad the texts of ``rows`` beside the given pictures; ``targets["match"]`` says which belong.

        Features keep the store's fp16 until :meth:`~vltk.types.Batch.to` brings them to their device.

        Args:
            rows: which texts.
            images: the place of the picture that each is shown with.
            augmented: share of texts and of pictures that are shown as one of their paraphrases or views.
            seed: which ones, and as which.

        Raises:
            DataError: a damaged record, or a feature that is no number.
        """
        dice = np.random.default_rng(seed)
        pictures = [self.picture(image, dice if augmented and dice.random() < augmented else None) for image in images]
        texts = self.text_batch(rows, augmented=augmented, dice=dice)
        batch = beside(texts, self._laid(pictures))
        match = torch.from_numpy((self.image_of[np.asarray(rows)] == np.asarray(images)).astype(np.int64))
        return replace(batch, targets=_region_targets(pictures, batch) | {"match": match})

    def views_batch(self, rows: Sequence[int] | NDArray[np.int32], *, seed: int) -> Batch:
        """Read and pad matched pairs twice: B rows as they are, then B rows as augmented views of them (SSRP).

        A picture without views, or a text without paraphrases, stands for its own view. Targets are
        ``word_of_piece`` and ``trees`` of :func:`~vltk.mixture.trees.tree_targets`.

        Args:
            rows: which texts; each is shown with its own picture.
            seed: as which view each is shown.

        Raises:
            DataError: as :meth:`batch`.
        """
        dice = np.random.default_rng(seed)
        images = self.image_of[np.asarray(rows)]
        pictures = [self.picture(image, None) for image in images] + [self.picture(image, dice) for image in images]
        examples = [self.examples.get(self.ids[row]) for row in rows]
        parts = [told(one, self.layout.parts(one, self.name)[0]) for one in examples]
        parts += [self._otherwise(one, dice) for one in examples]
        texts = collate_texts(
            [one.id for one in examples] * 2,
            [self.special.frame(one.pieces) for one in parts],
            padding=self.special.padding,
        )
        return replace(beside(texts, self._laid(pictures)), targets=tree_targets(parts))

    def picture(self, image: int, dice: np.random.Generator | None) -> RegionFeatures:
        """Return the regions of a picture, or with dice those of one of its views where it has some."""
        image_id = self.image_ids[image]
        views = self.views
        if dice is not None and views is not None:
            there = [name for view in self.view_names if (name := view_id(image_id, view)) in views]
            if there:
                return views.get(there[int(dice.integers(len(there)))])
        return self.features.get(image_id)

    def _otherwise(self, example: Example, dice: np.random.Generator) -> Told:
        """Return one of the paraphrases of a text, or the text itself where it has none."""
        others = told_otherwise(example, self.max_text_length)
        if not others:
            return told(example, self.layout.parts(example, self.name)[0])
        return others[int(dice.integers(len(others)))]

    def text_batch(
        self,
        rows: Sequence[int] | NDArray[np.int32],
        *,
        augmented: float = 0.0,
        dice: np.random.Generator | None = None,
    ) -> Batch:
        """Read and pad texts alone.

        Args:
            rows: which texts.
            augmented: share that is shown as one of its paraphrases, where it has some.
            dice: which ones, and as which; needed with a share.

        Raises:
            DataError: a damaged record.
        """
        examples = [self.examples.get(self.ids[row]) for row in rows]
        parts: list[Sequence[Sequence[int]]] = []
        for example in examples:
            otherwise = dice is not None and augmented > 0 and dice.random() < augmented
            chosen = self._otherwise(example, dice).pieces if otherwise and dice is not None else None
            parts.append(self.layout.parts(example, self.name) if chosen is None else [chosen])
        framed = [self.layout.row(part, self.special) for part in parts]
        texts, types = [ids for ids, _ in framed], [segments for _, segments in framed]
        names = [example.id for example in examples]
        segments = types if any(self.layout.segments) else None
        return collate_texts(names, texts, padding=self.special.padding, types=segments)

    def region_batch(self, images: Sequence[int] | NDArray[np.int32]) -> Batch:
        """Read and pad the regions of pictures alone, as :meth:`batch` does.

        Raises:
            DataError: a damaged record, or a feature that is no number.
        """
        return self._laid([self.features.get(self.image_ids[image]) for image in images])

    def _laid(self, pictures: Sequence[RegionFeatures]) -> Batch:
        batch = collate_regions([picture.image_id for picture in pictures], pictures, half=True, located=self.located)
        check_finite(batch, pictures, self.name)
        return batch


def check_finite(batch: Batch, regions: Sequence[RegionFeatures], where: str) -> None:
    """Make sure that every feature and location of a batch is a number.

    Args:
        batch: made of the regions.
        regions: B pictures, to name the one that is wrong.
        where: the set that they are of.

    Raises:
        DataError: one is not, with its picture and row.
    """
    # The extremes show a NaN or infinity at the cost of reading once what has just been written.
    extremes = [value for tensor in (batch.regions, batch.locations) if tensor.numel() for value in tensor.aminmax()]
    if not all(bool(value.isfinite()) for value in extremes):
        for picture in regions:
            bad = ~np.isfinite(picture.features).all(axis=1) | ~np.isfinite(picture.location()).all(axis=1)
            if bad.any():
                problem = f"row {int(bad.argmax())} of image {picture.image_id} is not finite"
                raise DataError(problem, where=where, remedy="extract it again, or exclude it with --exclude-images")


_LABELS = {
    "class_probs": "class_probs",
    "class_ids": "class_ids",
    "scores": "class_scores",
    "attribute_ids": "attribute_ids",
    "attribute_scores": "attribute_scores",
}
"""What the detector says of each region, and the target that it becomes."""


def _region_targets(regions: Sequence[RegionFeatures], batch: Batch) -> dict[str, Tensor]:
    """Lay what the detector says of regions side by side, each kind where every picture has it."""
    places, found = batch.regions.shape[1], {}
    for name, target in _LABELS.items():
        arrays = [getattr(picture, name) for picture in regions]
        if any(array is None for array in arrays):
            continue
        kind = np.float32 if arrays[0].dtype.kind == "f" else np.int64
        padded = np.zeros((len(arrays), places, *arrays[0].shape[1:]), kind)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
        found[target] = torch.from_numpy(padded)
    return found


def view_names(views: FeatureReader) -> tuple[str, ...]:
    """Return the names of the views in a store, sorted."""
    return tuple(sorted({split_view(record)[1] for record in views.ids()}))
