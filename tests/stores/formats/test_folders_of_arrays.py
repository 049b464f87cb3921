"""MILVLG's .npz and MMF's .npy folders and the pickled LMDBs: round trips, other tools' files, and files that lie."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.formats.samples import FIELDS, MemoryStore, assert_same, make, stores
from vltk.errors import DataError
from vltk.stores.formats import butd_npz, mmf_npy, volta_lmdb
from vltk.stores.formats._lmdb import ForeignLMDB
from vltk.stores.formats._output import write_lmdb

DETECTED = ("scores", "class_ids", "attribute_ids", "attribute_scores")
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOXES = np.array([[0, 0, 10, 10], [5, 6, 600, 400]], np.float32)
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


@given(store=st.one_of(stores(keep=DETECTED), stores(keep=()), stores(keep=("scores", "class_ids"))))
@quick
def test_npz_folders_are_read_as_they_were_written(store: MemoryStore, tmp_path: Path) -> None:
    butd_npz.write(store, tmp_path / "a", overwrite=True)
    assert_same(butd_npz.read(tmp_path / "a"), store)


@given(
    store=st.one_of(stores(keep=("scores", "class_ids")), stores(keep=("class_ids", "class_probs")), stores(keep=()))
)
@quick
def test_npy_folders_are_read_as_they_were_written(store: MemoryStore, tmp_path: Path) -> None:
    mmf_npy.write(store, tmp_path / "a", overwrite=True)
    assert_same(mmf_npy.read(tmp_path / "a"), store)


@given(store=st.one_of(stores(), stores(keep=DETECTED), stores(keep=())))
@quick
def test_volta_databases_are_read_as_they_were_written(store: MemoryStore, tmp_path: Path) -> None:
    volta_lmdb.write(store, tmp_path / "a", overwrite=True)
    assert_same(volta_lmdb.read(tmp_path / "a"), store)


@given(store=st.one_of(stores(keep=("scores", "class_ids")), stores(keep=("class_probs",))))
@quick
def test_mmf_databases_are_read_as_they_were_written(store: MemoryStore, tmp_path: Path) -> None:
    volta_lmdb.write(store, tmp_path / "a", volta_lmdb.WriteOptions(layout="mmf"), overwrite=True)
    assert_same(volta_lmdb.read(tmp_path / "a"), store)


def test_regions_of_a_grid_have_no_boxes_in_mmf(tmp_path: Path) -> None:
    grid = make(boxes=None, size=(1, 1), **dict.fromkeys(FIELDS))
    mmf_npy.write(MemoryStore([grid]), tmp_path / "a")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["7.npy"]
    assert_same(mmf_npy.read(tmp_path / "a"), MemoryStore([grid]))


# What the published tools write and read


def milvlg(folder: Path, **changes: Any) -> Path:
    ones = np.ones(2, np.float32)
    info = {"image_id": "7", "image_h": 480, "image_w": np.int64(640), "num_boxes": 2, "objects_id": np.array([1, 0])}
    info |= {"objects_conf": ones, "attrs_id": np.array([5, 6]), "attrs_conf": ones}
    members: dict[str, Any] = {
        "x": FEATURES,
        "bbox": BOXES,
        "num_bbox": 2,
        "image_h": 480,
        "image_w": 640,
        "info": info,
    }
    members.update(changes)
    np.savez_compressed(folder / "7.npz", **{name: value for name, value in members.items() if value is not None})
    return folder


def test_milvlgs_files_are_read_with_the_background_as_minus_one(tmp_path: Path) -> None:
    record = next(butd_npz.read(milvlg(tmp_path)))
    assert record.image_id == "7"
    assert record.size == (640, 480)
    assert record.class_ids is not None
    assert record.class_ids.tolist() == [0, -1]
    assert record.attribute_ids is not None
    assert record.attribute_ids.tolist() == [4, 5]
    np.testing.assert_array_equal(record.features, FEATURES)


def test_mcans_turned_features_are_turned_back(tmp_path: Path) -> None:
    record = next(butd_npz.read(milvlg(tmp_path, x=FEATURES.T, info=None, num_bbox=None)))
    np.testing.assert_array_equal(record.features, FEATURES)
    assert record.scores is None


def test_numpy_reads_an_exported_npz(tmp_path: Path) -> None:
    record = make()
    butd_npz.write(MemoryStore([record]), tmp_path / "a")
    with np.load(tmp_path / "a" / "7.npz", allow_pickle=True) as archive:
        assert sorted(archive.files) == ["bbox", "image_h", "image_w", "info", "num_bbox", "x"]
        np.testing.assert_array_equal(archive["x"], record.features)
        assert (archive["image_w"], archive["image_h"], archive["num_bbox"]) == (640, 480, 3)
        info = archive["info"].item()
    np.testing.assert_array_equal(info["objects_id"], record.class_ids + 1)  # type: ignore[operator]


def mmf(folder: Path, info: Any = None, features: Any = FEATURES) -> Path:
    whole = {"bbox": BOXES, "num_boxes": 2, "image_width": 640, "image_height": 480}
    whole |= {"objects": np.array([3, 4]), "cls_prob": np.ones((2, 5), np.float32)}
    np.save(folder / "7.npy", features)
    np.save(folder / "7_info.npy", {**whole, **(info or {})}, allow_pickle=True)
    return folder


def test_rows_that_only_fill_up_are_cut_off(tmp_path: Path) -> None:
    padded = np.concatenate([FEATURES, np.zeros((8, 3), np.float32)])
    record = next(mmf_npy.read(mmf(tmp_path, {"max_features": 10}, padded)))
    np.testing.assert_array_equal(record.features, FEATURES)


def test_mmfs_wrong_sizes_are_noticed_and_can_be_put_right(tmp_path: Path) -> None:
    mmf(tmp_path, {"image_height": 320, "image_width": 320})
    with pytest.raises(DataError, match="as if it had been resized"):
        list(mmf_npy.read(tmp_path))
    (tmp_path / "sizes.txt").write_text("7 640 480\n")
    assert next(mmf_npy.read(tmp_path, mmf_npy.ReadOptions(sizes=tmp_path / "sizes.txt"))).size == (640, 480)


def test_numpy_reads_an_exported_pair(tmp_path: Path) -> None:
    record = make("train/7")
    mmf_npy.write(MemoryStore([record]), tmp_path / "a")
    info = np.load(tmp_path / "a" / "train" / "7_info.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(info["bbox"], record.boxes)
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "train" / "7.npy"), record.features)
    assert (info["image_width"], info["image_height"], info["num_boxes"]) == (640, 480, 3)


def database(folder: Path, *records: dict[str, Any], protocol: int = 4, **extra: Any) -> Path:
    items = {f"{number}".encode(): record for number, record in enumerate(records)}
    content = {**items, b"keys": list(items), **{name.encode(): value for name, value in extra.items()}}
    write_lmdb(folder, [(key, pickle.dumps(value, protocol)) for key, value in content.items()])
    return folder


def text(array: Any) -> bytes:
    return base64.b64encode(np.ascontiguousarray(array).tobytes())


LAYOUTS = {
    # rows of a TSV through csv.DictReader: everything is a text, and columns that the file lacks are None
    "volta tsv": {"img_id": "0", "img_h": "480", "img_w": "640", "num_boxes": "2", "boxes": text(BOXES).decode(),
                  "features": text(FEATURES).decode(), "objects_id": text(np.array([3, 4])).decode(), "cls_prob": None},
    "volta h5": {"img_id": "0", "img_h": np.int64(480), "img_w": np.int64(640), "boxes": BOXES, "features": FEATURES,
                 "obj_id": np.array([3, 4]), "obj_conf": np.ones(2, np.float32)},
    "vilbert": {"image_id": 0, "image_h": 480, "image_w": 640, "num_boxes": 2, "boxes": text(BOXES),
                "features": text(FEATURES)},
    "vilbert arrays": {"image_id": 0, "image_h": 480, "image_w": 640, "num_boxes": 2, "boxes": BOXES,
                       "features": FEATURES},
    "mmf": {"feature_path": "0", "features": FEATURES, "image_height": 480, "image_width": 640, "num_boxes": 2,
            "objects": np.array([3, 4]), "cls_prob": np.ones((2, 5), np.float32), "bbox": BOXES},
}  # fmt: skip


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_records_of_all_tools_are_read(name: str, protocol: int, tmp_path: Path) -> None:
    record = next(volta_lmdb.read(database(tmp_path / "a", LAYOUTS[name], protocol=protocol)))
    assert record.image_id == "0"
    assert record.size == (640, 480)
    np.testing.assert_array_equal(record.features, FEATURES)
    np.testing.assert_array_equal(record.boxes, BOXES)
    if name in ("volta tsv", "volta h5", "mmf"):
        assert record.class_ids is not None
        assert record.class_ids.tolist() == [3, 4]


def test_an_exported_database_is_what_volta_and_vilbert_read(tmp_path: Path) -> None:
    record = make()
    volta_lmdb.write(MemoryStore([record]), tmp_path / "a")
    with ForeignLMDB(tmp_path / "a") as environment:
        assert pickle.loads(environment.value(b"keys")) == [b"7"]
        item = pickle.loads(environment.value(b"7"))
    for names in (("img_h", "img_w"), ("image_h", "image_w")):
        assert [int(item[name]) for name in names] == [480, 640]
    decoded = np.frombuffer(base64.b64decode(item["features"]), dtype=np.float32).reshape(int(item["num_boxes"]), -1)
    np.testing.assert_array_equal(decoded, record.features)
    boxes = np.frombuffer(base64.b64decode(item["boxes"]), dtype=np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(boxes, record.boxes)


# Hostile input


class Payload:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("module", [butd_npz, mmf_npy, volta_lmdb])
def test_a_payload_is_refused_and_does_not_run(module: ModuleType, tmp_path: Path) -> None:
    payload, folder = Payload(tmp_path / "victim"), tmp_path / "a"
    folder.mkdir()
    if module is butd_npz:
        milvlg(folder, info=np.array(payload, dtype=object))
    elif module is mmf_npy:
        mmf(folder, {"objects": payload})
    else:
        database(folder, {"features": payload})
    with pytest.raises(DataError, match="runs no code out of files"):
        list(module.read(folder))
    assert not (tmp_path / "victim").exists()


def test_a_payload_in_the_list_of_keys_does_not_run(tmp_path: Path) -> None:
    folder = database(tmp_path / "a", LAYOUTS["mmf"], keys=Payload(tmp_path / "victim"))
    with pytest.raises(DataError, match="key keys: refers to"):
        list(volta_lmdb.read(folder))
    assert not (tmp_path / "victim").exists()


NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "count": ({"num_bbox": 3}, "claims 3 boxes and holds 2"),
    "rows": ({"x": np.ones((5, 3), np.float32)}, "2 rows of boxes for 5 rows of features"),
    "boxes only": ({"x": None}, "has no x, but bbox, image_h"),
    "no size": ({"image_h": None, "info": None}, "has no image_w and image_h; pass the sizes with --sizes"),
    "classes": ({"info": {"objects_id": "many"}}, "objects_id is str, expected numbers in 1 dimension"),
    "scores": ({"info": {"objects_conf": [[1], [1, 2]]}}, "scores is list, expected numbers in 1 dimension"),
    "info": ({"info": np.array([1, 2])}, "its info is a NoneType, expected a dict"),
    "size": ({"image_w": -5}, "image_w is '-5', expected a whole number of at least 1"),
    "xywh": ({"bbox": np.array([[300, 200, 50, 40], [5, 6, 60, 40]], np.float32)}, "look like x, y, width, height"),
    "texts": ({"x": np.array([["a"], ["b"]])}, r"x is <U1 of shape \(2, 1\), expected numbers in 2 dimensions"),
}
NPY: dict[str, tuple[dict[str, Any], str]] = {
    "no size": ({"image_width": None}, "has no image_width and image_height"),
    "count": ({"num_boxes": "many"}, "num_boxes is 'many', expected a whole number"),
    "normalised": ({"bbox": np.array([[0, 0, 0.5, 1], [0.1, 0.2, 1, 1]])}, "look like normalised x1, y1, x2, y2"),
    "no boxes": ({"bbox": 7}, "bbox is int, expected numbers in 2 dimensions"),
    "fractions": ({"objects": np.array([1.5, 2])}, "class_ids are not whole numbers"),
    "sizes": ({"image_width": BOXES}, "width is .*, expected a whole number"),
    "objects": ({"objects": np.array([1])}, "1 rows of class_ids for 2 rows of features"),
    "boxes": ({"bbox": np.ones((2, 3))}, r"boxes have shape \(2, 3\), expected \[R, 4\]"),
}
LMDB: dict[str, tuple[Any, str]] = {
    "no record": ([1], "is no record with features"),
    "no features": ({"boxes": BOXES}, "is no record with features"),
    "count": ({**LAYOUTS["vilbert"], "num_boxes": 3}, "claims 3 boxes and holds 2"),
    "base64": ({**LAYOUTS["vilbert"], "features": "!"}, "features: is not base64"),
    "uneven": ({**LAYOUTS["vilbert"], "features": text(np.ones(7, "f4"))}, "features: holds 28 bytes"),
    "type": ({**LAYOUTS["vilbert"], "features": 7}, "features: is a int, expected base64 or an array"),
    "shape": (
        {**LAYOUTS["volta h5"], "features": np.ones((5, 3))},
        r"features: has shape \(5, 3\), expected \(2, -1\)",
    ),
    "no size": ({"features": FEATURES, "boxes": BOXES}, "width is 'None'"),
    "no boxes": ({**LAYOUTS["vilbert"], "boxes": None}, "boxes: is a NoneType"),
}


@pytest.mark.parametrize("name", NPZ)
def test_an_npz_that_lies_is_one_sentence(name: str, tmp_path: Path) -> None:
    changes, sentence = NPZ[name]
    with pytest.raises(DataError, match=sentence) as caught:
        list(butd_npz.read(milvlg(tmp_path, **changes)))
    assert str(tmp_path / "7.npz") in str(caught.value)


@pytest.mark.parametrize("name", NPY)
def test_a_pair_that_lies_is_one_sentence(name: str, tmp_path: Path) -> None:
    changes, sentence = NPY[name]
    with pytest.raises(DataError, match=sentence) as caught:
        list(mmf_npy.read(mmf(tmp_path, changes)))
    assert str(tmp_path / "7.npy") in str(caught.value)


@pytest.mark.parametrize("name", LMDB)
def test_a_database_that_lies_is_one_sentence(name: str, tmp_path: Path) -> None:
    record, sentence = LMDB[name]
    with pytest.raises(DataError, match=sentence):
        list(volta_lmdb.read(database(tmp_path / "a", record)))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [([b"0", b"0"], "lists a key twice"), ([b"1"], "lists '1' but holds no such key"), ("0", "is a str")],
)
def test_a_list_of_keys_that_lies_is_one_sentence(keys: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        list(volta_lmdb.read(database(tmp_path / "a", LAYOUTS["mmf"], keys=keys)))


@pytest.mark.parametrize("module", [butd_npz, mmf_npy])
def test_an_empty_folder_is_one_sentence(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.np[yz] files"):
        list(module.read(tmp_path))


@pytest.mark.parametrize("write", [butd_npz.write, mmf_npy.write])
@pytest.mark.parametrize("image_id", ["../escape", "/etc/escape", "a/../../escape"])
def test_an_id_that_leads_out_of_the_folder_is_refused(
    write: Callable[..., None], image_id: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="leads out of the folder"):
        write(MemoryStore([make(), make(image_id)]), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_a_format_uses_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an image cannot be called keys"):
        volta_lmdb.write(MemoryStore([make("keys")]), tmp_path / "a")
    with pytest.raises(DataError, match="ends in _info"):
        mmf_npy.write(MemoryStore([make("7_info")]), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
