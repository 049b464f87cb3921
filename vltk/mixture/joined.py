"""Regions of one picture from several stores, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, UsageError
from vltk.stores.features import FeatureMetadata, FeatureReader
from vltk.types import RegionFeatures


class JoinedFeatures(FeatureReader):
    """The regions of each picture in all of several stores, those of the first store first.

    VCR is trained this way: the regions of the annotated boxes, then the detected ones (UNITER, appendix A.2).

    Args:
        parts: stores that each hold the picture.

    Raises:
        UsageError: no parts.
    """

    def __init__(self, parts: Sequence[FeatureReader]) -> None:
        if not parts:
            raise UsageError("a join of no stores", remedy="give at least one store")
        self.parts = tuple(parts)

    @property
    def metadata(self) -> FeatureMetadata:
        """How the features of the last part, the detected ones, were made."""
        return self.parts[-1].metadata

    def ids(self) -> list[str]:
        """Return the ids that all parts hold, sorted."""
        return sorted(set.intersection(*(set(part.ids()) for part in self.parts)))

    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture; fields that a part lacks are left out.

        Raises:
            DataError: a part does not hold it, or the parts' features differ in size.
        """
        found = [part.get(image_id) for part in self.parts]
        arrays = [picture.arrays() for picture in found]
        widths = [picture.features.shape[1] for picture in found]
        if len(set(widths)) > 1:
            problem = f"features of sizes {' and '.join(map(str, widths))}"
            raise DataError(problem, where=f"image {image_id}", remedy="describe all boxes with one detector")
        shared = [name for name in arrays[0] if all(name in other for other in arrays)]
        values: dict[str, Any] = {name: np.concatenate([other[name] for other in arrays]) for name in shared}
        return RegionFeatures.trusted(image_id=image_id, size=found[0].size, **values)

    def region_count(self, image_id: str) -> int:
        """Return how many regions :meth:`get` gives."""
        return sum(part.region_count(image_id) for part in self.parts)

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return [R] scores of one picture."""
        return np.concatenate([part.scores(image_id) for part in self.parts])

    def __len__(self) -> int:
        return len(self.ids())

    def __contains__(self, image_id: object) -> bool:
        return all(image_id in part for part in self.parts)
