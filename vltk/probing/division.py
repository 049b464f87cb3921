"""Which sentences a probe learns from, and which ones are as new to it as those that it is tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vltk.errors import UsageError
from vltk.types import Parse

HeldOut = Literal["templates", "images"]


@dataclass(frozen=True, kw_only=True)
class Division:
    """How sentences are divided.

    Attributes:
        held_out: "templates": sentences whose trees are alike but for their leaves stand together; "images": those of
            one image do.
        test: share of these groups that is tested on, where no store of test sentences is given.
        folds: parts of the other groups; each in turn is what a probe does not learn from, so that the pass of
            training and the layer are chosen with sentences as new to a probe as those of the test.
        seed: of the division.
    """

    held_out: HeldOut = "templates"
    test: float = 0.2
    folds: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test < 1:
            remedy = "a positive number below 1"
            raise UsageError(
                f"a share of {self.test:g} leaves nothing to test or to learn", where="--test-share", remedy=remedy
            )
        if self.folds < 2:
            raise UsageError(
                f"{self.folds} leave nothing to learn or to choose with", where="--folds", remedy="use 2 or more"
            )

    def key(self, parse: Parse, image_id: str) -> str:
        """Return what a test sentence must not share with a training sentence."""
        return template(parse) if self.held_out == "templates" else image_id

    def group(self, parse: Parse, image_id: str) -> str:
        """Return what sentences that stand together share."""
        return frame(parse) if self.held_out == "templates" else image_id

    def tested(self, group: str) -> bool:
        """Say whether a group is tested on."""
        return self._drawn(group) < self.test

    def parts(self, groups: Sequence[str]) -> list[list[int]]:
        """Return the places of sentences in parts of about one size; those of a group stand in one part.

        Args:
            groups: the group of each sentence.

        Example:
            >>> Division(folds=2).parts(["a", "b", "a", "c"])
            [[0, 2], [1, 3]]
        """
        members: dict[str, list[int]] = {}
        for place, group in enumerate(groups):
            members.setdefault(group, []).append(place)
        parts: list[list[int]] = [[] for _ in range(self.folds)]
        for group in sorted(members, key=lambda group: (-len(members[group]), self._drawn(group))):
            min(parts, key=len).extend(members[group])
        return [sorted(part) for part in parts]

    def _drawn(self, group: str) -> float:
        digest = hashlib.sha256(f"{self.seed}/{group}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def template(parse: Parse) -> str:
    """Return the shape of a tree: its heads and relations, without its words.

    Example:
        >>> first = Parse(words=("a", "dog"), heads=(2, 0), relations=("det", "root"))
        >>> second = Parse(words=("the", "cat"), heads=(2, 0), relations=("det", "root"))
        >>> template(first), template(first) == template(second)
        ('2:det 0:root', True)
    """
    return " ".join(f"{head}:{relation}" for head, relation in zip(parse.heads, parse.relations, strict=True))


def frame(parse: Parse) -> str:
    """Return the shape of a tree without its leaves, which adjectives and articles do not change.

    Example:
        >>> heads, relations = (3, 3, 4, 0), ("det", "amod", "nsubj", "root")
        >>> long = Parse(words=("a", "red", "dog", "runs"), heads=heads, relations=relations)
        >>> short = Parse(words=("dog", "runs"), heads=(2, 0), relations=("nsubj", "root"))
        >>> frame(long), frame(short)
        ('2:nsubj 0:root', '0:root')
    """
    inner = sorted({head for head in parse.heads if head} | {parse.heads.index(0) + 1})
    places = {word: place for place, word in enumerate(inner, 1)} | {0: 0}
    return " ".join(f"{places[parse.heads[word - 1]]}:{parse.relations[word - 1]}" for word in inner)
