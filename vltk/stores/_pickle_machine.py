"""The stack machine behind the restricted reader of pickles: what it can hold, and the few calls that it knows."""

from __future__ import annotations

import math
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from vltk.errors import DataError

MARK = object()
_PLAIN_KEYS = (str, int, float, bytes, complex, bool, type(None), np.generic)
# What an honest file copies stands in it once; a file that copies one memo again and again would fill the memory.
_COPY_ALLOWANCE = 4096
# Classes of plain attributes, which become dicts: options, and the vocabularies of VSE++, SCAN and VSRN.
_DICTS = frozenset({"argparse.Namespace", "vocab.Vocabulary", "__main__.Vocabulary"})

# numpy reads far more than a type out of such a text: shapes, fields, Python literals.
_DTYPE = re.compile(r"[<>=|]?([biufc]\d{1,2}|[SU]\d{1,9}|O8?|\?)", re.ASCII)


class Pending:
    """An array or dtype that is announced; the BUILD opcode that follows brings its content."""

    def __init__(self, dtype: np.dtype[Any] | None = None) -> None:
        self.dtype = dtype
        self.slots: list[int] = []


class Name:
    """A class or function that the file refers to: known by name, never imported."""

    def __init__(self, name: str) -> None:
        self.name = name


class Machine:
    """The stack machine, cut down to the opcodes and calls that make data."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where = content, where
        self.position = 0
        self.copied = 0
        self.pending = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def refuse(
        self, problem: str, remedy: str = "get an undamaged copy, or write it again as .npz or JSON"
    ) -> NoReturn:
        raise DataError(f"{problem} (byte {self.position} of {len(self.content)})", where=self.where, remedy=remedy)

    def take(self, count: int) -> bytes:
        """Return the next bytes, after checking that the file really holds that many."""
        end = self.position + count
        if count < 0 or end > len(self.content):
            self.refuse(f"claims {count:,} bytes where {len(self.content) - self.position:,} are left")
        piece = self.content[self.position : end]
        self.position = end
        return piece

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.position)
        if end < 0:
            self.refuse("ends within a line")
        piece = self.content[self.position : end]
        self.position = end + 1
        return piece

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def block(self, layout: str) -> bytes:
        return self.take(self.number(layout))

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            self.refuse("has a mark where a value is expected")
        return value

    def repeat(self) -> None:
        if isinstance(self.stack[-1], Pending):
            self.refuse("uses an array before it is complete")
        self.push(self.stack[-1])

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        self.refuse("closes a group that was never opened")

    def result(self) -> Any:
        """Return what the stack holds at the end."""
        value = self.pop()
        if self.pending or isinstance(value, Name):
            self.refuse("ends before its arrays are complete")
        return value

    def charge(self, size: int) -> None:
        self.copied += size
        if self.copied > 2 * len(self.content) + _COPY_ALLOWANCE:
            self.refuse(f"asks for {self.copied:,} bytes of copies of its own data")

    # Containers

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            self.refuse(f"appends to {type(target).__name__}")
        target.extend(self.data(items))

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            self.refuse(f"adds to {type(target).__name__}")
        target.update(self.key(item) for item in items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            self.refuse(f"sets {len(items)} keys and values of {type(target).__name__}")
        for key, value in zip(items[::2], self.data(items[1::2]), strict=True):
            target[self.key(key)] = value

    def data(self, items: list[Any]) -> list[Any]:
        for item in items:
            if type(item) is Name:
                self.refuse(f"stores the class {item.name} itself")
        return items

    def new_dict(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    def key(self, value: Any, depth: int = 0) -> Any:
        """Return the key if it is plain; hashing tuples nested a million deep would overflow the C stack."""
        if isinstance(value, _PLAIN_KEYS):
            return value
        if type(value) in (tuple, frozenset) and depth < 8:
            self.charge(len(value))
            for item in value:
                self.key(item, depth + 1)
            return value
        self.refuse(f"uses {type(value).__name__} as a key")

    # Memo

    def put(self, slot: int) -> None:
        value = self.stack[-1]
        if isinstance(value, Pending):
            value.slots.append(slot)
        self.memo[slot] = value

    def get(self, slot: int) -> None:
        if slot not in self.memo:
            self.refuse(f"uses memo {slot}, which it never set")
        value = self.memo[slot]
        if isinstance(value, Pending):
            self.refuse("uses an array before it is complete")
        self.push(value)

    # Names and calls

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        full = full.replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.")
        if full not in _CALLS and full not in _CLASSES:
            remedy = "vltk runs no code out of files: convert it to .npz or JSON with the program that wrote it"
            self.refuse(f"refers to {module}.{name}, which is neither a plain container nor a numpy array", remedy)
        self.push(Name(full))

    def name_from_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            self.refuse("names a class with something that is not a text")
        self.name(module, name)

    def call(self, target: Any, arguments: Any, keywords: Any = None) -> None:
        if not isinstance(target, Name) or target.name not in _CALLS or not isinstance(arguments, tuple) or keywords:
            shown = target.name if isinstance(target, Name) else type(target).__name__
            self.refuse(f"calls {shown} in a way that no plain data needs")
        if any(isinstance(argument, Pending) for argument in arguments):
            self.refuse("uses an array before it is complete")
        self.push(_CALLS[target.name](self, *arguments))

    def reduce(self) -> None:
        arguments, target = self.pop(), self.pop()
        self.call(target, arguments)

    def new_object(self, *, keywords: bool = False) -> None:
        extra = self.pop() if keywords else None
        arguments, target = self.pop(), self.pop()
        self.call(target, arguments, extra)

    def old_instance(self, *, named: bool) -> None:
        if named:
            module, name = self.line().decode(), self.line().decode()
        arguments = self.pop_to_mark()
        if named:
            self.name(module, name)
            target = self.pop()
        else:
            target, arguments = arguments[0], arguments[1:]
        self.call(target, tuple(arguments))

    def build(self) -> None:
        """Give an object its state, as the opcode BUILD asks; of the few kinds that are known here."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, dict):
            if not isinstance(state, dict):
                self.refuse(f"gives a dict {type(state).__name__} as its content")
            self.charge(len(state))
            target.update(state)
            return
        if not isinstance(target, Pending) or not isinstance(state, tuple):
            self.refuse(f"gives {type(target).__name__} a state, which no plain data needs")
        value = self.array(state) if target.dtype is None else self.dtype(target.dtype, state)
        self.pending -= 1
        self.stack[-1] = value
        for slot in target.slots:
            self.memo[slot] = value

    # numpy

    def announce(self, dtype: np.dtype[Any] | None = None) -> Pending:
        self.pending += 1
        return Pending(dtype)

    def begin_array(self, kind: Any, *_: Any) -> Pending:
        if not isinstance(kind, Name) or kind.name != "numpy.ndarray":
            self.refuse("holds an array of a class other than numpy.ndarray")
        return self.announce()

    def begin_dtype(self, code: Any, *_: Any) -> Pending:
        return self.announce(self.named_dtype(code))

    def named_dtype(self, code: Any) -> np.dtype[Any]:
        text = code.decode("latin-1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            self.refuse(f"holds an array of dtype {str(text)[:40]!r}; only numbers, texts and objects are read")
        return np.dtype(text)

    def dtype(self, dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
        version, order, *rest = state
        plain = all(part is None or part == () for part in rest[:3])
        size = rest[3] if len(rest) > 3 else -1
        if not isinstance(version, int) or not plain or size not in (-1, dtype.itemsize):
            self.refuse(f"changes dtype {dtype} into something else")
        text = order.decode("latin-1") if isinstance(order, bytes) else order
        if text not in ("<", ">", "=", "|"):
            self.refuse(f"holds a dtype with byte order {text!r}")
        return np.dtype(f"{text}{dtype.str[1:]}")

    def array(self, state: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        shape, dtype, fortran, data = state[-4:]
        return self.shaped(data, dtype, shape, "F" if fortran else "C")

    def shaped(self, data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray[Any, Any]:
        """Return the array, after checking that its shape is what the data really fills."""
        if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
            self.refuse("holds an array without a dtype or order")
        if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
            self.refuse("holds an array whose shape is not a tuple of numbers")
        count, held = math.prod(shape), len(data)
        if dtype.kind == "O":
            if type(data) is not list or held != count:
                self.refuse(f"claims {count:,} objects of shape {shape} where {held:,} follow")
            flat = np.empty(count, dtype=object)
            for index, item in enumerate(data):
                flat[index] = item
        else:
            payload = data.encode("latin-1") if isinstance(data, str) else data
            if not isinstance(payload, bytes | bytearray) or len(payload) != count * dtype.itemsize:
                self.refuse(f"claims an array of shape {shape} and dtype {dtype} in {held:,} bytes")
            flat = np.frombuffer(payload, dtype=dtype).copy() if count else np.empty(0, dtype)
        self.charge(held)
        return flat.reshape(shape, order=order)

    def plain_array(self, shape: Any, code: Any, data: Any) -> np.ndarray[Any, Any]:
        return self.shaped(data, self.named_dtype(code), shape)

    def object_array(self, value: Any, code: Any) -> np.ndarray[Any, Any]:
        if not isinstance(value, dict) or code != "O":
            self.refuse("makes an array of something that is not one dict")
        return np.array(value, dtype=object)

    def scalar(self, dtype: Any, data: Any) -> Any:
        if not isinstance(dtype, np.dtype) or dtype.kind == "O":
            self.refuse("holds a numpy scalar without a plain dtype")
        return self.shaped(data, dtype, ())[()]

    # Other calls

    def encode(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            self.refuse(f"encodes text as {encoding!r}")
        self.charge(len(text))
        return text.encode("latin-1")

    def ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        if type(pairs) not in (list, tuple):
            self.refuse("makes an OrderedDict of something that is not a list")
        self.charge(len(pairs))
        return OrderedDict((self.key(key), value) for key, value in pairs)

    def namespace(self) -> dict[str, Any]:
        return {}

    def reconstructor(self, kind: Any, base: Any, state: Any) -> dict[str, Any]:
        names = [part.name if isinstance(part, Name) else "" for part in (kind, base)]
        if names[0] not in _DICTS or names[1] != "builtins.object" or state is not None:
            self.refuse(f"rebuilds an object of class {names[0] or type(kind).__name__}")
        return {}

    def members(self, items: Any = ()) -> list[Any]:
        if type(items) not in (list, tuple, set):
            self.refuse("makes a set of something that is not a list")
        self.charge(len(items))
        return [self.key(item) for item in items]

    def byte_array(self, data: Any = b"", encoding: Any = "latin-1") -> bytearray:
        return bytearray(self.encode(data, encoding) if isinstance(data, str) else self.plain_bytes(data))

    def plain_bytes(self, data: Any = b"") -> bytes:
        if not isinstance(data, bytes):
            self.refuse(f"makes bytes of {type(data).__name__}")
        self.charge(len(data))
        return data


_CLASSES = frozenset({"builtins.object"})

_CALLS: dict[str, Callable[..., Any]] = {
    "numpy._core.multiarray._reconstruct": Machine.begin_array,
    "numpy._core.multiarray.scalar": Machine.scalar,
    "numpy._core.numeric._frombuffer": Machine.shaped,
    "numpy.dtype": Machine.begin_dtype,
    "numpy.ndarray": Machine.plain_array,
    "numpy.array": Machine.object_array,
    "_codecs.encode": Machine.encode,
    "collections.OrderedDict": Machine.ordered,
    **dict.fromkeys(_DICTS, Machine.namespace),
    "copyreg._reconstructor": Machine.reconstructor,
    "builtins.set": lambda machine, items=(): set(machine.members(items)),
    "builtins.frozenset": lambda machine, items=(): frozenset(machine.members(items)),
    "builtins.bytearray": Machine.byte_array,
    "builtins.bytes": Machine.plain_bytes,
    "builtins.complex": lambda machine, real, imaginary: complex(real, imaginary),
}
