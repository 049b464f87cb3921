"""Large stores are compacted record by record; what comes out is what LMDB's own copy gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vltk.errors import DataError
from vltk.stores import lmdb_env
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.maintenance import verify
from vltk.stores.pages import Entry, PageFile
from vltk.types import RegionFeatures

METADATA = FeatureMetadata(detector="made", preset="made")


def write(path: Path, *, count: int = 300) -> FeatureStore:
    with FeatureStore.create(path, METADATA) as writer:
        for number in np.random.default_rng(0).permutation(count):
            features = np.full((1 + number % 5, 32), number, np.float16)
            boxes = np.tile(np.array([[0, 0, 4, 4]], np.float32), (len(features), 1))
            writer.put(RegionFeatures(image_id=f"{number:05d}", features=features, boxes=boxes, size=(8, 8)))
    return FeatureStore.open(path)


def test_both_ways_give_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write(tmp_path / "plain.lmdb")
    monkeypatch.setattr(lmdb_env, "_LARGE_FILE", 0)
    monkeypatch.setattr(lmdb_env, "_COPY_BYTES", 4096)
    copied = write(tmp_path / "copied.lmdb")
    assert copied.content_hash == plain.content_hash
    assert all(a.equals(b) for a, b in zip(plain, copied, strict=True))
    assert verify(tmp_path / "copied.lmdb").ok
    sizes = [(tmp_path / name / "data.mdb").stat().st_size for name in ("plain.lmdb", "copied.lmdb")]
    assert sizes[1] < 1.3 * sizes[0]


def test_a_record_without_a_place_is_never_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_env, "_LARGE_FILE", 0)
    monkeypatch.setattr(PageFile, "entries", lambda self, report: iter([Entry(b"key", None, 4)]))
    with pytest.raises(DataError, match=r"the value of b'key' lies nowhere; save the rest with vltk store repair"):
        write(tmp_path / "lost.lmdb")
