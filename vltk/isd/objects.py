"""Which word pieces and which regions speak of one object (IAIS, section 2.2).

A caption of Flickr30k Entities marks phrases, each of a chain, and a chain has boxes. The regions are features of
these boxes: ``vltk extract-features --boxes`` names each by its chain. Where a store names its regions otherwise, they
are found by the boxes themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vltk.types import Example, Phrase, RegionFeatures

Chains = Literal["merged", "first"]

# Boxes in files of one annotation differ by rounding, by the pixel that corners may include, and by the picture's edge.
SAME_BOX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects of a caption that both sides know, in the order of their first phrase.

    Attributes:
        entities: their chains.
        words: for each the places of its word pieces in the text, without special tokens.
        regions: for each its rows in the picture.
        unseen: chains that are spoken of and have no region.
    """

    entities: tuple[str, ...]
    words: tuple[tuple[int, ...], ...]
    regions: tuple[tuple[int, ...], ...]
    unseen: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entities)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """A picture with every annotated box once, however many chains it belongs to.

    Attributes:
        picture: the regions.
        names: for each region the ids that it was stored under.
    """

    picture: RegionFeatures
    names: tuple[frozenset[str], ...]

    def rows_of(self, phrase: Phrase) -> tuple[int, ...]:
        """Return the regions of a phrase: those of its chain, else those of its boxes."""
        rows = tuple(row for row, names in enumerate(self.names) if phrase.entity in names)
        if rows or not phrase.boxes or self.picture.boxes is None:
            return rows
        apart = np.abs(self.picture.boxes[:, None] - np.array(phrase.boxes, np.float32)[None]).max(axis=2)
        return tuple(np.flatnonzero((apart <= SAME_BOX).any(axis=1)).tolist())


def annotated(picture: RegionFeatures) -> Annotated:
    """Return a picture whose repeated boxes were joined; a box of two chains is stored once for each.

    Example:
        >>> boxes = np.array([[0, 0, 5, 5], [1, 1, 9, 9], [0, 0, 5, 5]], np.float32)
        >>> found = annotated(RegionFeatures(image_id="7", features=np.ones((3, 2), np.float32), boxes=boxes,
        ...     size=(10, 10), region_ids=("4", "5", "6")))
        >>> [sorted(names) for names in found.names]
        [['4', '6'], ['5']]
    """
    ids = picture.region_ids or ("",) * len(picture)
    if picture.boxes is None:
        return Annotated(picture=picture, names=tuple(frozenset({name}) for name in ids))
    names: dict[bytes, set[str]] = {}
    first: list[int] = []
    for row, (box, name) in enumerate(zip(picture.boxes, ids, strict=True)):
        key = box.tobytes()
        if key not in names:
            first.append(row)
        names.setdefault(key, set()).add(name)
    kept = picture if len(first) == len(picture) else picture.take(np.array(first))
    return Annotated(picture=kept, names=tuple(map(frozenset, names.values())))


def objects_of(example: Example, regions: Annotated, *, chains: Chains = "merged") -> Objects:
    """Return the objects of an example's first text.

    Args:
        example: with word pieces and phrases.
        regions: of its picture.
        chains: a chain that several phrases speak of is one object, of all their words ("merged") or of those of the
            first phrase ("first").
    """
    words = example.tokens[0].words
    pieces: defaultdict[str, list[int]] = defaultdict(list)
    rows: dict[str, tuple[int, ...]] = {}
    for phrase in sorted(_phrases(example), key=lambda one: one.start):
        if chains == "first" and phrase.entity in rows:
            continue
        found = [place for place, word in enumerate(words) if phrase.start <= word < phrase.end]
        pieces[phrase.entity] += [place for place in found if place not in pieces[phrase.entity]]
        rows[phrase.entity] = rows.get(phrase.entity) or regions.rows_of(phrase)
    kept = [entity for entity in rows if rows[entity] and pieces[entity]]
    return Objects(
        entities=tuple(kept),
        words=tuple(tuple(pieces[entity]) for entity in kept),
        regions=tuple(rows[entity] for entity in kept),
        unseen=tuple(entity for entity in rows if not rows[entity]),
    )


def _phrases(example: Example) -> Sequence[Phrase]:
    return [phrase for phrase in example.phrases if phrase.text == 0]
