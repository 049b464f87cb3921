"""The order of a run of image-text retrieval: which pairs, beside which negatives, at which step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.batching import beside
from vltk.errors import DataError, UsageError
from vltk.mixture import PairSource, seed_of
from vltk.mixture.likeness import most_alike
from vltk.mixture.pictures import Pictures
from vltk.objectives.hinge import PAIRS
from vltk.objectives.ranking import HARD, RANDOM, RELATION_WEIGHT
from vltk.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """One micro-batch: which texts meet which pictures; a single one of either side meets all of the other.

    Attributes:
        objective: "random", "hard" or "pairs".
        seed: of dropout.
        rows: texts.
        images: places of pictures.
        targets: what the loss needs to know besides.
    """

    objective: str
    seed: int
    rows: NDArray[np.int32]
    images: NDArray[np.int32]
    targets: Mapping[str, Any]


class _Plan:
    """What the plans share: passes over the captions in an order of their own each, and the reading.

    Args:
        source: captions and pictures.
        micro_batches: of one step, over all processes.
        seed: of the order.
    """

    def __init__(self, source: PairSource, *, micro_batches: int, seed: int) -> None:
        self.source, self.micro_batches, self.seed = source, micro_batches, seed
        self._known: dict[str, tuple[int, NDArray[np.int64]]] = {}

    def steps(self, start: int = 0) -> Iterator[list[Work]]:
        """Yield the micro-batches of each step without end, from step ``start`` on; what lies before costs nothing."""
        step = start
        while True:
            yield [self.work(step, micro) for micro in range(self.micro_batches)]
            step += 1

    def work(self, step: int, micro: int) -> Work:
        """Return one micro-batch of a step."""
        raise NotImplementedError

    def tokens(self, work: Work) -> tuple[int, int]:
        """Return how many tokens and regions a micro-batch has, and how many places with its padding."""
        source = self.source
        lengths = source.text_lengths[work.rows] + source.special_count + source.region_counts[work.images]
        return int(lengths.sum()), int(lengths.max()) * len(lengths)

    def load(self, work: Work) -> Batch:
        """Read the texts and pictures of a micro-batch."""
        texts, pictures = self.source.text_batch(work.rows), self.source.region_batch(work.images)
        batch = beside(texts, pictures)
        if len(work.rows) != len(work.images):
            batch = replace(batch, ids=texts.ids[:1])  # one matched pair, whatever it meets
        return replace(batch, targets={name: torch.tensor(value) for name, value in work.targets.items()})

    def _places(self, first: int, count: int, stream: str) -> NDArray[np.int32]:
        """Return ``count`` captions from place ``first`` of an endless stream of passes, each in its own order."""
        size = len(self.source)
        places = [divmod(place, size) for place in range(first, first + count)]
        return np.array([self._pass(number, stream)[place] for number, place in places], np.int32)

    def _pass(self, number: int, stream: str) -> NDArray[np.int64]:
        if (known := self._known.get(stream)) is None or known[0] != number:
            dice = np.random.default_rng(seed_of("pass", self.seed, stream, number))
            known = self._known[stream] = number, dice.permutation(len(self.source))
        return known[1]

    def _seed(self, step: int, micro: int) -> int:
        return seed_of("work", self.seed, step, micro)


class InBatchPlan(_Plan):
    """Batches of matched pairs, whose negatives are each other (VSE++, VSE-infinity, VSRN).

    A pass leaves out the last pairs that do not fill a batch, which the next pass, in another order, does not.

    Args:
        source: captions and pictures.
        pairs: of a micro-batch.
        micro_batches: of one step, over all processes.
        seed: of the order.
        pictures: pixels for models of grids, of which a batch gets random views.

    Raises:
        DataError: fewer captions than a batch takes.
    """

    def __init__(
        self, source: PairSource, *, pairs: int, micro_batches: int, seed: int, pictures: Pictures | None = None
    ) -> None:
        super().__init__(source, micro_batches=micro_batches, seed=seed)
        self.pictures = pictures
        if len(source) < pairs:
            problem = f"{len(source)} captions do not fill a batch of {pairs} pairs"
            raise DataError(problem, where=source.name, remedy="use fewer --pairs")
        self.pairs, self.batches = pairs, len(source) // pairs

    def work(self, step: int, micro: int) -> Work:
        """Return one micro-batch of a step."""
        number, place = divmod(step * self.micro_batches + micro, self.batches)
        rows = self._places(number * len(self.source) + place * self.pairs, self.pairs, "pairs")
        images = self.source.image_of[rows]
        moment = {"epoch": number, "iteration": place, "iterations": self.batches}
        targets = {"image": images.astype(np.int64), **moment}
        return Work(objective=PAIRS, seed=self._seed(step, micro), rows=rows, images=images, targets=targets)

    def load(self, work: Work) -> Batch:
        """Read the texts, regions and pixels of a micro-batch."""
        batch = super().load(work)
        if self.pictures is None:
            return batch
        image_ids = [self.source.image_ids[image] for image in work.images]
        return replace(batch, images=self.pictures.load(image_ids, seed=work.seed))


class RankingPlan(_Plan):
    """Matched pairs with random negatives in groups, or each with many candidates (UNITER, IAIS).

    With random negatives a micro-batch has groups of a matched pair, its text with other pictures, and its picture with
    other texts. With candidates a micro-batch is one half of a pair: its picture with other texts, or its text with
    other pictures; halves take turns in this order, and each goes through the captions in an order of its own, as
    published. Some negatives or candidates may be the pictures that look most like the matched one, or a caption of
    each, the rest is drawn at random. No negative belongs to the matched pair, and none is there twice.

    Args:
        source: captions and pictures.
        config: kind and number of negatives.
        micro_batches: of one step, over all processes.
        seed: of the order.
        weight: gives the weight of the relation loss at a step, counted from 0; None where there is none.

    Raises:
        DataError: a single picture, whose captions have no negatives, or fewer others than random negatives are wanted.
        UsageError: halves that do not come in twos.
    """

    def __init__(
        self,
        source: PairSource,
        config: Negatives,
        *,
        micro_batches: int,
        seed: int,
        weight: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(source, micro_batches=micro_batches, seed=seed)
        if len(source.image_ids) < 2:
            raise DataError("has a single image, which has no negatives", where=source.name, remedy="add images")
        if config.negatives == "hard" and micro_batches % 2:
            problem = f"{micro_batches} micro-batches are no whole number of picture and text halves"
            raise UsageError(problem, where="--micro-batches", remedy="use an even number, two for each matched pair")
        self.config, self.weight = config, weight
        order = np.argsort(source.image_of, kind="stable").astype(np.int32)
        ends = np.cumsum(np.bincount(source.image_of, minlength=len(source.image_ids)))
        self._captions = np.split(order, ends[:-1])
        self._alike = most_alike(source.features, source.image_ids, config.alike) if config.alike else None
        others = {
            "--negative-images": (config.negative_images, len(source.image_ids) - 1),
            "--negative-texts": (config.negative_texts, len(source) - max(map(len, self._captions))),
        }
        for flag, (wanted, there) in others.items():
            if config.negatives == "random" and wanted > there:
                raise DataError(
                    f"{wanted} of {there} others are wanted", where=f"{source.name}, {flag}", remedy="use fewer"
                )

    def work(self, step: int, micro: int) -> Work:
        """Return one micro-batch of a step."""
        seed = self._seed(step, micro)
        dice = np.random.default_rng(seed)
        weight = {} if self.weight is None else {RELATION_WEIGHT: self.weight(step)}
        made = self._half if self.config.negatives == "hard" else self._groups
        return made(step * self.micro_batches + micro, dice, seed, weight)

    def _groups(self, number: int, dice: np.random.Generator, seed: int, targets: dict[str, float]) -> Work:
        rows, images, config = [], [], self.config
        for row in self._places(number * config.pairs, config.pairs, RANDOM).tolist():
            own = int(self.source.image_of[row])
            others, texts = (
                self._images(own, config.negative_images, dice),
                self._texts(own, config.negative_texts, dice),
            )
            rows += [row] * (1 + len(others)) + texts
            images += [own, *others, *[own] * len(texts)]
        group = {"group": len(rows) // config.pairs}
        return _work(RANDOM, seed, rows, images, targets | group)

    def _half(self, number: int, dice: np.random.Generator, seed: int, targets: dict[str, float]) -> Work:
        pair, second = divmod(number, 2)
        (row,) = self._places(pair, 1, "text" if second else "image").tolist()
        own = int(self.source.image_of[row])
        if second:
            return _work(HARD, seed, [row], [own, *self._images(own, self.config.candidates, dice)], targets)
        return _work(HARD, seed, [row, *self._texts(own, self.config.candidates, dice)], [own], targets)

    def _images(self, own: int, count: int, dice: np.random.Generator) -> list[int]:
        """Draw different pictures besides one, those that look like it first; all of them where there are no more."""
        near = [] if self._alike is None else self._alike[own, :count].tolist()
        others = len(self.source.image_ids) - 1
        drawn = dice.choice(others, min(count, others), replace=False, shuffle=True)
        places = [int(place) + (place >= own) for place in drawn]
        return [*near, *(place for place in places if place not in near)][:count]

    def _texts(self, own: int, count: int, dice: np.random.Generator) -> list[int]:
        """Draw different captions besides those of one picture; all of them where there are no more."""
        mine = self._captions[own]
        near: list[int] = []
        if self._alike is not None:
            # One caption of each picture that looks like it.
            near = [int(dice.choice(self._captions[other])) for other in self._alike[own, :count]]
        # The first drawn that are not its own are as likely as any others.
        size = len(self.source)
        drawn = dice.choice(size, min(count + len(mine) + len(near), size), replace=False)
        return [*near, *drawn[~np.isin(drawn, [*mine, *near])].tolist()][:count]


class Negatives(Protocol):
    """What a plan must know of the negatives; fields of ``RetrievalConfig``."""

    @property
    def negatives(self) -> Literal["random", "hard"]:
        """Which kind."""
        ...

    @property
    def pairs(self) -> int:
        """Matched pairs of a micro-batch."""
        ...

    @property
    def negative_images(self) -> int:
        """Other pictures of each."""
        ...

    @property
    def negative_texts(self) -> int:
        """Other texts of each."""
        ...

    @property
    def candidates(self) -> int:
        """What hard negatives are looked for among."""
        ...

    @property
    def alike(self) -> int:
        """How many negatives or candidates look like the matched picture."""
        ...


def _work(objective: str, seed: int, rows: Sequence[int], images: Sequence[int], targets: Mapping[str, Any]) -> Work:
    return Work(
        objective=objective,
        seed=seed,
        rows=np.array(rows, np.int32),
        images=np.array(images, np.int32),
        targets=targets,
    )
