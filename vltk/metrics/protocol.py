"""What a figure was made of, so that nobody compares two that were not made alike: splits, folds, hit rules, ties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Ties = Literal["against", "for"]
"""Whether a wrong answer with exactly the score of the right one ranks before it ("against") or behind it."""


def split_hash(ids: Iterable[str], *others: Iterable[str]) -> str:
    """Return the hash of a split: its item ids, and what belongs to each (image ids, folds, right answers).

    The order of the items does not count, because a metric does not depend on it.

    Args:
        ids: id of each item.
        others: further texts, one for each item.

    Example:
        >>> split_hash(["a", "b"], ["image 1", "image 2"]) == split_hash(["b", "a"], ["image 2", "image 1"])
        True
    """
    rows = sorted(json.dumps(row) for row in zip(ids, *others, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RetrievalProtocol:
    """How recalls of a test split are counted.

    Attributes:
        name: what papers call it.
        images: how many images the split has, None for any number.
        captions: how many captions of an image count, its first ones; None for all.
        folds: the images are cut into so many consecutive blocks, each is searched alone, and the figures are the
            means over the blocks.
    """

    name: str
    images: int | None = None
    captions: int | None = None
    folds: int = 1

    def card(self, *, split: str, images: int, captions: int, ties: Ties) -> dict[str, object]:
        """Return what must stand beside a figure and be equal before two figures are compared."""
        return {
            "protocol": self.name,
            "split": split,
            "images": images,
            "captions": captions,
            "captions_per_image": self.captions or "all",
            "folds": self.folds,
            "hit_rule": "i2t: any caption of the image is among the first k; t2i: the image of the caption is",
            "ties": ties,
        }


RETRIEVAL_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        RetrievalProtocol(name="split"),
        RetrievalProtocol(name="flickr30k-1k", images=1000, captions=5),
        RetrievalProtocol(name="coco-1k", images=5000, captions=5, folds=5),
        RetrievalProtocol(name="coco-5k", images=5000, captions=5),
    )
}
"""The published protocols by name: ``split`` takes any split as it is; ``coco-1k`` is the mean over five folds."""
