"""The few errors that vltk raises on purpose, each with the exit code of the command line."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path


class VltkError(Exception):
    """A failure that a user can act on: what was wrong, where, and what to do.

    Args:
        problem: what was found, with the offending value.
        where: the file, id or flag that it was found in.
        remedy: what to do about it.

    Example:
        >>> str(VltkError("12 boxes for 10 scores", where="store a.lmdb, id 7", remedy="import it again"))
        'store a.lmdb, id 7: 12 boxes for 10 scores; import it again'
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | Path | None = None, remedy: str | None = None) -> None:
        sentence = problem if where is None else f"{where}: {problem}"
        super().__init__(sentence if remedy is None else f"{sentence}; {remedy}")
        self.problem, self.where, self.remedy = problem, where, remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, which data loader workers rely on.
        return _rebuild, (type(self), self.problem, self.where, self.remedy)


def _rebuild(kind: type[VltkError], problem: str, where: str | Path | None, remedy: str | None) -> VltkError:
    return kind(problem, where=where, remedy=remedy)


class UsageError(VltkError):
    """A flag, a configuration key or a call that does not fit."""

    exit_code = 2


class DataError(VltkError):
    """Data, annotations or a store that do not hold what they claim."""

    exit_code = 3


class OfflineError(VltkError):
    """Something that would have to be downloaded while downloading is off or impossible."""

    exit_code = 4


class BelowThresholdError(VltkError):
    """A metric that fell below ``--fail-under``."""

    exit_code = 5


class StoppedEarlyError(VltkError):
    """Work that a signal stopped after it was saved; the same command resumes it."""

    exit_code = 75


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Return the first names of many, with dots where there are more.

    Example:
        >>> first_few(["a", "b"]), first_few("abcd")
        ('a, b', 'a, b, c, ...')
    """
    shown = list(itertools.islice(names, most + 1))
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names the closest known spelling, or all known names.

    Example:
        >>> did_you_mean("flickr30", ["flickr30k", "coco"])
        'did you mean flickr30k?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names) or 'none'}"
