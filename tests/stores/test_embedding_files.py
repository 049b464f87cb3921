"""Embeddings as files come back as they were written; what does not fit is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vltk.errors import DataError, UsageError
from vltk.stores.embedding_files import FORMAT, Embeddings, read_embeddings, write_embeddings

VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "images", Embeddings(ids="abc", vectors=VECTORS, provenance={"weights": "w"}))
    found = read_embeddings(tmp_path / "images.json")
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert (found.ids, found.provenance) == (["a", "b", "c"], {"weights": "w"})


def test_what_is_there_is_replaced_on_demand_only(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "x", Embeddings(ids="abc", vectors=VECTORS))
    with pytest.raises(UsageError, match="is there already"):
        write_embeddings(tmp_path / "x", Embeddings(ids="abc", vectors=VECTORS))
    write_embeddings(tmp_path / "x", Embeddings(ids="ab", vectors=VECTORS[:2]), overwrite=True)
    assert len(read_embeddings(tmp_path / "x").ids) == 2


@pytest.mark.parametrize(
    ("ids", "vectors", "sentence"),
    [
        ("ab", VECTORS, r"holds float32 of the shape \(3, 4\) for 2 ids"),
        ("abc", VECTORS[0], r"of the shape \(4,\)"),
        ("abc", VECTORS.astype(int), "holds int64"),
        ("aba", VECTORS, "names an id twice"),
    ],
)
def test_vectors_that_do_not_fit(ids: str, vectors: np.ndarray, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Embeddings(ids=ids, vectors=vectors)


def test_a_vector_that_is_no_number_is_named(tmp_path: Path) -> None:
    broken = VECTORS.copy()
    broken[1, 2] = np.nan
    np.save(tmp_path / "x.npy", broken)
    (tmp_path / "x.json").write_text(json.dumps({"format": FORMAT, "ids": ["a", "b", "c"]}))
    with pytest.raises(DataError, match="the vector of 'b' is not finite"):
        read_embeddings(tmp_path / "x")


def test_another_file_than_the_card_describes(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "x", Embeddings(ids="abc", vectors=VECTORS))
    np.save(tmp_path / "x.npy", VECTORS + 1)
    with pytest.raises(DataError, match="is not the file that its card describes"):
        read_embeddings(tmp_path / "x")
