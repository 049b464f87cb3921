"""What a retrieval protocol searches: which texts and pictures of a split, in which folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, first_few
from vltk.metrics.protocol import RetrievalProtocol
from vltk.metrics.retrieval import captions_that_count, folds_of
from vltk.stores.score_matrix import ScoreMatrix
from vltk.tasks._task import Split


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Texts and pictures that are searched.

    Attributes:
        text_ids: C ids, those that count under the protocol.
        image_ids: I ids, in the order that folds are cut in.
        image_of: C ids of the pictures that the texts belong to.
        protocol: how the split is cut.
    """

    text_ids: tuple[str, ...]
    image_ids: tuple[str, ...]
    image_of: tuple[str, ...]
    protocol: RetrievalProtocol

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """[C] the number of the picture that each text belongs to."""
        place = {image: column for column, image in enumerate(self.image_ids)}
        return np.array([place[image] for image in self.image_of], np.int64)

    @cached_property
    def fold_of(self) -> NDArray[np.int64] | None:
        """[I] the fold of each picture; None where there is one fold."""
        return folds_of(len(self.image_ids), self.protocol) if self.protocol.folds > 1 else None

    @cached_property
    def compared(self) -> NDArray[np.bool_] | None:
        """[C, I] the pairs that the protocol compares; None for all."""
        return None if self.fold_of is None else self.fold_of[self.columns][:, None] == self.fold_of

    def empty(self, provenance: dict[str, object], name: str) -> ScoreMatrix:
        """Return a matrix of these texts and pictures without scores."""
        scores = np.broadcast_to(np.float32(np.nan), (len(self.text_ids), len(self.image_ids)))
        ids = {"text_ids": self.text_ids, "image_ids": self.image_ids, "image_of": self.image_of}
        return ScoreMatrix(scores=scores, provenance=provenance, name=name, **ids)


def pool_of_split(split: Split, protocol: RetrievalProtocol, *, images: Sequence[str] | None = None) -> Pool:
    """Return what a protocol searches of a split.

    Args:
        split: captions, each of one picture.
        protocol: how the split is cut.
        images: the pictures of the split, where the examples hold more; None for those of all examples.

    Raises:
        DataError: an image that is listed has no caption, a picture has no features, an example is of two pictures, or
            the split is not what the protocol says.
    """
    texts: list[str] = []
    owners: list[str] = []
    chosen = None if images is None else set(images)
    for example in islice(split.examples, len(split)):
        if len(example.image_ids) != 1:
            problem = f"example {example.id} has {len(example.image_ids)} images, retrieval compares one"
            raise DataError(problem, where=split.name, remedy="use examples of captions")
        if chosen is None or example.image_ids[0] in chosen:
            texts.append(example.id)
            owners.append(example.image_ids[0])
    pictures = list(dict.fromkeys(owners if images is None else images))
    described = set(owners)
    alone = [image for image in pictures if image not in described]
    if alone:
        problem = f"{len(alone)} of {len(pictures)} images of the split have no caption ({first_few(alone)})"
        raise DataError(problem, where=split.name, remedy="give the captions of the whole split, or list its images")
    missing = [image for image in pictures if image not in split.features]
    if missing:
        problem = f"captions of {len(missing)} of {len(pictures)} images have no features ({first_few(missing)})"
        raise DataError(problem, where=split.name, remedy="extract them, or list the images to be searched")
    return _cut(texts, pictures, owners, protocol)


def pool_of_scores(matrix: ScoreMatrix, protocol: RetrievalProtocol) -> Pool:
    """Return what a protocol searches of a stored matrix.

    Raises:
        DataError: the matrix is not what the protocol says.
    """
    return _cut(matrix.text_ids, matrix.image_ids, matrix.image_of, protocol)


def _cut(texts: Sequence[str], pictures: Sequence[str], owners: Sequence[str], protocol: RetrievalProtocol) -> Pool:
    place = {image: column for column, image in enumerate(pictures)}
    image_of = np.array([place[image] for image in owners], np.int64)
    rows = captions_that_count(image_of, pictures, protocol)
    return Pool(
        text_ids=tuple(texts[row] for row in rows),
        image_ids=tuple(pictures),
        image_of=tuple(owners[row] for row in rows),
        protocol=protocol,
    )
