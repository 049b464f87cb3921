"""CoNLL-U treebanks: ten columns a word, a blank line behind each sentence.

Read are the basic trees: multiword tokens (``3-4``) and empty nodes (``5.1``) are counted and passed over. The id of a
sentence is its ``# sent_id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vltk.datasets._record import read_lines
from vltk.errors import DataError
from vltk.types import Parse, Progress

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


class Treebank:
    """The trees of CoNLL-U files, found for given texts; stands where a parser stands.

    A text gets the tree whose ``sent_id`` is its id, if that tree is of this text, or the tree whose ``# text`` is the
    text; spaces do not count. A ``sent_id`` that several sentences share tells nothing.

    Args:
        sentences: what the files hold.
        description: which files, for the record of a store.

    Example:
        >>> go = Parse(words=("Go", "!"), heads=(0, 1), relations=("root", "punct"))
        >>> told = {"tags": ("VERB", "PUNCT"), "multiword_tokens": 0, "empty_nodes": 0}
        >>> sentence = ParsedSentence(id="7", text="Go!", parse=go, **told)
        >>> Treebank([sentence], {}).parse(["Go !"])[0].heads
        (0, 1)
    """

    def __init__(self, sentences: Iterable[ParsedSentence], description: dict[str, Any]) -> None:
        self.description = description
        self._by_id: dict[str, ParsedSentence | None] = {}
        self._by_text: dict[str, Parse] = {}
        for sentence in sentences:
            self._by_id[sentence.id] = None if sentence.id in self._by_id else sentence
            # Of equal texts with unequal trees the first counts; an id tells them apart.
            self._by_text.setdefault(_without_spaces(sentence.text), sentence.parse)

    def parse(self, texts: Sequence[str], *, ids: Sequence[str] = (), progress: Progress | None = None) -> list[Parse]:
        """Return the tree of each text.

        Args:
            texts: sentences.
            ids: their ids; texts alone are looked up without.
            progress: called with the number of texts found.

        Raises:
            DataError: a text without words, or without a tree.
        """
        names = list(ids) or [""] * len(texts)
        found = [self._tree(name, text) for name, text in zip(names, texts, strict=True)]
        if progress is not None:
            progress(len(found))
        return found

    def _tree(self, name: str, text: str) -> Parse:
        plain = _without_spaces(text)
        where = f"sentence {name}" if name else f"sentence {text[:40]!r}"
        if not plain:
            raise DataError("has no words", where=where, remedy="leave it out, or write its text")
        own = self._by_id.get(name)
        if own is not None and _without_spaces(own.text) == plain:
            return own.parse
        if (same := self._by_text.get(plain)) is not None:
            return same
        if own is not None:
            problem = f"has the text {text[:40]!r}, its tree is of {own.text[:40]!r}"
            raise DataError(problem, where=where, remedy="parse the texts of this store")
        raise DataError(f"has no tree: {text[:60]!r}", where=where, remedy="add it to --conllu, or give --parser")


def _without_spaces(text: str) -> str:
    return "".join(text.split())


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
