"""Retrieval pools and minimal pairs of drawn scenes, with their chance levels and exact upper bounds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vltk.datasets._scene_language import MENTION, Caption, caption
from vltk.datasets._scene_meaning import Meaning, Thing, is_true, judge
from vltk.datasets._scene_model import Dice, Scene, SceneConfig
from vltk.datasets._scene_sampling import scene
from vltk.datasets._scene_variants import Variant, edits_of_one, variants
from vltk.errors import DataError, UsageError

_PATIENCE = 60  # scenes that may be passed over for each that is taken
FAMILY = 4  # a scene, two edits of attributes, one exchange of places


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Scenes with captions, each certainly true of one scene of the pool and certainly false of all others.

    Attributes:
        scenes: the candidates.
        captions: for each scene its captions.
        families: for each scene the number of its family; every scene is its own family in a random pool.
        edits: for each scene what was edited, "" where it is as it was sampled.
    """

    scenes: tuple[Scene, ...]
    captions: tuple[tuple[Caption, ...], ...]
    families: tuple[int, ...]
    edits: tuple[str, ...]

    def chance(self, at: int = 1) -> dict[str, float]:
        """Return the recall at K of a random order, for both directions of retrieval.

        Example:
            >>> random_pool(10, captions=2).chance(1)
            {'text_to_image': 0.1, 'image_to_text': 0.1}
        """
        total = sum(map(len, self.captions))
        return {
            "text_to_image": min(1.0, at / len(self.scenes)),
            "image_to_text": _mean([_hit(total, len(own), at) for own in self.captions]),
        }

    def bound(self, at: int = 1) -> dict[str, float]:
        """Return the best recall at K that a perfect reader can reach, with every caption judged in every scene.

        A reader who knows which captions are true can only guess among the true ones.
        """
        search = CaptionSearch(self.scenes)
        true = [(owner, search.true_of(told.meaning)) for owner, own in enumerate(self.captions) for told in own]
        fitting = Counter(position for _, positions in true for position in positions)
        right = Counter(owner for owner, positions in true if owner in positions)
        return {
            "text_to_image": _mean([_hit(len(found), int(owner in found), at) for owner, found in true]),
            "image_to_text": _mean([_hit(fitting[i], right[i], at) for i in range(len(self.scenes))]),
        }

    def family_chance(self) -> float:
        """Return how often a reader who finds the family, and guesses inside it, finds the scene."""
        sizes = [self.families.count(family) for family in self.families]
        return _mean([1 / size for size in sizes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A scene and three edits of one of its objects, with captions that tell them apart.

    Attributes:
        scenes: FAMILY scenes, the first as it was sampled.
        captions: of each scene, certainly true of it and certainly false of the others of the family.
        edits: "" of the first, then two kinds of attributes, then "places".
    """

    scenes: tuple[Scene, ...]
    captions: tuple[tuple[Caption, ...], ...]
    edits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimalPair:
    """Two scenes one edit apart, each with a caption that is true of it and false of the other: chance is 1/2.

    Attributes:
        first: the scene as it was sampled.
        second: the same scene after one edit.
        first_caption: true of the first only.
        second_caption: true of the second only.
    """

    first: Scene
    second: Variant
    first_caption: Caption
    second_caption: Caption


def unique_captions(
    scenes: Sequence[Scene], position: int, count: int, *, seed: object = 0, held_out: bool | None = False
) -> tuple[Caption, ...] | None:
    """Return captions of one scene that are certainly false of every other scene; see :class:`CaptionSearch`."""
    return CaptionSearch(scenes).find(position, count, seed=seed, held_out=held_out)


class CaptionSearch:
    """Looks for captions that single out one scene among many.

    Only the scenes that hold all the things of a caption are judged, which leaves few of a thousand.

    Args:
        scenes: the pool.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        self._holding: dict[Thing, frozenset[int]] = {}

    def true_of(self, meaning: Meaning) -> list[int]:
        """Return the positions of the scenes that a meaning is true of."""
        return [position for position in self._holders(meaning) if is_true(meaning, self._scenes[position])]

    def singles_out(self, meaning: Meaning, position: int) -> bool:
        """Whether a meaning is certainly true of one scene and certainly false of all others."""
        return is_true(meaning, self._scenes[position]) and all(
            judge(meaning, self._scenes[other]) is False for other in self._holders(meaning) if other != position
        )

    def find(
        self, position: int, count: int, *, seed: object = 0, held_out: bool | None = False, tries: int = 400
    ) -> tuple[Caption, ...] | None:
        """Return ``count`` different captions of a scene that single it out, or None where they are not found.

        The first tries speak as plain captions do; later ones name ever more attributes.
        """
        drawn = self._scenes[position]
        dice = Dice("pool", seed, drawn.seed, drawn.index, position)
        found: dict[str, Caption] = {}
        for attempt in range(tries):
            more = min(1.0, 3 * attempt / tries)
            mention = {name: max(more, share) for name, share in MENTION.items()}
            try:
                told = caption(drawn, dice, held_out=held_out, mention=mention)
            except DataError:
                return None
            if told.text not in found and self.singles_out(told.meaning, position):
                found[told.text] = told
            if len(found) == count:
                return tuple(found.values())
        return None

    def _holders(self, meaning: Meaning) -> list[int]:
        return sorted(frozenset.intersection(*map(self._scenes_with, meaning.things)))

    def _scenes_with(self, thing: Thing) -> frozenset[int]:
        if thing not in self._holding:
            self._holding[thing] = frozenset(
                position for position, drawn in enumerate(self._scenes) if any(map(thing.fits, drawn.objects))
            )
        return self._holding[thing]


def random_pool(
    count: int = 100,
    *,
    captions: int = 5,
    seed: int = 0,
    start: int = 0,
    config: SceneConfig | None = None,
    held_out: bool | None = False,
) -> Pool:
    """Return a pool of scenes of a stream; a scene that cannot be singled out gives way to the next.

    Args:
        count: how many scenes.
        captions: how many captions of each.
        seed: the seed of the world.
        start: the first scene of the stream to take.
        config: which scenes are drawn.
        held_out: as for ``caption``.

    Raises:
        UsageError: fewer than two scenes or no caption.
    """
    _check(count, captions)
    upcoming = ([scene(seed, index, config)] for index in itertools.count(start))
    return _pool(upcoming, count, captions, seed, held_out, lambda family: [""])


def hard_pool(
    families: int = 25,
    *,
    captions: int = 2,
    seed: int = 0,
    start: int = 0,
    config: SceneConfig | None = None,
    held_out: bool | None = False,
) -> Pool:
    """Return a pool of families: a scene, two edits of an attribute, and an exchange of two places.

    All edits of a family touch one object, so a caption of that object can tell the members apart.

    Args:
        families: how many families of FAMILY scenes.
        captions: how many captions of each scene.
        seed: the seed of the world.
        start: the first scene of the stream to take.
        config: which scenes are drawn.
        held_out: as for ``caption``.

    Raises:
        UsageError: no family or no caption.
    """
    _check(families + 1, captions)
    names: dict[int, list[str]] = {}

    def upcoming() -> Iterator[list[Scene]]:
        """Yield families of scenes whose captions can tell their members apart."""
        for index in itertools.count(start):
            if index - start >= _PATIENCE * (len(names) + 1):
                raise _nothing_found(f"{families} families")
            base = scene(seed, index, config)
            variants = edits_of_one(base, Dice("family", seed, index))
            members = [base, *(variant.scene for variant in variants)]
            search = CaptionSearch(members)
            if len(members) == FAMILY and all(
                search.find(i, captions, seed=seed, held_out=held_out, tries=80) for i in range(FAMILY)
            ):
                names[index] = ["", *(variant.edit for variant in variants)]
                yield members

    return _pool(upcoming(), families, captions, seed, held_out, lambda members: names[members[0].index])


def families(
    count: int,
    bases: Iterable[Scene],
    *,
    captions: int = 3,
    seed: int = 0,
    held_out: bool | None = False,
) -> list[Family]:
    """Return families for training: like those of a hard pool, each caption certainly false of its own family only.

    Args:
        count: how many families.
        bases: scenes to make them of, in order; those that allow no family, or too few captions, are passed over.
        captions: how many captions of each scene.
        seed: the seed of the world.
        held_out: as for ``caption``.

    Raises:
        DataError: the scenes do not allow so many.
    """
    found: list[Family] = []
    for base in bases:
        if len(found) == count:
            break
        made = edits_of_one(base, Dice("family", seed, base.index))
        members = (base, *(variant.scene for variant in made))
        search = CaptionSearch(members)
        told = [search.find(i, captions, seed=seed, held_out=held_out, tries=80) for i in range(len(members))]
        own = tuple(some for some in told if some is not None)
        if len(own) == FAMILY:
            found.append(Family(scenes=members, captions=own, edits=("", *(variant.edit for variant in made))))
    if len(found) < count:
        raise _nothing_found(f"{count} families")
    return found


def minimal_pairs(
    count: int, *, seed: int = 0, start: int = 0, config: SceneConfig | None = None, held_out: bool | None = False
) -> list[MinimalPair]:
    """Return pairs of scenes that differ in one edit, with captions that the edit decides."""
    pairs: list[MinimalPair] = []
    for index in itertools.count(start):
        if len(pairs) == count:
            break
        if index - start >= _PATIENCE * (len(pairs) + 1):
            raise _nothing_found(f"{count} minimal pairs")
        base = scene(seed, index, config)
        dice = Dice("pair", seed, index)
        made = dice.shuffled(list(variants(base, dice.below(len(base.objects)), dice)))
        if made:
            # Edits of places are few beside those of attributes: the kind comes first.
            kind = dice.pick(sorted({variant.edit for variant in made}))
            other = next(variant for variant in made if variant.edit == kind)
            search = CaptionSearch([base, other.scene])
            told = [search.find(i, 1, seed=seed, held_out=held_out) for i in (0, 1)]
            if told[0] and told[1]:
                pair = MinimalPair(first=base, second=other, first_caption=told[0][0], second_caption=told[1][0])
                pairs.append(pair)
    return pairs


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _hit(total: int, right: int, tried: int) -> float:
    """Return the probability that some of ``tried`` blind picks among ``total`` is one of the ``right`` ones."""
    ways = math.comb(total, min(tried, total))
    return (ways - math.comb(total - right, min(tried, total))) / ways


def _check(scenes: int, captions: int) -> None:
    if scenes < 2:
        raise UsageError("a pool needs two scenes or more", where="scenes", remedy="ask for more")
    if captions < 1:
        raise UsageError(f"{captions} captions a scene", where="scenes", remedy="ask for one or more")


def _pool(
    upcoming: Iterator[list[Scene]],
    count: int,
    captions: int,
    seed: int,
    held_out: bool | None,
    edits: Callable[[list[Scene]], list[str]],
) -> Pool:
    """Fill a pool with families; those without enough captions are replaced until all have them."""
    families = [next(upcoming) for _ in range(count)]
    for _ in range(20):
        scenes = [drawn for family in families for drawn in family]
        owners = [number for number, family in enumerate(families) for _ in family]
        search = CaptionSearch(scenes)
        told = [search.find(i, captions, seed=seed, held_out=held_out) for i in range(len(scenes))]
        failed = {owners[i] for i, own in enumerate(told) if own is None}
        if not failed:
            return Pool(
                scenes=tuple(scenes),
                captions=tuple(own for own in told if own is not None),
                families=tuple(owners),
                edits=tuple(edit for family in families for edit in edits(family)),
            )
        families = [family for number, family in enumerate(families) if number not in failed]
        families += [next(upcoming) for _ in failed]
    raise _nothing_found(f"a pool of {count} with {captions} captions each")


def _nothing_found(wanted: str) -> DataError:
    remedy = "allow more objects in a scene, or ask for fewer captions"
    return DataError(f"scenes for {wanted} were not found", where="scenes", remedy=remedy)
