"""What the sources of tasks share: one of several published layouts is given, with the options that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from vltk.errors import UsageError
from vltk.types import Example


class ExampleSource(Protocol):
    """The annotation files and options of a task; a dataclass whose fields are options."""

    def examples(self) -> Iterator[Example]:
        """Yield the examples in the order of the files, the same at every call."""
        ...


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One published layout that a task can be read from.

    Attributes:
        file: the option that brings its main file; giving it chooses the layout.
        read: yields the examples of a source.
        needs: other options that must be given as well.
        takes: other options that may be given.
    """

    file: str
    read: Callable[[Any], Iterator[Example]]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


def read_one(source: Any, layouts: Sequence[Layout]) -> Iterator[Example]:
    """Yield the examples of the one layout whose file is given.

    Raises:
        UsageError: no layout or two are chosen, an option that the layout needs is missing, or one is given that it
            would pass over.
    """
    listed = ", ".join(flag(layout.file) for layout in layouts)
    chosen = [layout for layout in layouts if getattr(source, layout.file) is not None]
    if len(chosen) != 1:
        given = " and ".join(flag(layout.file) for layout in chosen)
        problem = f"{given} are given together" if chosen else "no annotation file is given"
        raise UsageError(problem, remedy=f"give one of {listed}")
    (layout,) = chosen
    for name in layout.needs:
        if getattr(source, name) is None:
            raise UsageError(f"{flag(layout.file)} is given without {flag(name)}", remedy=f"give {flag(name)} as well")
    used = {layout.file, *layout.needs, *layout.takes}
    for item in fields(source):
        default = None if item.default is MISSING else item.default
        if item.name not in used and getattr(source, item.name) != default:
            problem = f"{flag(item.name)} does nothing with {flag(layout.file)}"
            raise UsageError(problem, remedy="leave it out")
    return layout.read(source)


def flag(name: str) -> str:
    """Return the spelling of an option on the command line."""
    return f"--{name.replace('_', '-')}"


def source_files(source: ExampleSource) -> tuple[Path, ...]:
    """Return the files and folders that a source reads from, in the order of its options."""
    values = (getattr(source, item.name) for item in fields(source))  # type: ignore[arg-type]
    return tuple(value for value in values if isinstance(value, Path))
