"""The order of a run: at each step one objective on one set, a pure function of sets, shares and seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.batching import TokenBuckets
from vltk.errors import DataError, UsageError, did_you_mean
from vltk.mixture.pairs import PairSource
from vltk.types import Batch


def seed_of(*parts: object) -> int:
    """Return a seed that depends on every part, the same in every process and on every machine.

    Example:
        >>> seed_of("mask", 0, 7) == seed_of("mask", 0, 7) != seed_of("mask", 0, 8)
        True
    """
    return random.Random(repr(parts)).getrandbits(62)


@dataclass(frozen=True, kw_only=True)
class Share:
    """How often an objective is trained on a set, relative to the other shares (published: e.g. itm 9, mlm 12)."""

    source: int
    objective: str
    weight: int


def parse_shares(texts: Sequence[str], sources: Sequence[str]) -> list[Share]:
    """Read ``NAME=WEIGHT`` for every set, or ``SET:NAME=WEIGHT`` for one; a weight of 0 takes the objective out.

    Raises:
        UsageError: another form, a set that is not there, or nothing that has a weight.

    Example:
        >>> [(s.source, s.objective, s.weight) for s in parse_shares(["mlm=2", "vg:itm=3"], ["coco", "vg"])]
        [(0, 'mlm', 2), (1, 'mlm', 2), (1, 'itm', 3)]
    """
    weights: dict[tuple[int, str], int] = {}
    for text in texts:
        where, _, rest = text.rpartition(":")
        name, equals, weight = rest.partition("=")
        if not name or (equals and not (weight.isascii() and weight.isdigit())):
            remedy = "write e.g. mlm=2 or coco:itm=6"
            raise UsageError(f"{text!r} is not NAME=WEIGHT", where="--objective", remedy=remedy)
        if where and where not in sources:
            raise UsageError(f"no set {where!r}", where="--objective", remedy=did_you_mean(where, sources))
        for place in [sources.index(where)] if where else range(len(sources)):
            weights[place, name] = int(weight or 1)
    shares = [Share(source=place, objective=name, weight=weight) for (place, name), weight in weights.items() if weight]
    if not shares:
        problem = "an empty mixture: no objective has a weight"
        raise UsageError(problem, where="--objective", remedy="give e.g. --objective mlm=2 --objective itm=1")
    return shares


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """One micro-batch of the plan: what is needed to load it anywhere.

    Attributes:
        objective: name of the objective.
        source: place of the set in the mixture.
        rows: which texts.
        images: the place of the picture that each is shown with.
        seed: of everything random in training on it.
    """

    objective: str
    source: int
    rows: NDArray[np.int32]
    images: NDArray[np.int32]
    seed: int


class Mixture:
    """The order of a run: at each step one objective on one set, drawn by weight, and its micro-batches.

    The order does not know about processes, so one process with four micro-batches a step sees what four processes
    with one see. Each objective passes over each set by itself, in an order of its own.

    Args:
        sources: the sets.
        shares: how often each objective is trained on each set.
        mismatch: for an objective's name, the probability of another picture, drawn anew each pass.
        buckets: how pairs become batches.
        micro_batches: of one step, over all processes.
        seed: of the order.
        paired: names of the objectives whose batches hold every pair twice, the second time as augmented views.
        augmented: for all others, share of texts and of pictures that are shown as a paraphrase or view.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        shares: Sequence[Share],
        *,
        buckets: TokenBuckets,
        micro_batches: int,
        seed: int,
        mismatch: Mapping[str, float] | None = None,
        paired: Collection[str] = (),
        augmented: float = 0.0,
    ) -> None:
        self.paired, self.augmented = frozenset(paired), augmented
        self.sources, self.shares, self.buckets = tuple(sources), tuple(shares), buckets
        self.micro_batches, self.seed, self.mismatch = micro_batches, seed, dict(mismatch or {})

    def steps(self, start: int = 0) -> Iterator[list[Work]]:
        """Yield the micro-batches of each step without end, from step ``start`` on.

        What lies before ``start`` is counted and not built, a second for some ten passes over a million pairs.

        Raises:
            DataError: a set does not fill one batch.
        """
        dice = random.Random(seed_of("mixture", self.seed))
        streams = [_Stream(self, share) for share in self.shares]
        weights = [share.weight for share in self.shares]
        for _ in range(start):
            dice.choices(streams, weights)[0].skip(self.micro_batches)
        step = start
        while True:
            stream = dice.choices(streams, weights)[0]
            seeds = [seed_of("work", self.seed, step, micro) for micro in range(self.micro_batches)]
            yield [stream.take(seed) for seed in seeds]
            step += 1

    def epoch(self, share: Share, number: int) -> list[Work]:
        """Return the micro-batches of one pass of an objective over a set, their seeds still at 0."""
        source = self.sources[share.source]
        own = (self.seed, share.source, share.objective, number)
        images = source.pictures(seed=seed_of("pictures", *own), mismatch=self.mismatch.get(share.objective, 0.0))
        # The published length of a pair leaves out the special tokens.
        special = 0 if self.buckets.official else source.special_count
        lengths = (source.text_lengths + source.region_counts[images] + special) * self._copies(share.objective)
        batches = self.buckets.batches(lengths, seed=seed_of("buckets", *own))
        if not batches:
            problem = f"{len(source)} pairs do not fill one batch"
            raise DataError(problem, where=source.name, remedy="use --batching full, or fewer --batch-tokens")
        return [self._work(share, rows, images) for rows in batches]

    def _work(self, share: Share, rows: NDArray[np.int32], images: NDArray[np.int32]) -> Work:
        return Work(objective=share.objective, source=share.source, rows=rows, images=images[rows], seed=0)

    def load(self, work: Work) -> Batch:
        """Read the pairs of a micro-batch."""
        source, seed = self.sources[work.source], seed_of("views", work.seed)
        if work.objective in self.paired:
            return source.views_batch(work.rows, seed=seed)
        return source.batch(work.rows, work.images, augmented=self.augmented, seed=seed)

    def _copies(self, objective: str) -> int:
        """Return how often a batch of an objective holds each pair."""
        return 2 if objective in self.paired else 1

    def tokens(self, work: Work) -> tuple[int, int]:
        """Return how many tokens and regions a micro-batch has, and how many places with its padding."""
        source = self.sources[work.source]
        lengths = source.text_lengths[work.rows] + source.special_count + source.region_counts[work.images]
        copies = self._copies(work.objective)
        return copies * int(lengths.sum()), copies * int(lengths.max()) * len(lengths)

    def describe(self) -> list[dict[str, Any]]:
        """Return one row a share, for a plan that a person reads."""
        total = sum(share.weight for share in self.shares)
        return [
            {
                "set": self.sources[share.source].name,
                "objective": share.objective,
                "share": f"{share.weight / total:.0%}",
                "pairs": len(self.sources[share.source]),
                "images": len(self.sources[share.source].image_ids),
            }
            for share in self.shares
        ]


class _Stream:
    """The micro-batches of a share, pass after pass."""

    def __init__(self, mixture: Mixture, share: Share) -> None:
        self.mixture, self.share = mixture, share
        self.next, self.passes, self.works = 0, 0, list[Work]()

    def skip(self, count: int) -> None:
        self.next += count
        while self.next >= len(self.works):
            self.next -= len(self.works)
            self.works = self.mixture.epoch(self.share, self.passes)
            self.passes += 1

    def take(self, seed: int) -> Work:
        self.skip(0)
        found = self.works[self.next]
        self.next += 1
        return Work(objective=found.objective, source=found.source, rows=found.rows, images=found.images, seed=seed)
