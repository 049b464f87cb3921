"""HGR's frame features: chosen frames, names with slashes, means, and files that lie."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.stores.formats.samples import MemoryStore, make
from vltk.errors import DataError, UsageError
from vltk.stores.formats import hgr_frames
from vltk.stores.formats.hgr_frames import ReadOptions, WriteOptions, kept_frames, read_names

VIDEOS = {"tumblr/a.gif": 3, "video7": 25}


def features(name: str, count: int) -> np.ndarray:
    return np.random.default_rng(len(name)).random((count, 4), np.float32)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A file of frames, with the list of its videos beside it."""
    with h5py.File(tmp_path / "trn_ft.hdf5", "w") as file:
        for name, count in VIDEOS.items():
            file[name.replace("/", "_")] = features(name, count)
    np.save(tmp_path / "trn_names.npy", np.array(["video7", "tumblr/a.gif"]))
    return tmp_path / "trn_ft.hdf5"


def test_videos_come_in_the_order_of_their_list_with_at_most_twenty_frames(split: Path) -> None:
    long, short = hgr_frames.read(split, ReadOptions(names=split.with_name("trn_names.npy")))
    assert (long.image_id, short.image_id) == ("video7", "tumblr/a.gif")
    np.testing.assert_array_equal(long.features, features("video7", 25)[kept_frames(25)])
    np.testing.assert_array_equal(short.features, features("tumblr/a.gif", 3))
    assert (len(long.features), long.boxes, long.size) == (20, None, (1, 1))


def test_without_a_list_names_are_those_of_the_file_and_all_frames_may_stay(split: Path) -> None:
    records = list(hgr_frames.read(split, ReadOptions(frames=0)))
    assert [(record.image_id, len(record.features)) for record in records] == [("tumblr_a.gif", 3), ("video7", 25)]


def test_frames_are_spaced_evenly_from_the_first_to_the_last() -> None:
    for count in (1, 19, 20, 21, 300):
        kept = kept_frames(count)
        assert (kept[0], kept[-1], len(kept)) == (0, count - 1, min(count, 20))
        assert np.all(np.diff(kept) >= 1)


def test_means_are_videos_of_one_frame(tmp_path: Path) -> None:
    means = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "val_ft.npy", means)
    (tmp_path / "names.txt").write_text("video1\nvideo2\n")
    records = list(hgr_frames.read(tmp_path / "val_ft.npy", ReadOptions(names=tmp_path / "names.txt")))
    assert [record.image_id for record in records] == ["video1", "video2"]
    np.testing.assert_array_equal(np.concatenate([record.features for record in records]), means)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    store = MemoryStore([make("a/1", 3), make("b", 30, seed=1)])
    done: list[int] = []
    hgr_frames.write(store, tmp_path / "out", WriteOptions(split="tst"), progress=done.append)
    names = tmp_path / "out" / "tst_names.npy"
    again = list(hgr_frames.read(tmp_path / "out" / "tst_ft.hdf5", ReadOptions(names=names, frames=0)))
    assert (read_names(names), sum(done)) == (["a/1", "b"], 2)
    for record in again:
        np.testing.assert_array_equal(record.features, store.get(record.image_id).features)
    with pytest.raises(DataError, match="exists already; choose another path or pass --overwrite"):
        hgr_frames.write(store, tmp_path / "out", WriteOptions(split="tst"))


def test_names_that_the_format_cannot_tell_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="video a/1 and another are written alike"):
        hgr_frames.write(MemoryStore([make("a/1"), make("a_1")]), tmp_path / "out")


def broken(path: Path, kind: str) -> None:
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["video1"] = h5py.ExternalLink("other.hdf5", "/secret")
        elif kind == "soft link":
            file["video1"] = h5py.SoftLink("/elsewhere")
        elif kind == "folder":
            file.create_group("video1")
        elif kind == "outside":
            file.create_dataset("video1", (2, 4), "f4", external=[(str(path.with_name("raw")), 0, 32)])
        elif kind == "huge":
            file.create_dataset("video1", (1 << 20, 1 << 10), "f4", chunks=(64, 64))
        elif kind == "flat":
            file["video1"] = np.zeros(4, np.float32)
        elif kind == "whole numbers":
            file["video1"] = np.zeros((2, 4), np.int64)
        else:
            file["video1"] = np.zeros((0, 4), np.float32)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("link", "video video1: is no array of its own"),
        ("soft link", "video video1: is no array of its own"),
        ("folder", "video video1: is no array of its own"),
        ("outside", "video video1: is no array of its own; write the frames into the file itself"),
        ("huge", "claims 4,294,967,296 bytes, more than the 268,435,456 that one video can need; sample its frames"),
        ("flat", r"is float32 of shape \(4,\), expected \[frames, features\] floats"),
        ("whole numbers", r"is int64 of shape \(2, 4\), expected"),
        ("empty", r"is float32 of shape \(0, 4\), expected"),
    ],
)
def test_files_that_lie(kind: str, sentence: str, tmp_path: Path) -> None:
    broken(tmp_path / "x.hdf5", kind)
    (tmp_path / "names.txt").write_text("video1\n")
    with pytest.raises(DataError, match=sentence):
        list(hgr_frames.read(tmp_path / "x.hdf5", ReadOptions(names=tmp_path / "names.txt")))


def test_what_is_not_there(split: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("video8\n")
    with pytest.raises(DataError, match=r"has no video video8 \(names there look like 'tumblr_a.gif'\); check --names"):
        list(hgr_frames.read(split, ReadOptions(names=tmp_path / "names.txt")))
    (tmp_path / "no.hdf5").write_bytes(b"\x89HDF\r\n\x1a\nnonsense")
    with pytest.raises(DataError, match=r"is no HDF5 file that can be read"):
        list(hgr_frames.read(tmp_path / "no.hdf5"))
    np.save(tmp_path / "val_ft.npy", np.zeros((2, 4), np.float32))
    with pytest.raises(UsageError, match="does not name its videos; add --names"):
        list(hgr_frames.read(tmp_path / "val_ft.npy"))
    with pytest.raises(DataError, match=r"has shape \(2, 4\) for 1 names, expected \[1, features\]"):
        list(hgr_frames.read(tmp_path / "val_ft.npy", ReadOptions(names=tmp_path / "names.txt")))
    with pytest.raises(UsageError, match="-1 frames; give a number, or 0 for all"):
        ReadOptions(frames=-1)


@pytest.mark.parametrize(
    ("names", "sentence"), [("", "holds no names of videos"), ("video1\nvideo1\n", "video video1 comes twice")]
)
def test_lists_that_name_nothing_or_too_much(names: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(DataError, match=sentence):
        read_names(tmp_path / "names.txt")
    np.save(tmp_path / "names.npy", np.arange(3))
    with pytest.raises(DataError, match="holds no names of videos"):
        read_names(tmp_path / "names.npy")


def test_without_h5py_one_sentence_says_how_to_get_it(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "h5py":
            raise ImportError("no h5py")
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"needs h5py; pip install 'vltk-toolkit\[video\]'"):
        list(hgr_frames.read(split))
