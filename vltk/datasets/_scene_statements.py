"""Statements about drawn scenes that the truth checker has judged: SNLI-VE's about one picture, NLVR2's about two."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vltk.datasets._scene_model import ATTRIBUTES, CONTAINERS, Dice
from vltk.datasets._scene_query import Balance, Description, Facts
from vltk.datasets._scene_questions import ATTRIBUTES_SUFFICE, RELATION_NEEDED, predicate

RELATIONS = ("left of", "right of", "above", "below", "on", "inside")
ENTAILMENT_LABELS = ("entailment", "neutral", "contradiction")
PAIRS_OF_A_SET = 4

_SUBJECTS = (("shape",), ("colour",), ("size",), ("texture",), ("colour", "shape"), ("size", "colour"))
_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence with its label.

    Attributes:
        family: what kind of statement it is.
        text: the sentence.
        label: SNLI-VE's "entailment", "neutral" or "contradiction"; NLVR2's "True" or "False".
        clue: "attributes" where the lists of the objects' attributes settle the label, else "relation".
    """

    family: str
    text: str
    label: str
    clue: str


def entailment(truths: Sequence[bool | None]) -> str | None:
    """Return SNLI-VE's label from the truth of a sentence under each way to understand whom it speaks of.

    "The circle is red" speaks of one circle. True whichever circle of the picture is meant: entailment.
    False whichever is meant: contradiction. True of one and false of another, so that the picture does
    not decide: neutral. A relation in the margin (None) decides nothing, and the sentence is not used
    unless others make it neutral already.

    Example:
        >>> entailment([True]), entailment([True, False]), entailment([False, False]), entailment([])
        ('entailment', 'neutral', 'contradiction', None)
    """
    if True in truths and False in truths:
        return "neutral"
    if not truths or None in truths:
        return None
    return "entailment" if truths[0] else "contradiction"


def draw_hypotheses(scenes: Iterable[Facts], dice: Dice, *, count: int) -> Iterator[list[Statement]]:
    """Yield for each scene up to ``count`` SNLI-VE hypotheses, the three labels in balance over all scenes."""
    balance = Balance(dice)
    for facts in scenes:
        told: dict[str, Statement] = {}
        for number in range(_TRIES * count):
            if len(told) == count:
                break
            bucket, drawn = (_attributed if number % 2 else _related)(facts, dice)
            fresh = {label: statement for label, statement in drawn.items() if statement.text not in told}
            statement = balance.choose(bucket, fresh, labels=ENTAILMENT_LABELS)
            if statement is not None:
                told[statement.text] = statement
        yield list(told.values())


_Drawn = tuple[Hashable, dict[str, Statement]]


def _attributed(facts: Facts, dice: Dice) -> _Drawn:
    """Return statements like "The large circle is red."."""
    attribute = dice.pick(tuple(ATTRIBUTES))
    form = dice.pick([form for form in _SUBJECTS if attribute not in form])
    by_size = attribute in ("size", "texture")
    values = [dice.pick(ATTRIBUTES[attribute])] if by_size else ATTRIBUTES[attribute]
    # Containers are large and plain, so their names are compared with one another only.
    subjects = [facts.describe(place, form) for place in dice.shuffled(range(facts.count))]
    look = (subjects[0].shape in CONTAINERS, subjects[0].size, subjects[0].texture) if by_size else None
    drawn: dict[str, Statement] = {}
    for subject in subjects:
        if by_size and (subject.shape in CONTAINERS, subject.size, subject.texture) != look:
            continue
        held = [facts.scene.objects[place].attribute(attribute) for place in facts.fits(subject)]
        for value in dice.shuffled(values):
            label = entailment([other == value for other in held])
            if label is not None and label not in drawn:
                text = f"The {subject.noun} is {predicate(attribute, value)}."
                drawn[label] = Statement(family="attribute", text=text, label=label, clue=ATTRIBUTES_SUFFICE)
    return ("attribute", attribute, form, values[0] if by_size else "", look), drawn


def _related(facts: Facts, dice: Dice) -> _Drawn:
    """Return statements like "The circle is left of the square."."""
    relation, one = dice.pick(RELATIONS), dice.pick(("shape", "colour"))
    other = dice.pick(("shape", "colour"))
    drawn: dict[str, Statement] = {}
    for a, b in dice.shuffled(list(itertools.permutations(range(facts.count), 2))):
        subject, landmark = facts.describe(a, (one,)), facts.describe(b, (other,))
        if subject == landmark or not facts.plausible(relation, a, b):
            continue
        pairs = itertools.product(facts.fits(subject), facts.fits(landmark))
        label = entailment([facts.holds(relation, x, y) for x, y in pairs if x != y])
        if label is not None and label not in drawn:
            text = f"The {subject.noun} is {relation} {landmark.phrase()}."
            drawn[label] = Statement(family="relation", text=text, label=label, clue=RELATION_NEEDED)
    return ("relation", relation, one, other), drawn


class _Seen(NamedTuple):
    """What holds in one picture.

    Attributes:
        truth: whether it holds; None in the margin.
        possible: what could be, as far as the objects' attributes tell.
    """

    truth: bool | None
    possible: frozenset[bool]


_Look = Callable[[Facts], _Seen]
_Judge = Callable[[Facts, Facts], tuple[bool | None, str]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence about two pictures.

    Attributes:
        family: what kind of sentence it is.
        text: the sentence.
        judge: from the left and the right picture to the truth (None in the margin) and the clue.
    """

    family: str
    text: str
    judge: _Judge


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """Four pairs of pictures (two in the smallest splits), and sentences that are true of half of them.

    Attributes:
        pairs: positions of the left and right scene among those that were given.
        sentences: for each sentence its statement on each pair.
    """

    pairs: tuple[tuple[int, int], ...]
    sentences: tuple[tuple[Statement, ...], ...]


def draw_pair_sets(scenes: Sequence[Facts], dice: Dice, *, sentences: int = 2) -> Iterator[PairSet]:
    """Yield NLVR2's sets over the scenes of a split; each scene is in one set where there are enough.

    A sentence is true of two pairs and false of two, so the sentence alone tells nothing at all.

    Args:
        scenes: the scenes of one split; fewer than eight give one set, of two scenes in either order at least.
        dice: where chance comes from.
        sentences: most sentences of a set.
    """
    for pairs in _pairings(len(scenes), dice):
        sides = [(scenes[left], scenes[right]) for left, right in pairs]
        found: dict[str, tuple[Statement, ...]] = {}
        for number in range(400 * sentences):
            if len(found) == sentences:
                break
            source = dice.pick(dice.pick(sides))
            claim = _claim(source, dice, with_relation=(number + len(found)) % 2 == 0)
            statements = _balanced(claim, sides) if claim is not None and claim.text not in found else None
            if statements is not None:
                found[statements[0].text] = statements
        if found:
            yield PairSet(pairs=pairs, sentences=tuple(found.values()))


def _pairings(count: int, dice: Dice) -> Iterator[tuple[tuple[int, int], ...]]:
    if count < 2 * PAIRS_OF_A_SET:
        possible = dice.shuffled(list(itertools.permutations(range(count), 2)))
        if possible:
            yield tuple(possible[:PAIRS_OF_A_SET])
        return
    order = dice.shuffled(range(count))
    for start in range(0, count - 2 * PAIRS_OF_A_SET + 1, 2 * PAIRS_OF_A_SET):
        yield tuple((order[k], order[k + 1]) for k in range(start, start + 2 * PAIRS_OF_A_SET, 2))


def _balanced(claim: Claim, sides: Sequence[tuple[Facts, Facts]]) -> tuple[Statement, ...] | None:
    statements = []
    for left, right in sides:
        truth, clue = claim.judge(left, right)
        if truth is None:
            return None
        statements.append(Statement(family=claim.family, text=claim.text, label=str(truth), clue=clue))
    true = sum(statement.label == "True" for statement in statements)
    return tuple(statements) if 2 * true == len(statements) else None


def _claim(source: Facts, dice: Dice, *, with_relation: bool) -> Claim | None:
    """Return a sentence that mentions what the source scene shows."""
    if with_relation:
        shown = _shown_relation(source, dice)
        return None if shown is None else _framed("relation", *shown, dice)
    kind = dice.pick(("exist", "count", "more", "total"))
    form = dice.pick((("shape",), ("colour",), ("texture",), ("size",), ("texture", "colour"), ("size", "shape")))
    description = source.describe(dice.below(source.count), form)
    if kind == "exist":
        return _framed("exist", description.phrase("a"), lambda facts: _certain(bool(facts.fits(description))), dice)
    if kind == "count":
        number = len(source.fits(description))
        things = f"exactly {_number(number, description)}"
        return _framed("count", things, lambda facts: _certain(len(facts.fits(description)) == number), dice)
    return _compared(description, dice) if kind == "more" else _total(description, dice)


def _shown_relation(source: Facts, dice: Dice) -> tuple[str, _Look] | None:
    relation = dice.pick(RELATIONS)
    pairs = [pair for pair in itertools.permutations(range(source.count), 2) if source.holds(relation, *pair)]
    if not pairs:
        return None
    a, b = dice.pick(pairs)
    forms: tuple[tuple[str, ...], ...] = (("shape",), ("colour",), ("size",), ("texture",), ())
    one, other = source.describe(a, dice.pick(forms)), source.describe(b, dice.pick(forms[:2]))

    def look(facts: Facts) -> _Seen:
        truths = [
            facts.holds(relation, x, y) for x, y in itertools.product(facts.fits(one), facts.fits(other)) if x != y
        ]
        truth = True if any(truths) else None if None in truths else False
        return _Seen(truth, frozenset({True, False} if truths else {False}))

    return f"{one.phrase('a')} {relation} {other.phrase('a')}", look


def _certain(truth: bool) -> _Seen:
    return _Seen(truth, frozenset({truth}))


_FRAMES: Mapping[str, Callable[[bool, bool], bool]] = {
    "Both images contain {}.": lambda left, right: left and right,
    "At least one of the images contains {}.": lambda left, right: left or right,
    "Exactly one of the images contains {}.": lambda left, right: left != right,
    "Neither of the images contains {}.": lambda left, right: not (left or right),
    "The left image contains {}.": lambda left, right: left,
    "The right image contains {}.": lambda left, right: right,
}


def _framed(family: str, shown: str, look: _Look, dice: Dice) -> Claim:
    frame = dice.pick(tuple(_FRAMES))
    combine = _FRAMES[frame]

    def judge(left: Facts, right: Facts) -> tuple[bool | None, str]:
        seen = look(left), look(right)
        real = {combine(a, b) for a in _options(seen[0].truth) for b in _options(seen[1].truth)}
        known = {combine(a, b) for a in seen[0].possible for b in seen[1].possible}
        truth = real.pop() if len(real) == 1 else None
        return truth, ATTRIBUTES_SUFFICE if len(known) == 1 else RELATION_NEEDED

    return Claim(family=family, text=frame.format(shown), judge=judge)


def _options(truth: bool | None) -> tuple[bool, ...]:
    return (True, False) if truth is None else (truth,)


def _compared(description: Description, dice: Dice) -> Claim:
    first, second = dice.shuffled(("left", "right"))
    text = f"There are more {description.plural} in the {first} image than in the {second} image."
    sign = 1 if first == "left" else -1
    return _counted("more", text, lambda left, right: sign * (left - right) > 0, description)


def _total(description: Description, dice: Dice) -> Claim:
    number, exact = 1 + dice.below(5), dice.chance(0.5)
    verb = "is" if number == 1 else "are"
    text = f"There {verb} {'exactly' if exact else 'at least'} {_number(number, description)} in total."
    return _counted("total", text, lambda a, b: a + b == number if exact else a + b >= number, description)


def _counted(family: str, text: str, hold: Callable[[int, int], bool], description: Description) -> Claim:
    def judge(left: Facts, right: Facts) -> tuple[bool | None, str]:
        return hold(len(left.fits(description)), len(right.fits(description))), ATTRIBUTES_SUFFICE

    return Claim(family=family, text=text, judge=judge)


def _number(count: int, description: Description) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six")
    return f"{words[count]} {description.noun if count == 1 else description.plural}"
