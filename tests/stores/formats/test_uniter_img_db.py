"""UNITER's img_db: the authors' toy databases, round trips, and databases that lie."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.stores.formats.samples import MemoryStore, assert_same, make, stores
from vltk.errors import DataError, UsageError
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.formats import uniter_img_db
from vltk.stores.formats._output import write_lmdb
from vltk.stores.formats.uniter_img_db import ReadOptions, WriteOptions
from vltk.types import RegionFeatures

quick = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONES = np.ones((1, 6), np.float16)


@pytest.fixture
def toy(shared: Path) -> Path:
    return shared / "golden" / "uniter" / "db" / "toyimg"


def by_id(path: Path) -> dict[str, RegionFeatures]:
    return {record.image_id: record for record in uniter_img_db.read(path)}


@pytest.mark.parametrize("suffix", ["", "_compressed"])
def test_the_authors_database_is_read_bit_for_bit(toy: Path, shared: Path, suffix: str) -> None:
    official = load_file(shared / "golden" / "uniter" / "db_img.safetensors")
    records = by_id(toy / f"feat_th0.2_max12_min5{suffix}")
    assert [len(record) for record in records.values()] == official["out.nbb"].tolist()
    two = records["toy_000000000002"]
    assert two.features.dtype == np.float16
    np.testing.assert_array_equal(two.features.astype(np.float32), official["out.features"])
    np.testing.assert_array_equal(two.normalised_boxes, official["out.norm_bb"])
    np.testing.assert_array_equal(two.scores, official["out.conf"])
    assert two.class_probs is not None
    np.testing.assert_array_equal(two.class_probs.astype(np.float32), official["out.soft_labels"])
    np.testing.assert_array_equal(two.location()[:, :6], official["out.item_norm_bb"])


def test_selecting_from_all_regions_gives_what_the_authors_stored(toy: Path, tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "a.lmdb", FeatureMetadata()) as writer:
        for record in uniter_img_db.read(toy / "all"):
            writer.put(record)
    selected = FeatureStore.open(tmp_path / "a.lmdb").select(min_score=0.2, min_boxes=5, max_boxes=12)
    for image_id, record in by_id(toy / "feat_th0.2_max12_min5").items():
        assert selected.get(image_id).equals(record)


def test_a_fixed_number_cuts_what_is_stored(toy: Path) -> None:
    every = by_id(toy / "all")
    for image_id, record in by_id(toy / "feat_numbb8").items():
        assert record.equals(every[image_id].take(slice(8)))


def test_databases_of_given_boxes_have_no_class_distribution(toy: Path) -> None:
    records = by_id(toy.parent / "re_coco_gt")
    assert [len(record) for record in records.values()] == [4, 5, 3]
    assert all(record.class_probs is None for record in records.values())


def test_fractions_stay_fractions_until_sizes_are_given(toy: Path, tmp_path: Path) -> None:
    folder = toy / "feat_numbb8"
    plain = next(uniter_img_db.read(folder))
    assert plain.size == (1, 1)
    assert plain.boxes is not None
    assert plain.normalised_boxes is not None
    np.testing.assert_array_equal(plain.boxes, plain.normalised_boxes[:, :4])
    (tmp_path / "sizes.json").write_text(json.dumps({f"toy_{number:012}": [200, 100] for number in range(1, 7)}))
    sized = next(uniter_img_db.read(folder, ReadOptions(sizes=tmp_path / "sizes.json")))
    assert sized.size == (200, 100)
    assert sized.boxes is not None
    np.testing.assert_array_equal(sized.boxes, plain.boxes * np.float32([200, 100, 200, 100]))
    np.testing.assert_array_equal(sized.location(), plain.location())


def test_a_folder_around_several_databases_is_not_guessed_at(toy: Path) -> None:
    with pytest.raises(DataError, match=r"in it: all, feat_numbb8, feat_th0.2_max12_min5, .*; name one of them"):
        list(uniter_img_db.read(toy))


@given(store=stores(keep=("scores", "class_probs")), compressed=st.booleans(), sized=st.booleans())
@quick
def test_what_is_written_is_read(store: MemoryStore, compressed: bool, sized: bool, tmp_path: Path) -> None:
    halves = MemoryStore(as_stored(store.get(image_id), sized) for image_id in store.ids())
    uniter_img_db.write(halves, tmp_path / "a", WriteOptions(keep_all=True, compressed=compressed), overwrite=True)
    (tmp_path / "sizes.json").write_text(json.dumps({image_id: [640, 480] for image_id in store.ids()}))
    folder = tmp_path / "a" / ("all_compressed" if compressed else "all")
    assert_same(uniter_img_db.read(folder, ReadOptions(sizes=tmp_path / "sizes.json" if sized else None)), halves)


def as_stored(record: RegionFeatures, sized: bool) -> RegionFeatures:
    """The record as fp16 leaves it."""
    assert record.class_probs is not None
    six = record.location()[:, :6].astype(np.float16).astype(np.float32)
    size = record.size if sized else (1, 1)
    boxes = six[:, :4] * np.array([*size, *size], np.float32)
    features, probabilities = record.features.astype(np.float16), record.class_probs.astype(np.float16)
    return replace(record, features=features, class_probs=probabilities, boxes=boxes, size=size, normalised_boxes=six)


def test_distributions_without_a_background_get_it_where_the_authors_have_it(tmp_path: Path) -> None:
    probs = np.array([[0.5, 0.25], [0.125, 0.75], [0.5, 0.5]], np.float16)
    found = MemoryStore([make(rows=3, class_probs=probs)], labels=["cat", "dog"])
    uniter_img_db.write(found, tmp_path, WriteOptions(keep_all=True))
    (again,) = uniter_img_db.read(tmp_path / "all")
    assert again.class_probs is not None
    order = np.argsort(-found.get("7").scores, kind="stable")
    expected = np.concatenate([[[0.25], [0.125], [0.0]], probs], axis=1)
    np.testing.assert_array_equal(again.class_probs, expected[order])


def test_the_rule_keeps_the_best_regions_and_names_the_files(tmp_path: Path) -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.05], np.float16).astype(np.float32)
    record = make("a", 6, scores=scores)
    uniter_img_db.write(MemoryStore([record]), tmp_path, WriteOptions(conf_th=0.2, max_bb=4, min_bb=2))
    assert json.loads((tmp_path / "nbb_th0.2_max4_min2.json").read_text()) == {"a.npz": 3}
    again = next(uniter_img_db.read(tmp_path / "feat_th0.2_max4_min2"))
    np.testing.assert_array_equal(again.features, record.features[[1, 2, 4]].astype(np.float16))
    uniter_img_db.write(MemoryStore([record]), tmp_path, WriteOptions(num_bb=5))
    assert [len(r) for r in uniter_img_db.read(tmp_path / "feat_numbb5")] == [5]


def test_the_value_is_what_msgpack_numpy_writes(tmp_path: Path, toy: Path) -> None:
    from vltk.stores.formats._lmdb import ForeignLMDB

    store = MemoryStore(uniter_img_db.read(toy / "feat_th0.2_max12_min5"))
    uniter_img_db.write(store, tmp_path, WriteOptions(max_bb=12, min_bb=5))
    with (
        ForeignLMDB(toy / "feat_th0.2_max12_min5") as official,
        ForeignLMDB(tmp_path / "feat_th0.2_max12_min5") as ours,
    ):
        assert list(official) == list(ours)
        assert all(official.value(key) == ours.value(key) for key in official)


def packed(**changes: Any) -> bytes:
    def array(shape: list[int], kind: str = "<f2") -> dict[bytes, Any]:
        data = np.full(shape, 0.25, kind).tobytes()
        return {b"nd": True, b"type": kind, b"kind": b"", b"shape": shape, b"data": data}

    record: dict[str, Any] = {"features": array([2, 3]), "norm_bb": array([2, 6]), "conf": array([2])}
    for name, change in changes.items():
        record[name] = {**record[name], **change} if isinstance(change, dict) else change
    return bytes(msgpack.packb({name: value for name, value in record.items() if value is not None}))


def database(folder: Path, value: bytes, **extra: bytes) -> Path:
    write_lmdb(folder, [(b"a.npz", value), *((name.encode(), content) for name, content in extra.items())])
    return folder


def zipped(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "shape": (lambda: packed(features={b"shape": [5000000000, 1]}), r"claims shape \[5000000000, 1\]"),
    "negative": (lambda: packed(features={b"shape": [-2, -3]}), "claims shape"),
    "pickle": (lambda: packed(features={b"type": "O", b"kind": b"O"}), "is no msgpack-numpy array of numbers"),
    "no such type": (lambda: packed(features={b"type": "<f1"}), "is no msgpack-numpy array of numbers"),
    "structured": (lambda: packed(features={b"type": [["a", "<f4"]]}), "is no msgpack-numpy array of numbers"),
    "no features": (lambda: packed(features=None), "has no features"),
    "no array": (lambda: packed(conf=7), "is no msgpack-numpy array"),
    "norm_bb": (lambda: packed(norm_bb={b"shape": [3, 4]}), r"norm_bb has shape \(3, 4\), expected \[R, 6\]"),
    "rows": (lambda: packed(conf={b"shape": [1], b"data": b"ab"}), "1 rows of scores for 2 rows of features"),
    "array claim": (lambda: b"\x81\xa1a\xdd\xff\xff\xff\xff", "is no msgpack"),
    "list as key": (lambda: b"\x81\x90\xc0", "is no msgpack"),
    "nested": (lambda: b"\x91" * 100_000, "is no msgpack"),
    "no map": (lambda: msgpack.packb([1]), "is no map of arrays"),
    "empty": (lambda: b"", "is no msgpack"),
    "payload": (lambda: zipped(features=np.array([print], object), norm_bb=ONES), "refers to builtins.print"),
    "nan": (lambda: zipped(features=np.full((1, 2), np.nan, "f2"), norm_bb=ONES), "features is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_that_lies_is_one_sentence(name: str, tmp_path: Path) -> None:
    make_value, sentence = HOSTILE[name]
    with pytest.raises(DataError, match=sentence) as caught:
        list(uniter_img_db.read(database(tmp_path / "all", make_value())))
    assert str(tmp_path / "all") in str(caught.value)


def test_old_members_without_dimensions_are_passed_over(tmp_path: Path) -> None:
    value = zipped(features=np.ones((1, 2), "f2"), norm_bb=np.zeros((1, 6), "f2"), allow_pickle=np.array(True))
    assert len(next(uniter_img_db.read(database(tmp_path / "all", value)))) == 1


@pytest.mark.parametrize(
    ("keys", "sentence"), [(b'["b.npz"]', "does not list the 1 keys"), (b"{", "is no JSON"), (b"7", "does not list")]
)
def test_a_list_of_keys_that_lies_is_one_sentence(keys: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        list(uniter_img_db.read(database(tmp_path / "all", packed(), __keys__=keys)))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ('{"b.npz": 3}', r"has no count for a.npz"),
        ("[", "is no JSON"),
        ("[]", "no JSON object"),
        ('{"a.npz": -1}', "is '-1'"),
    ],
)
def test_a_file_of_counts_that_lies_is_one_sentence(counts: str, sentence: str, tmp_path: Path) -> None:
    database(tmp_path / "feat_th0.2_max9_min2", packed())
    (tmp_path / "nbb_th0.2_max9_min2.json").write_text(counts)
    with pytest.raises(DataError, match=sentence):
        list(uniter_img_db.read(tmp_path / "feat_th0.2_max9_min2"))


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "flip"])
def test_a_damaged_environment_is_one_sentence(damage: str, tmp_path: Path) -> None:
    folder = database(tmp_path / "all", packed())
    content = bytearray((folder / "data.mdb").read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flip":
        content[8192:] = bytes(len(content) - 8192)
    else:
        content = bytearray(b"" if damage == "empty" else bytes(range(256)) * 64)
    (folder / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged|is empty|is not an LMDB file|cut off"):
        list(uniter_img_db.read(folder))


def test_what_float16_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    large = make(features=np.full((3, 4), 1e6, np.float32))
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(DataError, match="features holds values beyond float16"),
    ):
        uniter_img_db.write(MemoryStore([large]), tmp_path / "a", WriteOptions(keep_all=True))
    assert list((tmp_path / "a").iterdir()) == []


def test_regions_without_scores_need_another_rule(tmp_path: Path) -> None:
    store = MemoryStore([make(scores=None)])
    with pytest.raises(DataError, match="has no scores to choose by; export with --num-bb or --keep-all"):
        uniter_img_db.write(store, tmp_path)
    uniter_img_db.write(store, tmp_path, WriteOptions(num_bb=2))
    assert [len(record) for record in uniter_img_db.read(tmp_path)] == [2]


def test_two_rules_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be kept both"):
        WriteOptions(num_bb=2, keep_all=True)
