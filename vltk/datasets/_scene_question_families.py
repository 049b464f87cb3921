"""Choosing questions about drawn scenes so that each kind's answers are equally frequent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vltk.datasets._scene_model import ATTRIBUTES, CONTAINERS, Dice
from vltk.datasets._scene_query import FORMS, Balance, Description, Facts
from vltk.datasets._scene_questions import (
    Named,
    Question,
    ask_choose_attribute,
    ask_choose_relation,
    ask_compare_count,
    ask_compare_same,
    ask_compare_size,
    ask_count,
    ask_count_relation,
    ask_exist,
    ask_exist_relation,
    ask_query_attribute,
    ask_query_relation,
    ask_verify_attribute,
    ask_verify_relation,
)

DIRECTIONS = ("left of", "right of", "above", "below")
CONTACTS = ("on", "inside")
# What shows how big something is would give an answer about size away.
SIZE_CLUES = ("size", "texture")
TRIES = 8


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Questions that would do, one for each label, among which balance decides.

    Attributes:
        bucket: what a reader who does not see the picture can tell them apart by.
        candidates: label -> question.
        labels: all labels of the bucket.
        slack: how much more frequent than the rarest a label may be.
    """

    bucket: Hashable
    candidates: dict[str, Question]
    labels: Sequence[str] = ("yes", "no")
    slack: int = 0


def draw_questions(
    scenes: Iterable[Facts], dice: Dice, *, families: Sequence[str], count: int
) -> Iterator[list[Question]]:
    """Yield for each scene up to ``count`` questions of different families.

    Args:
        scenes: the scenes of one split, in order; the balance runs over all of them.
        dice: where chance comes from.
        families: keys of FAMILIES.
        count: most questions of a scene.
    """
    balance = Balance(dice)
    for facts in scenes:
        asked: list[Question] = []
        for family in dice.shuffled(families):
            if len(asked) == count:
                break
            question = _one(FAMILIES[family], facts, dice, balance)
            if question is not None:
                asked.append(question)
        yield asked


def _one(family: Callable[[Facts, Dice], Draft | None], facts: Facts, dice: Dice, balance: Balance) -> Question | None:
    for _ in range(TRIES):
        draft = family(facts, dice)
        if draft is None or not draft.candidates:
            continue
        key = (family.__name__, draft.bucket)
        question = balance.choose(key, draft.candidates, labels=draft.labels, slack=draft.slack)
        if question is not None:
            return question
    return None


def _named(
    facts: Facts, dice: Dice, *, without: Sequence[str] = (), places: Iterable[int] | None = None
) -> Named | None:
    """Return an object with a description that fits it only."""
    for place in dice.shuffled(range(facts.count) if places is None else list(places)):
        name = facts.name(dice, place, without=without)
        if name is not None:
            return name, place
    return None


def _look(name: Description, attribute: str) -> Hashable:
    """Return what a name gives away about size or texture: containers are large and plain."""
    return (name.shape in CONTAINERS, name.size, name.texture) if attribute in SIZE_CLUES else None


def _exist(facts: Facts, dice: Dice) -> Draft | None:
    form = dice.pick([form for form in FORMS if 2 <= len(form) <= 3 and {"colour", "shape"} & set(form)])
    present = facts.describe(dice.below(facts.count), form)
    # Sizes and textures are not equally frequent in the world, so only the others are exchanged.
    changed = dice.pick([name for name in form if name in ("colour", "shape")])
    absent = present._replace(**{changed: dice.pick(ATTRIBUTES[changed])})
    drawn = {"yes": ask_exist(facts, present)}
    if not facts.fits(absent):
        drawn["no"] = ask_exist(facts, absent)
    return Draft(bucket=(form, present.size, present.texture), candidates=drawn)


def _exist_relation(facts: Facts, dice: Dice) -> Draft | None:
    relation, anchor = dice.pick(DIRECTIONS + CONTACTS), _named(facts, dice)
    if anchor is None:
        return None
    form = (dice.pick(("shape", "colour")),)
    drawn = {}
    for place in dice.shuffled(range(facts.count)):
        description = facts.describe(place, form)
        fitting = facts.fits(description)
        if anchor[1] in fitting or not any(facts.plausible(relation, other, anchor[1]) for other in fitting):
            continue
        truths = [facts.holds(relation, other, anchor[1]) for other in fitting]
        if any(truths) or None not in truths:
            label = "yes" if any(truths) else "no"
            drawn[label] = ask_exist_relation(facts, description, relation, anchor, any(truths))
    return Draft(bucket=(relation, form), candidates=drawn)


def _verify_attribute(facts: Facts, dice: Dice) -> Draft | None:
    attribute = dice.pick(tuple(ATTRIBUTES))
    value = facts.scene.objects[dice.below(facts.count)].attribute(attribute)
    having = facts.fits(Description(**{attribute: value}))
    lacking = [place for place in range(facts.count) if place not in having]
    drawn: dict[tuple[Hashable, str], Question] = {}
    for label, places in (("yes", having), ("no", lacking)):
        thing = _named(facts, dice, without=(attribute,), places=places)
        if thing is not None:
            drawn[_look(thing[0], attribute), label] = ask_verify_attribute(facts, thing, attribute, value)
    if not drawn:
        return None
    look = dice.pick(list(drawn))[0]
    fitting = {label: question for (other, label), question in drawn.items() if other == look}
    return Draft(bucket=(attribute, value if attribute in SIZE_CLUES else "", look), candidates=fitting)


def _choose_attribute(facts: Facts, dice: Dice) -> Draft | None:
    attribute = dice.pick(tuple(ATTRIBUTES))
    thing = _named(facts, dice, without=(attribute,))
    if thing is None:
        return None
    answer = facts.scene.objects[thing[1]].attribute(attribute)
    values = ATTRIBUTES[attribute]
    if len(values) == 2:
        question = ask_choose_attribute(facts, thing, attribute, (values[0], values[1]))
        bucket = (attribute, _look(thing[0], attribute))
        return Draft(bucket=bucket, candidates={answer: question}, labels=values)
    other = dice.pick([value for value in values if value != answer])
    drawn = {
        "first": ask_choose_attribute(facts, thing, attribute, (answer, other)),
        "second": ask_choose_attribute(facts, thing, attribute, (other, answer)),
    }
    return Draft(bucket=attribute, candidates=drawn, labels=("first", "second"))


def _verify_relation(facts: Facts, dice: Dice) -> Draft | None:
    relation = dice.pick((*DIRECTIONS, *CONTACTS, "bigger than", "smaller than"))
    by_size = relation in ("bigger than", "smaller than")
    without = SIZE_CLUES if by_size else ()
    pairs = [(a, b) for a in range(facts.count) for b in range(facts.count) if a != b]
    drawn: dict[str, Question] = {}
    for a, b in dice.shuffled(pairs):
        truth = facts.holds(relation, a, b)
        label = "yes" if truth else "no"
        if truth is None or label in drawn or not facts.plausible(relation, a, b):
            continue
        if by_size and not _equal_chances(facts, a, b):
            continue
        first, second = (facts.name(dice, place, without=without) for place in (a, b))
        if first is not None and second is not None:
            drawn[label] = ask_verify_relation(facts, (first, a), relation, (second, b))
    return Draft(bucket=relation, candidates=drawn)


def _equal_chances(facts: Facts, a: int, b: int) -> bool:
    """Whether the shapes say nothing about which of two objects is bigger."""
    shapes = [facts.scene.objects[place].shape for place in (a, b)]
    return (shapes[0] in CONTAINERS) == (shapes[1] in CONTAINERS)


def _choose_relation(facts: Facts, dice: Dice) -> Draft | None:
    sides = dice.pick((("left of", "right of"), ("above", "below")))
    first, second = _named(facts, dice), _named(facts, dice)
    if first is None or second is None or first[1] == second[1]:
        return None
    drawn = {}
    for relation in sides:
        for pair in ((first, second), (second, first)):
            if facts.holds(relation, pair[0][1], pair[1][1]):
                drawn[relation] = ask_choose_relation(facts, pair[0], relation, pair[1])
    return Draft(bucket=sides, candidates=drawn, labels=sides)


def _query_attribute(facts: Facts, dice: Dice) -> Draft | None:
    attribute = dice.pick(tuple(ATTRIBUTES))
    drawn: dict[Hashable, dict[str, Question]] = {}
    for place in dice.shuffled(range(facts.count)):
        name = facts.name(dice, place, without=(attribute,))
        if name is not None:
            answer = facts.scene.objects[place].attribute(attribute)
            question = ask_query_attribute(facts, (name, place), attribute)
            drawn.setdefault(_look(name, attribute), {})[answer] = question
    if not drawn:
        return None
    look = dice.pick(list(drawn))
    return _valued(attribute, look, drawn[look])


def _valued(attribute: str, look: Hashable, drawn: dict[str, Question]) -> Draft:
    values = ATTRIBUTES[attribute]
    return Draft(bucket=(attribute, look), candidates=drawn, labels=values, slack=0 if len(values) == 2 else 4)


def _query_relation(facts: Facts, dice: Dice) -> Draft | None:
    attribute, relation = dice.pick(("colour", "shape", "texture", "size")), dice.pick(DIRECTIONS + CONTACTS)
    if attribute in SIZE_CLUES and relation in CONTACTS:
        return None
    anchor = _named(facts, dice)
    if anchor is None:
        return None
    drawn: dict[str, Question] = {}
    forms = [(), *((name,) for name in ("colour", "shape", "texture", "size") if name != attribute)]
    for form in dice.shuffled(forms):
        if attribute in SIZE_CLUES and set(form) & {*SIZE_CLUES, "shape"}:
            continue
        for place in dice.shuffled(range(facts.count)):
            description = facts.describe(place, form)
            if place != anchor[1] and _only(facts, description, relation, anchor[1], place, attribute):
                answer = facts.scene.objects[place].attribute(attribute)
                question = ask_query_relation(facts, description, relation, anchor, place, attribute)
                drawn.setdefault(answer, question)
    return _valued(attribute, relation if relation in CONTACTS else None, drawn)


def _only(facts: Facts, description: Description, relation: str, anchor: int, place: int, attribute: str) -> bool:
    """Whether the relation singles an object out that its description leaves open."""
    others = [other for other in facts.fits(description) if other not in (place, anchor)]
    values = {facts.scene.objects[other].attribute(attribute) for other in others}
    return (
        facts.holds(relation, place, anchor) is True
        and all(facts.holds(relation, other, anchor) is False for other in others)
        and bool(values - {facts.scene.objects[place].attribute(attribute)})
    )


def _count(facts: Facts, dice: Dice) -> Draft | None:
    form: tuple[str, ...] = dice.pick(((), ("shape",), ("colour",), ("texture",), ("size",)))
    if not form:
        question = ask_count(facts, Description())
        return Draft(bucket="all", candidates={question.answer: question}, labels=("2", "3", "4", "5", "6"), slack=1)
    rare = form[0] in ("shape", "colour")
    labels = ("0", "1", "2") if rare else ("1", "2", "3")
    drawn = {}
    for value in dice.shuffled(ATTRIBUTES[form[0]]) if rare else [dice.pick(ATTRIBUTES[form[0]])]:
        question = ask_count(facts, Description(**{form[0]: value}))
        drawn[question.answer] = question
        bucket = (form, "" if rare else value)
    return Draft(bucket=bucket, candidates={n: q for n, q in drawn.items() if n in labels}, labels=labels)


def _count_relation(facts: Facts, dice: Dice) -> Draft | None:
    anchor = _named(facts, dice)
    if anchor is None or facts.count < 3:
        return None
    drawn = {}
    for relation in dice.shuffled(DIRECTIONS):
        truths = [facts.holds(relation, place, anchor[1]) for place in range(facts.count)]
        if None not in truths and sum(map(bool, truths)) <= 3:
            question = ask_count_relation(facts, relation, anchor, sum(map(bool, truths)))
            drawn[question.answer] = question
    return Draft(bucket=None, candidates=drawn, labels=("0", "1", "2", "3"), slack=1)


def _compare_same(facts: Facts, dice: Dice) -> Draft | None:
    attribute = dice.pick(tuple(ATTRIBUTES))
    named = [(name, i) for i in range(facts.count) if (name := facts.name(dice, i, without=(attribute,))) is not None]
    drawn = {}
    for first in dice.shuffled(named):
        for second in named:
            if first[1] != second[1] and _look(first[0], attribute) == _look(second[0], attribute):
                question = ask_compare_same(facts, first, second, attribute)
                drawn[question.answer] = question
    return Draft(bucket=attribute, candidates=drawn)


def _compare_count(facts: Facts, dice: Dice) -> Draft | None:
    attribute = dice.pick(tuple(ATTRIBUTES))
    first, second = dice.shuffled(ATTRIBUTES[attribute])[:2]
    one, other = Description(**{attribute: first}), Description(**{attribute: second})
    if len(facts.fits(one)) == len(facts.fits(other)):
        return None
    drawn = {}
    for more, fewer in ((one, other), (other, one)):
        question = ask_compare_count(facts, more, fewer)
        if attribute not in SIZE_CLUES or more is one:
            drawn[question.answer] = question
    return Draft(bucket=(attribute, first if attribute in SIZE_CLUES else ""), candidates=drawn)


def _compare_size(facts: Facts, dice: Dice) -> Draft | None:
    wanted = dice.pick(("bigger", "smaller"))
    for a, b in dice.shuffled([(a, b) for a in range(facts.count) for b in range(facts.count)]):
        if not facts.holds("bigger than", a, b) or not _equal_chances(facts, a, b):
            continue
        first, second = (_shaped(facts, place) for place in (a, b))
        if first is not None and second is not None and first.shape != second.shape:
            drawn = {
                label: ask_compare_size(facts, (first, a), (second, b), bigger_first=label == "first", wanted=wanted)
                for label in ("first", "second")
            }
            return Draft(bucket=wanted, candidates=drawn, labels=("first", "second"))
    return None


def _shaped(facts: Facts, place: int) -> Description | None:
    """Return the shortest name that has the shape in it and says nothing of size or texture."""
    for form in (("shape",), ("colour", "shape")):
        name = facts.describe(place, form)
        if facts.fits(name) == (place,):
            return name
    return None


FAMILIES: dict[str, Callable[[Facts, Dice], Draft | None]] = {
    "exist": _exist,
    "exist_relation": _exist_relation,
    "verify_attribute": _verify_attribute,
    "verify_relation": _verify_relation,
    "choose_attribute": _choose_attribute,
    "choose_relation": _choose_relation,
    "query_attribute": _query_attribute,
    "query_relation": _query_relation,
    "compare_same": _compare_same,
    "compare_size": _compare_size,
    "compare_count": _compare_count,
    "count": _count,
    "count_relation": _count_relation,
}
"""Every kind of question, by name."""

GQA_FAMILIES = tuple(name for name in FAMILIES if "count" not in name)
"""GQA never asks how many."""
