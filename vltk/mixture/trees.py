"""Texts with the words of their pieces and the distances in their dependency trees, as probes learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.metrics.trees import tree_distances
from vltk.types import Example, Parse

NO_TREE, NO_WORD = -1, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One way in which a text is said.

    Attributes:
        pieces: its word pieces, without special tokens.
        parse: its dependency tree, None where there is none whose words the pieces are known to belong to.
    """

    pieces: Sequence[int]
    parse: Parse | None = None


def told(example: Example, pieces: Sequence[int]) -> Told:
    """Return the first text of an example as it stands there."""
    return Told(pieces=pieces, parse=_usable(example.parses[0]) if example.parses else None)


def told_otherwise(example: Example, longest: int) -> list[Told]:
    """Return the paraphrases of the first text that have word pieces, at most so many.

    Args:
        example: from a store that ``vltk augment`` wrote.
        longest: word pieces of a paraphrase at most.
    """
    if not example.paraphrase_tokens:
        return []
    tokens = example.paraphrase_tokens[0]
    parses = example.paraphrase_parses[0] if example.paraphrase_parses else [None] * len(tokens)
    return [
        Told(pieces=one.ids, parse=None if parse is None else _usable(parse))
        for one, parse in zip(tokens, parses, strict=True)
        if 0 < len(one.ids) <= longest
    ]


def _usable(parse: Parse) -> Parse | None:
    return parse if parse.words and parse.pieces else None


def tree_targets(texts: Sequence[Told]) -> dict[str, Tensor]:
    """Return what probes are compared with.

    Where a text has no tree each piece is a word of its own, so that its relations exist, and no distance is known.

    Args:
        texts: B texts, which stand between a start and a separator in the batch.

    Returns:
        ``word_of_piece`` [B, T] int64, the word of each piece, -1 for special tokens and padding; ``trees`` [B, N, N]
        int16, edges between two words, -1 where they are not known.

    Example:
        >>> tree = Parse(words=("a", "dog"), heads=(2, 0), relations=("det", "root"), pieces=(0, 1, 1))
        >>> found = tree_targets([Told(pieces=(5, 6, 7), parse=tree), Told(pieces=(5,))])
        >>> found["word_of_piece"].tolist()
        [[-1, 0, 1, 1, -1], [-1, 0, -1, -1, -1]]
        >>> found["trees"][1].tolist()
        [[-1, -1], [-1, -1]]
    """
    words = max((len(one.parse.words) if one.parse else len(one.pieces) for one in texts), default=0)
    longest = max((len(one.pieces) for one in texts), default=0)
    belongs = np.full((len(texts), longest + 2), NO_WORD, np.int64)
    trees = np.full((len(texts), words, words), NO_TREE, np.int16)
    for row, one in enumerate(texts):
        count = len(one.pieces)
        if one.parse is None:
            belongs[row, 1 : count + 1] = np.arange(count)
        else:
            belongs[row, 1 : count + 1] = one.parse.pieces
            distances = _distances(one.parse.heads)
            trees[row, : len(distances), : len(distances)] = distances
    return {"word_of_piece": torch.from_numpy(belongs), "trees": torch.from_numpy(trees)}


@lru_cache(maxsize=4096)
def _distances(heads: tuple[int, ...]) -> NDArray[np.int16]:
    return tree_distances(heads).astype(np.int16)
