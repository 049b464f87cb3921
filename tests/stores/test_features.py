"""What goes into a feature store comes out of it, or a sentence says why not."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import struct
import subprocess
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import lz4.block
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from vltk.errors import DataError, UsageError, VltkError
from vltk.stores import lmdb_env, record_store, region_record
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.features import (
    ChainedFeatures,
    FeatureMetadata,
    FeatureStore,
    FeatureWriter,
    as_tensor,
    kept_regions,
)
from vltk.stores.record_store import HEADER_KEY
from vltk.types import RegionFeatures

Draw = Callable[..., RegionFeatures]


def fill(path: Path, *items: RegionFeatures, **metadata: Any) -> FeatureStore:
    with FeatureStore.create(path, FeatureMetadata(**metadata)) as writer:
        for item in items:
            writer.put(item)
    return FeatureStore.open(path)


def stop_after(writer: FeatureWriter, item: RegionFeatures) -> None:
    def work() -> None:
        with writer:
            writer.put(item)
            raise ZeroDivisionError("stop")

    with pytest.raises(ZeroDivisionError, match="stop"):
        work()


def full(regions: Draw, number: int, *, rows: int = 6, width: int = 16) -> RegionFeatures:
    """Regions with every field."""
    generator = np.random.default_rng(number)
    return regions(
        number,
        rows=rows,
        width=width,
        class_ids=generator.integers(0, 1600, rows),
        class_probs=generator.random((rows, 11)).astype(np.float16),
        attribute_ids=generator.integers(0, 400, rows),
        attribute_scores=generator.random(rows).astype(np.float32),
        region_ids=tuple(f"phrase {i}é" for i in range(rows)),
        normalised_boxes=generator.random((rows, 6)).astype(np.float32),
    )


# -- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize(("rows", "width"), [(0, 4), (1, 1), (6, 16), (36, 2048), (100, 512)])
def test_every_field_comes_back(tmp_path: Path, regions: Draw, compression: str, rows: int, width: int) -> None:
    items = [full(regions, number, rows=rows, width=width) for number in range(4)]
    store = fill(tmp_path / "a.lmdb", *items, compression=compression)
    assert store.ids() == sorted(item.image_id for item in items)
    assert len(store) == 4
    for item, again in zip(items, store, strict=True):
        assert again.equals(item)
        assert again.equals(store.get(item.image_id))
        assert store.region_count(item.image_id) == rows
        assert np.array_equal(store.scores(item.image_id), item.scores)
        assert not any(array.flags.writeable for array in again.arrays().values())
        assert all(array.flags.aligned for array in again.arrays().values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 5),
    width=st.integers(1, 40),
    types=st.tuples(*[st.sampled_from(["<f2", "<f4", ">f4", "<f8"])] * 3, *[st.sampled_from(["<i4", ">i8", "i1"])] * 2),
    present=st.sets(st.sampled_from([*sorted(set(RegionFeatures.ARRAYS) - {"features"}), "region_ids"])),
    compression=st.sampled_from(["none", "lz4"]),
    image_id=st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode("utf-8", "replace")) < 200),
)
def test_whatever_is_present_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    width: int,
    types: tuple[str, ...],
    present: set[str],
    compression: str,
    image_id: str,
) -> None:
    generator = np.random.default_rng(rows * 100 + width)
    corners = np.sort(generator.uniform(0, 50, (rows, 2, 2)), axis=1).reshape(rows, 4)
    values: dict[str, Any] = {
        "boxes": corners.astype(np.float32),
        "scores": generator.random(rows).astype(types[0]),
        "class_probs": generator.random((rows, 3)).astype(types[1]),
        "attribute_scores": generator.random(rows).astype(types[2]),
        "class_ids": generator.integers(0, 99, rows).astype(types[3]),
        "attribute_ids": generator.integers(0, 99, rows).astype(types[4]),
        "normalised_boxes": generator.random((rows, 6)).astype(np.float32),
        "region_ids": tuple(map(str, range(rows))),
    }
    item = RegionFeatures(
        image_id=image_id,
        size=(60, 50),
        features=generator.standard_normal((rows, width)).astype(np.float16),
        **{"boxes": None, **{name: value for name, value in values.items() if name in present}},
    )
    store = fill(tmp_path_factory.mktemp("round") / "a.lmdb", item, compression=compression)
    again = store.get(image_id)
    assert store.ids() == [image_id]
    assert (again.image_id, again.size, again.region_ids) == (item.image_id, item.size, item.region_ids)
    assert again.arrays().keys() == item.arrays().keys()
    for name, array in item.arrays().items():
        assert np.array_equal(getattr(again, name), array), name
        assert getattr(again, name).dtype == array.dtype.newbyteorder("<"), name


def test_float32_is_kept_when_asked_for_and_rounded_to_float16_otherwise(tmp_path: Path, regions: Draw) -> None:
    features = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32) * 1000
    item = regions(1, features=features)
    assert fill(tmp_path / "a", item, dtype="float32").get(item.image_id).equals(item)
    half = fill(tmp_path / "b", item).get(item.image_id).features
    assert half.dtype == np.float16
    assert np.array_equal(half, features.astype(np.float16))


def test_what_float16_cannot_hold_is_refused(tmp_path: Path, regions: Draw) -> None:
    features = np.ones((5, 8), np.float32)
    features[3, 2] = 70000
    sentence = (
        r"image image00001: row 3: feature 70000\.0 does not fit into float16; create the store with dtype float32"
    )
    with pytest.raises(DataError, match=sentence):
        fill(tmp_path / "a.lmdb", regions(1, features=features))
    assert not (tmp_path / "a.lmdb").exists()


def test_what_was_never_checked_is_checked_before_it_is_stored(tmp_path: Path, regions: Draw) -> None:
    good = regions(1)
    bad = RegionFeatures.trusted(
        image_id="7", size=good.size, boxes=good.boxes, features=np.full((5, 8), np.nan, np.float32)
    )
    with pytest.raises(DataError, match=r"image 7: row 0: feature nan does not fit into float16"):
        fill(tmp_path / "a.lmdb", bad)
    with pytest.raises(DataError, match=r"image 7: row 0: features is not finite"):
        fill(tmp_path / "a.lmdb", bad, dtype="float32")
    with pytest.raises(DataError, match=r"arrays of float128 cannot be stored, only <f2, <f4"):
        fill(tmp_path / "b.lmdb", regions(1, scores=np.ones(5, np.longdouble)))


def test_records_are_numbered_in_the_order_of_writing(tmp_path: Path, regions: Draw) -> None:
    store = fill(tmp_path / "a.lmdb", *[regions(number, rows=number % 7) for number in (5, 3, 4, 1)])
    numbers = [struct.unpack_from("<I", store._record(f"image{number:05d}")[1], 24)[0] for number in (5, 3, 4, 1)]
    assert numbers == [0, 1, 2, 3]


def test_a_field_keeps_its_type_through_a_store(tmp_path: Path, regions: Draw) -> None:
    with pytest.raises(
        DataError, match=r"image image00002: features is float16 \[R, 9\], the store holds float16 \[R, 8\]"
    ):
        fill(tmp_path / "a.lmdb", regions(1), regions(2, width=9))
    store = fill(tmp_path / "b.lmdb", regions(1), full(regions, 2, width=8))
    assert store.header.fields["class_probs"] == "float16 [R, 11]"
    assert store.header.fields["region_ids"] == "text [R]"
    assert store.get("image00001").class_probs is None


@pytest.mark.parametrize(
    ("image_id", "sentence"),
    [
        ("x" * 501, r"id 'x{60}'\.\.\. has 501 bytes, a store holds 500; shorten it"),
        ("a\ud800", r"is not valid Unicode; rename it"),
    ],
)
def test_ids_that_fit_no_key_are_refused(tmp_path: Path, regions: Draw, image_id: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        fill(tmp_path / "a.lmdb", regions(1, image_id=image_id))


def test_unknown_ids_are_answered_with_one_that_is_there(tmp_path: Path, regions: Draw) -> None:
    store = fill(tmp_path / "a.lmdb", regions(1))
    with pytest.raises(DataError, match=r"a\.lmdb: holds no '1'; its ids look like 'image00001'"):
        store.get("1")
    with pytest.raises(UsageError, match=r"id 1 is not a text; look it up as a text"):
        store.get(1)  # type: ignore[arg-type]
    assert "1" not in store
    assert 1 not in store
    assert "\ud800" not in store
    assert "x" * 1000 not in store
    assert "image00001" in store
    with pytest.raises(DataError, match="holds no 'a'; it is empty"):
        fill(tmp_path / "b.lmdb").get("a")


# -- one store, one way of making it ---------------------------------------------------------------------------------


def test_a_store_goes_on_only_with_equal_settings(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    metadata = FeatureMetadata(detector="a", preset="butd-36", created_by="vltk 0.1", extra={"k": [1, 2]})
    stop_after(FeatureStore.create(path, metadata), regions(1))
    with pytest.raises(DataError, match=r"was begun with other settings: preset 'butd-36' against 'd2'; use the same"):
        FeatureStore.create(path, FeatureMetadata(detector="a", preset="d2", extra={"k": [1, 2]}))
    with pytest.raises(DataError, match="is unfinished"):
        FeatureStore.open(path)
    newer = FeatureMetadata(detector="a", preset="butd-36", created_by="vltk 0.2", extra={"k": (1, 2)})
    with FeatureStore.create(path, newer) as writer:
        assert "image00001" in writer
        writer.put(regions(2))
    assert FeatureStore.open(path).metadata == metadata
    assert len(FeatureStore.open(path)) == 2


def test_a_complete_store_takes_more_while_it_is_read(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    old = fill(path, regions(1), detector="a")
    features = old.get("image00001").features
    new = fill(path, regions(1), regions(2), detector="a")
    assert (len(old), len(new)) == (1, 2)
    assert np.array_equal(features, new.get("image00001").features)
    inode = (path / "data.mdb").stat().st_ino
    fill(path, regions(1), regions(2), detector="a")
    assert (path / "data.mdb").stat().st_ino == inode


def test_overwrite_begins_anew_but_spares_the_files_of_others(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    fill(path, regions(1), preset="a")
    with FeatureStore.create(path, FeatureMetadata(preset="b"), overwrite=True) as writer:
        writer.put(regions(2))
    assert FeatureStore.open(path).ids() == ["image00002"]
    (path / "data.mdb").write_bytes(b"damaged")
    with FeatureStore.create(path, FeatureMetadata(preset="c"), overwrite=True) as writer:
        writer.put(regions(3))
    assert FeatureStore.open(path).ids() == ["image00003"]
    with lmdb.open(str(tmp_path / "foreign")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"a", b"b")
    with pytest.raises(DataError, match=r"foreign: is not a store of vltk and will not be overwritten"):
        FeatureStore.create(tmp_path / "foreign", FeatureMetadata(), overwrite=True)


def test_the_same_picture_twice(tmp_path: Path, regions: Draw) -> None:
    store = fill(tmp_path / "a.lmdb", regions(1), regions(1))
    assert len(store) == 1
    with pytest.raises(DataError, match=r"'image00001' is in the store already, with other content; give every record"):
        fill(tmp_path / "b.lmdb", regions(1), regions(2, image_id="image00001"))


def test_stores_of_another_schema_are_named(tmp_path: Path, regions: Draw) -> None:
    with ExampleStore.create(tmp_path / "e", ExampleMetadata()):
        pass
    fill(tmp_path / "f", regions(1))
    with lmdb.open(str(tmp_path / "foreign")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"flickr30k_1.npz", b"b")
    with pytest.raises(DataError, match=r"e: expected a store of schema vltk\.features, found vltk\.examples"):
        FeatureStore.open(tmp_path / "e")
    with pytest.raises(DataError, match=r"f: expected a store of schema vltk\.examples, found vltk\.features"):
        ExampleStore.open(tmp_path / "f")
    with pytest.raises(DataError, match=r"expected a store of schema vltk\.examples, found vltk\.features"):
        ExampleStore.create(tmp_path / "f", ExampleMetadata())
    foreign = (
        r"expected vltk\.features, found an LMDB without vltk's header \(first key b'flickr30k_1\.npz'\); bring it in"
    )
    with pytest.raises(DataError, match=foreign):
        FeatureStore.open(tmp_path / "foreign")


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match=r"features of 'int8' cannot be stored; use float16 or float32"):
        FeatureMetadata(dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"compression 'zip' is unknown; use none or lz4"):
        FeatureMetadata(compression="zip")  # type: ignore[arg-type]


def test_settings_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the metadata is not plain JSON \(Object of type set"):
        FeatureStore.create(tmp_path / "a", FeatureMetadata(extra={"a": {1}}))
    assert list(tmp_path.iterdir()) == []


def test_the_content_hash_knows_content_only(tmp_path: Path, regions: Draw) -> None:
    items = [full(regions, number) for number in range(3)]
    a = fill(tmp_path / "a", *items, preset="x")
    b = fill(tmp_path / "b", *items[::-1], preset="y", compression="lz4")
    c = fill(tmp_path / "c", *items[:2])
    d = fill(tmp_path / "d", *items[:2], full(regions, 3))
    assert a.content_hash == b.content_hash
    assert len({a.content_hash, c.content_hash, d.content_hash}) == 3


# -- damage ----------------------------------------------------------------------------------------------------------


def find(file: Path, record: bytes) -> int:
    """Return where a record stands in the file."""
    position = file.read_bytes().find(record)
    assert position > 0
    return position


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("rows", [3, 40])
def test_a_flipped_bit_anywhere_in_a_record_is_found(
    tmp_path: Path, regions: Draw, compression: str, rows: int
) -> None:
    path = tmp_path / "a.lmdb"
    item, other = full(regions, 1, rows=rows, width=256), full(regions, 2, rows=rows, width=256)
    store = fill(path, item, other, compression=compression)
    record = bytes(store._record(item.image_id)[1])
    start = find(path / "data.mdb", record)
    generator = np.random.default_rng(0)
    places = {*range(44), *generator.integers(0, len(record), 60).tolist(), len(record) - 1}
    for place in sorted(places):
        with (path / "data.mdb").open("r+b") as file:
            file.seek(start + place)
            file.write(bytes([record[place] ^ 1 << int(generator.integers(0, 8))]))
        damaged = FeatureStore.open(path)
        with pytest.raises(
            DataError, match=r"a\.lmdb, id image00001: damaged record, .*; save the others with vltk store"
        ):
            damaged.get(item.image_id)
        assert damaged.get(other.image_id).equals(other)
        with (path / "data.mdb").open("r+b") as file:
            file.seek(start + place)
            file.write(record[place : place + 1])
    assert FeatureStore.open(path).get(item.image_id).equals(item)


def test_a_flipped_bit_of_the_header_record_is_found(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    header = bytes(fill(path, regions(1))._environment.get(HEADER_KEY) or b"")
    gc.collect()
    start = find(path / "data.mdb", header)
    for place in (0, 4, 11, 12, len(header) // 2, len(header) - 1):
        content = bytearray(header)
        content[place] ^= 4
        with (path / "data.mdb").open("r+b") as file:
            file.seek(start)
            file.write(content)
        with pytest.raises(
            DataError, match=r"a\.lmdb: the header record is damaged; save the rest with vltk store repair"
        ):
            FeatureStore.open(path)


def test_each_read_is_checked_when_asked_for(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    item = regions(1, rows=40, width=512)
    fill(path, item)
    once, always = FeatureStore.open(path), FeatureStore.open(path, check="always")
    assert once.get(item.image_id).equals(item)
    assert always.get(item.image_id).equals(item)
    start = find(path / "data.mdb", item.features.tobytes())
    with (path / "data.mdb").open("r+b") as file:
        file.seek(start)
        file.write(b"\x01\x02\x03")
    with pytest.raises(DataError, match="the checksum of its features does not match"):
        pickle.loads(pickle.dumps(always)).get(item.image_id)
    with pytest.raises(DataError, match="the checksum of its features does not match"):
        FeatureStore.open(path).get(item.image_id)
    assert not once.get(item.image_id).equals(item)


def claiming(record: bytes, key: bytes, *, rows: int, width: int, codec: int) -> bytes:
    """A record whose header claims more than there is, with a checksum that holds."""
    forged = bytearray(record)
    head_size = struct.unpack_from("<I", forged, 16)[0]
    struct.pack_into("<I", forged, 20, codec)
    struct.pack_into("<I", forged, 36, rows)
    struct.pack_into("<I", forged, 44 + 4, width)
    struct.pack_into("<Q", forged, 0, xxh3_64_intdigest(bytes(forged[8:head_size]), xxh3_64_intdigest(key)))
    return bytes(forged)


@pytest.mark.parametrize("codec", [0, 1, 7])
@pytest.mark.parametrize(("rows", "width"), [(5, 10**9), (2**31, 8), (2**32 - 1, 2**32 - 1)])
def test_a_claim_of_gigabytes_allocates_nothing(
    tmp_path: Path, regions: Draw, codec: int, rows: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, item = tmp_path / "a.lmdb", regions(1, boxes=None, scores=None)
    key = b"i" + item.image_id.encode()
    record = region_record.encode(item, key)
    writer = FeatureStore.create(path, FeatureMetadata())
    with writer:
        writer.put(item)
        writer._pending[key] = claiming(record, key, rows=rows, width=width, codec=codec)
    monkeypatch.setattr(np, "ndarray", lambda *_, **__: pytest.fail("an array was made"))
    monkeypatch.setattr(lz4.block, "decompress", lambda *_, **__: pytest.fail("it was decompressed"))
    with pytest.raises(DataError, match=r"damaged record, its header claims \d+ bytes"):
        FeatureStore.open(path).get(item.image_id)


# -- lifetime, processes, threads ------------------------------------------------------------------------------------


def test_arrays_outlive_the_store(tmp_path: Path, regions: Draw) -> None:
    item = regions(1, rows=36, width=2048)
    store = fill(tmp_path / "a.lmdb", item)
    tensor, rows = as_tensor(store.get(item.image_id).features), store.get(item.image_id).features[3:5]
    selected = store.select(min_score=2.0, min_boxes=2).get(item.image_id)
    del store
    gc.collect()
    assert len(lmdb_env._registry) == 1
    assert torch.equal(tensor, torch.from_numpy(item.features))
    assert np.array_equal(rows, item.features[3:5])
    assert np.array_equal(selected.features, item.features[:2])
    del tensor, rows, selected
    gc.collect()
    assert len(lmdb_env._registry) == 0


def test_reading_does_not_copy(tmp_path: Path, regions: Draw) -> None:
    item = regions(1, rows=36, width=2048)
    store = fill(tmp_path / "a.lmdb", item)
    a, b = store.get(item.image_id).features, store.get(item.image_id).features
    assert np.shares_memory(a, b)
    assert as_tensor(a).data_ptr() == a.__array_interface__["data"][0]
    assert a.__array_interface__["data"][0] % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        a[0, 0] = 1


def test_tensors_come_without_a_warning(tmp_path: Path, regions: Draw) -> None:
    store = fill(tmp_path / "a.lmdb", full(regions, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for array in store.get("image00001").arrays().values():
            assert torch.equal(as_tensor(array), torch.tensor(array))


def test_tensors_come_from_an_older_torch_too(tmp_path: Path, regions: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise BufferError("Cannot export readonly array")

    features = fill(tmp_path / "a.lmdb", regions(1, rows=36, width=2048)).get("image00001").features
    monkeypatch.setattr("torch.utils.dlpack.from_dlpack", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = as_tensor(features)
    assert tensor.data_ptr() == features.__array_interface__["data"][0]
    assert torch.equal(tensor, torch.tensor(features))


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """What a data loader does with a store."""

    def __init__(self, store: Any) -> None:
        self.store, self.ids = store, store.ids()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> torch.Tensor:
        return as_tensor(self.store.get(self.ids[index]).features).float()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers_read_a_store_that_was_open_before(tmp_path: Path, regions: Draw, method: str) -> None:
    items = [regions(number, rows=20, width=1024) for number in range(24)]
    half = fill(tmp_path / "a", *items[:12]), fill(tmp_path / "b", *items[12:])
    chained = ChainedFeatures(half).select(min_score=0.5, min_boxes=4, max_boxes=4)
    chained.get("image00003")
    loader = torch.utils.data.DataLoader(
        Pictures(chained), batch_size=4, num_workers=2, multiprocessing_context=multiprocessing.get_context(method)
    )
    expected = torch.stack([torch.from_numpy(item.features[:4]).float() for item in items])
    assert torch.equal(torch.cat(list(loader)), expected)


def test_a_store_is_pickled_by_its_path(tmp_path: Path, regions: Draw) -> None:
    store = fill(tmp_path / "a.lmdb", regions(1, rows=100, width=2048))
    data = pickle.dumps(store)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.get("image00001").equals(store.get("image00001"))
    assert again._environment is store._environment


def test_threads_read_one_store(tmp_path: Path, regions: Draw) -> None:
    items = [regions(number, rows=20, width=512) for number in range(30)]
    store = fill(tmp_path / "a.lmdb", *items)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda item: store.get(item.image_id).equals(item), items * 20))


def test_readers_of_an_unfinished_store_and_its_writer_keep_apart(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    with FeatureStore.create(path, FeatureMetadata()) as writer:
        writer.put(regions(1))
        writer.commit()
        with pytest.raises(DataError, match=r"a\.lmdb: is being written by another process; wait"):
            FeatureStore.open(path, unfinished=True)
        writer.leave_unfinished()
    reader = FeatureStore.open(path, unfinished=True)
    with pytest.raises(DataError, match=r"a\.lmdb: is in use by another process; wait"):
        FeatureStore.create(path, FeatureMetadata())
    del reader
    gc.collect()
    with FeatureStore.create(path, FeatureMetadata()) as writer:
        assert len(writer) == 1
    assert [file.name for file in path.iterdir()] == ["data.mdb"]


FULL_DISK = """
import resource, sys
import numpy as np
from vltk.errors import VltkError
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
generator = np.random.default_rng(0)
try:
    with FeatureStore.create(sys.argv[1], FeatureMetadata()) as writer:
        for number in range(600):
            features = generator.standard_normal((36, 2048)).astype(np.float16)
            if str(number) not in writer:
                writer.put(RegionFeatures(image_id=str(number), features=features, boxes=None, size=(1, 1)))
except VltkError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def test_a_full_disk_ends_in_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = tmp_path / "a.lmdb"
    done = python(FULL_DISK, path, 50 << 20)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"1 {path}: the disk is full, over its quota or failing; "
        "free some space and run the same command again; what was committed is kept"
    )
    assert 0 < len(FeatureStore.open(path, unfinished=True)) < 600
    gc.collect()
    assert python(FULL_DISK, path, 1 << 30).returncode == 0
    assert len(FeatureStore.open(path)) == 600


def test_a_failed_commit_is_not_tried_again_on_the_way_out(
    tmp_path: Path, regions: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise VltkError("no")

    monkeypatch.setattr(lmdb_env.WriteEnvironment, "commit", fail)
    monkeypatch.setattr(record_store, "TRANSACTION_RECORDS", 1)
    with pytest.raises(VltkError, match=r"^no$"):
        fill(tmp_path / "a", regions(1))
    assert calls == [1]


# -- views -----------------------------------------------------------------------------------------------------------


def test_the_published_rule_of_kept_regions(shared: Path) -> None:
    from safetensors.numpy import load_file

    values = load_file(shared / "golden" / "uniter" / "num_bb_rule.safetensors")
    assert len(values["out.rows"])
    for index, min_score, min_boxes, max_boxes, expected in values["out.rows"].tolist():
        scores = values[f"in.conf_{int(index)}"]
        found = kept_regions(scores, min_score=min_score, min_boxes=int(min_boxes), max_boxes=int(max_boxes))
        assert found == expected


def test_a_selection_shows_the_first_rows(tmp_path: Path, regions: Draw) -> None:
    scores = np.array([0.9, 0.8, 0.5, 0.2, 0.1], np.float32)
    items = [full(regions, number, rows=5) for number in range(3)]
    items = [
        RegionFeatures(
            **{**{"image_id": i.image_id, "size": i.size, "region_ids": i.region_ids}, **i.arrays(), "scores": scores}
        )
        for i in items
    ]
    store = fill(tmp_path / "a.lmdb", *items)
    for options, rows in [
        ({"min_score": 0.5, "min_boxes": 1, "max_boxes": 9}, 2),
        ({"min_score": 0.5, "min_boxes": 3, "max_boxes": 9}, 3),
        ({"min_score": 0.0, "min_boxes": 1, "max_boxes": 4}, 4),
        ({"min_score": 0.0, "min_boxes": 8, "max_boxes": 9}, 5),
        ({"min_score": 1.0, "min_boxes": 0, "max_boxes": 9}, 0),
    ]:
        view = store.select(**options)
        assert view.ids() == store.ids()
        assert len(view) == len(store)
        assert view.metadata == store.metadata
        for item, again in zip(items, view, strict=True):
            assert again.equals(item.take(slice(0, rows)))
            assert view.region_count(item.image_id) == rows
            assert np.array_equal(view.scores(item.image_id), scores[:rows])
    assert "nothing" not in store.select(min_score=0)
    with pytest.raises(UsageError, match="min_boxes 5 and max_boxes 4 leave nothing to select"):
        store.select(min_score=0, min_boxes=5, max_boxes=4)


def test_a_selection_needs_scores(tmp_path: Path, regions: Draw) -> None:
    view = fill(tmp_path / "a.lmdb", regions(1, scores=None)).select(min_score=0.1)
    for read in (view.get, view.region_count):
        with pytest.raises(
            DataError, match=r"image image00001: its regions have no scores to select by; use the store"
        ):
            read("image00001")


def test_a_chain_reads_as_one_store(tmp_path: Path, regions: Draw) -> None:
    items = [regions(number) for number in range(6)]
    a, b = fill(tmp_path / "a", *items[::2]), fill(tmp_path / "b", *items[1::2])
    chain = ChainedFeatures([a, b])
    assert chain.ids() == [item.image_id for item in items]
    assert len(chain) == 6
    assert all(again.equals(item) for item, again in zip(items, chain, strict=True))
    assert "image00005" in chain
    assert "image00006" not in chain
    assert chain.region_count("image00005") == 5
    with pytest.raises(DataError, match=r"none of 2 chained stores holds 'x'; extract it first"):
        chain.get("x")
    with pytest.raises(DataError, match=r"image image00000 is in two of the chained stores; leave one of them out"):
        ChainedFeatures([a, b, a])
    with pytest.raises(UsageError, match="a chain of no stores"):
        ChainedFeatures([])
    other = fill(tmp_path / "c", regions(7), preset="d2")
    with pytest.raises(DataError, match=r"the chained stores were made with preset '' and 'd2'; extract both"):
        ChainedFeatures([a, other])


def test_a_store_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hi")
    with pytest.raises(DataError, match=r"file\.txt: is a file, and a store is a folder; name another path"):
        FeatureStore.create(tmp_path / "file.txt", FeatureMetadata())
    assert (tmp_path / "file.txt").read_text() == "hi"
