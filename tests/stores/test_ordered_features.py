"""Regions in the order in which a model reads them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.small_pairs import picture, write_features
from vltk.errors import DataError
from vltk.stores.features import FeatureStore
from vltk.stores.ordered_features import OrderedFeatures, ordered, region_places
from vltk.types import RegionFeatures


def regions(name: str = "7", *, boxes: bool = True, scores: bool = True) -> RegionFeatures:
    corners = np.array([[0, 0, 2, 2], [0, 0, 9, 9], [0, 0, 4, 4]], np.float32)
    return RegionFeatures(
        image_id=name,
        features=np.arange(6, dtype=np.float16).reshape(3, 2),
        boxes=corners if boxes else None,
        size=(10, 10),
        scores=np.array([0.2, 0.2, 0.9], np.float32) if scores else None,
    )


def test_the_orders_of_table_5() -> None:
    assert region_places(regions(), "confidence").tolist() == [2, 0, 1]
    assert region_places(regions(), "size").tolist() == [1, 2, 0]
    assert region_places(regions(), "stored").tolist() == [0, 1, 2]
    drawn = {tuple(region_places(regions(str(number)), "random").tolist()) for number in range(40)}
    assert len(drawn) == 6
    assert region_places(regions(), "random").tolist() == region_places(regions(), "random").tolist()


def test_scans_files_keep_their_order_and_have_no_sizes() -> None:
    bare = regions(boxes=False, scores=False)
    assert region_places(bare, "confidence").tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"image 7: has no boxes"):
        region_places(bare, "size")


def test_a_view_gives_whole_regions_in_order(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    path = write_features(tmp_path / "f.lmdb", [picture(name, dice) for name in "abc"])
    store = FeatureStore.open(path)
    view = pickle.loads(pickle.dumps(ordered(store, "size")))
    assert (view.ids(), len(view), "a" in view, "z" in view) == (store.ids(), 3, True, False)
    assert view.metadata == store.metadata
    for name in "abc":
        own, found = store.get(name), view.get(name)
        places = np.argsort(-own.location()[:, 6], kind="stable")
        assert found.equals(own.take(places))
        assert np.array_equal(view.scores(name), own.scores[places])
        assert view.region_count(name) == len(own)


def test_what_needs_no_order_is_not_wrapped(tmp_path: Path) -> None:
    store = FeatureStore.open(write_features(tmp_path / "f.lmdb", [picture("a", np.random.default_rng(0))]))
    assert ordered(store, None) is store
    assert ordered(store, "stored") is store
    assert isinstance(ordered(store, "confidence"), OrderedFeatures)
