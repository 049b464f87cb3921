"""The regions that a run reads, from the stores that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vltk.config.training import ReadingConfig
from vltk.mixture import JoinedFeatures
from vltk.stores.features import ChainedFeatures, FeatureReader, FeatureStore


def open_regions(paths: Sequence[Path], reading: ReadingConfig, inputs: dict[str, str]) -> FeatureReader:
    """Open feature stores as one, choose the regions of each picture, and put the given ones before them.

    Args:
        paths: stores of one detector and preset, one after the other.
        reading: which regions are kept, and which come first.
        inputs: gets the content hash of every store that is opened.

    Raises:
        DataError: a store is missing or damaged, or the stores were made differently.
    """
    stores = [FeatureStore.open(path) for path in paths]
    inputs |= {f"features {store.path.name}": store.content_hash for store in stores}
    chosen: FeatureReader = stores[0] if len(stores) == 1 else ChainedFeatures(stores)
    if reading.min_score is not None:
        bounds = {"min_boxes": reading.min_boxes, "max_boxes": reading.max_boxes}
        chosen = chosen.select(min_score=reading.min_score, **bounds)
    first = [FeatureStore.open(one) for one in reading.first_features]
    inputs |= {f"features {store.path.name}": store.content_hash for store in first}
    return JoinedFeatures([*first, chosen]) if first else chosen
