"""What a reader of region features can ask for, whether it is a store, a selection of it or a chain of stores."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.stores.region_record import CODECS
from vltk.types import RegionFeatures

_VISUAL_GENOME_CLASSES = 1600


@dataclass(frozen=True, kw_only=True)
class FeatureMetadata:
    """How the features of a store were made; two stores mix only where this is equal.

    Attributes:
        detector: name of the detector, e.g. "butd-resnet101-vg".
        preset: name of the extraction settings, e.g. "butd-36".
        preset_hash: hash of these settings.
        weights_hash: hash of the detector's weights.
        dtype: type of the stored features; float16 halves the store and is what UNITER ran on.
        compression: "lz4" halves it again where many features are zero; reading then decompresses.
        created_by: program and version.
        source: what the features were made from.
        extra: anything else, as JSON values.

    Raises:
        UsageError: an unknown dtype or compression.
    """

    detector: str = ""
    preset: str = ""
    preset_hash: str = ""
    weights_hash: str = ""
    dtype: Literal["float16", "float32"] = "float16"
    compression: Literal["none", "lz4"] = "none"
    created_by: str = ""
    source: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "float32"):
            raise UsageError(f"features of {self.dtype!r} cannot be stored", remedy="use float16 or float32")
        if self.compression not in CODECS:
            raise UsageError(f"compression {self.compression!r} is unknown", remedy="use none or lz4")

    def background_first(self, classes: int) -> bool:
        """Whether column 0 of class distributions stands for the background.

        UNITER's img_dbs keep it there, and so do other published stores of Visual Genome's 1,600 classes that have
        1,601 columns; vltk's extraction leaves it out, and writes the names of the classes into the store.

        Args:
            classes: C, columns of the distributions.

        Example:
            >>> FeatureMetadata(extra={"labels": ["cat", "dog"]}).background_first(2)
            False
            >>> FeatureMetadata(extra={"format": "uniter_img_db"}).background_first(1601)
            True
        """
        if labels := self.extra.get("labels"):
            return bool(classes == len(labels) + 1)
        return self.extra.get("format") == "uniter_img_db" or classes == _VISUAL_GENOME_CLASSES + 1


def kept_regions(scores: NDArray[Any], *, min_score: float, min_boxes: int, max_boxes: int) -> int:
    """Return how many of the first regions UNITER keeps: min(max_boxes, max(min_boxes, count(scores > min_score))).

    The published rule (``compute_num_bb``) is not capped by the number of stored boxes; taking more rows than there
    are just gives them all.

    Args:
        scores: [R] confidence of each region, best first.
        min_score: regions count when their score is strictly greater.
        min_boxes: keep at least so many.
        max_boxes: keep at most so many.

    Example:
        >>> kept_regions(np.array([0.9, 0.5, 0.2]), min_score=0.2, min_boxes=1, max_boxes=100)
        2
    """
    return min(max_boxes, max(min_boxes, int((scores > min_score).sum())))


class FeatureReader(ABC):
    """What a store, a selection of it and a chain of stores have in common."""

    @property
    @abstractmethod
    def metadata(self) -> FeatureMetadata:
        """How the features were made."""

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all pictures, sorted."""

    @abstractmethod
    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture; its arrays are read-only.

        Raises:
            DataError: no such picture, or a damaged record.
        """

    @abstractmethod
    def region_count(self, image_id: str) -> int:
        """Return how many regions :meth:`get` gives, without reading their features.

        Raises:
            DataError: no such picture, or a damaged record.
        """

    @abstractmethod
    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return [R] scores of one picture, without reading its features.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __contains__(self, image_id: object) -> bool: ...

    def __iter__(self) -> Iterator[RegionFeatures]:
        for image_id in self.ids():
            yield self.get(image_id)

    def select(self, *, min_score: float, min_boxes: int = 10, max_boxes: int = 100) -> SelectedFeatures:
        """Return a view that keeps the best regions of each picture by UNITER's rule (:func:`kept_regions`).

        Raises:
            UsageError: bounds that contradict each other.
        """
        return SelectedFeatures(self, min_score=min_score, min_boxes=min_boxes, max_boxes=max_boxes)


class FeatureView(FeatureReader):
    """What views of one reader share: its pictures and how they were made; what they give of each is theirs.

    Args:
        features: what to read.
    """

    def __init__(self, features: FeatureReader) -> None:
        self.features = features

    @property
    def metadata(self) -> FeatureMetadata:
        """How the features were made."""
        return self.features.metadata

    def ids(self) -> list[str]:
        """Return the ids of all pictures, sorted."""
        return self.features.ids()

    def __len__(self) -> int:
        return len(self.features)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self.features


class SelectedFeatures(FeatureView):
    """A view of features that keeps the best regions of each picture by UNITER's rule.

    Args:
        features: what to select from.
        min_score: regions count when their score is strictly greater.
        min_boxes: keep at least so many, where there are.
        max_boxes: keep at most so many.

    Raises:
        UsageError: bounds that contradict each other.
    """

    def __init__(self, features: FeatureReader, *, min_score: float, min_boxes: int, max_boxes: int) -> None:
        if not 0 <= min_boxes <= max_boxes:
            problem = f"min_boxes {min_boxes} and max_boxes {max_boxes} leave nothing to select"
            raise UsageError(problem, remedy="use 0 <= min_boxes <= max_boxes")
        super().__init__(features)
        self.min_score, self.min_boxes, self.max_boxes = min_score, min_boxes, max_boxes

    def get(self, image_id: str) -> RegionFeatures:
        """Return the kept regions of one picture; nothing is copied.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        regions = self.features.get(image_id)
        scores = self.features.scores(image_id) if regions.scores is None else regions.scores
        return regions.take(slice(self._kept(scores)))

    def region_count(self, image_id: str) -> int:
        """Return how many regions :meth:`get` gives, without reading their features.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        return len(self.scores(image_id))

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return the scores of the kept regions, without reading their features.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        scores = self.features.scores(image_id)
        return scores[: self._kept(scores)]

    def _kept(self, scores: NDArray[np.float32]) -> int:
        return kept_regions(scores, min_score=self.min_score, min_boxes=self.min_boxes, max_boxes=self.max_boxes)


class ChainedFeatures(FeatureReader):
    """Several stores read as one.

    Args:
        parts: stores or views; of one feature extraction, each picture in one of them.

    Raises:
        UsageError: no parts.
        DataError: a picture in two parts, or parts of different detectors or presets.
    """

    def __init__(self, parts: Sequence[FeatureReader]) -> None:
        if not parts:
            raise UsageError("a chain of no stores", remedy="give at least one store")
        self.parts = tuple(parts)
        self._check_metadata()
        previous = ""
        for image_id in heapq.merge(*(part.ids() for part in parts)):
            if image_id == previous:
                raise DataError(f"image {image_id} is in two of the chained stores", remedy="leave one of them out")
            previous = image_id

    def _check_metadata(self) -> None:
        first = self.metadata
        for part in self.parts[1:]:
            for name in ("detector", "preset", "preset_hash", "weights_hash"):
                a, b = getattr(first, name), getattr(part.metadata, name)
                if a != b:
                    problem = f"the chained stores were made with {name} {a!r} and {b!r}"
                    raise DataError(problem, remedy="extract both with one setting")

    @property
    def metadata(self) -> FeatureMetadata:
        """How the features of the first part were made."""
        return self.parts[0].metadata

    def ids(self) -> list[str]:
        """Return the ids of all pictures, sorted."""
        return list(heapq.merge(*(part.ids() for part in self.parts)))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __contains__(self, image_id: object) -> bool:
        return any(image_id in part for part in self.parts)

    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture from the part that holds it.

        Raises:
            DataError: no such picture, or a damaged record.
        """
        return self._holder(image_id).get(image_id)

    def region_count(self, image_id: str) -> int:
        """Return how many regions :meth:`get` gives, without reading their features.

        Raises:
            DataError: no such picture, or a damaged record.
        """
        return self._holder(image_id).region_count(image_id)

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return [R] scores of one picture, without reading its features.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        return self._holder(image_id).scores(image_id)

    def _holder(self, image_id: str) -> FeatureReader:
        for part in self.parts:
            if image_id in part:
                return part
        raise DataError(f"none of {len(self.parts)} chained stores holds {image_id!r}", remedy="extract it first")
