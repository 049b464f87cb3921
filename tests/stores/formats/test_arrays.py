"""Arrays of foreign files: what numpy writes is read, and nothing is believed that the file does not hold."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vltk.errors import DataError
from vltk.stores.formats import _arrays

ARRAYS = hnp.arrays(st.sampled_from(["<f4", ">f4", "<f2", "<i8", "?", "<U3"]), hnp.array_shapes(min_dims=0, min_side=0))


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@given(array=ARRAYS, fortran=st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_numpy_saves_is_read(array: np.ndarray[Any, Any], fortran: bool) -> None:
    again = _arrays.read_npy(saved(np.asfortranarray(array) if fortran else array), where="x")
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@given(members=st.dictionaries(st.text("abcxyz", min_size=1), ARRAYS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_numpy_zips_is_read(members: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **members)
    again = _arrays.read_npz(buffer.getvalue(), where="x")
    assert again.keys() == members.keys()
    for name, array in members.items():
        np.testing.assert_array_equal(again[name], array)


def test_what_is_written_numpy_reads(tmp_path: Path) -> None:
    members = {
        "x": np.arange(6.0).reshape(2, 3),
        "n": 3,
        "info": {"image_id": "7", "conf": np.ones(2, np.float32), "none": None},
    }
    with (tmp_path / "a.npz").open("wb") as stream:
        _arrays.write_npz(stream, members)
    with np.load(tmp_path / "a.npz", allow_pickle=True) as archive:
        np.testing.assert_array_equal(archive["x"], members["x"])
        assert archive["n"] == 3
        info = archive["info"].item()
    assert info["image_id"] == "7"
    assert info["conf"].tolist() == [1, 1]
    assert info["conf"].flags.writeable
    ours = _arrays.read_npz(tmp_path / "a.npz", where="x")["info"].item()
    assert ours["conf"].tolist() == [1, 1]
    assert ours["none"] is None


def test_pickles_name_nothing_that_only_the_newer_numpy_knows() -> None:
    content = _arrays.dump_pickle(
        {"a": np.ones((2, 2), np.float32), "b": np.float32(3), "c": np.zeros((0, 4), np.int64)}
    )
    assert b"numpy._core" not in content
    again = pickle.loads(content)
    np.testing.assert_array_equal(again["a"], np.ones((2, 2)))
    assert again["a"].dtype == np.float32
    assert again["b"] == 3
    assert again["c"].shape == (0, 4)


HOSTILE_NPY = {
    "10 GB": (header("(2684354560,)") + b"x", r"claims 10,737,418,240 bytes of shape \(2684354560,\)"),
    "overflow": (header("(4611686018427387904, 4611686018427387904)"), "claims .* bytes of shape"),
    "negative": (header("(-1, 4)"), r"claims an array of shape \(-1, 4\)"),
    "long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'", "is not a .npy file that can be read"),
    "code in the header": (header("__import__('os').getpid()"), "is not a .npy file that can be read"),
    "structured": (header("(1,)", "[('a', '<f4')]") + bytes(4), "holds values of type"),
    "void": (header("(1,)", "'|V4'") + bytes(4), "holds values of type"),
    "open bracket": (header("(2, 3"), "is not a .npy file that can be read"),
    "fractions": (header("(2.5,)"), "its header says"),
    "number as type": (header("(1,)", "7") + bytes(4), "holds values of type 7"),
    "no such type": (header("(1,)", "'<f3'") + bytes(4), "holds values of type '<f3'"),
    "no magic": (b"hello", "is not a .npy file that can be read"),
    "empty": (b"", "is not a .npy file that can be read"),
    "cut off": (saved(np.ones(8))[:-1], "claims 64 bytes"),
    "objects": (header("(10000000000,)", "'|O'") + pickle.dumps([1]), "does not hold the objects of shape"),
    "payload": (saved(np.array([print], dtype=object), allow_pickle=True), "refers to builtins.print"),
}


@pytest.mark.parametrize("name", HOSTILE_NPY)
def test_hostile_npy_is_refused(name: str) -> None:
    content, sentence = HOSTILE_NPY[name]
    with pytest.raises(DataError, match=sentence):
        _arrays.read_npy(content, where="x")
    with pytest.raises(DataError, match=sentence):
        _arrays.read_npz(zipped(member=content), where="x")


def rewritten(content: bytes, claimed: int) -> bytes:
    """The same zip with another uncompressed size in its directory and local header."""
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    size = claimed.to_bytes(4, "little")
    content = content[: local + 22] + size + content[local + 26 :]
    return content[: central + 24] + size + content[central + 28 :]


def test_a_bomb_whose_directory_tells_is_refused_before_it_is_unpacked() -> None:
    zeros = np.zeros(1 << 20, np.uint8)  # 1 MB in 1 kB
    bomb = zipped(a=saved(zeros))
    assert len(bomb) < 3000
    assert _arrays.read_npz(bomb, where="x")["a"].shape == zeros.shape
    with pytest.raises(DataError, match=r"member a.npy: claims 4,000,000,000 bytes out of [\d,]+ compressed ones"):
        _arrays.read_npz(rewritten(bomb, 4_000_000_000), where="x")


def test_many_honest_members_are_refused_together_where_one_picture_cannot_need_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_arrays, "LARGEST_MEMBER", 1 << 20)
    content = zipped(**{f"m{number}": saved(np.zeros(1 << 18, np.uint8)) for number in range(5)})
    with pytest.raises(DataError, match="more than the 1,048,576 that the regions of one picture can need"):
        _arrays.read_npz(content, where="x")


def test_a_directory_that_claims_less_than_is_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"claims .* bytes|not an .npz that can be read|does not unpack"):
        _arrays.read_npz(rewritten(zipped(a=saved(np.zeros(1000))), 200), where="x")


@given(noise=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_noise_is_no_npz(noise: bytes) -> None:
    with pytest.raises(DataError, match=r"is not an \.npz that can be read"):
        _arrays.read_npz(b"PK\x03\x04" + noise, where="x")


def test_a_flipped_byte_of_a_member_is_found() -> None:
    content = bytearray(zipped(a=saved(np.random.default_rng(0).random(500))))
    content[1000] ^= 1
    with pytest.raises(DataError, match=r"is not an \.npz that can be read"):
        _arrays.read_npz(bytes(content), where="x")


def test_rows_are_read_one_by_one_in_native_order(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">f4").reshape(4, 2, 3)
    np.save(tmp_path / "a.npy", array)
    rows = list(_arrays.NpyRows(tmp_path / "a.npy"))
    assert len(rows) == 4
    assert rows[0].dtype == np.float32
    np.testing.assert_array_equal(np.stack(rows), array)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.asfortranarray(np.ones((2, 3))), "Fortran order"),
        (np.ones(3), "not rows of floats"),
        (np.ones((2, 3), int), "not rows"),
    ],
)
def test_rows_of_something_else_are_refused(array: np.ndarray[Any, Any], sentence: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=sentence):
        _arrays.NpyRows(tmp_path / "a.npy")


def test_the_header_of_python_2_is_read() -> None:
    content = header("(2L, 3L)") + np.arange(6, dtype="<f4").tobytes()
    np.testing.assert_array_equal(_arrays.read_npy(content, where="x"), np.arange(6).reshape(2, 3))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 100)))
    rows = iter(_arrays.NpyRows(tmp_path / "a.npy"))
    next(rows)
    with (tmp_path / "a.npy").open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(DataError, match="ends within row 1"):
        next(rows)
