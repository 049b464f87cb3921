"""Sentences about scenes: parses that carry the meaning, captions that are true, bounds that are exact."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest

from vltk.datasets.scenes import (
    ATTRIBUTES,
    HELD_OUT_TEMPLATES,
    RELATIONS,
    TEMPLATES,
    Caption,
    Dice,
    Meaning,
    Scene,
    SceneConfig,
    Sentence,
    Thing,
    caption,
    captions,
    consistent_tuples,
    edits,
    express,
    foil,
    is_false,
    is_true,
    judge,
    masked_word,
    paraphrases,
    scene,
    scenes_not_false_of,
    scenes_true_of,
    templates_for,
    understand,
    vocabulary,
)
from vltk.errors import DataError, UsageError

VALUES = {value: name for name, values in ATTRIBUTES.items() for value in values}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene(21, index) for index in range(200)]


@pytest.fixture(scope="module")
def told(scenes: list[Scene]) -> list[tuple[Scene, Caption]]:
    return [(drawn, own) for drawn in scenes for own in captions(drawn, 6, held_out=None)]


def everything_sayable(name: str) -> list[Sentence]:
    """A template with every relation (or pair of relations) that it takes, its things described at random."""
    template = TEMPLATES[name]
    dice = Dice("sayable", name)
    count, pairs = template.form
    allowed = [relation for relation in RELATIONS if relation not in template.excluded]
    chosen = (
        [[r] * len(pairs) for r in allowed] if template.one_relation else itertools.product(allowed, repeat=len(pairs))
    )
    sentences = []
    for relations in chosen:
        things = tuple(
            Thing(**{n: dice.pick(v) for n, v in ATTRIBUTES.items() if dice.chance(0.6)}) for _ in range(count)
        )
        meaning = Meaning(things, tuple((r, a, b) for r, (a, b) in zip(relations, pairs, strict=True)))
        sentences.append(express(meaning, name, [dice.chance(0.5) for _ in things]))
    return sentences


def brute_force(meaning: Meaning, drawn: Scene) -> bool | None:
    """The truth of a meaning from its definition: three-valued, over all ways to choose different objects."""
    best: bool | None = False
    for chosen in itertools.permutations(range(len(drawn.objects)), len(meaning.things)):
        fits = all(
            value == drawn.objects[index].attribute(name)
            for thing, index in zip(meaning.things, chosen, strict=True)
            for name, value in thing.named()
        )
        verdicts = [drawn.relation(name, chosen[a], chosen[b]) for name, a, b in meaning.relations]
        if not fits or False in verdicts:
            continue
        if None not in verdicts:
            return True
        best = None
    return best


@pytest.mark.parametrize("name", TEMPLATES)
def test_words_are_read_back(name: str) -> None:
    for sentence in everything_sayable(name):
        assert understand(sentence.text) == sentence


@pytest.mark.parametrize("name", TEMPLATES)
def test_trees_are_projective_and_complete(name: str) -> None:
    for sentence in everything_sayable(name):
        parse = sentence.parse
        assert parse.words == sentence.words
        assert len(sentence.tags) == len(sentence.words)
        assert parse.relations[parse.heads.index(0)] == "root"
        arcs = [(min(d, h), max(d, h)) for d, h in enumerate(parse.heads, 1) if h]
        crossing = [(a, b) for a, b in itertools.combinations(arcs, 2) if a[0] < b[0] < a[1] < b[1]]
        assert crossing == []
        root = parse.heads.index(0) + 1
        assert not any(low < root < high for low, high in arcs)


class Tree:
    """Reads a meaning off a dependency tree by the rules of Universal Dependencies, words and heads only."""

    def __init__(self, sentence: Sentence) -> None:
        self.words = sentence.words
        self.heads = [head - 1 for head in sentence.parse.heads]
        self.labels = sentence.parse.relations

    def children(self, word: int, label: str) -> list[int]:
        return [i for i, head in enumerate(self.heads) if head == word and self.labels[i] == label]

    def thing(self, noun: int) -> Thing:
        named = [self.words[i] for i in self.children(noun, "amod") if i < noun]
        shape = [self.words[noun]] if self.words[noun] in VALUES else []
        return Thing(**{VALUES[value]: value for value in named + shape})

    def nouns(self) -> list[int]:
        """The nouns that have an article, but for the picture itself."""
        return [i for i, word in enumerate(self.words) if self.children(i, "det") and word != "picture"]

    def subjects(self, predicate: int) -> list[int]:
        for subject in self.children(predicate, "nsubj"):
            if self.words[subject] != "that":
                return [subject, *self.children(subject, "conj")]
        head = self.heads[predicate]
        return self.subjects(head) if self.labels[predicate] == "conj" else [head]

    def relations(self) -> set[tuple[str, int, int]]:
        found = set()
        for noun in range(len(self.words)):
            for case in self.children(noun, "case"):
                predicate, name = noun, self.words[case]
                if name in ("of", "than"):
                    predicate = self.heads[noun]
                    name = f"{self.words[predicate]} {name}"
                other = noun
                if self.words[noun] == "it":
                    other = self.children(self.words.index("has"), "nsubj")[0]
                found |= {(name, subject, other) for subject in self.subjects(predicate)}
        return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tree_alone_carries_the_meaning(name: str) -> None:
    for sentence in everything_sayable(name):
        tree = Tree(sentence)
        noun = {thing: end - 1 for thing, (_, end) in enumerate(sentence.spans)}
        assert sorted(noun.values()) == tree.nouns()
        assert tuple(tree.thing(noun[i]) for i in range(len(noun))) == sentence.meaning.things
        assert tree.relations() == {(r, noun[a], noun[b]) for r, a, b in sentence.meaning.relations}


def test_there_is_variety_and_whole_templates_are_held_out() -> None:
    assert len(TEMPLATES) >= 12
    assert {template.form[0] for template in TEMPLATES.values()} == {1, 2, 3}
    assert 3 <= len(HELD_OUT_TEMPLATES) <= len(TEMPLATES) // 3
    forms = {template.form for template in TEMPLATES.values() if template.held_out}
    seen_forms = {template.form for template in TEMPLATES.values() if not template.held_out}
    assert forms <= seen_forms, "what is held out is a way of saying, not a thing to say"
    words = {
        w for name in TEMPLATES if name not in HELD_OUT_TEMPLATES for s in everything_sayable(name) for w in s.words
    }
    assert {w for name in HELD_OUT_TEMPLATES for s in everything_sayable(name) for w in s.words} <= words
    assert words == set(vocabulary())


def test_captions_keep_to_their_templates(scenes: list[Scene]) -> None:
    def used(held_out: bool | None) -> set[str]:
        return {own.sentence.template for drawn in scenes for own in captions(drawn, 5, held_out=held_out)}

    assert used(False) == set(TEMPLATES) - set(HELD_OUT_TEMPLATES)
    assert used(True) == set(HELD_OUT_TEMPLATES)
    assert used(None) == set(TEMPLATES)


def test_every_caption_is_true_of_its_scene(told: list[tuple[Scene, Caption]]) -> None:
    for drawn, own in told:
        assert brute_force(own.meaning, drawn) is True
        assert own.objects in consistent_tuples(own.meaning, drawn)
        assert understand(own.text) == own.sentence
        assert len(set(own.meaning.things)) == len(own.meaning.things)


def test_captions_are_a_pure_function(scenes: list[Scene]) -> None:
    assert captions(scenes[3], 5) == captions(scene(21, 3), 5)
    assert captions(scenes[3], 5)[:2] == captions(scenes[3], 2)
    assert captions(scenes[3], 5) != captions(scenes[3], 5, seed=1)
    assert all(len({own.text for own in captions(drawn, 5)}) == 5 for drawn in scenes)


def test_a_scene_with_little_to_say_repeats_itself() -> None:
    lone = scene(1, 0, SceneConfig(min_objects=1, max_objects=1))
    assert len(captions(lone, 200)) == 200


def test_phrases_are_linked_to_the_boxes_of_their_objects(told: list[tuple[Scene, Caption]]) -> None:
    for drawn, own in told:
        phrases = own.phrases(drawn, text=2)
        assert len(phrases) == len(own.objects)
        assert [p.start for p in phrases] == sorted(p.start for p in phrases)
        for phrase in phrases:
            thing = drawn.objects[int(phrase.entity)]
            words = own.text.split()[phrase.start : phrase.end]
            assert words[0] in ("a", "an", "the")
            assert words[-1] == thing.shape
            assert all(thing.attribute(VALUES[word]) == word for word in words[1:])
            assert (phrase.boxes, phrase.kinds, phrase.text) == ((thing.box,), (thing.shape,), 2)


def test_slots_name_the_attributes(told: list[tuple[Scene, Caption]]) -> None:
    for drawn, own in told:
        for word, thing, name in own.sentence.slots:
            assert own.sentence.words[word] == drawn.objects[own.objects[thing]].attribute(name)
        assert len(own.sentence.slots) == sum(word in VALUES for word in own.sentence.words)


def test_articles_agree(told: list[tuple[Scene, Caption]]) -> None:
    following = {(a, b) for _, own in told for a, b in itertools.pairwise(own.sentence.words) if a in ("a", "an")}
    assert {b for a, b in following if a == "an"} == {"orange"}
    assert "orange" not in {b for a, b in following if a == "a"}


def test_truth_is_what_trying_every_choice_says(told: list[tuple[Scene, Caption]], scenes: list[Scene]) -> None:
    seen: Counter[bool | None] = Counter()
    dice = Dice("truth")
    for spoken_of, own in told[::3]:
        meaning = dice.pick(list(edits(own.meaning)))
        for drawn in (spoken_of, *dice.shuffled(scenes)[:8]):
            verdict = brute_force(meaning, drawn)
            assert (judge(meaning, drawn), is_true(meaning, drawn)) == (verdict, verdict is True)
            assert is_false(meaning, drawn) == (verdict is False)
            seen[verdict] += 1
    assert all(seen[verdict] > 5 for verdict in (True, False, None))


def test_the_scenes_that_a_sentence_is_true_of(scenes: list[Scene]) -> None:
    meaning = understand("there is a star left of the circle").meaning
    assert scenes_true_of(meaning, scenes) == [i for i, drawn in enumerate(scenes) if brute_force(meaning, drawn)]
    assert set(scenes_true_of(meaning, scenes)) < set(scenes_not_false_of(meaning, scenes))


def test_two_things_are_two_objects() -> None:
    drawn = next(d for d in (scene(1, i) for i in range(99)) if [o.shape for o in d.objects].count("star") == 1)
    star = Thing(shape="star")
    assert is_true(Meaning((star,)), drawn)
    assert is_false(Meaning((star, star)), drawn)


def test_paraphrases_say_the_same(told: list[tuple[Scene, Caption]], scenes: list[Scene]) -> None:
    kinds = set()
    for drawn, own in told[::5]:
        for other in paraphrases(own, held_out=None):
            assert other.text != own.text
            assert other.objects in consistent_tuples(other.meaning, drawn)
            assert scenes_true_of(other.meaning, scenes) == scenes_true_of(own.meaning, scenes)
            assert set(other.objects) == set(own.objects)
            kinds.add(other.sentence.template)
    assert kinds == set(TEMPLATES)
    for template in TEMPLATES.values():
        things = tuple(Thing(shape="star") for _ in range(template.form[0]))
        meaning = Meaning(things, tuple(("on", a, b) for a, b in template.form[1]))
        assert len(templates_for(meaning, held_out=False)) >= 2, "every form has a paraphrase in training"


def test_a_foil_is_one_edit_away_and_certainly_false(told: list[tuple[Scene, Caption]]) -> None:
    for number, (drawn, own) in enumerate(told[::3]):
        other = foil(own, drawn, Dice("foil", number))
        assert other is not None
        assert brute_force(other.meaning, drawn) is False
        assert other.template == own.sentence.template
        before, after = own.meaning, other.meaning
        changed = [
            (i, name)
            for i, (x, y) in enumerate(zip(before.things, after.things, strict=True))
            for name in ATTRIBUTES
            if getattr(x, name) != getattr(y, name)
        ]
        changed += [
            (i, "relation") for i, (x, y) in enumerate(zip(before.relations, after.relations, strict=True)) if x != y
        ]
        # "Both" and "join" name one relation for two pairs, so theirs cannot be edited one at a time.
        assert len(changed) == 1


def test_edits_are_all_single_edits() -> None:
    meaning = understand("the small red star is left of a ring").meaning
    found = list(edits(meaning))
    assert len(found) == len(set(found)) == 1 + 7 + 7 + 7 + 7
    assert meaning not in found


def masked_text(own: Caption, word: int) -> tuple[str, ...]:
    return (*own.sentence.words[:word], "?", *own.sentence.words[word + 1 :])


def test_masked_words_are_as_uncertain_as_sampling_says() -> None:
    # The simulation knows nothing of tuples: it samples captions, masks a word and counts what stood there.
    drawn = next(
        d
        for d in (scene(8, i, SceneConfig(min_objects=4, max_objects=4)) for i in itertools.count())
        if max(Counter(o.shape for o in d.objects).values()) == 3
    )
    dice = Dice("simulation")
    counts: dict[Any, Counter[str]] = defaultdict(Counter)
    asked: dict[Any, tuple[Caption, int]] = {}
    for _ in range(20_000):
        own = caption(drawn, dice, held_out=None)
        for word, thing, name in own.sentence.slots:
            key = (own.sentence.template, masked_text(own, word), thing, name)
            counts[key][own.sentence.words[word]] += 1
            asked[key] = own, word
    checked = uncertain = 0
    for key, seen in counts.items():
        total = sum(seen.values())
        if total < 25:
            continue
        result = masked_word(*asked[key][:1], drawn, asked[key][1])
        assert set(seen) <= set(result.posterior)
        assert sum(result.posterior.values()) == pytest.approx(1)
        assert result.bound == max(result.posterior.values())
        for value, probability in result.posterior.items():
            spread = math.sqrt(total * probability * (1 - probability))
            assert abs(seen[value] - total * probability) <= 4.5 * spread
        checked += 1
        uncertain += result.bound < 1
    assert checked > 80
    assert uncertain > 20


def test_masked_words_know_what_resolves_them() -> None:
    base = scene(1, 0, SceneConfig(min_objects=3, max_objects=3, inside=0, on=0))
    looks = [("star", "red", 20.0), ("star", "blue", 100.0), ("ring", "green", 60.0)]
    drawn = replace(
        base,
        objects=tuple(
            replace(o, shape=s, colour=c, texture="solid", size="small", x=x, y=64.0, radius=9.0, rotation=0.0)
            for o, (s, c, x) in zip(base.objects, looks, strict=True)
        ),
    )

    def ask(text: str, objects: tuple[int, ...], value: str) -> Any:
        return masked_word(Caption(sentence=understand(text), objects=objects), drawn, text.split().index(value))

    plain = ask("you can see the red star", (0,), "red")
    assert plain.posterior == {"blue": 0.5, "red": 0.5}
    assert (plain.bound, plain.own_suffices, plain.relation_needed) == (0.5, False, False)
    related = ask("the red star is left of the ring", (0, 2), "red")
    assert (related.posterior, related.own_suffices, related.relation_needed) == ({"red": 1.0}, False, True)
    own = ask("the red star is left of the green ring", (0, 2), "green")
    assert (own.bound, own.own_suffices, own.relation_needed) == (1.0, True, False)
    with pytest.raises(
        UsageError, match=r"^word 0 of 'you can see the red star' names no attribute; those that do: 4, 5$"
    ):
        masked_word(Caption(sentence=understand("you can see the red star"), objects=(0,)), drawn, 0)


@pytest.mark.parametrize(
    "text", ["", "star", "a red", "the picture", "a star is left a ring", "a red red-ish star", "you can see a star on"]
)
def test_other_sentences_are_refused(text: str) -> None:
    with pytest.raises(
        DataError, match=r"^not a sentence of the drawn world: .*; use the words and templates of the grammar$"
    ):
        understand(text)


def test_impossible_meanings_are_refused() -> None:
    star = Thing(shape="star")
    with pytest.raises(UsageError, match=r"^meaning: no colour 'pinkish' in the drawn world; did you mean pink\?$"):
        Thing(colour="pinkish")
    with pytest.raises(UsageError, match=r"^meaning: no thing is spoken of; name at least one$"):
        Meaning(())
    with pytest.raises(UsageError, match=r"^meaning: relation 'on' of things 0 and 1, but there are 1; name two"):
        Meaning((star,), (("on", 0, 1),))
    with pytest.raises(UsageError, match=r"^meaning: no relation 'under'; known are above, below"):
        Meaning((star, star), (("under", 0, 1),))
    with pytest.raises(UsageError, match=r"^scenes: no template 'copula'; did you mean copular\?$"):
        express(Meaning((star,)), "copula")
    with pytest.raises(
        UsageError, match=r"^scenes: template 'copular' cannot say .*; those that can: exists, see, shows$"
    ):
        express(Meaning((star,)), "copular")


def test_a_scene_with_nothing_to_say_is_reported() -> None:
    lone = scene(1, 3, SceneConfig(min_objects=1, max_objects=1))
    with pytest.raises(DataError, match=r"^scene 3 of seed 1: 1 object\(s\) of which the held-out templates find"):
        caption(lone, Dice("x"), held_out=True)
    pair = scene(1, 3, SceneConfig(min_objects=2, max_objects=2, inside=0, on=0))
    first, second = pair.objects
    twins = replace(pair, objects=(first, replace(first, x=second.x, y=second.y)))
    assert caption(twins, Dice("x"), held_out=True).objects in ((0, 1), (1, 0))
    with pytest.raises(DataError, match=r"find nothing to say; take scenes of more objects$"):
        caption(twins, Dice("x"), held_out=True, mention=dict.fromkeys(ATTRIBUTES, 1.0))
