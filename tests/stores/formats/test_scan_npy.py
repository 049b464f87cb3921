"""SCAN's precomputed features: rows, captions and ids that must fit, and files that lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.formats.samples import FIELDS, MemoryStore, assert_same, make, stores
from vltk.errors import DataError
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.formats import scan_npy
from vltk.stores.formats.scan_npy import ReadOptions, WriteOptions
from vltk.types import Example

PICTURES = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
CAPTIONS = [f"caption {number}" for number in range(10)]


def precomp(
    folder: Path, images: Any = PICTURES, captions: Sequence[str] | None = CAPTIONS, ids: Sequence[str] | None = None
) -> Path:
    np.save(folder / "dev_ims.npy", images)
    for name, lines in (("caps", captions), ("ids", ids)):
        if lines is not None:
            (folder / f"dev_{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_split_is_read_row_by_row(tmp_path: Path) -> None:
    records = list(scan_npy.read(precomp(tmp_path)))
    assert [record.image_id for record in records] == ["dev_0", "dev_1"]
    for record, picture in zip(records, PICTURES, strict=True):
        np.testing.assert_array_equal(record.features, picture)
        assert record.boxes is None
        assert record.size == (1, 1)


def test_pictures_that_stand_once_a_caption_are_found_and_read_once(tmp_path: Path) -> None:
    precomp(tmp_path, np.repeat(PICTURES, 5, axis=0))
    records = list(scan_npy.read(tmp_path))
    assert len(records) == 2
    np.testing.assert_array_equal(records[1].features, PICTURES[1])


def test_without_captions_the_user_says_whether_pictures_repeat(tmp_path: Path) -> None:
    precomp(tmp_path, np.repeat(PICTURES, 5, axis=0), captions=None)
    assert len(list(scan_npy.read(tmp_path))) == 10
    assert len(list(scan_npy.read(tmp_path, ReadOptions(repeated="yes")))) == 2


def test_rows_that_differ_are_not_one_picture(tmp_path: Path) -> None:
    images = np.repeat(PICTURES, 5, axis=0)
    images[7] += 1
    with pytest.raises(DataError, match="rows 5 to 9 are not one picture; pass --repeated no"):
        list(scan_npy.read(precomp(tmp_path, images)))


@pytest.mark.parametrize("times", [1, 5])
def test_ids_are_of_pictures_or_of_captions(times: int, tmp_path: Path) -> None:
    precomp(tmp_path, ids=np.repeat(["a", "b"], times))
    assert [record.image_id for record in scan_npy.read(tmp_path)] == ["a", "b"]
    examples = list(scan_npy.read_examples(tmp_path))
    assert [example.image_ids for example in examples] == [("a",)] * 5 + [("b",)] * 5
    assert [example.texts[0] for example in examples] == CAPTIONS
    assert examples[6].id == "b#1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"captions": CAPTIONS[:9]}, "9 captions for 2 rows of pictures"),
        ({"ids": ["a", "b", "c"]}, "3 ids for 2 pictures"),
        ({"ids": ["a", "a"]}, "picture a comes twice"),
        ({"ids": list("aaaaabbbbc")}, "the 5 captions of picture 1 have several ids"),
        ({"images": PICTURES[0]}, r"has shape \(3, 4\), expected \[N, regions, features\]"),
        ({"captions": ["b'A dog.'", *CAPTIONS[1:]]}, "written by Python 3 out of the bytes of Python 2"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        list(scan_npy.read(precomp(tmp_path, **change)))


def test_a_claim_of_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (36408, 36, 2048), }".ljust(117) + "\n"
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    (tmp_path / "dev_ims.npy").write_bytes(head + bytes(99))
    with pytest.raises(DataError, match="claims 10,737,156,096 bytes"):
        list(scan_npy.read(tmp_path))


def test_the_split_must_be_clear(tmp_path: Path) -> None:
    precomp(tmp_path)
    np.save(tmp_path / "test_ims.npy", PICTURES)
    with pytest.raises(DataError, match=r"name one with --split; there are dev_ims.npy, test_ims.npy"):
        list(scan_npy.read(tmp_path))
    assert len(list(scan_npy.read(tmp_path, ReadOptions(split="test")))) == 2
    with pytest.raises(DataError, match=r"holds 0 files train_ims.npy"):
        list(scan_npy.read(tmp_path, ReadOptions(split="train")))


@given(store=stores(keep=(), same_rows=True), captions=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(store: MemoryStore, captions: bool, tmp_path: Path) -> None:
    plain = MemoryStore(make_plain(store))
    examples = [
        Example(id=f"{image_id}#{number}", image_ids=(image_id,), texts=(f"{image_id} {number}",))
        for image_id in store.ids()
        for number in range(5)
    ]
    (tmp_path / "train_caps.txt").unlink(missing_ok=True)
    texts = example_store(tmp_path / "captions.lmdb", examples) if captions else None
    scan_npy.write(plain, tmp_path, WriteOptions(captions=texts), overwrite=True)
    assert_same(scan_npy.read(tmp_path), plain)
    if captions:
        assert list(scan_npy.read_examples(tmp_path)) == examples


def example_store(path: Path, examples: Sequence[Example]) -> Path:
    with ExampleStore.create(path, ExampleMetadata(), overwrite=True) as writer:
        for example in examples:
            writer.put(example)
    return path


def make_plain(store: MemoryStore) -> list[Any]:
    absent = {"boxes": None, "size": (1, 1), **dict.fromkeys(FIELDS)}
    return [make(i, len(store.get(i)), features=store.get(i).features, **absent) for i in store.ids()]


def test_pictures_of_several_lengths_cannot_be_one_array(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has features of shape \(4, 4\), the first picture \(3, 4\)"):
        scan_npy.write(MemoryStore([make("a", 3), make("b", 4)]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_its_captions_is_refused(tmp_path: Path) -> None:
    captions = example_store(tmp_path / "captions.lmdb", [Example(id="a", image_ids=("7",), texts=("x",))])
    with pytest.raises(DataError, match="image 7: has 1 captions, expected 5"):
        scan_npy.write(MemoryStore([make()]), tmp_path / "out", WriteOptions(captions=captions))
