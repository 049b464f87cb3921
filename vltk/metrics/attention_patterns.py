"""What kind of pattern an attention head follows (UNITER, section 4.4 and figure 2).

The paper names six kinds and shows one map of each, without saying where one ends and the next begins. Here each head
has three numbers, the mean over pairs of text and picture of how far it goes from uniform attention (0) to the pure
pattern (1), and the kinds are regions of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pattern = Literal["vertical", "diagonal", "vertical + diagonal", "block", "reversed block", "heterogeneous"]
PATTERNS: tuple[Pattern, ...] = (
    "vertical",
    "diagonal",
    "vertical + diagonal",
    "block",
    "reversed block",
    "heterogeneous",
)
HALF = 0.5
"""A pattern holds from half the way between uniform attention and the pure pattern."""
MIXED = 0.25
"""Of vertical and diagonal together, the share that the lesser must have for a mixture of both."""


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """How far a head goes towards each pattern.

    Attributes:
        vertical: towards special tokens alone.
        diagonal: towards each position itself and its neighbours of the same side alone.
        block: towards the own side alone (1), or the other side alone (-1), of what goes to words and regions.
    """

    vertical: float
    diagonal: float
    block: float

    @property
    def pattern(self) -> Pattern:
        """The name of the paper for it.

        Example:
            >>> HeadShape(vertical=0.9, diagonal=0.0, block=0.2).pattern
            'vertical'
            >>> HeadShape(vertical=0.0, diagonal=0.1, block=-0.8).pattern
            'reversed block'
        """
        both = self.vertical + self.diagonal
        if both >= HALF:
            lesser = min(self.vertical, self.diagonal) / both
            if lesser >= MIXED:
                return "vertical + diagonal"
            return "vertical" if self.vertical > self.diagonal else "diagonal"
        if self.block >= HALF:
            return "block"
        return "reversed block" if self.block <= -HALF else "heterogeneous"

    @property
    def strength(self) -> float:
        """How much it is of its pattern; of a heterogeneous head, how little of all others."""
        shares = {
            "vertical": self.vertical,
            "diagonal": self.diagonal,
            "vertical + diagonal": 2 * min(self.vertical, self.diagonal),
            "block": self.block,
            "reversed block": -self.block,
        }
        return shares.get(self.pattern, 1 - max(self.vertical + self.diagonal, abs(self.block)))


def head_shapes(
    maps: Sequence[NDArray[np.floating]], lengths: Sequence[int], specials: Sequence[Sequence[int]]
) -> list[HeadShape]:
    """Return the shape of each head, the mean over pairs.

    Args:
        maps: for each pair [heads, T + R, T + R] attention probabilities, text first.
        lengths: T of each pair.
        specials: places of the special tokens of each pair.

    Raises:
        ValueError: there is no pair, or one without word or region.

    Example:
        >>> alone = np.eye(6)[None]
        >>> [shape.pattern for shape in head_shapes([alone], [4], [(0, 3)])]
        ['diagonal']
    """
    if not maps:
        raise ValueError("no pair to look at")
    found = [_shares(one, length, tuple(places)) for one, length, places in zip(maps, lengths, specials, strict=True)]
    means = np.mean(found, axis=0)
    return [HeadShape(vertical=float(v), diagonal=float(d), block=float(b)) for v, d, b in means.T]


def _shares(map_: NDArray[np.floating], length: int, specials: tuple[int, ...]) -> NDArray[np.float64]:
    """Return [3, heads] vertical, diagonal and block of one pair."""
    size = map_.shape[-1]
    text = np.arange(size) < length
    special = np.isin(np.arange(size), specials)
    rows = ~special
    if not (rows & text).any() or text.all():
        raise ValueError("a pair without word or region")
    same = text[:, None] == text[None, :]
    near = (np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= 1) & same & ~special[None, :]
    values = np.asarray(map_, np.float64)[:, rows]
    vertical = _excess(values, np.broadcast_to(special, (size, size))[rows])
    diagonal = _excess(values, near[rows])
    content = values[:, :, ~special]
    own = (content * same[rows][:, ~special]).sum(axis=-1) / np.maximum(content.sum(axis=-1), 1e-12)
    expected = same[rows][:, ~special].mean(axis=-1)
    block = np.where(own >= expected, (own - expected) / (1 - expected), (own - expected) / expected)
    return np.stack([vertical, diagonal, block.mean(axis=-1)])


def _excess(values: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return [heads] how much more than uniform attention goes where it is wanted, 1 for all of it."""
    share, chance = (values * wanted).sum(axis=-1), wanted.mean(axis=-1)
    excess: NDArray[np.float64] = np.clip(((share - chance) / (1 - chance)).mean(axis=-1), 0, 1)
    return excess
