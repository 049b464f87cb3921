"""Sentences and their names, as translators and parsers are given them."""

from __future__ import annotations

from collections.abc import Sequence

from vltk.errors import DataError


def named(texts: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the names of sentences after a look at these; without names they are their numbers.

    Raises:
        DataError: a sentence without words.

    Example:
        >>> named(["a dog .", "a cat ."], [])
        ['0', '1']
    """
    names = list(ids) or [str(number) for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        if not text.strip():
            raise DataError("has no words", where=f"sentence {name}", remedy="leave it out, or write its text")
    return names
