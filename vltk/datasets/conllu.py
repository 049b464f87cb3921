"""CoNLL-U treebanks: ten columns a word, a blank line behind each sentence.

Read are the basic trees: multiword tokens (``3-4``) and empty nodes (``5.1``) are counted and passed over. The id of a
sentence is its ``# sent_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vltk.datasets._record import read_lines
from vltk.errors import DataError
from vltk.types import Parse

COLUMNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSentence:
    """One sentence of a treebank.

    Attributes:
        id: its ``sent_id``, or ``line-<number>`` of its first word where there is none.
        text: its ``# text``, or its words joined by spaces.
        parse: the basic dependency tree.
        tags: the universal part of speech of each word.
        multiword_tokens: how many surface tokens were split into words.
        empty_nodes: how many nodes of the enhanced graph were passed over.
    """

    id: str
    text: str
    parse: Parse
    tags: tuple[str, ...]
    multiword_tokens: int
    empty_nodes: int


@dataclass(slots=True)
class _Block:
    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    first: int = 0
    multiword: int = 0
    empty: int = 0


def read_sentences(path: Path) -> Iterator[ParsedSentence]:
    """Yield the sentences in order.

    Raises:
        DataError: a line without ten columns, words not numbered 1, 2, 3, ..., a head that is no number, a
            cycle, or not exactly one root; each with file and line.
    """
    block = _Block()
    for number, line in read_lines(path):
        if not line.strip():
            if block.rows:
                yield _sentence(block, path)
            block = _Block()
        elif line.startswith("#"):
            name, _, value = line[1:].partition("=")
            block.comments[name.strip()] = value.strip()
        else:
            _add(block, line, number, path)
    if block.rows:
        yield _sentence(block, path)


def _add(block: _Block, line: str, number: int, path: Path) -> None:
    where = f"{path}, line {number}"
    columns = line.split("\t")
    if len(columns) != COLUMNS:
        problem = f"has {len(columns)} columns, expected {COLUMNS} separated by tabs"
        raise DataError(problem, where=where, remedy="check that it is a CoNLL-U file")
    block.first = block.first or number
    index = columns[0]
    if "-" in index:
        block.multiword += 1
    elif "." in index:
        block.empty += 1
    elif index != str(len(block.rows) + 1):
        problem = f"numbers a word {index!r}, expected {len(block.rows) + 1}"
        raise DataError(problem, where=where, remedy="number the words of a sentence 1, 2, 3, ...")
    elif not columns[6].isdigit():
        raise DataError(f"has head {columns[6]!r}, expected a number", where=where, remedy="parse the sentence")
    else:
        block.rows.append((number, columns))


def _sentence(block: _Block, path: Path) -> ParsedSentence:
    columns = [row for _, row in block.rows]
    words = tuple(row[1] for row in columns)
    try:
        parse = Parse(
            words=words,
            heads=tuple(int(row[6]) for row in columns),
            relations=tuple(row[7] for row in columns),
        )
    except DataError as error:
        where = f"{path}, line {block.first}"
        raise DataError(f"{error.where} has {error.problem}", where=where, remedy=error.remedy) from error
    return ParsedSentence(
        id=block.comments.get("sent_id") or f"line-{block.first}",
        text=block.comments.get("text") or " ".join(words),
        parse=parse,
        tags=tuple(row[3] for row in columns),
        multiword_tokens=block.multiword,
        empty_nodes=block.empty,
    )


def is_projective(heads: Sequence[int]) -> bool:
    """Whether no two edges of a tree cross, the edge from the root node before the first word included.

    Args:
        heads: for each word the 1-based index of its head, 0 for the root.

    Example:
        >>> is_projective([2, 0, 2]), is_projective([3, 4, 0, 3])
        (True, False)
    """
    edges = sorted((min(word, head), max(word, head)) for word, head in enumerate(heads, 1))
    return not any(
        left < other_left < right < other_right
        for number, (left, right) in enumerate(edges)
        for other_left, other_right in edges[number + 1 :]
    )
