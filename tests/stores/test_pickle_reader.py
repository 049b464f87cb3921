"""The restricted reader builds what pickle builds out of plain data, and nothing else."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vltk.errors import DataError
from vltk.stores.pickle_reader import read_pickle

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=300)
) | st.complex_numbers(allow_nan=False)
KEYS = st.text() | st.integers() | st.binary() | st.tuples(st.integers(), st.text())
DATA = st.recursive(
    SCALARS | st.sets(st.integers()) | st.frozensets(st.text()),
    lambda inner: (
        st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner) | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)
ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", ">f4", "<f2", "<i8", ">i2", "?", "u1", "<c8", "S3", "<U2"]), hnp.array_shapes(min_dims=0)
)


def same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.dtype.hasobject or a.tobytes() == b.tobytes()
    else:
        assert a == b


@given(DATA, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_plain_data_of_every_protocol_equals_what_pickle_builds(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    same(read_pickle(content, where="x"), pickle.loads(content))


@given(ARRAYS, st.integers(0, 5), st.booleans())
@settings(max_examples=150, deadline=None)
def test_arrays_of_every_protocol_and_order_equal_what_pickle_builds(
    array: np.ndarray[Any, Any], protocol: int, transposed: bool
) -> None:
    array = array.T if transposed else array
    again = read_pickle(pickle.dumps({"a": array, "b": [array, array.dtype]}, protocol), where="x")
    same(again["a"], array)
    assert again["b"][0] is again["a"]
    assert again["b"][1] == array.dtype
    assert again["a"].flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_namespaces_ordered_dicts_and_object_arrays_are_read(protocol: int) -> None:
    objects = np.empty((2, 1), dtype=object)
    objects[0, 0], objects[1, 0] = {"id": 1}, np.arange(3)
    value = {
        "scalar": np.float32(1.5),
        "flag": np.bool_(True),
        "text": np.str_("é"),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "options": argparse.Namespace(margin=0.2, names=["a"]),
        "objects": objects,
        "bytes": bytearray(b"abc"),
        "empty": b"",
    }
    again = read_pickle(pickle.dumps(value, protocol), where="x")
    assert list(again["ordered"].items()) == [("b", 1), ("a", 2)]
    assert type(again["scalar"]) is np.float32
    assert again["scalar"] == 1.5
    assert again["flag"] == np.True_
    assert again["text"] == "é"
    assert again["options"] == {"margin": 0.2, "names": ["a"]}
    assert type(again["options"]) is dict
    assert again["objects"][0, 0] == {"id": 1}
    assert again["objects"][1, 0].tolist() == [0, 1, 2]
    assert again["bytes"] == bytearray(b"abc")
    assert again["empty"] == b""


@pytest.mark.parametrize("protocol", range(6))
def test_a_structure_that_contains_itself_is_kept(protocol: int) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    again = read_pickle(pickle.dumps(loop, protocol), where="x")
    assert again[1] is again


def python2_array(protocol: int) -> bytes:
    """What Python 2 wrote for {'boxes': np.array([[1., 2.]], 'f4')}: byte strings throughout, numpy 1.x names."""
    raw = np.array([[1.0, 2.0]], "<f4").tobytes()
    if protocol == 2:
        text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
        return (
            b"\x80\x02}q\x00" + text(b"boxes") + b"q\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
            b"q\x03K\x00\x85q\x04" + text(b"b") + b"q\x05\x87q\x06Rq\x07(K\x01K\x01K\x02\x86q\x08cnumpy\ndtype\nq\x09"
            + text(b"f4") + b"q\x0aK\x00K\x01\x87q\x0bRq\x0c(K\x03" + text(b"<") + b"q\x0dNNNJ\xff\xff\xff\xff"
            b"J\xff\xff\xff\xffK\x00tq\x0eb\x89" + text(raw) + b"q\x0ftq\x10bs."
        )  # fmt: skip
    return (
        b"(dp0\nS'boxes'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\n"
        b"tp6\nRp7\n(I1\n(I1\nI2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\n"
        b"I0\ntp14\nbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np15\ntp16\nbs."
    )


@pytest.mark.parametrize("protocol", [0, 2])
def test_pickles_of_python_2_and_numpy_1_are_read(protocol: int) -> None:
    again = read_pickle(python2_array(protocol), where="x")
    assert list(again) == ["boxes"]
    assert again["boxes"].tolist() == [[1.0, 2.0]]
    same(again["boxes"], pickle.loads(python2_array(protocol), encoding="latin-1")["boxes"])


def test_both_spellings_of_the_numpy_module_are_read() -> None:
    content = pickle.dumps(np.arange(3.0), 2)
    other = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert other != content
    assert read_pickle(other, where="x").tolist() == read_pickle(content, where="x").tolist() == [0, 1, 2]


def test_a_path_is_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1, 2]))
    assert read_pickle(tmp_path / "a.pkl", where="a.pkl") == [1, 2]


# Hostile input


class Payload:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("inside", [lambda p: p, lambda p: {"features": [p]}, lambda p: np.array([p], dtype=object)])
def test_a_payload_is_refused_and_does_not_run(protocol: int, inside: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    content = pickle.dumps(inside(Payload(Path.touch, victim)), protocol)
    with pytest.raises(
        DataError, match=r"old\.pkl: refers to (pathlib|builtins|__builtin__)\S* .*runs no code"
    ) as caught:
        read_pickle(content, where="old.pkl")
    assert not victim.exists()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "numpy\nload", "numpy\nmatrix", "numpy.testing\nrundocs", "posix\nsystem",
             "numpy\nndarray.__class__", "builtins\ngetattr", "torch._utils\n_rebuild_tensor_v2", "functools\npartial",
             "numpy.core.multiarray\nfromfile", "copyreg\n__newobj__"]
)  # fmt: skip
def test_every_other_name_is_refused_before_it_is_looked_up(name: str) -> None:
    with pytest.raises(DataError, match=f"refers to {name.replace(chr(10), '.')}"):
        read_pickle(f"c{name}\n.".encode(), where="x")


U64 = struct.Struct("<Q").pack
TEN_GB = 10 << 30
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
MINUS_1 = b"J\xff\xff\xff\xff"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNN" + MINUS_1 * 2 + b"K\x00tb"
HUGE = b"\x8a\x05\x00\x00\x00\x00\x01"
OBJECT = DTYPE.replace(b"f4", b"O8").replace(b"<", b"|")
HOSTILE = {
    "bytes": (b"\x8e" + U64(TEN_GB) + b"x.", "claims 10,737,418,240 bytes where 2 are left"),
    "bytearray": (b"\x96" + U64(TEN_GB) + b"x.", "claims 10,737,418,240 bytes"),
    "text": (b"\x8d" + U64(1 << 63) + b"x.", "claims 9,223,372,036,854,775,808 bytes"),
    "short": (b"B\xff\xff\xff\x7fx.", "claims 2,147,483,647 bytes"),
    "long": (b"\x8b\xff\xff\xff\x7fx.", "claims 2,147,483,647 bytes"),
    "negative": (b"\x8b\xff\xff\xff\xffx.", "claims -1 bytes"),
    "frame": (b"\x80\x04\x95" + U64(TEN_GB) + b"N.", "claims a frame of 10,737,418,240 bytes"),
    "shape": (ARRAY + b"(K\x01" + HUGE + b"\x85" + DTYPE + b"\x89C\x04abcdtb.", "claims an array of shape"),
    "objects": (ARRAY + b"(K\x01" + HUGE + b"\x85" + OBJECT + b"\x89]tb.", "claims 4,294,967,296 objects"),
    "negative shape": (ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x00tb.", "not a tuple of numbers"),
    "object bytes": (ARRAY + b"(K\x01K\x01\x85" + OBJECT + b"\x89C\x08abcdefghtb.", "claims 1 objects"),
    "no dtype": (ARRAY + b"(K\x01K\x01\x85N\x89C\x04abcdtb.", "without a dtype"),
    "short state": (ARRAY + b"K\x01\x85b.", "not a pickle that can be read"),
    "never built": (ARRAY + b".", "before its arrays are complete"),
    "used before built": (b"](" + ARRAY + b"q\x00h\x00e.", "uses an array before it is complete"),
    "doubled": (b"](" + ARRAY + b"2e.", "uses an array before it is complete"),
    "in a list": (b"](" + ARRAY + b"e.", "before its arrays are complete"),
    "dtype fields": (b"cnumpy\ndtype\nX\x05\x00\x00\x00f4,f8K\x00K\x01\x87R.", "only numbers, texts and objects"),
    "dtype literal": (b"cnumpy\ndtype\nX\x02\x00\x00\x0008K\x00K\x01\x87R.", "only numbers, texts and objects"),
    "dtype shape": (b"cnumpy\ndtype\nX\x06\x00\x00\x00(9,)f4K\x00K\x01\x87R.", "only numbers, texts and objects"),
    "dtype void": (b"cnumpy\ndtype\nX\x02\x00\x00\x00V8K\x00K\x01\x87R.", "only numbers, texts and objects"),
    "dtype size": (DTYPE.replace(b"NNNJ\xff\xff\xff\xff", b"NNNK\x63") + b".", "changes dtype float32"),
    "dtype order": (DTYPE.replace(b"<", b"x") + b".", "byte order 'x'"),
    "subclass": (ARRAY.replace(b"cnumpy\nndarray", b"cargparse\nNamespace") + b".", "other than numpy.ndarray"),
    "object base": (b"ccopy_reg\n_reconstructor\ncnumpy\nndarray\nc__builtin__\nobject\nN\x87R.", "rebuilds an object"),
    "class as data": (b"](cnumpy\nndarray\ne.", "stores the class numpy.ndarray itself"),
    "class alone": (b"cnumpy\nndarray\n.", "before its arrays are complete"),
    "calls a list": (b"])R.", "calls list"),
    "calls a class": (b"c__builtin__\nobject\n)R.", "calls builtins.object"),
    "array without data": (b"cnumpy\nndarray\n)R.", "not a pickle that can be read"),
    "array of shape": (b"cnumpy\nndarray\n(" + HUGE + b"\x85X\x02\x00\x00\x00f4C\x01atR.", "claims an array of shape"),
    "array of objects": (b"cnumpy\narray\n(](e" + b"X\x01\x00\x00\x00OtR.", "not one dict"),
    "encodes": (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "encodes text as 'rot13'"),
    "state": (b"]}b.", "gives list a state"),
    "persistent": (b"Pthing\n.", "where an opcode is expected"),
    "extension": (b"\x82\x01.", "where an opcode is expected"),
    "buffer": (b"\x97.", "where an opcode is expected"),
    "protocol": (b"\x80\x63N.", "pickle protocol 99"),
    "no memo": (b"h\x05.", "uses memo 5, which it never set"),
    "no mark": (b"t.", "closes a group that was never opened"),
    "mark": (b"(.", "has a mark where a value is expected"),
    "empty stack": (b".", "not a pickle that can be read"),
    "empty": (b"", "ends without its last opcode"),
    "no end": (b"]q\x00", "ends without its last opcode"),
    "open line": (b"I12", "ends within a line"),
    "number": (b"Iabc\n.", "not a pickle that can be read"),
    "digits": (b"I" + b"9" * 10_000 + b"\n.", "not a pickle that can be read"),
    "quotes": (b"Sabc\n.", "a text without its quotes"),
    "utf-8": (b"\x8c\x01\xff.", "not a pickle that can be read"),
    "list as key": (b"}(]Nu.", "uses list as a key"),
    "list in set": (b"\x8f(]\x90.", "uses list as a key"),
    "append to tuple": (b")Na.", "appends to tuple"),
    "zip": (b"PK\x03\x04rest", "zip archive"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_with_a_sentence(name: str) -> None:
    content, sentence = HOSTILE[name]
    with pytest.raises(DataError, match=sentence):
        read_pickle(content, where="x")


def test_a_huge_memo_index_costs_nothing() -> None:
    assert read_pickle(b"Nr\xff\xff\xff\xff.", where="x") is None


def test_copies_of_one_memo_are_bounded() -> None:
    members = b"".join(b"K" + bytes([i]) for i in range(250))
    once = b"c__builtin__\nset\n" + b"(](" + members + b"eq\x00tR"
    again = b"c__builtin__\nset\nh\x00\x85R"
    with pytest.raises(DataError, match="copies of its own data"):
        read_pickle(b"(" + once + again * 5000 + b"l.", where="x")


def test_wide_shared_tuples_as_key_are_bounded() -> None:
    levels = b"N" + b"".join(
        b"q" + bytes([i]) + b"(" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 99 + b"t" for i in range(7)
    )
    with pytest.raises(DataError, match="copies of its own data"):
        read_pickle(levels + b"q\xf00}(h\xf0Nu.", where="x")


def test_a_deeply_nested_key_is_refused_instead_of_hashed() -> None:
    with pytest.raises(DataError, match="uses tuple as a key"):
        read_pickle(b"}N" + b"\x85" * 1_000_000 + b"Ns.", where="x")


def outcome(content: bytes) -> str:
    try:
        read_pickle(content, where="noise")
    except DataError as error:
        return str(error)
    return "data"


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_gives_data_or_a_sentence(noise: bytes) -> None:
    assert outcome(noise) == "data" or outcome(noise).startswith("noise: ")


@given(st.integers(0, 5), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_pickles_give_data_or_a_sentence(protocol: int, data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({"a": np.arange(6.0), "b": [1, "x", None], "c": np.float32(2)}, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    assert outcome(bytes(content)) == "data" or outcome(bytes(content)).startswith("noise: ")


def test_the_list_of_an_npy_with_objects_is_read() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array({"bbox": np.ones((2, 4))}, dtype=object), allow_pickle=True)
    start = buffer.getvalue().index(b"\n") + 1
    again = read_pickle(buffer.getvalue()[start:], where="x")
    assert again.shape == ()
    assert again[()]["bbox"].shape == (2, 4)
