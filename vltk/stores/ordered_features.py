"""Region features in the order in which a model reads them one after the other (VSRN, section 4.4, Table 5)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vltk.stores.feature_reader import FeatureReader, FeatureView
from vltk.types import RegionFeatures

RegionOrder = Literal["confidence", "size", "random", "stored"]
"""The best score first, the largest box first, shuffled, or as the store has them."""


def region_places(regions: RegionFeatures, order: RegionOrder) -> NDArray[np.intp]:
    """Return the places of the regions of a picture in an order; equal ones stay as they are stored.

    A picture that was stored without scores, as SCAN's files are, keeps its order under "confidence": those files were
    written in that order. "random" depends on nothing but the picture's id, so that a picture is one embedding.

    Args:
        regions: R of them.
        order: which.

    Raises:
        DataError: "size" for a picture that was stored without boxes.

    Example:
        >>> regions = RegionFeatures(image_id="7", features=np.ones((2, 4), np.float16), size=(9, 9),
        ...     boxes=np.array([[0, 0, 1, 1], [0, 0, 5, 5]], np.float32), scores=np.array([0.5, 0.4], np.float32))
        >>> region_places(regions, "size").tolist(), region_places(regions, "confidence").tolist()
        ([1, 0], [0, 1])
    """
    stored = np.arange(len(regions))
    if order == "size":
        return np.argsort(-regions.location()[:, 6], kind="stable")
    if order == "confidence" and regions.scores is not None:
        return np.argsort(-regions.scores, kind="stable")
    if order == "random":
        return np.random.default_rng(list(regions.image_id.encode())).permutation(stored)
    return stored


class OrderedFeatures(FeatureView):
    """A view of features that gives the regions of each picture in an order.

    Args:
        features: what to read.
        order: of the regions.
    """

    def __init__(self, features: FeatureReader, order: RegionOrder) -> None:
        super().__init__(features)
        self.order = order

    def get(self, image_id: str) -> RegionFeatures:
        """Return the regions of one picture in the order; nothing is copied where they stand in it already.

        Raises:
            DataError: no such picture, a damaged record, or none of what the order asks for.
        """
        regions = self.features.get(image_id)
        places = region_places(regions, self.order)
        return regions if np.array_equal(places, np.arange(len(regions))) else regions.take(places)

    def region_count(self, image_id: str) -> int:
        """Return how many regions :meth:`get` gives, without reading their features.

        Raises:
            DataError: no such picture, or a damaged record.
        """
        return self.features.region_count(image_id)

    def scores(self, image_id: str) -> NDArray[np.float32]:
        """Return [R] scores of one picture in the order.

        Raises:
            DataError: no such picture, a damaged record, or one without scores.
        """
        scores = self.features.scores(image_id)
        return scores if self.order == "stored" else scores[region_places(self.features.get(image_id), self.order)]


def ordered(features: FeatureReader, order: RegionOrder | None) -> FeatureReader:
    """Return the features in the order that a model asks for; as they are where it asks for none."""
    return features if order in (None, "stored") else OrderedFeatures(features, order)
