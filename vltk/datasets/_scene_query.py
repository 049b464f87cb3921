"""Asking a drawn scene: which objects a description fits, which relations hold, and labels kept in balance."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

from vltk.datasets._scene_model import ATTRIBUTES, CONTAINERS, Dice, Scene, SceneObject

T = TypeVar("T")

ATTRIBUTE_WORDS = {"size": "size", "texture": "texture", "colour": "color", "shape": "shape"}
"""Attribute -> the word that published questions use for it."""


class Description(NamedTuple):
    """Attribute values that an object may have; "" leaves an attribute open.

    Example:
        >>> Description(colour="orange", shape="cross").phrase("a")
        'an orange cross'
        >>> Description(size="small").plural
        'small objects'
    """

    size: str = ""
    texture: str = ""
    colour: str = ""
    shape: str = ""

    @property
    def form(self) -> tuple[str, ...]:
        """The attributes that are named."""
        return tuple(name for name, value in zip(self._fields, self, strict=True) if value)

    @property
    def noun(self) -> str:
        """The description without an article."""
        return " ".join([value for value in self[:3] if value] + [self.shape or "object"])

    @property
    def plural(self) -> str:
        """The description of several such objects."""
        return self.noun + ("es" if self.shape == "cross" else "s")

    def phrase(self, article: str = "the") -> str:
        """Return the description with "the" or with the right form of "a"."""
        if article == "a" and self.noun[0] in "aeiou":
            article = "an"
        return f"{article} {self.noun}"

    def fits(self, thing: SceneObject) -> bool:
        """Whether an object has all the values."""
        return all(not value or thing.attribute(name) == value for name, value in zip(self._fields, self, strict=True))


FORMS = tuple(form for count in range(1, 5) for form in itertools.combinations(ATTRIBUTES, count))
"""All ways to choose attributes, fewest first."""


class Facts:
    """What can be asked of one scene, each thing computed once.

    Attributes:
        scene: the scene.
        count: how many objects it has.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.count = len(scene.objects)
        self._relations: dict[tuple[str, int, int], bool | None] = {}
        self._found: dict[tuple[int, tuple[str, ...]], list[Description]] = {}
        self._all = (1 << self.count) - 1
        self._masks: dict[str, int] = {}
        for place, thing in enumerate(scene.objects):
            for value in (thing.size, thing.texture, thing.colour, thing.shape):
                self._masks[value] = self._masks.get(value, 0) | 1 << place

    def describe(self, place: int, form: Iterable[str]) -> Description:
        """Return the given attributes of one object."""
        thing = self.scene.objects[place]
        return Description(**{name: thing.attribute(name) for name in form})

    def fits(self, description: Description) -> tuple[int, ...]:
        """Return the objects that a description fits, in their order."""
        mask = self._all
        for value in description:
            if value:
                mask &= self._masks.get(value, 0)
        return tuple(place for place in range(self.count) if mask >> place & 1)

    def holds(self, relation: str, first: int, second: int) -> bool | None:
        """Return :meth:`Scene.relation`, computed once."""
        key = (relation, first, second)
        if key not in self._relations:
            self._relations[key] = self.scene.relation(relation, first, second)
        return self._relations[key]

    @cached_property
    def _names(self) -> tuple[tuple[Description, ...], ...]:
        return tuple(
            tuple(d for form in FORMS if self.fits(d := self.describe(place, form)) == (place,))
            for place in range(self.count)
        )

    def names(self, place: int, *, without: Sequence[str] = ()) -> list[Description]:
        """Return the descriptions that fit one object only and avoid some attributes; none says more than it must."""
        key = (place, tuple(without))
        if key not in self._found:
            found: list[Description] = []
            for name in self._names[place]:
                form = set(name.form)
                if not form.intersection(without) and not any(form > set(shorter.form) for shorter in found):
                    found.append(name)
            self._found[key] = found
        return self._found[key]

    def name(self, dice: Dice, place: int, *, without: Sequence[str] = ()) -> Description | None:
        """Return one of :meth:`names`, now and then with a word more than it needs; None if there is none."""
        names = self.names(place, without=without)
        if not names:
            return None
        chosen = dice.pick(names)
        spare = [name for name in ATTRIBUTES if name not in chosen.form and name not in without]
        if spare and dice.chance(0.3):
            chosen = self.describe(place, (*chosen.form, dice.pick(spare)))
        return chosen

    def plausible(self, relation: str, first: int, second: int) -> bool:
        """Whether two objects look like a pair that this relation could hold between.

        A picture-blind model must not read "no" off the words: only large plain containers hold
        something, nothing lies on a smaller object, and touching objects differ in colour.
        """
        a, b = self.scene.objects[first], self.scene.objects[second]
        if relation == "inside":
            container = b.shape in CONTAINERS and b.size == "large" and b.texture == "solid"
            return container and a.size == "small" and a.colour != b.colour
        if relation == "on":
            return a.colour != b.colour and (a.size, b.size) != ("large", "small")
        return True


def annotation_id(number: int, place: int) -> int:
    """Return the id of an object in every annotation file: from 1 upwards, unique over the world.

    Args:
        number: the number of the picture.
        place: the index of the object in its scene.

    Example:
        >>> annotation_id(20, 3)
        204
    """
    return 10 * number + place + 1


class Balance:
    """Keeps the answers of each kind of question equally frequent, item by item.

    Example:
        >>> balance = Balance(Dice(1))
        >>> picked = [balance.choose("exist", {"yes": 1, "no": 0}) for _ in range(10)]
        >>> sum(picked)
        5
        >>> balance.choose("exist", {"yes": 1}), balance.choose("exist", {"yes": 1})
        (1, None)
    """

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._counts: dict[Hashable, Counter[str]] = {}

    def choose(
        self, bucket: Hashable, candidates: Mapping[str, T], *, labels: Sequence[str] = ("yes", "no"), slack: int = 0
    ) -> T | None:
        """Return the candidate whose label was chosen least so far in this bucket.

        Args:
            bucket: questions of one bucket look alike to somebody who does not see the picture.
            candidates: label -> item.
            labels: all labels that the bucket can have.
            slack: a label more frequent than the rarest by more than this is refused.

        Returns:
            The item, or None where any choice would tilt the bucket.
        """
        counts = self._counts.setdefault(bucket, Counter())
        least = min(counts[label] for label in labels)
        fair = [label for label in candidates if counts[label] <= least + slack]
        if not fair:
            return None
        fewest = min(counts[label] for label in fair)
        label = self._dice.pick([label for label in fair if counts[label] == fewest])
        counts[label] += 1
        return candidates[label]
