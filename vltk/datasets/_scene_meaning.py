"""What a sentence about a drawn scene means, and of which scenes it is true.

A meaning says that some things exist, each with the attributes that were named, and that they stand
in relations. Different things of one meaning are different objects. "The" is read like "a": the
sentence is true as soon as some choice of objects makes it true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vltk.datasets._scene_model import ATTRIBUTES, CONVERSES, RELATIONS, Scene, SceneObject
from vltk.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Thing:
    """The attributes that a sentence names of one object; None where it is silent.

    Raises:
        UsageError: a value that the drawn world does not have.

    Example:
        >>> Thing(colour="red", shape="star").named()
        (('colour', 'red'), ('shape', 'star'))
    """

    size: str | None = None
    texture: str | None = None
    colour: str | None = None
    shape: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.named():
            if value not in ATTRIBUTES[name]:
                raise UsageError(
                    f"no {name} {value!r} in the drawn world",
                    where="meaning",
                    remedy=did_you_mean(value, ATTRIBUTES[name]),
                )

    def named(self) -> tuple[tuple[str, str], ...]:
        """Return (attribute, value) pairs in the order in which English says them."""
        pairs = (("size", self.size), ("texture", self.texture), ("colour", self.colour), ("shape", self.shape))
        return tuple((name, value) for name, value in pairs if value is not None)

    def fits(self, candidate: SceneObject) -> bool:
        """Whether an object has every attribute that is named."""
        return (
            (self.shape is None or self.shape == candidate.shape)
            and (self.colour is None or self.colour == candidate.colour)
            and (self.texture is None or self.texture == candidate.texture)
            and (self.size is None or self.size == candidate.size)
        )

    def without(self, attribute: str) -> Thing:
        """Return the description that is silent about one attribute."""
        return replace(self, **{attribute: None})

    def but(self, attribute: str, value: str) -> Thing:
        """Return the description with one attribute changed."""
        return replace(self, **{attribute: value})


@dataclass(frozen=True, slots=True)
class Meaning:
    """Things that exist and the relations between them.

    Attributes:
        things: one to six descriptions, each of a different object.
        relations: (relation, index of the first thing, index of the second).

    Raises:
        UsageError: no thing, an unknown relation, or a relation of things that are not there.
    """

    things: tuple[Thing, ...]
    relations: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.things:
            raise UsageError("no thing is spoken of", where="meaning", remedy="name at least one")
        for name, first, second in self.relations:
            if name not in RELATIONS:
                raise UsageError(f"no relation {name!r}", where="meaning", remedy=did_you_mean(name, RELATIONS))
            if first == second or not {first, second} <= set(range(len(self.things))):
                problem = f"relation {name!r} of things {first} and {second}, but there are {len(self.things)}"
                raise UsageError(problem, where="meaning", remedy="name two different things by their index")

    def with_thing(self, index: int, thing: Thing) -> Meaning:
        """Return the meaning with one description exchanged."""
        return replace(self, things=(*self.things[:index], thing, *self.things[index + 1 :]))

    def with_relation(self, index: int, name: str) -> Meaning:
        """Return the meaning with one relation exchanged."""
        _, first, second = self.relations[index]
        return replace(self, relations=(*self.relations[:index], (name, first, second), *self.relations[index + 1 :]))

    def converse(self) -> Meaning | None:
        """Return the same meaning said from the other side, or None where English has no word for it.

        Example:
            >>> above = Meaning((Thing(shape="star"), Thing(shape="ring")), (("above", 0, 1),))
            >>> above.converse().relations, above.converse().things[0].shape
            ((('below', 0, 1),), 'ring')
        """
        if len(self.relations) != 1 or len(self.things) != 2 or self.relations[0][0] not in CONVERSES:
            return None
        name, first, second = self.relations[0]
        return Meaning(self.things[::-1], ((CONVERSES[name], 1 - second, 1 - first),))


def consistent_tuples(meaning: Meaning, drawn: Scene) -> list[tuple[int, ...]]:
    """Return every choice of objects, one for each thing in order, that makes the meaning true of the scene."""
    return [chosen for chosen in _choices(meaning, drawn) if _all_hold(meaning, drawn, chosen)]


def judge(meaning: Meaning, drawn: Scene) -> bool | None:
    """Say whether a meaning is true of a scene by trying every choice of objects.

    Returns:
        True where some choice makes it true; False where every choice is denied; None where it hangs
        on a relation in the margin that people would argue about (see ``judge_relation``).
    """
    if is_true(meaning, drawn):
        return True
    return None if any(_none_denied(meaning, drawn, chosen) for chosen in _choices(meaning, drawn)) else False


def is_true(meaning: Meaning, drawn: Scene) -> bool:
    """Whether a meaning is certainly true of a scene."""
    return any(_all_hold(meaning, drawn, chosen) for chosen in _choices(meaning, drawn))


def is_false(meaning: Meaning, drawn: Scene) -> bool:
    """Whether a meaning is certainly false of a scene: what every negative example must be."""
    return judge(meaning, drawn) is False


def scenes_true_of(meaning: Meaning, scenes: Iterable[Scene]) -> list[int]:
    """Return the positions of the scenes that a meaning is true of."""
    return [position for position, drawn in enumerate(scenes) if is_true(meaning, drawn)]


def scenes_not_false_of(meaning: Meaning, scenes: Iterable[Scene]) -> list[int]:
    """Return the positions of the scenes that a meaning is true of or undecided in."""
    return [position for position, drawn in enumerate(scenes) if judge(meaning, drawn) is not False]


def _choices(meaning: Meaning, drawn: Scene) -> Iterator[tuple[int, ...]]:
    fitting = [[i for i, o in enumerate(drawn.objects) if thing.fits(o)] for thing in meaning.things]
    return _distinct(fitting, ()) if all(fitting) else iter(())


def _distinct(fitting: Sequence[Sequence[int]], chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if len(chosen) == len(fitting):
        yield chosen
        return
    for index in fitting[len(chosen)]:
        if index not in chosen:
            yield from _distinct(fitting, (*chosen, index))


def _all_hold(meaning: Meaning, drawn: Scene, chosen: tuple[int, ...]) -> bool:
    return all((chosen[a], chosen[b]) in drawn.related[name] for name, a, b in meaning.relations)


def _none_denied(meaning: Meaning, drawn: Scene, chosen: tuple[int, ...]) -> bool:
    return all(drawn.relation(name, chosen[a], chosen[b]) is not False for name, a, b in meaning.relations)
