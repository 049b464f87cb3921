"""Captions of drawn scenes: sampled, linked to boxes, paraphrased, falsified by one edit, and bounded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vltk.datasets._scene_grammar import TEMPLATES, Sentence, Template, express, templates_for
from vltk.datasets._scene_meaning import Meaning, Thing, consistent_tuples, is_false
from vltk.datasets._scene_model import ATTRIBUTES, RELATIONS, Dice, Scene
from vltk.errors import DataError, UsageError
from vltk.types import Phrase

_TRIES = 500  # a scene with anything to say says it in a few
# Shares of objects whose attribute is named; the shape is named always.
MENTION = {"size": 0.25, "texture": 0.25, "colour": 0.6, "shape": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A sentence that is true of a scene, with the objects that it speaks of.

    Attributes:
        sentence: the words, their parse and their meaning.
        objects: for each thing of the meaning the object of the scene.
    """

    sentence: Sentence
    objects: tuple[int, ...]

    @property
    def text(self) -> str:
        """The words with single spaces."""
        return self.sentence.text

    @property
    def meaning(self) -> Meaning:
        """What the caption says."""
        return self.sentence.meaning

    def phrases(self, drawn: Scene, text: int = 0) -> tuple[Phrase, ...]:
        """Return the noun phrases with the boxes of their objects, in the order of the words.

        Args:
            drawn: the scene that was captioned.
            text: which text of an example the caption is.
        """
        linked = sorted(zip(self.sentence.spans, self.objects, strict=True))
        return tuple(
            Phrase(
                text=text,
                start=start,
                end=end,
                entity=str(index),
                kinds=(drawn.objects[index].shape,),
                boxes=(drawn.objects[index].box,),
            )
            for (start, end), index in linked
        )


def caption(
    drawn: Scene, dice: Dice, *, held_out: bool | None = False, mention: dict[str, float] | None = None
) -> Caption:
    """Sample a caption of a scene.

    The template comes first, then the relations among those that hold somewhere, then the objects among
    all that fit: so, given the words, every choice of objects that makes them true is equally likely,
    and what a masked word can be is a plain count (see :func:`masked_word`).

    Args:
        drawn: the scene.
        dice: where chance comes from.
        held_out: only templates of the test split (True), only the others (False), or all (None).
        mention: probability of naming each attribute; MENTION where not given.

    Raises:
        DataError: the scene has too few objects, or objects too alike, for the allowed templates.

    Example:
        >>> from vltk.datasets.scenes import scene
        >>> from vltk.datasets._scene_meaning import is_true
        >>> told = caption(scene(1, 0), Dice("doc"))
        >>> is_true(told.meaning, scene(1, 0))
        True
    """
    shares = {**MENTION, **(mention or {})}
    allowed = [name for name, template in TEMPLATES.items() if held_out in (None, template.held_out)]
    for _ in range(_TRIES):
        name = dice.pick(allowed)
        found = _choose(drawn, TEMPLATES[name], dice)
        if found is None:
            continue
        relations, chosen = found
        things = tuple(_mentioned(drawn, index, shares, dice) for index in chosen)
        # "A heart is above a heart" helps nobody. The whole draw is repeated, so that the rule depends on
        # the words alone and leaves the posterior a plain count.
        if len(set(things)) == len(things):
            sentence = express(Meaning(things, relations), name, [dice.chance(0.5) for _ in chosen])
            return Caption(sentence=sentence, objects=chosen)
    kind = {True: "held-out ", False: "training ", None: ""}[held_out]
    problem = f"{len(drawn.objects)} object(s) of which the {kind}templates find nothing to say"
    raise DataError(problem, where=f"scene {drawn.index} of seed {drawn.seed}", remedy="take scenes of more objects")


def captions(drawn: Scene, count: int, *, seed: object = 0, held_out: bool | None = False) -> tuple[Caption, ...]:
    """Return captions of a scene, of different texts where it has that many: a pure function of its arguments."""
    dice = Dice("captions", seed, drawn.seed, drawn.index)
    told: list[Caption] = []
    texts: set[str] = set()
    for attempt in itertools.count():
        made = caption(drawn, dice, held_out=held_out)
        if made.text not in texts or attempt >= 8 * count:
            told.append(made)
            texts.add(made.text)
        if len(told) >= count:
            break
    return tuple(told)


def _choose(
    drawn: Scene, template: Template, dice: Dice
) -> tuple[tuple[tuple[str, int, int], ...], tuple[int, ...]] | None:
    count, pairs = template.form
    if count > len(drawn.objects):
        return None
    if not pairs:
        return (), tuple(dice.shuffled(range(len(drawn.objects)))[:count])
    possible = [name for name in RELATIONS if drawn.related[name] and name not in template.excluded]
    # A few tries: two relations may hold without sharing an object.
    for _ in range(12 if possible else 0):
        names = [dice.pick(possible)] * len(pairs)
        if not template.one_relation:
            names[1:] = [dice.pick(possible) for _ in pairs[1:]]
        relations = tuple((name, a, b) for name, (a, b) in zip(names, pairs, strict=True))
        fitting = _joined_tuples(drawn, relations)
        if fitting:
            return relations, dice.pick(fitting)
    return None


def _joined_tuples(drawn: Scene, relations: tuple[tuple[str, int, int], ...]) -> list[tuple[int, ...]]:
    """Return the choices of objects for one or two relations, in a fixed order."""
    if len(relations) == 1:
        return list(drawn.related[relations[0][0]])
    return consistent_tuples(Meaning((Thing(),) * 3, relations), drawn)


def _mentioned(drawn: Scene, index: int, shares: dict[str, float], dice: Dice) -> Thing:
    found = drawn.objects[index]
    return Thing(**{name: found.attribute(name) for name in ATTRIBUTES if dice.chance(shares[name])})


def paraphrases(told: Caption, *, held_out: bool | None = False) -> tuple[Caption, ...]:
    """Return every other way in which the grammar says what a caption says, of the same objects.

    Other templates, and the converse relation where there is one ("left of" said as "right of").

    Example:
        >>> from vltk.datasets._scene_grammar import understand
        >>> made = understand("a star is above a ring")
        >>> [p.text for p in paraphrases(Caption(sentence=made, objects=(0, 1)))][:2]
        ['a star above a ring', 'there is a star above a ring']
    """
    definite = [told.sentence.words[start] == "the" for start, _ in told.sentence.spans]
    versions = [(told.meaning, told.objects, definite)]
    other = told.meaning.converse()
    if other is not None:
        versions.append((other, told.objects[::-1], definite[::-1]))
    made = (
        Caption(sentence=express(meaning, name, articles), objects=objects)
        for meaning, objects, articles in versions
        for name in templates_for(meaning, held_out=held_out)
    )
    return tuple(other for other in made if other.text != told.text)


def edits(meaning: Meaning) -> Iterator[Meaning]:
    """Yield every meaning that differs in the value of one named attribute or in one relation."""
    for index, thing in enumerate(meaning.things):
        for name, value in thing.named():
            for other in ATTRIBUTES[name]:
                if other != value:
                    yield meaning.with_thing(index, thing.but(name, other))
    for index, (name, _, _) in enumerate(meaning.relations):
        for other in RELATIONS:
            if other != name:
                yield meaning.with_relation(index, other)


def foil(told: Caption, drawn: Scene, dice: Dice) -> Sentence | None:
    """Return the caption with one edit that makes it certainly false of the scene, in the same template.

    An edit is kept only after the truth checker denied it: most edits of an attribute leave a
    caption true of some other object.

    Returns:
        The false sentence, or None where no single edit makes it false.
    """
    definite = [told.sentence.words[start] == "the" for start, _ in told.sentence.spans]
    for other in dice.shuffled(list(edits(told.meaning))):
        if told.sentence.template in templates_for(other) and is_false(other, drawn):
            return express(other, told.sentence.template, definite)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedWord:
    """What an attribute word of a caption can be when it is masked and the scene is seen.

    Attributes:
        attribute: "size", "texture", "colour" or "shape".
        value: the word that was masked.
        posterior: probability of each value, given the scene and the other words.
        bound: accuracy of the best guess: the largest probability.
        own_suffices: whether the other attributes of the same thing leave one value only.
        relation_needed: whether one value is left, but only with the rest of the sentence.
    """

    attribute: str
    value: str
    posterior: dict[str, float]
    bound: float
    own_suffices: bool
    relation_needed: bool


def masked_word(told: Caption, drawn: Scene, word: int) -> MaskedWord:
    """Return what a masked attribute word can be, exactly.

    The posterior counts the choices of objects that make the rest of the caption true. It is exact for
    captions as :func:`caption` samples them and for a reader who knows which attribute is masked; "a"
    and "an" before the masked word count as seen.

    Args:
        told: the caption.
        drawn: the scene that it was sampled from.
        word: the index of the masked word.

    Raises:
        UsageError: the word names no attribute.
    """
    slot = next((slot for slot in told.sentence.slots if slot[0] == word), None)
    if slot is None:
        known = ", ".join(str(place) for place, _, _ in told.sentence.slots)
        raise UsageError(f"word {word} of {told.text!r} names no attribute", remedy=f"those that do: {known}")
    _, index, attribute = slot
    rest = told.meaning.with_thing(index, told.meaning.things[index].without(attribute))
    article = told.sentence.words[word - 1]
    others = told.meaning.things[:index] + told.meaning.things[index + 1 :]
    counts = Counter(
        value
        for chosen in consistent_tuples(rest, drawn)
        if _agrees(article, value := drawn.objects[chosen[index]].attribute(attribute))
        and rest.things[index].but(attribute, value) not in others
    )
    total = sum(counts.values())
    own = {o.attribute(attribute) for o in drawn.objects if rest.things[index].fits(o)}
    own = {value for value in own if _agrees(article, value)}
    return MaskedWord(
        attribute=attribute,
        value=told.sentence.words[word],
        posterior={value: count / total for value, count in sorted(counts.items())},
        bound=max(counts.values()) / total,
        own_suffices=len(own) == 1,
        relation_needed=len(counts) == 1 and len(own) > 1,
    )


def _agrees(article: str, value: str) -> bool:
    return article not in ("a", "an") or (article == "an") == (value[0] in "aeiou")
