"""In the place of a feature store where nothing but texts and answers is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.stores.feature_reader import FeatureMetadata, FeatureReader
from vltk.types import RegionFeatures


class AbsentFeatures(FeatureReader):
    """A reader without pictures, for work that may turn out to need them: it says which option brings them."""

    @property
    def metadata(self) -> FeatureMetadata:
        """Say nothing of a detector."""
        return FeatureMetadata()

    def ids(self) -> list[str]:
        """Return no id."""
        return []

    def get(self, image_id: str) -> RegionFeatures:
        """Refuse.

        Raises:
            DataError: always.
        """
        raise self._absent(image_id)

    def region_count(self, image_id: str) -> int:
        """Refuse.

        Raises:
            DataError: always.
        """
        raise self._absent(image_id)

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Refuse.

        Raises:
            DataError: always.
        """
        raise self._absent(image_id)

    def __len__(self) -> int:
        return 0

    def __contains__(self, image_id: object) -> bool:
        return False

    def _absent(self, image_id: str) -> DataError:
        problem = "the regions of the picture are needed, and no feature store is given"
        return DataError(problem, where=f"image {image_id}", remedy="give its store with --features")
