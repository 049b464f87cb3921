"""Which pairs of text and picture an encoder sees together, so that hardly any padding is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pairs of rather different length share a batch only while it is smaller than this share of the budget.
_SMALL, _SIMILAR = 1 / 8, 15 / 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairBatch:
    """P pairs that are encoded together.

    Attributes:
        rows: [P] int32 number of each pair's text.
        columns: [P] int32 number of each pair's picture.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairBlock:
    """Texts that are embedded together, and the batches that they occur in.

    Attributes:
        rows: numbers of the texts.
        batches: their pairs.
    """

    rows: NDArray[np.int32]
    batches: list[PairBatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairPlan:
    """Every wanted pair once, in batches of similar length: a pure function of its arguments.

    Texts are taken by length, as many together as have ``block_pairs`` pairs; their pairs are sorted by the words and
    regions that they have together and cut into batches. So a batch does not depend on what was scored before, and
    neither do the last digits of its scores.

    Args:
        text_lengths: [C] word pieces of each text, special ones included.
        image_lengths: [I] regions of each picture.
        columns: numbers of the pictures to plan for, all if None.
        wanted: [C, I] bool, the pairs that are scored; all if None.
        max_tokens: longest pair times number of pairs of a batch stays within this, unless one pair alone is longer.
        block_pairs: pairs that are sorted together.

    Example:
        >>> plan = PairPlan(text_lengths=np.array([2, 5]), image_lengths=np.array([4, 1, 4]), max_tokens=13)
        >>> [[(b.rows.tolist(), b.columns.tolist()) for b in block.batches] for block in plan.blocks()]
        [[([1], [0]), ([1], [2]), ([0, 0], [0, 2]), ([1], [1]), ([0], [1])]]
    """

    text_lengths: NDArray[np.integer]
    image_lengths: NDArray[np.integer]
    columns: NDArray[np.int32] | None = None
    wanted: NDArray[np.bool_] | None = None
    max_tokens: int = 4096
    block_pairs: int = 16384

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the blocks, those of short texts first."""
        columns = np.arange(len(self.image_lengths), dtype=np.int32) if self.columns is None else self.columns
        order = np.argsort(self.text_lengths, kind="stable").astype(np.int32)
        rows: list[int] = []
        found: list[NDArray[np.int32]] = []
        for row in order.tolist():
            mine = columns if self.wanted is None else columns[self.wanted[row, columns]]
            if not len(mine):
                continue
            rows.append(row)
            found.append(mine)
            if sum(map(len, found)) >= self.block_pairs:
                yield self._block(rows, found)
                rows, found = [], []
        if rows:
            yield self._block(rows, found)

    def _block(self, rows: list[int], found: list[NDArray[np.int32]]) -> PairBlock:
        texts = np.repeat(np.array(rows, np.int32), [len(mine) for mine in found])
        images = np.concatenate(found)
        lengths = (self.text_lengths[texts] + self.image_lengths[images]).astype(np.int32)
        order = np.argsort(-lengths, kind="stable")
        texts, images, lengths = texts[order], images[order], lengths[order]
        cuts = _cuts(lengths, self.max_tokens)
        batches = [PairBatch(rows=texts[start:end], columns=images[start:end]) for start, end in cuts]
        return PairBlock(rows=np.array(rows, np.int32), batches=batches)


def batches_by_length(lengths: NDArray[np.integer], max_tokens: int) -> list[NDArray[np.int64]]:
    """Return the numbers of items of similar length together, the longest first.

    Args:
        lengths: [N].
        max_tokens: the longest of a batch times their number stays within this, unless one item alone is longer.

    Example:
        >>> [batch.tolist() for batch in batches_by_length(np.array([2, 9, 3, 2]), max_tokens=6)]
        [[1], [2], [0, 3]]
    """
    counts = np.asarray(lengths, np.int64)
    order = np.argsort(-counts, kind="stable")
    return [order[start:end] for start, end in _cuts(counts[order], max_tokens)]


def _cuts(lengths: NDArray[np.integer], max_tokens: int) -> Iterator[tuple[int, int]]:
    """Yield where batches of falling lengths begin and end."""
    start = 0
    while start < len(lengths):
        longest = max(1, int(lengths[start]))
        size = max(1, max_tokens // longest)
        end = min(start + size, len(lengths))
        similar = int(np.searchsorted(-lengths, -longest * _SIMILAR, side="right"))
        enough = start + max(1, int(size * _SMALL))
        end = min(end, max(similar, enough))
        yield start, end
        start = end


def pair_count(rows: int, columns: int, wanted: NDArray[np.bool_] | None) -> int:
    """Return how many pairs are wanted."""
    return rows * columns if wanted is None else int(np.count_nonzero(wanted))


def length_counts(
    text_lengths: NDArray[np.integer], image_lengths: NDArray[np.integer], wanted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return how many of the wanted pairs have each length, from 0 on.

    Example:
        >>> length_counts(np.array([1, 2]), np.array([1, 1, 3])).tolist()
        [0, 0, 2, 2, 1, 1]
    """
    size = int(text_lengths.max()) + int(image_lengths.max()) + 1
    counts = np.zeros(size, np.int64)
    for length in np.unique(text_lengths):
        rows = np.flatnonzero(text_lengths == length)
        weights = np.full(len(image_lengths), len(rows)) if wanted is None else np.count_nonzero(wanted[rows], axis=0)
        counts += np.bincount(image_lengths + int(length), weights, minlength=size)[:size].astype(np.int64)
    return counts
