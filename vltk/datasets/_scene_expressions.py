"""Referring expressions of drawn scenes, each true of exactly one object: RefCOCO, RefCOCO+ and RefCOCOg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vltk.datasets._scene_model import Dice
from vltk.datasets._scene_query import Description, Facts
from vltk.datasets._scene_questions import ATTRIBUTES_SUFFICE, RELATION_NEEDED

RELATIONS = ("left of", "right of", "above", "below", "on", "inside")
COLLECTIONS = ("refcoco", "refcoco+", "refcocog")

# word -> (axis of the centre, sign): the object with the greatest signed coordinate.
PLACES = {"leftmost": (0, -1), "rightmost": (0, 1), "top": (1, -1), "bottom": (1, 1)}
PLACE_MARGIN = 0.04

_OPEN_FORMS: tuple[tuple[str, ...], ...] = ((), ("shape",), ("colour",), ("texture",), ("size",))


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Words that single one object out.

    Attributes:
        place: the object.
        text: the words, lower case.
        clue: "attributes" where the attributes that are named fit no other object, else "relation".
    """

    place: int
    text: str
    clue: str


def draw_expressions(
    facts: Facts, dice: Dice, *, collection: str, objects: int, sentences: int
) -> list[list[Expression]]:
    """Return for some objects of a scene up to ``sentences`` different expressions each.

    * ``refcoco``: short, may say where ("leftmost circle", "small red one").
    * ``refcoco+``: short, never says where ("striped circle", "biggest ring").
    * ``refcocog``: a whole noun phrase, mostly with a relation ("the circle that is left of the red square").

    Args:
        facts: the scene.
        dice: where chance comes from.
        collection: one of COLLECTIONS.
        objects: most objects of the scene.
        sentences: most expressions of an object; objects without any are passed over.
    """
    ways = _WAYS[collection]
    found: list[list[Expression]] = []
    for place in dice.shuffled(range(facts.count)):
        told: dict[str, Expression] = {}
        for number in range(4 * sentences):
            expression = ways[(number + place) % len(ways)](facts, place, dice)
            if expression is not None and len(told) < sentences:
                told[expression.text] = expression
        if told and len(found) < objects:
            found.append(list(told.values()))
    return found


def _by_attributes(facts: Facts, place: int, dice: Dice) -> Expression | None:
    name = facts.name(dice, place)
    if name is None:
        return None
    text = name.noun if name.shape else name.noun.removesuffix("object") + dice.pick(("one", "object", "thing"))
    return Expression(place=place, text=text, clue=ATTRIBUTES_SUFFICE)


def _by_place(facts: Facts, place: int, dice: Dice) -> Expression | None:
    description = _open(facts, place, dice)
    if description is None:
        return None
    words = [word for word in PLACES if _outermost(facts, description, place, word)]
    if not words:
        return None
    word = dice.pick(words)
    extra = description.noun
    text = dice.pick((f"{word} {extra}", f"the {word} {extra}", f"{extra} at the {_SIDES[word]}"))
    return Expression(place=place, text=text, clue=RELATION_NEEDED)


_SIDES = {"leftmost": "far left", "rightmost": "far right", "top": "top", "bottom": "bottom"}


def _open(facts: Facts, place: int, dice: Dice) -> Description | None:
    """Return a description that fits the object and at least one other."""
    several = [d for form in _OPEN_FORMS if len(facts.fits(d := facts.describe(place, form))) > 1]
    return dice.pick(several) if several else None


def _outermost(facts: Facts, description: Description, place: int, word: str) -> bool:
    """Whether the object lies farthest to one side of all that fit, by 4 % of the picture's side."""
    axis, sign = PLACES[word]
    centres = {i: sign * facts.scene.objects[i].centre[axis] for i in facts.fits(description)}
    runner_up = max(value for i, value in centres.items() if i != place)
    return centres[place] >= runner_up + PLACE_MARGIN * facts.scene.size


def _by_size(facts: Facts, place: int, dice: Dice) -> Expression | None:
    forms = [form for form in _OPEN_FORMS if form not in (("size",), ("texture",))]
    several = [d for form in forms if len(facts.fits(d := facts.describe(place, form))) > 1]
    if not several:
        return None
    description = dice.pick(several)
    things = facts.scene.objects
    others = [things[i] for i in facts.fits(description) if i != place]
    for word, own, relation in (("biggest", "large", "bigger than"), ("smallest", "small", "smaller than")):
        if all(facts.holds(relation, place, i) for i in facts.fits(description) if i != place):
            sizes_tell = things[place].size == own and all(other.size != own for other in others)
            clue = ATTRIBUTES_SUFFICE if sizes_tell else RELATION_NEEDED
            return Expression(place=place, text=f"{word} {description.noun}", clue=clue)
    return None


def _by_relation(facts: Facts, place: int, dice: Dice) -> Expression | None:
    """Return "the circle that is left of the red square", where there may be other circles."""
    description = _open(facts, place, dice) if dice.chance(0.7) else facts.name(dice, place)
    if description is None:
        return None
    fitting = facts.fits(description)
    found = [
        (relation, anchor)
        for relation in RELATIONS
        for anchor in range(facts.count)
        if facts.holds(relation, place, anchor) and _nobody_else(facts, fitting, relation, anchor, place)
    ]
    for relation, anchor in dice.shuffled(found):
        name = facts.name(dice, anchor)
        if name is not None:
            joint = dice.pick((" that is ", " which is ", " "))
            text = f"{description.phrase()}{joint}{relation} {name.phrase()}"
            return Expression(place=place, text=text, clue=ATTRIBUTES_SUFFICE if len(fitting) == 1 else RELATION_NEEDED)
    return None


def _nobody_else(facts: Facts, fitting: Sequence[int], relation: str, anchor: int, place: int) -> bool:
    return all(facts.holds(relation, other, anchor) is False for other in fitting if other not in (place, anchor))


def _at_length(facts: Facts, place: int, dice: Dice) -> Expression | None:
    name = facts.name(dice, place)
    if name is None:
        return None
    return Expression(place=place, text=f"{name.phrase()} in the picture", clue=ATTRIBUTES_SUFFICE)


_Way = Callable[[Facts, int, Dice], Expression | None]
_WAYS: dict[str, tuple[_Way, ...]] = {
    "refcoco": (_by_attributes, _by_place),
    "refcoco+": (_by_attributes, _by_attributes, _by_size),
    "refcocog": (_by_relation, _by_relation, _at_length),
}
