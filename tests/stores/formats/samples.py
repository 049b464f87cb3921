"""Region features that a test makes up, and a store of them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vltk.stores.features import FeatureMetadata
from vltk.types import RegionFeatures

FIELDS = ("scores", "class_ids", "attribute_ids", "attribute_scores", "class_probs")


class MemoryStore:
    """What an export reads from; class distributions begin with the background unless labels say otherwise."""

    def __init__(self, records: Iterable[RegionFeatures], labels: Sequence[str] = ()) -> None:
        self.records = {record.image_id: record for record in records}
        self.metadata = FeatureMetadata(extra={"labels": list(labels)} if labels else {"format": "uniter_img_db"})

    def ids(self) -> list[str]:
        return sorted(self.records)

    def get(self, image_id: str) -> RegionFeatures:
        return self.records[image_id]


def make(image_id: str = "7", rows: int = 3, *, seed: int = 0, columns: int = 4, **changes: Any) -> RegionFeatures:
    """Regions with every field but region ids and normalised boxes; float32 features that float16 holds as well."""
    generator = np.random.default_rng(seed)
    width, height = 640, 480
    low = generator.integers(0, 400, (rows, 2))
    high = low + generator.integers(8, 80, (rows, 2))
    made = RegionFeatures(
        image_id=image_id,
        features=generator.random((rows, columns)).astype(np.float16).astype(np.float32),
        boxes=np.concatenate([low, high], axis=1).astype(np.float32) + 0.5,
        size=(width, height),
        scores=np.sort(generator.random(rows).astype(np.float16).astype(np.float32))[::-1].copy(),
        class_ids=generator.integers(0, 1600, rows),
        class_probs=generator.random((rows, 5)).astype(np.float16).astype(np.float32),
        attribute_ids=generator.integers(0, 400, rows),
        attribute_scores=generator.random(rows).astype(np.float32),
    )
    return replace(made, **changes)


@st.composite
def stores(draw: st.DrawFn, *, keep: tuple[str, ...] = FIELDS, same_rows: bool = False) -> MemoryStore:
    """A store of one to four pictures that hold the given fields."""
    ids = draw(
        st.lists(st.text("abcXYZ019_-é", min_size=1, max_size=12), min_size=1, max_size=4, unique_by=str.casefold)
    )
    columns, rows = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    drop = {name: None for name in FIELDS if name not in keep}
    records = []
    for image_id in ids:
        count = rows if same_rows else draw(st.integers(1, 5))
        records.append(make(image_id, count, seed=draw(st.integers(0, 1 << 20)), columns=columns, **drop))
    return MemoryStore(records)


def assert_same(found: Iterable[RegionFeatures], expected: MemoryStore) -> None:
    records = {record.image_id: record for record in found}
    assert sorted(records) == expected.ids()
    for image_id in expected.ids():
        mine, theirs = records[image_id], expected.get(image_id)
        assert mine.arrays().keys() == theirs.arrays().keys()
        for name, array in mine.arrays().items():
            np.testing.assert_array_equal(array, theirs.arrays()[name], err_msg=f"{image_id} {name}")
        assert mine.equals(theirs)
