"""What each task about drawn scenes allows: chance, language priors, exact bound, and what attributes alone settle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vltk.datasets._scene_choices import Words
from vltk.datasets._scene_expressions import COLLECTIONS, Expression
from vltk.datasets._scene_files import Picture
from vltk.datasets._scene_language import Caption, masked_word
from vltk.datasets._scene_meaning import Meaning, consistent_tuples
from vltk.datasets._scene_model import ATTRIBUTES, SceneObject
from vltk.datasets._scene_pools import CaptionSearch, Pool
from vltk.datasets._scene_questions import ATTRIBUTES_SUFFICE, Question
from vltk.datasets._scene_statements import Statement
from vltk.datasets._scene_tasks import SPLITS, SplitTasks

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """What can be reached in one task on the test split, without a picture and with one.

    Attributes:
        task: the task.
        measure: what the numbers are.
        items: how many items each split has.
        chance: what a uniform guess scores.
        prior: what the most frequent training answer of each kind of item scores; None where there is none.
        prior_text: the same for each exact text, where training has it.
        bound: what perfect sight and perfect reading score.
        attributes: share of items that the objects' attributes alone settle.
        relation: share of items that take a relation as well.
    """

    task: str
    measure: str
    items: dict[str, int] = field(default_factory=dict)
    chance: float
    prior: float | None = None
    prior_text: float | None = None
    bound: float
    attributes: float
    relation: float


def vqa_accuracy(answer: str, given: Sequence[str]) -> float:
    """Return VQA's official accuracy of an answer that is spelt as the given ones are.

    Example:
        >>> vqa_accuracy("red", ["red"] * 3 + ["blue"] * 7)
        0.9
    """
    same = sum(other == answer for other in given)
    return sum(min(1.0, (same - (other == answer)) / 3) for other in given) / len(given)


class Majority:
    """The most frequent training label by kind, and by exact text."""

    def __init__(self, train: Iterable[tuple[Hashable, str, str]]) -> None:
        self._kinds: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
        self._texts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for kind, text, label in train:
            self._kinds[kind][label] += 1
            self._texts[text][label] += 1

    def by_kind(self, kind: Hashable) -> str:
        """Return the label of a kind of item, "" where training has none."""
        return _most_frequent(self._kinds.get(kind))

    def by_text(self, kind: Hashable, text: str) -> str:
        """Return the label of a text; where training lacks it, of its kind."""
        return _most_frequent(self._texts.get(text)) or self.by_kind(kind)

    def labels(self, kind: Hashable) -> tuple[str, ...]:
        """Return the labels that training has for a kind."""
        return tuple(sorted(self._kinds.get(kind, ())))


def _most_frequent(counts: Counter[str] | None) -> str:
    # The smallest of equally frequent labels, so that the order of the items does not matter.
    return min(counts, key=lambda label: (-counts[label], label)) if counts else ""


def mean(values: Iterable[float]) -> float:
    """Return the mean, 0 of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def summarise(splits: Mapping[str, SplitTasks]) -> list[TaskSummary]:
    """Return the summaries of all tasks, by code from the items themselves."""
    return [
        _questions("VQA v2", "accuracy (official, ten answers)", splits, lambda own: own.vqa),
        _questions(
            "GQA (balanced)",
            "accuracy",
            splits,
            lambda own: [[(question, (question.answer,) * 10) for question in asked] for asked in own.gqa],
        ),
        _statements("NLVR2", splits, _pair_statements, ("False", "True")),
        _statements("SNLI-VE", splits, lambda own: _flat(own.hypotheses), ("contradiction", "entailment", "neutral")),
        *_choices(splits),
        *(_references(collection, splits) for collection in COLLECTIONS),
        _retrieval(splits),
        _grounding(splits),
        *(_masked(attribute, splits) for attribute in ("colour", "shape")),
    ]


def _flat(lists: Iterable[Iterable[Item]]) -> list[Item]:
    return [item for own in lists for item in own]


def _counts(splits: Mapping[str, SplitTasks], count: Callable[[SplitTasks], int]) -> dict[str, int]:
    return {name: count(splits[name]) for name in SPLITS}


def _told(own: SplitTasks) -> list[tuple[Picture, Caption]]:
    return [(picture, told) for picture in own.pictures for told in picture.captions]


def _share(items: Sequence[Item], clue: Callable[[Item], str]) -> tuple[float, float]:
    attributes = mean(clue(item) == ATTRIBUTES_SUFFICE for item in items)
    return attributes, (1 - attributes) if items else 0.0


_Voted = tuple[Question, tuple[str, ...]]


def _questions(
    task: str, measure: str, splits: Mapping[str, SplitTasks], asked: Callable[[SplitTasks], list[list[_Voted]]]
) -> TaskSummary:
    train, test = _flat(asked(splits["train"])), _flat(asked(splits["test"]))
    majority = Majority((_kind(question), question.text, _signal(question)) for question, _ in train)

    def guess(question: Question, given: Sequence[str]) -> float:
        return mean(vqa_accuracy(option, given) for option in _options(question, majority))

    attributes, relation = _share(test, lambda item: item[0].clue)
    return TaskSummary(
        task=task,
        measure=measure,
        items=_counts(splits, lambda own: sum(map(len, asked(own)))),
        chance=mean(guess(question, given) for question, given in test),
        prior=mean(vqa_accuracy(_answer(q, majority.by_kind(_kind(q))), given) for q, given in test),
        prior_text=mean(vqa_accuracy(_answer(q, majority.by_text(_kind(q), q.text)), given) for q, given in test),
        bound=mean(max(vqa_accuracy(answer, given) for answer in set(given)) for _, given in test),
        attributes=attributes,
        relation=relation,
    )


def _offers(question: Question) -> bool:
    """Whether the question itself names the two answers."""
    return question.family in ("choose_attribute", "compare_size")


def _kind(question: Question) -> Hashable:
    return question.family, () if _offers(question) else question.options


def _signal(question: Question) -> str:
    return str(question.options.index(question.answer)) if _offers(question) else question.answer


def _answer(question: Question, signal: str) -> str:
    return question.options[int(signal or "0")] if _offers(question) else signal


def _options(question: Question, majority: Majority) -> tuple[str, ...]:
    return question.options or majority.labels(_kind(question))


def _pair_statements(own: SplitTasks) -> list[Statement]:
    return [statement for group in own.pair_sets for sentence in group.sentences for statement in sentence]


def _statements(
    task: str,
    splits: Mapping[str, SplitTasks],
    told: Callable[[SplitTasks], list[Statement]],
    labels: tuple[str, ...],
) -> TaskSummary:
    test = told(splits["test"])
    majority = Majority((item.family, item.text, item.label) for item in told(splits["train"]))
    attributes, relation = _share(test, lambda item: item.clue)
    return TaskSummary(
        task=task,
        measure="accuracy",
        items=_counts(splits, lambda own: len(told(own))),
        chance=1 / len(labels),
        prior=mean(majority.by_kind(item.family) == item.label for item in test),
        prior_text=mean(majority.by_text(item.family, item.text) == item.label for item in test),
        bound=1.0 if test else 0.0,
        attributes=attributes,
        relation=relation,
    )


def _choices(splits: Mapping[str, SplitTasks]) -> list[TaskSummary]:
    train, test = _flat(splits["train"].choices), _flat(splits["test"].choices)
    answers = _rates((item.answers, item.answer) for item in train)
    rationales = _rates((item.rationales, item.rationale) for item in train)
    right = {
        "Q to A": [_guess(answers, item.answers) == item.answer for item in test],
        "QA to R": [_guess(rationales, item.rationales) == item.rationale for item in test],
    }
    right["Q to AR"] = [a and b for a, b in zip(right["Q to A"], right["QA to R"], strict=True)]
    attributes, relation = _share(test, lambda item: item.clue)
    return [
        TaskSummary(
            task=f"VCR {name}",
            measure="accuracy",
            items=_counts(splits, lambda own: sum(map(len, own.choices))),
            chance=1 / 16 if name == "Q to AR" else 1 / 4,
            prior_text=mean(hits),
            bound=1.0 if test else 0.0,
            attributes=attributes,
            relation=relation,
        )
        for name, hits in right.items()
    ]


def _rates(items: Iterable[tuple[tuple[Words, ...], int]]) -> dict[str, float]:
    """Return how often each text, its references left out, was the right one."""
    seen: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for texts, label in items:
        seen.update(map(_masked_text, texts))
        right[_masked_text(texts[label])] += 1
    return {text: right[text] / count for text, count in seen.items()}


def _guess(rates: Mapping[str, float], texts: Sequence[Words]) -> int:
    return max(range(len(texts)), key=lambda place: (rates.get(_masked_text(texts[place]), 0.0), -place))


def _masked_text(words: Words) -> str:
    return " ".join(word if isinstance(word, str) else "*" for word in words)


_Referred = tuple[Picture, Expression]

# What a model that ignores the words may always choose.
_RULES: dict[str, Callable[[SceneObject], float]] = {
    "largest": lambda thing: -thing.radius,
    "smallest": lambda thing: thing.radius,
    "leftmost": lambda thing: thing.centre[0],
    "rightmost": lambda thing: -thing.centre[0],
    "topmost": lambda thing: thing.centre[1],
    "lowest": lambda thing: -thing.centre[1],
}


def _references(collection: str, splits: Mapping[str, SplitTasks]) -> TaskSummary:
    train, test = (_referred(splits[name], collection) for name in ("train", "test"))
    rule = max(_RULES, key=lambda name: mean(_follows(name, item) for item in train))
    attributes, relation = _share(test, lambda item: item[1].clue)
    return TaskSummary(
        task={"refcoco": "RefCOCO", "refcoco+": "RefCOCO+", "refcocog": "RefCOCOg"}[collection],
        measure="accuracy, given boxes",
        items=_counts(splits, lambda own: len(_referred(own, collection))),
        chance=mean(1 / len(picture.scene.objects) for picture, _ in test),
        prior=mean(_follows(rule, item) for item in test),
        bound=1.0 if test else 0.0,
        attributes=attributes,
        relation=relation,
    )


def _referred(own: SplitTasks, collection: str) -> list[_Referred]:
    drawn = zip(own.pictures, own.expressions[collection], strict=True)
    return [(picture, told) for picture, objects in drawn for sentences in objects for told in sentences]


def _follows(rule: str, item: _Referred) -> bool:
    picture, told = item
    things = picture.scene.objects
    return min(range(len(things)), key=lambda place: _RULES[rule](things[place])) == told.place


def _retrieval(splits: Mapping[str, SplitTasks]) -> TaskSummary:
    pictures = splits["test"].pictures
    scenes = tuple(picture.scene for picture in pictures)
    told = tuple(picture.captions for picture in pictures)
    pool = Pool(scenes=scenes, captions=told, families=tuple(range(len(scenes))), edits=("",) * len(scenes))
    search = CaptionSearch(scenes)
    alone = [len(search.true_of(Meaning(one.meaning.things, ()))) == 1 for own in told for one in own]
    single = [len(search.true_of(one.meaning)) == 1 for own in told for one in own]
    return TaskSummary(
        task="Retrieval, text to image",
        measure="R@1 of the test split",
        items=_counts(splits, lambda own: len(_told(own))),
        chance=pool.chance()["text_to_image"],
        bound=pool.bound()["text_to_image"],
        attributes=mean(alone),
        relation=mean(single) - mean(alone),
    )


def _grounding(splits: Mapping[str, SplitTasks]) -> TaskSummary:
    """Phrases of the captions: the bound is the most likely object, given the whole caption and the picture."""
    chances, bounds, alone, single = [], [], [], []
    for picture, told in _told(splits["test"]):
        tuples = consistent_tuples(told.meaning, picture.scene)
        for place, thing in enumerate(told.meaning.things):
            counts = Counter(chosen[place] for chosen in tuples)
            chances.append(1 / len(picture.scene.objects))
            bounds.append(max(counts.values()) / len(tuples))
            alone.append(sum(map(thing.fits, picture.scene.objects)) == 1)
            single.append(len(counts) == 1)
    return TaskSummary(
        task="Flickr30k Entities",
        measure="R@1 of phrases, given boxes",
        items=_counts(splits, lambda own: sum(len(told.objects) for _, told in _told(own))),
        chance=mean(chances),
        bound=mean(bounds),
        attributes=mean(alone),
        relation=mean(single) - mean(alone),
    )


def _masked(attribute: str, splits: Mapping[str, SplitTasks]) -> TaskSummary:
    """A masked colour or shape word of a caption: the bound is the most likely value, given picture and other words."""
    found = [
        masked_word(told, picture.scene, word)
        for picture, told in _told(splits["test"])
        for word, _, name in told.sentence.slots
        if name == attribute
    ]
    majority = Majority((attribute, "", word) for word in _words(attribute, splits["train"]))
    return TaskSummary(
        task=f"Masked {'color' if attribute == 'colour' else attribute} word",
        measure="accuracy",
        items=_counts(splits, lambda own: len(_words(attribute, own))),
        chance=1 / len(ATTRIBUTES[attribute]),
        prior=mean(item.value == majority.by_kind(attribute) for item in found),
        bound=mean(item.bound for item in found),
        attributes=mean(item.own_suffices for item in found),
        relation=mean(item.relation_needed for item in found),
    )


def _words(attribute: str, own: SplitTasks) -> list[str]:
    slots = ((told, word, name) for _, told in _told(own) for word, _, name in told.sentence.slots)
    return [told.sentence.words[word] for told, word, name in slots if name == attribute]
