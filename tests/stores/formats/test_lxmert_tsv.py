"""LXMERT's and BUTD's TSV files: the real ones, round trips, and files that lie."""

from __future__ import annotations

import base64
import csv
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.formats.samples import MemoryStore, assert_same, make, stores
from vltk.errors import DataError
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.formats import lxmert_tsv
from vltk.stores.formats.lxmert_tsv import ReadOptions, WriteOptions

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encoded(array: Any, dtype: str) -> str:
    return base64.b64encode(np.asarray(array, dtype).tobytes()).decode()


def row(**changes: str) -> str:
    fields = {
        "img_id": "7", "img_h": "480", "img_w": "640", "objects_id": encoded([1, 2], "<i8"),
        "objects_conf": encoded([0.9, 0.1], "<f4"), "attrs_id": encoded([3, 4], "<i8"),
        "attrs_conf": encoded([0.5, 0.6], "<f4"), "num_boxes": "2",
        "boxes": encoded([[0, 0, 10, 10], [5, 6, 600, 400]], "<f4"), "features": encoded(np.ones((2, 3)), "<f4"),
    }  # fmt: skip
    return "\t".join({**fields, **changes}.values())


def write_file(folder: Path, *lines: str) -> Path:
    path = folder / "some.tsv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def real(shared: Path) -> Path:
    return shared / "data" / "butd_coco" / "train2014_obj36.tsv"


def published_decoding(path: Path) -> dict[str, dict[str, Any]]:
    """The file read field by field, as its README describes it."""
    csv.field_size_limit(sys.maxsize)
    kinds = {
        "objects_id": "<i8",
        "objects_conf": "<f4",
        "attrs_id": "<i8",
        "attrs_conf": "<f4",
        "boxes": "<f4",
        "features": "<f4",
    }
    rows = {}
    with path.open(newline="") as stream:
        for item in csv.DictReader(stream, lxmert_tsv.COLUMNS["lxmert"], delimiter="\t"):
            arrays = {name: np.frombuffer(base64.b64decode(item[name]), kind) for name, kind in kinds.items()}
            count = int(item["num_boxes"])
            shapes = {"boxes": (count, 4), "features": (count, 2048)}
            arrays = {name: array.reshape(shapes.get(name, (count,))) for name, array in arrays.items()}
            rows[item["img_id"]] = {"size": (int(item["img_w"]), int(item["img_h"])), **arrays}
    return rows


def test_the_ten_coco_pictures_are_read_as_they_are_published(real: Path) -> None:
    expected = published_decoding(real)
    assert len(expected) == 10
    names = {
        "class_ids": "objects_id",
        "scores": "objects_conf",
        "attribute_ids": "attrs_id",
        "attribute_scores": "attrs_conf",
    }
    for regions in lxmert_tsv.read(real):
        theirs = expected.pop(regions.image_id)
        assert regions.size == theirs["size"]
        assert len(regions) == 36
        for field, array in regions.arrays().items():
            np.testing.assert_array_equal(array, theirs[names.get(field, field)])
    assert not expected


def test_the_ten_coco_pictures_come_back_out_of_a_float32_store_with_every_array_equal(
    real: Path, tmp_path: Path
) -> None:
    with FeatureStore.create(tmp_path / "a.lmdb", FeatureMetadata(dtype="float32")) as writer:
        for regions in lxmert_tsv.read(real):
            writer.put(regions)
    lxmert_tsv.write(FeatureStore.open(tmp_path / "a.lmdb"), tmp_path / "out.tsv")
    before, after = published_decoding(real), published_decoding(tmp_path / "out.tsv")
    assert before.keys() == after.keys()
    for image_id, fields in before.items():
        for name, value in fields.items():
            np.testing.assert_array_equal(after[image_id][name], value)


def test_a_float16_store_keeps_the_features_to_half_a_unit_in_the_last_place(real: Path, tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "a.lmdb", FeatureMetadata()) as writer:
        for regions in lxmert_tsv.read(real):
            writer.put(regions)
    lxmert_tsv.write(FeatureStore.open(tmp_path / "a.lmdb"), tmp_path / "out.tsv")
    before, after = published_decoding(real), published_decoding(tmp_path / "out.tsv")
    for image_id, fields in before.items():
        np.testing.assert_allclose(after[image_id]["features"], fields["features"], rtol=2**-11, atol=2**-25)
        np.testing.assert_array_equal(after[image_id]["boxes"], fields["boxes"])


@given(store=stores(keep=("scores", "class_ids", "attribute_ids", "attribute_scores")))
@quick
def test_what_is_written_is_read(store: MemoryStore, tmp_path: Path) -> None:
    lxmert_tsv.write(store, tmp_path / "a.tsv", overwrite=True)
    assert_same(lxmert_tsv.read(tmp_path / "a.tsv"), store)


@given(store=stores(keep=()))
@quick
def test_what_is_written_in_the_older_layout_is_read(store: MemoryStore, tmp_path: Path) -> None:
    lxmert_tsv.write(store, tmp_path / "a.tsv", overwrite=True)
    assert len((tmp_path / "a.tsv").read_text().splitlines()[0].split("\t")) == 6
    assert_same(lxmert_tsv.read(tmp_path / "a.tsv"), store)


def test_the_older_layout_has_the_width_first_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    boxes = encoded([[0, 0, 10, 10], [5, 6, 600, 400]], "<f4")
    features = encoded(np.ones((2, 3)), "<f4")
    wide = write_file(tmp_path, "\t".join(["7", "640", "480", "2", boxes, features]))
    assert next(lxmert_tsv.read(wide)).size == (640, 480)
    swapped = write_file(tmp_path, "\t".join(["7", "480", "640", "2", boxes, features]))
    with pytest.raises(DataError, match="width and height are swapped"):
        list(lxmert_tsv.read(swapped))
    assert next(lxmert_tsv.read(swapped, ReadOptions(size_order="hw"))).size == (640, 480)


def test_attributes_that_were_never_predicted_are_written_as_zeros(tmp_path: Path) -> None:
    lxmert_tsv.write(MemoryStore([make(attribute_ids=None, attribute_scores=None)]), tmp_path / "a.tsv")
    again = next(lxmert_tsv.read(tmp_path / "a.tsv"))
    assert again.attribute_ids is not None
    assert again.attribute_ids.tolist() == [0, 0, 0]


def test_base64_that_python_3_wrote_as_text_of_bytes_is_read(tmp_path: Path) -> None:
    path = write_file(tmp_path, row(features=f"b'{encoded(np.ones((2, 3)), '<f4')}'"))
    assert next(lxmert_tsv.read(path)).features.tolist() == [[1, 1, 1], [1, 1, 1]]


BROKEN: dict[str, tuple[str, str]] = {
    "columns": ("7\t480\t640", "has 3 columns, expected 10 or 6"),
    "cut off": (row()[:-3], "features: is not base64"),
    "not base64": (row(boxes="!!!!"), "line 1, boxes: is not base64"),
    "another count": (row(num_boxes="3"), "objects_id: holds 16 bytes, which are not int64 of shape"),
    "claims much": (row(num_boxes="10000000000"), "expected a whole number of at most 2147483647"),
    "claims two billion": (row(num_boxes="2000000000"), "which are not int64 of shape"),
    "no number": (row(img_w="wide"), "img_w is 'wide', expected a whole number"),
    "no width": (row(img_w="0"), "img_w is '0', expected a whole number of at least 1"),
    "negative count": (row(num_boxes="-1"), "num_boxes is '-1'"),
    "uneven features": (row(features=encoded(np.ones(7), "<f4")), "features: holds 28 bytes"),
    "infinite": (row(features=encoded([[np.inf, 0, 0], [0, 0, 0]], "<f4")), "row 0: features is not finite"),
    "xywh": (row(boxes=encoded([[300, 200, 50, 40], [5, 6, 60, 40]], "<f4")), "look like x, y, width, height"),
    "normalised": (row(boxes=encoded([[0, 0, 0.5, 0.5], [0.1, 0.1, 1, 1]], "<f4")), "normalised x1, y1, x2, y2"),
    "normalised xywh": (row(boxes=encoded([[0.6, 0.6, 0.5, 0.5], [0, 0, 1, 1]], "<f4")), "normalised x, y, width"),
    "resized": (row(boxes=encoded([[0, 0, 900, 900], [0, 0, 9, 9]], "<f4")), "a picture 1.88 times that size"),
    "swapped": (row(boxes=encoded([[0, 0, 470, 600], [0, 0, 9, 9]], "<f4")), "width and height are swapped"),
    "nonsense": (row(boxes=encoded([[-500, 0, 9, 9], [0, 0, 9, 9]], "<f4")), "in no known format"),
    "flat": (row(boxes=encoded([[4, 4, 4, 9], [0, 0, 9, 9]], "<f4")), r"row 0 is \[4.0, 4.0, 4.0, 9.0\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_one_sentence_with_file_and_line(name: str, tmp_path: Path) -> None:
    line, sentence = BROKEN[name]
    with pytest.raises(DataError, match=sentence) as caught:
        list(lxmert_tsv.read(write_file(tmp_path, line)))
    assert str(caught.value).startswith(str(tmp_path / "some.tsv"))


def test_a_picture_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image 7 comes twice"):
        list(lxmert_tsv.read(write_file(tmp_path, row(), row())))


def test_the_layout_that_the_user_names_must_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 10 columns, expected 6"):
        list(lxmert_tsv.read(write_file(tmp_path, row()), ReadOptions(layout="butd")))


@given(noise=st.binary(max_size=300))
@quick
def test_noise_is_refused(noise: bytes, tmp_path: Path) -> None:
    (tmp_path / "noise.tsv").write_bytes(noise + b"x")
    with pytest.raises(DataError, match=r"columns|whole number|base64|holds"):
        list(lxmert_tsv.read(tmp_path / "noise.tsv"))


@pytest.mark.parametrize(
    ("change", "layout", "sentence"),
    [
        ({"class_ids": None}, "lxmert", "the layout lxmert needs class_ids"),
        ({"boxes": None}, None, "needs boxes in pixels"),
        ({"image_id": "a\tb"}, None, "the id holds a tab"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_nothing_is_left(
    change: dict[str, Any], layout: Literal["lxmert"] | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=sentence):
        lxmert_tsv.write(
            MemoryStore([make(), make(**{"image_id": "8", **change})]), tmp_path / "a.tsv", WriteOptions(layout=layout)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        lxmert_tsv.write(MemoryStore([make()]), tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text() == "mine"
