"""VCR's kind of question: four answers of which one is right, and four reasons of which one is true.

Objects are spoken of by reference, as in VCR: the words of a text are strings, a list of integers in
between stands for objects. Wrong answers and reasons are false of the picture, and are made so that
neither words nor the objects' names give them away: the four differ in colour, texture, size and place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vltk.datasets._scene_model import ATTRIBUTES, Dice
from vltk.datasets._scene_query import Balance, Facts
from vltk.datasets._scene_questions import ATTRIBUTES_SUFFICE, RELATION_NEEDED

Words = tuple[str | tuple[int, ...], ...]
"""A text with references: words, and tuples of object indices."""

_SHARED = ("texture", "size")
_QUARTERS = tuple(itertools.product(("left of", "right of"), ("above", "below")))
_COLUMNS, _ROWS = ("left", "middle", "right"), ("upper", "middle", "lower")
_BORDER = 0.02


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One VCR question.

    Attributes:
        family: "common" (what two objects share) or "relation" (where one lies, seen from the other).
        question: the question.
        answers: four answers.
        rationales: four reasons.
        answer: index of the right answer.
        rationale: index of the right reason.
        clue: "attributes" or "relation".
    """

    family: str
    question: Words
    answers: tuple[Words, ...]
    rationales: tuple[Words, ...]
    answer: int
    rationale: int
    clue: str


def draw_choices(scenes: Iterable[Facts], dice: Dice, *, count: int) -> Iterator[list[Choice]]:
    """Yield for each scene at most ``count`` questions of each kind, the right answers in balance over all scenes."""
    balance = Balance(dice)
    for facts in scenes:
        pairs = list(itertools.combinations(range(facts.count), 2))
        made: list[Choice] = []
        for family in (_common, _relation):
            turned = (dice.shuffled(pair) for pair in dice.shuffled(pairs))
            found = (choice for a, b in turned if (choice := family(facts, (a, b), dice, balance)) is not None)
            made += itertools.islice(found, count)
        yield made


def _common(facts: Facts, pair: tuple[int, int], dice: Dice, balance: Balance) -> Choice | None:
    """Ask what two objects have in common; the answers are always the two textures and the two sizes."""
    first, second = (facts.scene.objects[place] for place in pair)
    shared = [name for name in _SHARED if first.attribute(name) == second.attribute(name)]
    if len(shared) != 1 or first.colour == second.colour:
        return None
    values = [value for name in _SHARED for value in ATTRIBUTES[name]]
    right = first.attribute(shared[0])
    if balance.choose("common", {right: right}, labels=values, slack=1) is None:
        return None
    answers = [right, *(value for value in values if value != right)]
    free = ["colour", *(name for name in _SHARED if name not in shared)]
    return _arranged(
        family="common",
        clue=ATTRIBUTES_SUFFICE,
        question=_words("What do * and * have in common ?", pair[:1], pair[1:]),
        answers=[_words(f"* are both {value} .", pair) for value in answers],
        rationales=_exchanged(facts, pair, free),
        dice=dice,
    )


def _exchanged(facts: Facts, pair: tuple[int, int], free: Sequence[str]) -> list[Words]:
    """Return the true description of two objects, then those with one or both of two attributes exchanged.

    All four use the same words and agree with what the objects share.
    """
    texts = []
    for exchanged in itertools.product((False, True), repeat=2):
        swaps = dict(zip(free, exchanged, strict=True))
        said = [
            " ".join(
                facts.scene.objects[pair[1 - side] if swaps.get(name) else pair[side]].attribute(name)
                for name in ("size", "texture", "colour")
            )
            for side in (0, 1)
        ]
        texts.append(_words(f"* is {said[0]} and * is {said[1]} .", pair[:1], pair[1:]))
    return texts


def _relation(facts: Facts, pair: tuple[int, int], dice: Dice, balance: Balance) -> Choice | None:
    """Ask how two objects lie; the answers are the four quarters, the reasons say in which part each lies."""
    holding = [q for q in _QUARTERS if all(facts.holds(relation, *pair) for relation in q)]
    parts = [part for axis in (0, 1) for place in pair if (part := _part(facts, place, axis)) is not None]
    if not holding or len(parts) < 4 or parts[0] == parts[1] or parts[2] == parts[3]:
        return None
    right = holding[0]
    if balance.choose("relation", {" ".join(right): right}, labels=[" ".join(q) for q in _QUARTERS], slack=1) is None:
        return None
    answers = [right, *(q for q in _QUARTERS if q != right)]
    columns, rows = (_steps(parts[k : k + 2], dice) for k in (0, 2))
    rationales = [
        _words(
            f"* lies {_ROWS[row[0]]} {_COLUMNS[column[0]]} and * lies {_ROWS[row[1]]} {_COLUMNS[column[1]]} .",
            pair[:1],
            pair[1:],
        )
        for column, row in itertools.product(columns, rows)
    ]
    return _arranged(
        family="relation",
        clue=RELATION_NEEDED,
        question=_words("Where is * , seen from * ?", pair[:1], pair[1:]),
        answers=[_words(f"* is {across} and {down} * .", pair[:1], pair[1:]) for across, down in answers],
        rationales=rationales,
        dice=dice,
    )


def _part(facts: Facts, place: int, axis: int) -> int | None:
    """Return the third of the picture that a centre lies in, None within 2 % of its border."""
    share = facts.scene.objects[place].centre[axis] / facts.scene.size
    clear = min(abs(share - 1 / 3), abs(share - 2 / 3)) >= _BORDER
    return min(int(3 * share), 2) if clear else None


def _steps(true: Sequence[int], dice: Dice) -> list[Sequence[int]]:
    """Return where two objects lie along an axis, and another possibility in the same order."""
    ordered = [(0, 1), (0, 2), (1, 2)] if true[0] < true[1] else [(1, 0), (2, 0), (2, 1)]
    return [true, dice.pick([other for other in ordered if other != tuple(true)])]


def _arranged(
    *, family: str, clue: str, question: Words, answers: Sequence[Words], rationales: Sequence[Words], dice: Dice
) -> Choice:
    """Return the choice with its texts mixed; the first of each is the right one."""
    mixed_answers, mixed_rationales = dice.shuffled(answers), dice.shuffled(rationales)
    return Choice(
        family=family,
        question=question,
        answers=tuple(mixed_answers),
        rationales=tuple(mixed_rationales),
        answer=mixed_answers.index(answers[0]),
        rationale=mixed_rationales.index(rationales[0]),
        clue=clue,
    )


def _words(text: str, *references: tuple[int, ...]) -> Words:
    """Return the words of a text, with the references in the place of its asterisks."""
    left = iter(references)
    return tuple(next(left) if word == "*" else word for word in text.split())
