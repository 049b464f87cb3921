"""Which files LMDB gets to see, what happens when memory or disk end, and who may write."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest

from vltk.errors import DataError, VltkError
from vltk.stores import lmdb_env
from vltk.stores.lmdb_env import ReadEnvironment, WriteEnvironment, WriteLock, open_read
from vltk.stores.pages import PageFile, check_file

MAGIC = 0xBEEFC0DE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished environment of 300 records, small and large ones."""
    folder = tmp_path / "a.lmdb"
    write(folder, {b"k%03d" % i: bytes([i % 251]) * (10 if i % 2 else 9000) for i in range(300)})
    return folder


def write(folder: Path, items: dict[bytes, bytes]) -> None:
    writer = WriteEnvironment(folder)
    writer.commit(items)
    writer.finish({})
    writer.release()


def edit(file: Path, offset: int, value: bytes) -> None:
    with file.open("r+b") as handle:
        handle.seek(offset)
        handle.write(value)


def test_what_was_written_is_read(folder: Path) -> None:
    environment = open_read(folder)
    assert len(environment) == 300
    assert bytes(environment.get(b"k002") or b"") == bytes([2]) * 9000
    assert environment.get(b"k999") is None
    assert environment.get(b"x" * 600) is None
    assert list(environment.keys(b"k29")) == [b"k29%d" % i for i in range(10)]
    assert [len(value) for _, value in environment.items(b"k00")] == [9000, 10] * 5


def test_a_finished_environment_is_one_file_of_format_0_9(
    folder: Path, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert [path.name for path in folder.iterdir()] == ["data.mdb"]
    assert struct.unpack_from("<II", (folder / "data.mdb").read_bytes(), 16) == (MAGIC, 1)
    code = (
        "import sys; from pathlib import Path; from vltk.stores.lmdb_env import WriteEnvironment\n"
        "w = WriteEnvironment(Path(sys.argv[1])); w.commit({b'a': b'b'}); w.finish({b'c': b'd'}); w.release()"
    )
    done = python(code, tmp_path / "b.lmdb", LMDB_DEFAULT_LIB_VERSION="1")
    assert done.returncode == 0, done.stderr
    assert struct.unpack_from("<II", (tmp_path / "b.lmdb" / "data.mdb").read_bytes(), 16) == (MAGIC, 1)
    assert dict(open_read(tmp_path / "b.lmdb").items()) == {b"a": b"b", b"c": b"d"}


@pytest.mark.parametrize("header", [20, 24])
def test_a_file_of_lmdb_1_0_is_refused(tmp_path: Path, header: int) -> None:
    (tmp_path / "data.mdb").write_bytes(bytes(header) + struct.pack("<II", MAGIC, 3) + bytes(8192))
    with pytest.raises(DataError, match=r"is an LMDB 1\.0 file, and vltk reads format 0\.9; dump it with mdb_dump"):
        open_read(tmp_path)


@pytest.mark.skipif(int(lmdb.__version__.split(".")[0]) < 3, reason="this py-lmdb has no engine of LMDB 1.0")
def test_a_file_that_lmdb_1_0_wrote_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), lib_version=1) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"a", b"b")
    with pytest.raises(DataError, match=r"is an LMDB 1\.0 file"):
        open_read(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"data\.mdb: is empty \(0 bytes\); write the store again"),
        (b"\x93NUMPY" + bytes(5000), "is not an LMDB file; check the path"),
        (b"short", "is not an LMDB file"),
        (
            bytes(16) + struct.pack("<II", MAGIC, 1) + bytes(16) + struct.pack("<I", 4096) + bytes(60),
            "is cut off: 104 by",
        ),
        (bytes(16) + struct.pack("<II", MAGIC, 1) + bytes(8192), "claims pages of 0 bytes"),
    ],
)
def test_no_lmdb_file_is_refused_before_lmdb_sees_it(
    tmp_path: Path, content: bytes, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb, "open", lambda *_, **__: pytest.fail("LMDB was given the file"))
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        open_read(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: does not exist; check the path of the store"):
        open_read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.mdb: does not exist"):
        open_read(tmp_path)


@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5, 0.1, 0.02])
def test_a_cut_off_file_is_refused_before_lmdb_sees_it(
    folder: Path, keep: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "data.mdb"
    os.truncate(file, int(file.stat().st_size * keep))
    monkeypatch.setattr(lmdb, "open", lambda *_, **__: pytest.fail("LMDB was given the file"))
    with pytest.raises(DataError, match=r"is cut off: \d+ bytes, \d+ were written; copy it again"):
        open_read(folder)


def test_a_damaged_meta_page_is_not_passed_over(folder: Path) -> None:
    # The other one would show the store as it was before its last transaction.
    for page in (0, 4096):
        original = (folder / "data.mdb").read_bytes()
        edit(folder / "data.mdb", page + 20, b"\x09")
        with pytest.raises(DataError, match=r"data\.mdb: has a damaged meta page; copy it again, or save what is left"):
            check_file(folder)
        (folder / "data.mdb").write_bytes(original)
    assert check_file(folder).entries == 300


def test_a_file_that_lacks_only_free_pages_is_read(folder: Path) -> None:
    # LMDB leaves free pages at the end unwritten, so that the last page of the meta may lie behind the file.
    file = folder / "data.mdb"
    for page in (0, 4096):
        last_page = struct.unpack_from("<Q", file.read_bytes(), page + 136)[0]
        edit(file, page + 136, struct.pack("<Q", last_page + 5))
    assert len(open_read(folder)) == 300


def test_the_tree_read_without_lmdb_is_the_tree(folder: Path) -> None:
    problems: list[str] = []
    with PageFile(folder / "data.mdb") as file:
        found = {entry.key: file.value(entry) for entry in file.entries(problems.append)}
        scanned = {entry.key: file.value(entry) for entry in file.scan()}
    assert problems == []
    assert found == dict(open_read(folder).items())
    assert scanned == found


def test_any_flipped_byte_of_the_structure_leaves_the_page_reader_calm(folder: Path) -> None:
    file = folder / "data.mdb"
    original = file.read_bytes()
    generator = np.random.default_rng(0)
    for page in range(0, len(original) // 4096, 5):
        # Headers and the ends of pages are where branches and leaves keep their numbers.
        for offset in (int(generator.integers(0, 64)), int(generator.integers(0, 4096))):
            damaged = bytearray(original)
            damaged[page * 4096 + offset] ^= 1 << int(generator.integers(0, 8))
            file.write_bytes(damaged)
            with contextlib.suppress(DataError), PageFile(file) as reader:
                for entry in [*reader.entries(lambda _: None), *reader.scan()]:
                    assert len(reader.value(entry)) <= len(original)


def test_a_branch_that_leads_to_itself_ends(tmp_path: Path) -> None:
    folder = tmp_path / "deep.lmdb"
    write(folder, {b"%06d" % i: bytes(500) for i in range(3000)})
    file = folder / "data.mdb"
    root = check_file(folder).root
    assert root is not None
    content = bytearray(file.read_bytes())
    lower = struct.unpack_from("<H", content, root * 4096 + 12)[0]
    for slot in range(16, lower, 2):
        node = root * 4096 + struct.unpack_from("<H", content, root * 4096 + slot)[0]
        struct.pack_into("<HHH", content, node, root & 0xFFFF, root >> 16, 0)
    file.write_bytes(content)
    problems: list[str] = []
    with PageFile(file) as reader:
        assert list(reader.entries(problems.append)) == []
    assert problems


def test_one_environment_a_file_and_process(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    environment = open_read(folder)
    assert open_read(tmp_path / "link") is environment
    assert open_read(folder / "data.mdb") is environment


def test_arrays_outlive_everything_else(folder: Path) -> None:
    environment: ReadEnvironment | None = open_read(folder)
    assert environment is not None
    value = environment.get(b"k002")
    assert value is not None
    array = np.ndarray((9000,), np.uint8, value)
    part = array[5:].reshape(5, -1).T
    del value, environment, array
    gc.collect()
    assert len(lmdb_env._registry) == 1
    assert (part == 2).all()
    assert not part.flags.writeable
    del part
    gc.collect()
    assert len(lmdb_env._registry) == 0


def test_a_file_that_was_written_anew_is_read_anew(folder: Path) -> None:
    old = open_read(folder)
    writer = WriteEnvironment(folder)
    writer.remove()
    writer.commit({b"new": b"1"})
    assert len(old) == 300
    writer.finish({})
    writer.release()
    assert dict(open_read(folder).items()) == {b"new": b"1"}
    assert bytes(old.get(b"k002") or b"") == bytes([2]) * 9000


def test_a_copy_in_the_place_of_the_file_leaves_readers_alone(folder: Path) -> None:
    old = open_read(folder)
    writer = WriteEnvironment(folder)
    assert writer.get(b"k001") == bytes([1]) * 10
    writer.detach()
    writer.commit({b"k001": b"changed"})
    assert bytes(old.get(b"k001") or b"") == bytes([1]) * 10
    assert writer.get(b"k001") == b"changed"
    writer.release()


def _child_reads(environment: ReadEnvironment, connection: object) -> None:
    connection.send((bytes(environment.get(b"k004") or b""), len(environment)))  # type: ignore[attr-defined]


def test_a_forked_process_reads_on(folder: Path) -> None:
    environment = open_read(folder)
    environment.get(b"k004")
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        receiver, sender = context.Pipe()
        child = context.Process(target=_child_reads, args=(environment, sender))
        child.start()
        assert receiver.recv() == (bytes([4]) * 9000, 300)
        child.join()
        assert child.exitcode == 0
    assert bytes(environment.get(b"k004") or b"") == bytes([4]) * 9000


HOLD = """
import sys
from pathlib import Path
from vltk.stores.lmdb_env import WriteEnvironment
writer = WriteEnvironment(Path(sys.argv[1]))
writer.commit({b"mine": b"1"})
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_second_writer_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    folder = tmp_path / "a.lmdb"
    first = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == b"ready\n"
    with pytest.raises(DataError, match=r"a\.lmdb: is in use by another process; wait until it has ended"):
        WriteEnvironment(folder)
    with pytest.raises(DataError, match=r"is being written by another process"):
        WriteLock(folder, shared=True)
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    writer = WriteEnvironment(folder)
    assert writer.get(b"mine") == b"1"
    with pytest.raises(DataError, match=r"is in use by another process"):
        WriteEnvironment(folder)
    writer.release()


def _child_writes(writer: WriteEnvironment, connection: object) -> None:
    try:
        writer.commit({b"a": b"child"})
    except DataError as error:
        connection.send(str(error))  # type: ignore[attr-defined]
    connection.recv()  # type: ignore[attr-defined]


def test_a_forked_process_neither_writes_nor_keeps_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "a.lmdb"
    writer = WriteEnvironment(folder)
    writer.commit({b"a": b"parent"})
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_child_writes, args=(writer, there))
    child.start()
    assert here.recv() == (
        f"{folder}: is written by the process that this one was forked from; "
        "write in the process that opened it, or a part store in each"
    )
    with pytest.raises(DataError, match="is in use by another process"):
        WriteEnvironment(folder)
    writer.release()
    again = WriteEnvironment(folder)
    assert again.get(b"a") == b"parent"
    again.release()
    here.send("end")
    child.join()
    assert child.exitcode == 0


def test_nothing_stays_of_a_writer_that_wrote_nothing(tmp_path: Path) -> None:
    WriteEnvironment(tmp_path / "a.lmdb").release()
    assert list(tmp_path.iterdir()) == []


def test_the_map_grows_and_no_transaction_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_env, "_FIRST_MAP", 1 << 16)
    folder = tmp_path / "a.lmdb"
    writer = WriteEnvironment(folder)
    for step in range(20):
        writer.commit({b"%d.%d" % (step, i): bytes([step]) * 5000 for i in range(20)})
    writer.finish({b"last": b"x" * 100_000})
    writer.release()
    found = dict(open_read(folder).items())
    assert len(found) == 401
    assert all(value == bytes([int(key.split(b".")[0])]) * 5000 for key, value in found.items() if key != b"last")


LIMITED = """
import resource, sys
from pathlib import Path
from vltk.errors import VltkError
from vltk.stores import lmdb_env
from vltk.stores.lmdb_env import WriteEnvironment
lmdb_env._FIRST_MAP = 1 << 20
writer = WriteEnvironment(Path(sys.argv[1]))
writer.commit({b"first": b"1"})
kind, limit = getattr(resource, sys.argv[2]), int(sys.argv[3])
if kind == resource.RLIMIT_AS:
    limit += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(kind, (limit, limit))
try:
    for step in range(100):
        writer.commit({b"%d.%d" % (step, i): bytes(100_000) for i in range(10)})
        print(step, flush=True)
except VltkError as error:
    print(error.exit_code, error)
writer.release()
"""


@pytest.mark.parametrize(
    ("limit", "size", "code", "sentence"),
    [
        (
            "RLIMIT_FSIZE",
            20 << 20,
            "1",
            "the disk is full, over its quota or failing; free some space and run the same command again",
        ),
        ("RLIMIT_AS", 24 << 20, "3", "is full and cannot grow"),
    ],
)
def test_what_was_committed_survives_the_end_of_disk_and_memory(
    tmp_path: Path,
    limit: str,
    size: int,
    code: str,
    sentence: str,
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    folder = tmp_path / "a.lmdb"
    done = python(LIMITED, folder, limit, size)
    assert done.returncode == 0, done.stderr
    *steps, last = done.stdout.splitlines()
    assert last.startswith(f"{code} {folder}: ")
    assert sentence in last
    assert len(steps) > 2
    found = open_read(folder)
    assert len(found) == 1 + 10 * len(steps)
    assert bytes(found.get(b"first") or b"") == b"1"


def test_a_full_disk_during_the_finish_keeps_the_file(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = LIMITED[: LIMITED.index("try:")] + (
        "try:\n    writer.finish({b'end': b'1'})\n"
        "except VltkError as error:\n    print(error.exit_code, error)\nwriter.release()\n"
    )
    folder = tmp_path / "a.lmdb"
    write(folder, {b"%d" % i: bytes(100_000) for i in range(100)})
    done = python(code, folder, "RLIMIT_FSIZE", 1 << 20)
    assert done.returncode == 0, done.stderr
    assert f"1 {folder}: the disk is full" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["data.mdb", "write.lock"]
    assert len(open_read(folder)) == 101


def test_without_room_for_the_compact_copy_the_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: WriteEnvironment, target: Path) -> None:
        target.write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WriteEnvironment, "_copy_compact", fail)
    write(tmp_path / "a.lmdb", {b"a": b"1"})
    assert [path.name for path in (tmp_path / "a.lmdb").iterdir()] == ["data.mdb"]
    assert dict(open_read(tmp_path / "a.lmdb").items()) == {b"a": b"1"}


def test_other_trouble_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VltkError, match=r"file/a\.lmdb: Not a directory; check the folder and its permissions"):
        WriteEnvironment(tmp_path / "file" / "a.lmdb")
    environment = open_read(folder)
    writer = WriteEnvironment(folder)
    with pytest.raises(DataError, match=r"a\.lmdb: is being read in this process; close the reader first"):
        writer.commit({b"a": b"b"})
    writer.release()
    assert len(environment) == 300
