"""Looking at stores, checking all of one, joining parts, and saving what a damaged one still holds."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from vltk.commands._terminal import Terminal
from vltk.commands.store import (
    InfoConfig,
    MergeConfig,
    RepairConfig,
    VerifyConfig,
    run_info,
    run_merge,
    run_repair,
    run_verify,
)
from vltk.config import WriteConfig
from vltk.errors import DataError, UsageError
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.lmdb_env import open_read
from vltk.stores.maintenance import info, merge, open_store, repair, verify
from vltk.stores.pages import PageFile, check_file
from vltk.stores.record_store import HEADER_KEY
from vltk.types import Example, RegionFeatures

Draw = Callable[..., RegionFeatures]


def fill(path: Path, *items: RegionFeatures, **metadata: Any) -> FeatureStore:
    with FeatureStore.create(path, FeatureMetadata(**metadata)) as writer:
        for item in items:
            writer.put(item)
    return FeatureStore.open(path)


def fill_examples(path: Path, *numbers: int, **metadata: Any) -> ExampleStore:
    with ExampleStore.create(path, ExampleMetadata(**metadata)) as writer:
        for number in numbers:
            writer.put(example(number))
    return ExampleStore.open(path)


def example(number: int) -> Example:
    return Example(id=f"e{number}", image_ids=("1",), texts=(f"text {number}",))


def place_of(path: Path, key: bytes) -> int:
    with PageFile(path / "data.mdb") as file:
        return next(entry.offset for entry in file.entries(print) if entry.key == key and entry.offset is not None)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


# -- info ------------------------------------------------------------------------------------------------------------


def test_info_tells_how_a_store_was_made(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    store = fill(path, regions(1), regions(2), preset="butd-36", detector="butd")
    said = info(path)
    assert said["schema"] == "vltk.features"
    assert (said["records"], said["complete"], said["version"]) == (2, True, 1)
    assert said["metadata"]["preset"] == "butd-36"
    boxes = "float32 [R, 4] x1, y1, x2, y2 in pixels"
    assert said["fields"] == {"boxes": boxes, "features": "float16 [R, 8]", "scores": "float32 [R]"}
    assert said["content_hash"] == store.content_hash
    assert said["bytes_apparent"] == (path / "data.mdb").stat().st_size == said["bytes_used"]
    os.truncate(path / "data.mdb", 1 << 30)
    assert info(path)["bytes_apparent"] == 1 << 30
    assert info(path)["bytes_on_disk"] < 1 << 20
    assert run_info(InfoConfig(path=path), Terminal(quiet=True))["schema"] == "vltk.features"


def test_a_store_of_whatever_schema_is_opened(tmp_path: Path, regions: Draw) -> None:
    fill(tmp_path / "f", regions(1))
    fill_examples(tmp_path / "e", 1)
    assert isinstance(open_store(tmp_path / "f"), FeatureStore)
    assert isinstance(open_store(tmp_path / "e"), ExampleStore)
    with lmdb.open(str(tmp_path / "foreign")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", b"b")
    with pytest.raises(DataError, match=r"foreign: expected a vltk schema, found an LMDB without vltk's header"):
        info(tmp_path / "foreign")


# -- verify ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["features", "examples"])
def store(request: pytest.FixtureRequest, tmp_path: Path, regions: Draw) -> FeatureStore | ExampleStore:
    """A store of either schema, of which features fill pages of their own and examples share them."""
    path = tmp_path / "store.lmdb"
    if request.param == "examples":
        return fill_examples(path, *range(1000))
    return fill(path, *[regions(number, rows=9, width=400) for number in range(400)], preset="p")


def test_a_good_store_is_good(store: FeatureStore | ExampleStore) -> None:
    counted: list[int] = []
    found = verify(store.path, progress=counted.append)
    assert found.ok
    assert (found.records, found.good, found.problems, found.complete) == (len(store), len(store), (), True)
    assert found.content_hash == store.content_hash
    assert sum(counted) == len(store) >= 40


def test_verify_names_every_bad_record(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    fill(path, *[regions(number, rows=9, width=400) for number in range(40)])
    for number in (3, 17, 39):
        flip(path, place_of(path, b"iimage%05d" % number) + 3000)
    found = verify(path)
    assert not found.ok
    assert (found.records, found.good, found.problem_count) == (40, 37, 3)
    assert found.problems == tuple(
        f"'image{number:05d}': the checksum of its features does not match" for number in (3, 17, 39)
    )
    assert verify(path, max_problems=1).problems == found.problems[:1]
    assert verify(path, max_problems=1).problem_count == 3


@pytest.mark.parametrize("seed", range(12))
def test_verify_finds_any_flipped_bit_that_matters(
    store: FeatureStore | ExampleStore, tmp_path: Path, seed: int
) -> None:
    """Flip one bit of the structure or the records: reading everything gives what was written, or verify objects."""
    path, kind, names = store.path, type(store), store.ids()
    content = dict(open_read(path).items())
    del store
    gc.collect()
    generator = np.random.default_rng(seed)
    size = (path / "data.mdb").stat().st_size
    page = int(generator.integers(2, size // 4096))
    offset = page * 4096 + int(generator.integers(0, 64 if seed % 2 else 4096))
    flip(path, offset, 1 << int(generator.integers(0, 8)))
    try:
        sound = verify(path).ok
    except DataError:
        sound = False
    if sound:
        assert dict(open_read(path).items()) == content
        assert [store_id(kind, record) for record in kind.open(path)] == names
    else:
        read_on_without_dying(path, kind, names)


def read_on_without_dying(path: Path, kind: type[FeatureStore] | type[ExampleStore], names: list[str]) -> None:
    with contextlib.suppress(DataError):
        opened = kind.open(path)
        for name in names:
            with contextlib.suppress(DataError):
                opened.get(name)


def test_verify_counts(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    with FeatureStore.create(path, FeatureMetadata()) as writer:
        writer.put(regions(1))
        writer._count += 1
    assert verify(path).problems == ("the header counts 2 records, 1 are there",)
    path = tmp_path / "b.lmdb"
    with FeatureStore.create(path, FeatureMetadata()) as writer:
        writer.put(regions(1))
        writer._content += 1
    assert verify(path).problems[0].startswith("the records hash to ")


def test_verify_follows_the_index_of_examples(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    with ExampleStore.create(path, ExampleMetadata()) as writer:
        for number in range(3):
            writer.put(example(number))
        writer._pending[b"ie1"] = (0).to_bytes(8)
        writer._pending[b"ie9"] = (9).to_bytes(8)
    assert verify(path).problems == (
        "'e9': its index entry leads nowhere",
        "the index has 4 ids for 3 records",
        "'e1': its index entry does not lead to it",
    )


def test_verify_of_an_unfinished_store_says_so(tmp_path: Path, regions: Draw) -> None:
    with FeatureStore.create(tmp_path / "a", FeatureMetadata()) as writer:
        writer.put(regions(1))
        writer.commit()
        with pytest.raises(DataError, match=r"a: is being written by another process; wait until it has ended"):
            verify(tmp_path / "a")
        writer.leave_unfinished()
    found = verify(tmp_path / "a")
    assert (found.ok, found.complete, found.records) == (True, False, 1)


def test_the_command_ends_with_3_when_something_is_damaged(tmp_path: Path, regions: Draw) -> None:
    path = tmp_path / "a.lmdb"
    fill(path, regions(1), regions(2))
    terminal = Terminal(quiet=True)
    assert run_verify(VerifyConfig(path=path), terminal)["ok"]
    assert terminal.failure is None
    flip(path, place_of(path, b"iimage00002") + 100)
    said = run_verify(VerifyConfig(path=path), terminal)
    assert said["problems"] == ("'image00002': the checksum of its head does not match",)
    assert isinstance(terminal.failure, DataError)
    assert str(terminal.failure) == (
        f"{path}: 1 problems, 1 of 2 records are good; save the good ones with vltk store repair"
    )


# -- merge -----------------------------------------------------------------------------------------------------------


def test_parts_are_joined(tmp_path: Path, regions: Draw) -> None:
    items = [regions(number) for number in range(7)]
    whole = fill(tmp_path / "whole", *items, preset="p")
    parts = [tmp_path / f"part{part}" for part in range(3)]
    for part, path in enumerate(parts):
        fill(path, *items[part::3], items[0], preset="p", created_by=f"vltk {part}")
    merged = merge(parts, tmp_path / "merged")
    assert isinstance(merged, FeatureStore)
    assert merged.content_hash == whole.content_hash
    assert merged.ids() == whole.ids()
    assert all(merged.get(item.image_id).equals(item) for item in items)
    assert verify(tmp_path / "merged").ok


def test_examples_keep_their_order_through_a_merge(tmp_path: Path) -> None:
    fill_examples(tmp_path / "a", 5, 3, 9)
    fill_examples(tmp_path / "b", 4, 3, 1)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert merged.ids() == ["e5", "e3", "e9", "e4", "e1"]


def test_what_must_not_be_joined_is_not(tmp_path: Path, regions: Draw) -> None:
    fill(tmp_path / "a", regions(1), regions(2), preset="p")
    fill(tmp_path / "b", regions(3), preset="q")
    fill(tmp_path / "c", regions(5, image_id="image00002"), preset="p")
    fill_examples(tmp_path / "e", 1)
    a, b, c, e, out = (tmp_path / name for name in ("a", "b", "c", "e", "out"))
    with pytest.raises(
        DataError, match=rf"{b}: differs from {a} in preset 'p' against 'q'; merge stores that were made"
    ):
        merge([a, b], out)
    with pytest.raises(DataError, match=rf"{c}: 'image00002' is in {a} with other content; remove it from one of them"):
        merge([a, c], out)
    with pytest.raises(DataError, match=rf"{e}: expected a store of schema vltk\.features, found vltk\.examples"):
        merge([a, e], out)
    with pytest.raises(UsageError, match=r"is one of the parts; write the merged store to another path"):
        merge([a, b], tmp_path / "b" / ".." / "b")
    with pytest.raises(UsageError, match="no stores to merge"):
        merge([], out)
    assert not out.exists()


KILLED_MERGE = """
import os, signal, sys
from vltk.stores import record_store
from vltk.stores.maintenance import merge
record_store.TRANSACTION_RECORDS = 4
done = []
def progress(count):
    done.append(count)
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
merge([sys.argv[1] + "/a", sys.argv[1] + "/b"], sys.argv[1] + "/merged", progress=progress)
"""


@pytest.mark.parametrize("moment", [3, 10, 19])
def test_a_killed_merge_goes_on(
    tmp_path: Path, regions: Draw, moment: int, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    items = [regions(number) for number in range(20)]
    fill(tmp_path / "a", *items[:8])
    fill(tmp_path / "b", *items[8:])
    assert python(KILLED_MERGE, tmp_path, moment).returncode == -signal.SIGKILL
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert merged.content_hash == fill(tmp_path / "whole", *items).content_hash


def test_the_merge_command(tmp_path: Path, regions: Draw) -> None:
    fill(tmp_path / "a", regions(1))
    fill(tmp_path / "b", regions(2), regions(3))
    config = MergeConfig(parts=(tmp_path / "a", tmp_path / "b"), out=tmp_path / "m", common=WriteConfig(dry_run=True))
    plan = run_merge(config, Terminal(quiet=True))
    assert plan["parts"] == {str(tmp_path / "a"): 1, str(tmp_path / "b"): 2}
    assert not (tmp_path / "m").exists()
    assert run_merge(MergeConfig(parts=config.parts, out=config.out), Terminal(quiet=True))["records"] == 3


# -- repair ----------------------------------------------------------------------------------------------------------


def test_repair_saves_what_is_whole_and_names_what_is_not(tmp_path: Path, regions: Draw) -> None:
    path, items = tmp_path / "a.lmdb", [regions(number, rows=9, width=400) for number in range(20)]
    metadata = fill(path, *items, preset="p", compression="lz4").metadata
    for number in (0, 7):
        flip(path, place_of(path, b"iimage%05d" % number) + 2000)
    before = (path / "data.mdb").read_bytes()
    saved = repair(path, tmp_path / "saved")
    assert (saved.saved, saved.lost, saved.lost_unknown) == (18, ("'image00000'", "'image00007'"), 0)
    assert not saved.header_lost
    assert (path / "data.mdb").read_bytes() == before
    store = FeatureStore.open(tmp_path / "saved")
    assert store.metadata == metadata
    assert all(store.get(item.image_id).equals(item) for item in items if item.image_id in store)
    assert verify(tmp_path / "saved").ok
    again = fill(tmp_path / "saved", *items, preset="p", compression="lz4")
    assert again.content_hash == fill(tmp_path / "whole", *items, preset="p").content_hash


@pytest.mark.parametrize("keep", [0.95, 0.75, 0.6])
def test_repair_reads_a_cut_off_store(store: FeatureStore | ExampleStore, tmp_path: Path, keep: float) -> None:
    path, kind = store.path, type(store)
    items = {name: store.get(name) for name in store.ids()}
    del store
    size = (path / "data.mdb").stat().st_size
    os.truncate(path / "data.mdb", int(size * keep))
    with pytest.raises(
        DataError, match=r"store\.lmdb: is cut off: \d+ bytes, \d+ were written; copy it again, or save"
    ):
        verify(path)
    saved = repair(path, tmp_path / "saved")
    assert 0 < saved.saved <= len(items)
    opened = kind.open(tmp_path / "saved")
    assert len(opened) == saved.saved
    for name in opened.ids():
        a, b = opened.get(name), items[name]
        assert a.equals(b) if isinstance(a, RegionFeatures) else a == b
    if not saved.header_lost:
        assert saved.saved + len(saved.lost) + saved.lost_unknown == len(items)


def store_id(kind: type[FeatureStore] | type[ExampleStore], record: Any) -> str:
    return str(record.image_id if kind is FeatureStore else record.id)


def test_repair_needs_neither_tree_nor_header(store: FeatureStore | ExampleStore, tmp_path: Path) -> None:
    path, kind, content, count = store.path, type(store), store.content_hash, len(store)
    flip(path, place_of(path, HEADER_KEY) + 2)
    root = check_file(path).root
    assert root is not None
    with PageFile(path / "data.mdb") as file:
        is_branch = file.read(root * 4096 + 10, 1) == b"\x01"
    if is_branch:
        flip(path, root * 4096 + 10, 0xFF)
    for meta in (0, 4096):
        flip(path, meta + 17)
        with pytest.raises(DataError, match=r"is not an LMDB file|has a damaged meta page"):
            verify(path)
        saved = repair(path, tmp_path / f"saved{meta}")
        assert saved.saved == count
        flip(path, meta + 17)
    saved = repair(path, tmp_path / "saved")
    assert (saved.saved, saved.lost, saved.header_lost) == (count, (), True)
    opened = kind.open(tmp_path / "saved")
    assert opened.content_hash == content
    assert opened.metadata.extra == {"repaired": "the header was lost"}


def test_repair_keeps_an_unfinished_store_unfinished(tmp_path: Path, regions: Draw) -> None:
    with FeatureStore.create(tmp_path / "a", FeatureMetadata()) as writer:
        writer.put(regions(1))
        writer.leave_unfinished()
    assert repair(tmp_path / "a", tmp_path / "b").saved == 1
    with pytest.raises(DataError, match=r"b: is unfinished \(1 records so far\)"):
        FeatureStore.open(tmp_path / "b")


def test_repair_refuses_what_it_cannot_do(tmp_path: Path, regions: Draw) -> None:
    fill(tmp_path / "a", regions(1))
    with pytest.raises(UsageError, match="a store is not repaired in place; write the new store to another path"):
        repair(tmp_path / "a", tmp_path / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "data.mdb").write_bytes(b"")
    with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
        repair(tmp_path / "empty", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    config = RepairConfig(path=tmp_path / "a", out=tmp_path / "b", common=WriteConfig(dry_run=True))
    assert run_repair(config, Terminal(quiet=True)) == {"path": str(tmp_path / "a"), "out": str(tmp_path / "b")}
    assert not (tmp_path / "b").exists()
    assert run_repair(RepairConfig(path=tmp_path / "a", out=tmp_path / "b"), Terminal(quiet=True))["saved"] == 1
