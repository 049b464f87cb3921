"""Questions about a drawn scene, with their answers, as VQA v2 and GQA ask them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vltk.datasets._scene_model import ATTRIBUTES, CONVERSES, Dice
from vltk.datasets._scene_query import ATTRIBUTE_WORDS, Description, Facts, annotation_id

ATTRIBUTES_SUFFICE, RELATION_NEEDED = "attributes", "relation"
"""What an item takes: the attributes of the objects alone, or where and how big they are too."""

ANSWERS, RIGHT_AT_LEAST = 10, 6

Step = tuple[str, tuple[int, ...], str]
"""One step of a GQA program: operation, the steps it depends on, argument."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about one scene.

    Attributes:
        family: what kind of question it is, a key of FAMILIES.
        text: the question, with a question mark.
        answer: the one right answer.
        full_answer: the answer as a sentence.
        clue: "attributes" where the list of the objects' attributes settles the answer, else "relation".
        program: the steps that find the answer, in GQA's form.
        options: the answers that the words of the question leave open; empty for numbers.
        mentions: the phrases of the question that stand for one object each, with the object.
        entailed: questions whose answers follow from this answer.
        equivalent: questions that ask the same in other words.
    """

    family: str
    text: str
    answer: str
    full_answer: str
    clue: str
    program: tuple[Step, ...]
    options: tuple[str, ...] = ("yes", "no")
    mentions: tuple[tuple[Description, int], ...] = ()
    entailed: tuple[Question, ...] = ()
    equivalent: tuple[Question, ...] = ()


class _Program:
    """Builds the steps of a GQA program."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.steps: list[Step] = []

    def add(self, operation: str, argument: str, *on: int) -> int:
        self.steps.append((operation, on, argument))
        return len(self.steps) - 1

    def select(self, description: Description) -> int:
        ids = [str(annotation_id(self._facts.scene.index, place)) for place in self._facts.fits(description)]
        last = self.add("select", f"{description.shape or 'object'} ({','.join(ids) or '-'})")
        return self._filtered(description, last)

    def relate(self, description: Description, relation: str, anchor: int) -> int:
        last = self.add("relate", f"{description.shape or 'object'},{relation},s", anchor)
        return self._filtered(description, last)

    def _filtered(self, description: Description, last: int) -> int:
        for name in description.form:
            if name != "shape":
                last = self.add(f"filter {ATTRIBUTE_WORDS[name]}", getattr(description, name), last)
        return last

    def done(self) -> tuple[Step, ...]:
        return tuple(self.steps)


Named = tuple[Description, int]
"""A description that fits one object only, and the object."""


def clue_of(facts: Facts, relation: str, first: int, second: int) -> str:
    """Return what it takes to judge a relation of two objects.

    Every large object is bigger than every small one; nothing else follows from attributes.
    """
    sizes = {facts.scene.objects[place].size for place in (first, second)}
    return ATTRIBUTES_SUFFICE if relation in ("bigger than", "smaller than") and len(sizes) == 2 else RELATION_NEEDED


def yes_no(truth: bool) -> str:
    """Return "yes" or "no"."""
    return "yes" if truth else "no"


def predicate(attribute: str, value: str) -> str:
    """Return what follows "is": a shape takes an article, other values are adjectives.

    Example:
        >>> predicate("shape", "heart"), predicate("colour", "red")
        ('a heart', 'red')
    """
    return Description(shape=value).phrase("a") if attribute == "shape" else value


def _whether(truth: bool, *, yes: str, no: str, **told: Any) -> Question:
    """Make a question that is answered with yes or no, each with what it says in full."""
    return Question(answer=yes_no(truth), full_answer=f"Yes, {yes}." if truth else f"No, {no}.", **told)


def ask_exist(facts: Facts, description: Description) -> Question:
    """Ask whether there is such an object."""
    truth = bool(facts.fits(description))
    program = _Program(facts)
    program.add("exist", "?", program.select(description))
    return _whether(
        truth,
        yes=f"there is {description.phrase('a')}",
        no=f"there is no {description.noun}",
        family="exist",
        text=f"Is there {description.phrase('a')}?",
        clue=ATTRIBUTES_SUFFICE,
        program=program.done(),
    )


def ask_exist_relation(facts: Facts, description: Description, relation: str, anchor: Named, truth: bool) -> Question:
    """Ask whether such an object stands in a relation to the anchor; such objects exist in either case."""
    program = _Program(facts)
    program.add("exist", "?", program.relate(description, relation, program.select(anchor[0])))
    place = f"{relation} {anchor[0].phrase()}"
    return _whether(
        truth,
        yes=f"there is {description.phrase('a')} {place}",
        no=f"there is no {description.noun} {place}",
        family="exist_relation",
        text=f"Is there {description.phrase('a')} {place}?",
        clue=RELATION_NEEDED,
        program=program.done(),
        mentions=(anchor,),
        entailed=(ask_exist(facts, description),) if truth else (),
    )


def ask_verify_attribute(facts: Facts, thing: Named, attribute: str, value: str) -> Question:
    """Ask whether an object has a value."""
    truth = facts.scene.objects[thing[1]].attribute(attribute) == value
    program = _Program(facts)
    program.add(f"verify {ATTRIBUTE_WORDS[attribute]}", value, program.select(thing[0]))
    name, said = thing[0].phrase(), predicate(attribute, value)
    return _whether(
        truth,
        yes=f"{name} is {said}",
        no=f"{name} is not {said}",
        family="verify_attribute",
        text=f"Is {name} {said}?",
        clue=ATTRIBUTES_SUFFICE,
        program=program.done(),
        mentions=(thing,),
    )


def ask_verify_relation(facts: Facts, first: Named, relation: str, second: Named) -> Question:
    """Ask whether a relation holds between two objects; it must be clear whether it does."""
    question = _verify_relation(facts, first, relation, second)
    if relation not in CONVERSES:
        return question
    converse = _verify_relation(facts, second, CONVERSES[relation], first)
    return Question(**{**vars(question), "equivalent": (converse,)})


def _verify_relation(facts: Facts, first: Named, relation: str, second: Named) -> Question:
    truth = bool(facts.holds(relation, first[1], second[1]))
    program = _Program(facts)
    anchor, subject = program.select(second[0]), program.select(first[0])
    program.add("verify rel", f"_,{relation},s", subject, anchor)
    a, b = first[0].phrase(), second[0].phrase()
    return _whether(
        truth,
        yes=f"{a} is {relation} {b}",
        no=f"{a} is not {relation} {b}",
        family="verify_relation",
        text=f"Is {a} {relation} {b}?",
        clue=clue_of(facts, relation, first[1], second[1]),
        program=program.done(),
        mentions=(first, second),
    )


def ask_choose_attribute(facts: Facts, thing: Named, attribute: str, values: tuple[str, str]) -> Question:
    """Ask which of two values an object has."""
    answer = facts.scene.objects[thing[1]].attribute(attribute)
    program = _Program(facts)
    program.add(f"choose {ATTRIBUTE_WORDS[attribute]}", "|".join(values), program.select(thing[0]))
    said = " or ".join(predicate(attribute, value) for value in values)
    return Question(
        family="choose_attribute",
        text=f"Is {thing[0].phrase()} {said}?",
        answer=answer,
        full_answer=f"{_capital(thing[0].phrase())} is {predicate(attribute, answer)}.",
        clue=ATTRIBUTES_SUFFICE,
        options=values,
        program=program.done(),
        mentions=(thing,),
        entailed=(ask_verify_attribute(facts, thing, attribute, answer), ask_exist(facts, thing[0])),
    )


def ask_choose_relation(facts: Facts, first: Named, relation: str, second: Named) -> Question:
    """Ask on which of two opposite sides an object lies; ``relation`` is the true one of the two."""
    across = relation in ("left of", "right of")
    program = _Program(facts)
    anchor, subject = program.select(second[0]), program.select(first[0])
    program.add("choose rel", "_,left of|right of,s" if across else "_,above|below,s", subject, anchor)
    a, b = first[0].phrase(), second[0].phrase()
    sides = "to the left or to the right of" if across else "above or below"
    return Question(
        family="choose_relation",
        text=f"Is {a} {sides} {b}?",
        answer=relation.split()[0],
        full_answer=f"{_capital(a)} is {relation} {b}.",
        clue=RELATION_NEEDED,
        options=("left", "right") if across else ("above", "below"),
        program=program.done(),
        mentions=(first, second),
        entailed=(_verify_relation(facts, first, relation, second),),
    )


def ask_query_attribute(facts: Facts, thing: Named, attribute: str) -> Question:
    """Ask for the colour, shape, size or texture of an object."""
    answer, name = facts.scene.objects[thing[1]].attribute(attribute), thing[0].phrase()
    program = _Program(facts)
    program.add("query", ATTRIBUTE_WORDS[attribute], program.select(thing[0]))
    return Question(
        family="query_attribute",
        text=_what(attribute, name),
        answer=answer,
        full_answer=f"{_capital(name)} is {predicate(attribute, answer)}.",
        clue=ATTRIBUTES_SUFFICE,
        options=ATTRIBUTES[attribute],
        program=program.done(),
        mentions=(thing,),
        entailed=(
            ask_verify_attribute(facts, thing, attribute, answer),
            ask_exist(facts, thing[0]._replace(**{attribute: answer})),
        ),
    )


def ask_query_relation(
    facts: Facts, description: Description, relation: str, anchor: Named, place: int, attribute: str
) -> Question:
    """Ask for an attribute of the one such object (``place``) that stands in a relation to the anchor."""
    answer = facts.scene.objects[place].attribute(attribute)
    program = _Program(facts)
    program.add("query", ATTRIBUTE_WORDS[attribute], program.relate(description, relation, program.select(anchor[0])))
    name = f"{description.phrase()} {relation} {anchor[0].phrase()}"
    return Question(
        family="query_relation",
        text=_what(attribute, name),
        answer=answer,
        full_answer=f"{_capital(name)} is {predicate(attribute, answer)}.",
        clue=RELATION_NEEDED,
        options=ATTRIBUTES[attribute],
        program=program.done(),
        mentions=(anchor,),
        entailed=(ask_exist(facts, description._replace(**{attribute: answer})),),
    )


def ask_count(facts: Facts, description: Description) -> Question:
    """Ask how many such objects there are."""
    program = _Program(facts)
    program.add("count", "?", program.select(description))
    return _counted("count", description, "", len(facts.fits(description)), program.done(), ())


def ask_count_relation(facts: Facts, relation: str, anchor: Named, count: int) -> Question:
    """Ask how many objects stand in a relation to the anchor."""
    program = _Program(facts)
    program.add("count", "?", program.relate(Description(), relation, program.select(anchor[0])))
    place = f" {relation} {anchor[0].phrase()}"
    return _counted("count_relation", Description(), place, count, program.done(), (anchor,))


def _counted(
    family: str,
    description: Description,
    place: str,
    count: int,
    program: tuple[Step, ...],
    mentions: tuple[Named, ...],
) -> Question:
    things = f"is 1 {description.noun}" if count == 1 else f"are {count} {description.plural}"
    return Question(
        family=family,
        text=f"How many {description.plural} are {place.strip() or 'there'}?",
        answer=str(count),
        full_answer=f"There {things}{place}.",
        clue=RELATION_NEEDED if place else ATTRIBUTES_SUFFICE,
        options=(),
        program=program,
        mentions=mentions,
    )


def ask_compare_same(facts: Facts, first: Named, second: Named, attribute: str) -> Question:
    """Ask whether two objects share a value."""
    a, b = (facts.scene.objects[place].attribute(attribute) for _, place in (first, second))
    word = ATTRIBUTE_WORDS[attribute]
    program = _Program(facts)
    program.add(f"same {word}", "", program.select(first[0]), program.select(second[0]))
    names = f"{first[0].phrase()} and {second[0].phrase()}"
    return Question(
        family="compare_same",
        text=f"Are {names} the same {word}?",
        answer=yes_no(a == b),
        full_answer=f"Yes, {names} are the same {word}." if a == b else f"No, {names} differ in {word}.",
        clue=ATTRIBUTES_SUFFICE,
        program=program.done(),
        mentions=(first, second),
    )


def ask_compare_count(facts: Facts, more: Description, fewer: Description) -> Question:
    """Ask whether there are more objects of one kind than of another."""
    truth = len(facts.fits(more)) > len(facts.fits(fewer))
    program = _Program(facts)
    counts = [program.add("count", "?", program.select(description)) for description in (more, fewer)]
    program.add("more", "", *counts)
    claim = f"more {more.plural} than {fewer.plural}"
    return _whether(
        truth,
        yes=f"there are {claim}",
        no=f"there are not {claim}",
        family="compare_count",
        text=f"Are there {claim}?",
        clue=ATTRIBUTES_SUFFICE,
        program=program.done(),
    )


def ask_compare_size(facts: Facts, bigger: Named, smaller: Named, *, bigger_first: bool, wanted: str) -> Question:
    """Ask which of two objects of different shapes is bigger, or smaller (``wanted``)."""
    first, second = (bigger, smaller) if bigger_first else (smaller, bigger)
    right = bigger if wanted == "bigger" else smaller
    program = _Program(facts)
    program.add(f"choose {wanted}", "", program.select(first[0]), program.select(second[0]))
    return Question(
        family="compare_size",
        text=f"Which is {wanted}, {first[0].phrase()} or {second[0].phrase()}?",
        answer=right[0].shape,
        full_answer=f"{_capital(right[0].phrase())} is {wanted}.",
        clue=clue_of(facts, "bigger than", bigger[1], smaller[1]),
        options=(first[0].shape, second[0].shape),
        program=program.done(),
        mentions=(first, second),
    )


def _what(attribute: str, name: str) -> str:
    if attribute == "texture":
        return f"What is the texture of {name}?"
    return f"What {ATTRIBUTE_WORDS[attribute]} is {name}?"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def ten_answers(question: Question, dice: Dice) -> tuple[str, ...]:
    """Return what ten people answer: each is right in 93 of 100 cases, at least six are, the others are plausible."""
    answers = [question.answer if dice.chance(0.93) else _slip(question.answer, dice) for _ in range(ANSWERS)]
    wrong = [place for place, answer in enumerate(answers) if answer != question.answer]
    for place in wrong[ANSWERS - RIGHT_AT_LEAST :]:
        answers[place] = question.answer
    return tuple(answers)


_CONFUSED = (("yes", "no"), ("left", "right"), ("above", "below"), *ATTRIBUTES.values())


def _slip(answer: str, dice: Dice) -> str:
    if answer.isdigit():
        return str(max(0, int(answer) + dice.pick((-1, 1))))
    return dice.pick(next([value for value in group if value != answer] for group in _CONFUSED if answer in group))
