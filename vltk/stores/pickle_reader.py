"""Reads the data of old pickles without running them.

A pickle is a program for a small stack machine, and the ``pickle`` module runs whatever it calls. This module
interprets the same opcodes, of protocols 0 to 5, but the calls that it knows only build plain containers, numbers,
texts and numpy arrays. Nothing is imported, looked up by name or called on a file's behalf.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vltk.errors import DataError
from vltk.stores._pickle_machine import MARK, Machine

_READING = (ValueError, TypeError, KeyError, IndexError, struct.error, OverflowError, MemoryError, AttributeError)


def read_pickle(source: Path | bytes, *, where: str) -> Any:
    """Build what a pickle describes out of plain containers and numpy arrays; run nothing.

    Dict, list, tuple, set, frozenset, text, bytes, numbers, None, OrderedDict, numpy arrays (of objects too), scalars
    and dtypes are built; an ``argparse.Namespace`` and the ``vocab.Vocabulary`` of VSE++ become dicts. Byte strings of
    Python 2 become texts (latin-1).

    Args:
        source: the file, or its content.
        where: what the sentence of an error names, for example the file and the key in it.

    Raises:
        DataError: the pickle is damaged, claims more than it holds, or refers to any other class or function.

    Example:
        >>> read_pickle(b"(dp0\\nS'ids'\\np1\\n(lp2\\nI7\\nas.", where="old.pkl")
        {'ids': [7]}
    """
    content = source.read_bytes() if isinstance(source, Path) else source
    if content.startswith(b"PK\x03\x04"):
        raise DataError("is a zip archive (an .npz or a torch checkpoint), not a pickle", where=where)
    machine = Machine(content, where)
    try:
        _run(machine)
        return machine.result()
    except _READING as error:
        machine.refuse(f"is not a pickle that can be read ({error})")


def _run(machine: Machine) -> None:
    content, end = machine.content, len(machine.content)
    while machine.position < end:
        opcode = content[machine.position]
        machine.position += 1
        if opcode == _STOP:
            return
        action = _ACTIONS[opcode]
        if action is None:
            machine.refuse(f"holds {bytes([opcode])!r} where an opcode is expected")
        action(machine)
    machine.refuse("ends without its last opcode")


def _text_number(machine: Machine) -> None:
    line = machine.line()
    machine.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _quoted(machine: Machine) -> None:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        machine.refuse("holds a text without its quotes")
    machine.push(codecs.escape_decode(line[1:-1])[0].decode("latin-1"))


def _signed_length_text(machine: Machine) -> None:
    machine.push(machine.block("<i").decode("latin-1"))


def _frame(machine: Machine) -> None:
    length = machine.number("<Q")
    if length > len(machine.content) - machine.position:
        machine.refuse(f"claims a frame of {length:,} bytes where {len(machine.content) - machine.position:,} are left")


def _protocol(machine: Machine) -> None:
    protocol = machine.number("B")
    if protocol > 5:
        machine.refuse(f"is of pickle protocol {protocol}; 0 to 5 are known")


def _utf8(machine: Machine, layout: str) -> None:
    machine.push(machine.block(layout).decode("utf-8", "surrogatepass"))


def _big(machine: Machine, layout: str) -> None:
    machine.push(int.from_bytes(machine.block(layout), "little", signed=True))


def _tuple(machine: Machine, count: int) -> None:
    machine.push(tuple([machine.pop() for _ in range(count)][::-1]))


_OPCODES: dict[bytes, Callable[[Machine], Any]] = {
    b"(": lambda m: m.push(MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"2": lambda m: m.repeat(),
    # Numbers and constants
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _text_number,
    b"L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    b"F": lambda m: m.push(float(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"\x8a": lambda m: _big(m, "B"),
    b"\x8b": lambda m: _big(m, "<i"),
    # Texts and bytes
    b"S": _quoted,
    b"T": _signed_length_text,
    b"U": lambda m: m.push(m.block("B").decode("latin-1")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": lambda m: _utf8(m, "<I"),
    b"\x8c": lambda m: _utf8(m, "B"),
    b"\x8d": lambda m: _utf8(m, "<Q"),
    b"B": lambda m: m.push(m.block("<I")),
    b"C": lambda m: m.push(m.block("B")),
    b"\x8e": lambda m: m.push(m.block("<Q")),
    b"\x96": lambda m: m.push(bytearray(m.block("<Q"))),
    # Containers
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.push(set()),
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"d": lambda m: m.new_dict(m.pop_to_mark()),
    b"\x91": lambda m: m.push(frozenset(m.key(item) for item in m.pop_to_mark())),
    b"\x85": lambda m: _tuple(m, 1),
    b"\x86": lambda m: _tuple(m, 2),
    b"\x87": lambda m: _tuple(m, 3),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"\x90": lambda m: m.add(m.pop_to_mark()),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    # Memo
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number("B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.get(int(m.line())),
    b"h": lambda m: m.get(m.number("B")),
    b"j": lambda m: m.get(m.number("<I")),
    # Names and calls
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),
    b"\x93": lambda m: m.name_from_stack(),
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
    b"\x81": lambda m: m.new_object(),
    b"\x92": lambda m: m.new_object(keywords=True),
    b"i": lambda m: m.old_instance(named=True),
    b"o": lambda m: m.old_instance(named=False),
    # Envelope
    b"\x80": _protocol,
    b"\x95": _frame,
}

_STOP = ord(".")
_ACTIONS = [_OPCODES.get(bytes([opcode])) for opcode in range(256)]
