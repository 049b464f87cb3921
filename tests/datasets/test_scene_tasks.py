"""Every answer and label of a drawn world, worked out again from the scenes by a slow reader of the sentences."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vltk.datasets import gqa, nlvr2, refcoco, snli_ve, vcr, vqa
from vltk.datasets._scene_query import Facts
from vltk.datasets._scene_question_families import FAMILIES, draw_questions
from vltk.datasets._scene_statements import draw_hypotheses
from vltk.datasets._scene_tasks import split_of
from vltk.datasets._scene_world import WorldSummary, write_world
from vltk.datasets.scenes import Dice, Scene, is_true, scene, understand
from vltk.stores.pickle_reader import read_pickle
from vltk.types import AnswersTarget, BoxTarget, ChoiceTarget, Example, LabelTarget

SEED, IMAGES = 3, 60
SPLITS = ("train", "val", "test")
VALUES = {
    "size": ("small", "large"),
    "texture": ("solid", "striped"),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"),
    "shape": ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart"),
}
ATTRIBUTE_OF = {value: name for name, values in VALUES.items() for value in values}
OPPOSITE = {"left of": "right of", "above": "below", "bigger than": "smaller than"}
OPPOSITE |= {second: first for first, second in OPPOSITE.items()}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")

_NAMES = "|".join((*VALUES["shape"], "object", "one", "thing"))
THING = rf"((?:(?:{'|'.join(v for v, name in ATTRIBUTE_OF.items() if name != 'shape')}) )*(?:{_NAMES})(?:e?s)?)"
RELATION = "(left of|right of|above|below|on|inside|bigger than|smaller than)"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return write_world(tmp_path_factory.mktemp("tasks") / "world", images=IMAGES, seed=SEED)


def picture(image_id: str) -> Scene:
    """The scene that an image id stands for."""
    return scene(SEED, int(image_id.rpartition("_")[2]))


def fitting(drawn: Scene, words: str) -> list[int]:
    """The objects that have all the values that the words name."""
    singular = re.sub(r"(circle|square|triangle|diamond|star|cross|ring|heart|object)e?s\b", r"\1", words)
    wanted = {ATTRIBUTE_OF[word]: word for word in singular.split() if word in ATTRIBUTE_OF}
    return [i for i, o in enumerate(drawn.objects) if all(getattr(o, name) == value for name, value in wanted.items())]


def the(drawn: Scene, words: str) -> int:
    found = fitting(drawn, words)
    assert len(found) == 1, f"{words!r} fits {found}"
    return found[0]


def holds(drawn: Scene, relation: str, a: int, b: int) -> bool | None:
    """The relations by the words of their definition; touching and holding by the scene."""
    first, second = drawn.objects[a], drawn.objects[b]
    if relation in ("right of", "below", "smaller than"):
        return holds(drawn, OPPOSITE[relation], b, a)
    if relation == "bigger than":
        return True if first.radius >= 1.3 * second.radius else False if first.radius <= second.radius else None
    if relation in ("left of", "above"):
        low, high = (0, 2) if relation == "left of" else (1, 3)
        middle = [(o.box[low] + o.box[high]) / 2 for o in (first, second)]
        reach = max(o.box[high] - o.box[low] for o in (first, second)) / 2
        margin = 0.02 * drawn.size
        apart = middle[1] - middle[0]
        return True if apart >= reach + margin else False if apart < margin else None
    return drawn.relation(relation, a, b)


def certain(truth: bool | None) -> bool:
    assert truth is not None, "hangs on a relation in the margin"
    return truth


def yes(truth: bool | None) -> str:
    return "yes" if certain(truth) else "no"


def judged(drawn: Scene, one: Iterable[int], relation: str, other: Iterable[int]) -> list[bool | None]:
    return [holds(drawn, relation, a, b) for a, b in itertools.product(one, other) if a != b]


def some(truths: list[bool | None]) -> bool:
    return any(truths) or any(map(certain, truths))


def attribute(drawn: Scene, place: int, word: str) -> str:
    return str(getattr(drawn.objects[place], "colour" if word == "color" else word))


def is_value(drawn: Scene, place: int, said: str) -> bool:
    value = said.removeprefix("a ").removeprefix("an ")
    return getattr(drawn.objects[place], ATTRIBUTE_OF[value]) == value


def offered(drawn: Scene, name: str, first: str, second: str) -> str:
    right = [said for said in (first, second) if is_value(drawn, the(drawn, name), said)]
    assert len(right) == 1
    return right[0].removeprefix("a ").removeprefix("an ")


def side(drawn: Scene, a: str, b: str, words: tuple[str, str]) -> str:
    truths = {word.split()[0]: holds(drawn, word, the(drawn, a), the(drawn, b)) for word in words}
    assert sorted(map(certain, truths.values())) == [False, True]
    return next(word for word, truth in truths.items() if truth)


def across(drawn: Scene, a: str, b: str) -> str:
    return side(drawn, a, b, ("left of", "right of"))


def exist_related(drawn: Scene, name: str, relation: str, anchor: str) -> str:
    return yes(some(judged(drawn, fitting(drawn, name), relation, [the(drawn, anchor)])))


def related_one(drawn: Scene, name: str, relation: str, anchor: str) -> int:
    place = the(drawn, anchor)
    found = [i for i in fitting(drawn, name) if i != place and certain(holds(drawn, relation, i, place))]
    assert len(found) == 1
    return found[0]


def count_related(drawn: Scene, relation: str, anchor: str) -> str:
    place = the(drawn, anchor)
    return str(sum(certain(holds(drawn, relation, i, place)) for i in range(len(drawn.objects)) if i != place))


def bigger(drawn: Scene, word: str, a: str, b: str) -> str:
    first, second = the(drawn, a), the(drawn, b)
    return drawn.objects[first if certain(holds(drawn, f"{word} than", first, second)) else second].shape


def more(drawn: Scene, a: str, b: str) -> str:
    return yes(len(fitting(drawn, a)) > len(fitting(drawn, b)))


VALUE = rf"((?:an? )?(?:{'|'.join(ATTRIBUTE_OF)}))"
QUESTIONS: list[tuple[str, Callable[..., str]]] = [
    (rf"Is there an? {THING}\?", lambda d, a: yes(bool(fitting(d, a)))),
    (rf"Is there an? {THING} {RELATION} the {THING}\?", exist_related),
    (rf"Is the {THING} {VALUE}\?", lambda d, a, v: yes(is_value(d, the(d, a), v))),
    (rf"Is the {THING} {VALUE} or {VALUE}\?", offered),
    (rf"Is the {THING} {RELATION} the {THING}\?", lambda d, a, r, b: yes(holds(d, r, the(d, a), the(d, b)))),
    (rf"Is the {THING} to the left or to the right of the {THING}\?", across),
    (rf"Is the {THING} above or below the {THING}\?", lambda d, a, b: side(d, a, b, ("above", "below"))),
    (rf"What (color|shape|size) is the {THING}\?", lambda d, w, a: attribute(d, the(d, a), w)),
    (rf"What is the (texture) of the {THING}\?", lambda d, w, a: attribute(d, the(d, a), w)),
    (
        rf"What (?:is the )?(color|shape|size|texture) (?:is|of) the {THING} {RELATION} the {THING}\?",
        lambda d, w, a, r, b: attribute(d, related_one(d, a, r, b), w),
    ),
    (rf"How many {THING} are there\?", lambda d, a: str(len(fitting(d, a)))),
    (rf"How many objects are {RELATION} the {THING}\?", count_related),
    (
        rf"Are the {THING} and the {THING} the same (color|shape|size|texture)\?",
        lambda d, a, b, w: yes(attribute(d, the(d, a), w) == attribute(d, the(d, b), w)),
    ),
    (rf"Are there more {THING} than {THING}\?", more),
    (rf"Which is (bigger|smaller), the {THING} or the {THING}\?", bigger),
]  # fmt: skip


def answer(drawn: Scene, question: str) -> str:
    ways = [(rule, match) for pattern, rule in QUESTIONS if (match := re.fullmatch(pattern, question))]
    assert len(ways) == 1, f"{question!r} is read in {len(ways)} ways"
    rule, match = ways[0]
    return rule(drawn, *match.groups())


def question_clue(drawn: Scene, question: str) -> str:
    """Whether the list of attributes alone settles a question."""
    pair = re.fullmatch(
        rf"(?:Is|Which is (?:bigger|smaller),) the {THING} (?:bigger than|smaller than|or) the {THING}\?", question
    )
    if pair:
        return (
            "attributes" if len({drawn.objects[the(drawn, name)].size for name in pair.groups()}) == 2 else "relation"
        )
    sideways = re.search(rf"\b({RELATION}|above or below|to the right of) the", question)
    return "relation" if sideways else "attributes"


def vqa_of(world: WorldSummary, split: str) -> Iterator[tuple[Example, dict[str, Any]]]:
    root = world.path / "vqa_v2"
    annotations = root / f"v2_mscoco_{split}_annotations.json"
    extra = {str(item["question_id"]): item for item in json.loads(annotations.read_text())["annotations"]}
    for example in vqa.read_examples(root / f"v2_OpenEnded_mscoco_{split}_questions.json", annotations=annotations):
        yield example, extra[example.id]


@pytest.mark.parametrize("split", SPLITS)
def test_each_vqa_answer_is_the_right_one(world: WorldSummary, split: str) -> None:
    asked = 0
    for example, extra in vqa_of(world, split):
        drawn = picture(example.image_ids[0])
        assert isinstance(example.target, AnswersTarget)
        assert split_of(drawn.index) == split
        assert extra["multiple_choice_answer"] == answer(drawn, example.texts[0]), example.texts[0]
        assert Counter(example.target.answers)[extra["multiple_choice_answer"]] >= 6
        assert extra["clue"] == question_clue(drawn, example.texts[0]), example.texts[0]
        asked += 1
    assert asked >= 6 * world.images[split]


@pytest.mark.parametrize("split", SPLITS)
def test_each_gqa_answer_is_the_right_one_entailed_questions_too(world: WorldSummary, split: str) -> None:
    path = world.path / "gqa" / f"{split}_all_questions.json"
    records = json.loads(path.read_text())
    for example in gqa.read_examples(path):
        assert isinstance(example.target, AnswersTarget)
        drawn = picture(example.image_ids[0])
        assert example.target.answers == (answer(drawn, example.texts[0]),), example.texts[0]
        record = records[example.id]
        assert record["clue"] == question_clue(drawn, example.texts[0]), example.texts[0]
        assert example.id in record["equivalent"]
        assert all(
            records[other]["imageId"] == record["imageId"] for other in record["entailed"] + record["equivalent"]
        )
    balanced = list(gqa.read_examples(path, balanced=True))
    assert {one.id for one in balanced} == set(
        json.loads((path.parent / f"{split}_balanced_questions.json").read_text())
    )
    assert any(records[one.id]["entailed"] for one in balanced)


def test_gqa_spans_and_programs_point_at_the_objects_that_the_words_name(world: WorldSummary) -> None:
    records = json.loads((world.path / "gqa" / "train_balanced_questions.json").read_text())
    spans = 0
    for record in records.values():
        drawn = picture(record["imageId"])
        words = re.sub(r"[?.,]", "", record["question"].lower()).split()
        for span, object_id in record["annotations"]["question"].items():
            first, _, end = span.partition(":")
            name = " ".join(words[int(first) : int(end or int(first) + 1)])
            assert object_id == str(10 * drawn.index + the(drawn, name) + 1)
            spans += 1
        for number, step in enumerate(record["semantic"]):
            assert all(0 <= other < number for other in step["dependencies"])
    assert spans > len(records) / 2


def test_answers_of_each_kind_of_question_are_equally_frequent() -> None:
    facts = [Facts(scene(11, index)) for index in range(400)]
    asked = [q for own in draw_questions(facts, Dice("test"), families=tuple(FAMILIES), count=8) for q in own]
    forms: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    families: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question in asked:
        form = re.sub(r"\b(\w+)\b", lambda word: ATTRIBUTE_OF.get(word[1], word[1]), question.text)
        forms[question.family, re.sub(r"\ban\b", "a", form)][question.answer] += 1
        families[question.family][question.answer] += 1
    assert families.keys() == FAMILIES.keys()
    for (family, form), counts in forms.items():
        if family == "exist":
            # One form can hold both sizes and both textures, each in balance to one.
            assert abs(counts["yes"] - counts["no"]) <= 4, form
    for family, counts in families.items():
        if set(counts) == {"yes", "no"}:
            assert abs(counts["yes"] - counts["no"]) < 0.12 * sum(counts.values()), family


def entailment(drawn: Scene, sentence: str) -> tuple[str, str]:
    """SNLI-VE's label: true of all that the subject may be, of none, or of some."""
    if match := re.fullmatch(rf"The {THING} is {VALUE}\.", sentence):
        truths: list[bool | None] = [is_value(drawn, i, match[2]) for i in fitting(drawn, match[1])]
        clue = "attributes"
    else:
        match = re.fullmatch(rf"The {THING} is {RELATION} the {THING}\.", sentence)
        assert match, sentence
        truths = judged(drawn, fitting(drawn, match[1]), match[2], fitting(drawn, match[3]))
        clue = "relation"
    assert truths
    if True in truths and False in truths:
        return "neutral", clue
    return ("entailment" if all(map(certain, truths)) else "contradiction"), clue


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("val", "dev"), ("test", "test")])
def test_each_snli_ve_label_is_the_right_one(world: WorldSummary, split: str, name: str) -> None:
    path = world.path / "snli_ve" / f"snli_ve_{name}.jsonl"
    records = {record["pairID"]: record for record in map(json.loads, path.read_text().splitlines())}
    labels: Counter[str] = Counter()
    for example in snli_ve.read_examples(path):
        assert isinstance(example.target, LabelTarget)
        expected = entailment(picture(example.image_ids[0]), example.texts[0])
        assert (example.target.label, records[example.id]["clue"]) == expected, example.texts[0]
        assert Counter(example.target.votes)[example.target.label] >= 4
        labels[example.target.label] += 1
    assert sum(labels.values()) >= 3 * world.images[split]


def test_the_words_of_a_hypothesis_do_not_tell_its_label() -> None:
    facts = [Facts(scene(12, index)) for index in range(300)]
    told = [statement for own in draw_hypotheses(facts, Dice("test"), count=6) for statement in own]
    labels = Counter(statement.label for statement in told)
    assert max(labels.values()) - min(labels.values()) < 0.06 * len(told)
    by_relation: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for statement in told:
        if match := re.search(rf" is {RELATION} the ", statement.text):
            by_relation[match[1]][statement.label] += 1
    # Subject and landmark are named in four ways, each in balance to one.
    assert len(by_relation) == 6
    for counts in by_relation.values():
        assert max(counts.values()) - min(counts[label] for label in labels) <= 4


def contains(drawn: Scene, claim: str) -> tuple[set[bool], set[bool]]:
    """What a picture may contain as far as people see, two values in the margin; and as far as attributes tell."""
    if match := re.fullmatch(rf"an? {THING} {RELATION} an? {THING}", claim):
        truths = judged(drawn, fitting(drawn, match[1]), match[2], fitting(drawn, match[3]))
        seen = {True} if True in truths else {True, False} if None in truths else {False}
        return seen, {True, False} if truths else {False}
    if match := re.fullmatch(rf"exactly ({'|'.join(NUMBERS)}) {THING}", claim):
        truth = len(fitting(drawn, match[2])) == NUMBERS.index(match[1])
    else:
        match = re.fullmatch(rf"an? {THING}", claim)
        assert match, claim
        truth = bool(fitting(drawn, match[1]))
    return {truth}, {truth}


FRAMES: dict[str, Callable[[bool, bool], bool]] = {
    r"Both images contain (.*)\.": lambda a, b: a and b,
    r"At least one of the images contains (.*)\.": lambda a, b: a or b,
    r"Exactly one of the images contains (.*)\.": lambda a, b: a is not b,
    r"Neither of the images contains (.*)\.": lambda a, b: not a and not b,
    r"The left image contains (.*)\.": lambda a, b: a,
    r"The right image contains (.*)\.": lambda a, b: b,
}


def true_of_pair(left: Scene, right: Scene, sentence: str) -> tuple[bool, str]:
    for frame, combine in FRAMES.items():
        if match := re.fullmatch(frame, sentence):
            looks = [contains(drawn, match[1]) for drawn in (left, right)]
            seen, known = ({combine(a, b) for a, b in itertools.product(*pair)} for pair in zip(*looks, strict=True))
            assert len(seen) == 1, "hangs on a relation in the margin"
            return seen.pop(), "attributes" if len(known) == 1 else "relation"
    if match := re.fullmatch(
        rf"There are more {THING} in the (left|right) image than in the (?:left|right) image\.", sentence
    ):
        counts = [len(fitting(drawn, match[1])) for drawn in (left, right)]
        return (counts[0] > counts[1]) if match[2] == "left" else (counts[1] > counts[0]), "attributes"
    match = re.fullmatch(rf"There (?:is|are) (exactly|at least) ({'|'.join(NUMBERS)}) {THING} in total\.", sentence)
    assert match, sentence
    total, number = sum(len(fitting(drawn, match[3])) for drawn in (left, right)), NUMBERS.index(match[2])
    return total == number if match[1] == "exactly" else total >= number, "attributes"


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("val", "dev"), ("test", "test1")])
def test_each_nlvr2_label_is_the_right_one_and_balanced(world: WorldSummary, split: str, name: str) -> None:
    path = world.path / "nlvr2" / f"{name}.json"
    records = {record["identifier"]: record for record in map(json.loads, path.read_text().splitlines())}
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for example in nlvr2.read_examples(path):
        assert isinstance(example.target, LabelTarget)
        record = records[example.id]
        pair = []
        for image_id, url in zip(example.image_ids, (record["left_url"], record["right_url"]), strict=True):
            own, source = world.path / "nlvr2" / "images" / f"{image_id}.png", world.path / url
            assert own.read_bytes() == source.read_bytes()
            pair.append(picture(source.stem))
        truth, clue = true_of_pair(pair[0], pair[1], example.texts[0])
        assert (example.target.label, record["clue"]) == (str(truth), clue), example.texts[0]
        assert set(example.target.votes) == {example.target.label}
        groups[example.group].append(example.target.label)
    assert groups
    assert all(sorted(labels) == ["False", "False", "True", "True"] for labels in groups.values())


def test_each_vcr_question_has_one_right_answer_and_one_true_reason(world: WorldSummary) -> None:
    kinds: Counter[str] = Counter()
    for split in SPLITS:
        for example in vcr.read_examples(world.path / "vcr" / f"{split}.jsonl", references="numbers"):
            assert isinstance(example.target, ChoiceTarget)
            drawn = picture(example.image_ids[0])
            assert example.target.objects == tuple(thing.shape for thing in drawn.objects)
            answers, rationales = example.texts[1:5], example.texts[5:]
            assert [k for k in range(4) if vcr_true(drawn, answers[k])] == [example.target.answer]
            assert [k for k in range(4) if vcr_true(drawn, rationales[k])] == [example.target.rationale]
            kinds[example.texts[0].split()[0]] += 1
    assert set(kinds) == {"What", "Where"}


def vcr_true(drawn: Scene, text: str) -> bool:
    if match := re.fullmatch(r"\[(\d),(\d)\] are both (\w+) \.", text):
        return all(is_value(drawn, int(place), match[3]) for place in match.groups()[:2])
    if match := re.fullmatch(r"\[(\d)\] is (left of|right of) and (above|below) \[(\d)\] \.", text):
        a, b = int(match[1]), int(match[4])
        return certain(holds(drawn, match[2], a, b)) and certain(holds(drawn, match[3], a, b))
    if match := re.fullmatch(r"\[(\d)\] lies (\w+) (\w+) and \[(\d)\] lies (\w+) (\w+) \.", text):
        return all(
            part(drawn, int(place), 1, ("upper", "middle", "lower")) == row
            and part(drawn, int(place), 0, ("left", "middle", "right")) == column
            for place, row, column in (match.groups()[:3], match.groups()[3:])
        )
    match = re.fullmatch(r"\[(\d)\] is (\w+ \w+ \w+) and \[(\d)\] is (\w+ \w+ \w+) \.", text)
    assert match, text
    return all(
        is_value(drawn, int(place), value)
        for place, values in (match.groups()[:2], match.groups()[2:])
        for value in values.split()
    )


def part(drawn: Scene, place: int, axis: int, names: tuple[str, str, str]) -> str:
    box = drawn.objects[place].box
    share = (box[axis] + box[axis + 2]) / 2 / drawn.size
    assert min(abs(share - 1 / 3), abs(share - 2 / 3)) > 0.019, "lies on the border of two parts"
    return names[int(3 * share)]


EXTREMES = {"leftmost": (0, -1), "far left": (0, -1), "rightmost": (0, 1), "far right": (0, 1)}
EXTREMES |= {"top": (1, -1), "bottom": (1, 1)}


def referred(drawn: Scene, text: str) -> tuple[list[int], str]:
    """The objects that an expression is true of, and whether its attributes alone say so."""
    if match := re.fullmatch(rf"(?:the )?(leftmost|rightmost|top|bottom) {THING}", text):
        return extreme(drawn, match[2], match[1]), "relation"
    if match := re.fullmatch(rf"{THING} at the (far left|far right|top|bottom)", text):
        return extreme(drawn, match[1], match[2]), "relation"
    if match := re.fullmatch(rf"(biggest|smallest) {THING}", text):
        relation = {"biggest": "bigger than", "smallest": "smaller than"}[match[1]]
        among = fitting(drawn, match[2])
        found = [a for a in among if all(holds(drawn, relation, a, b) for b in among if b != a)]
        own = [a for a in among if drawn.objects[a].size == {"biggest": "large", "smallest": "small"}[match[1]]]
        return found, "attributes" if len(own) == 1 else "relation"
    if match := re.fullmatch(rf"the {THING} (?:that is |which is |){RELATION} the {THING}", text):
        place = the(drawn, match[3])
        among = [a for a in fitting(drawn, match[1]) if a != place]
        found = [a for a in among if certain(holds(drawn, match[2], a, place))]
        return found, "attributes" if len(fitting(drawn, match[1])) == 1 else "relation"
    match = re.fullmatch(rf"(?:the )?{THING}(?: in the picture)?", text)
    assert match, text
    return fitting(drawn, match[1]), "attributes"


def extreme(drawn: Scene, name: str, word: str) -> list[int]:
    axis, sign = EXTREMES[word]
    middle = {a: sign * (drawn.objects[a].box[axis] + drawn.objects[a].box[axis + 2]) for a in fitting(drawn, name)}
    farthest = max(middle.values())
    assert sum(value > farthest - 0.079 * drawn.size for value in middle.values()) == 1, "two lie about as far"
    return [a for a, value in middle.items() if value == farthest]


@pytest.mark.parametrize("name", ["refcoco", "refcoco+", "refcocog"])
def test_each_expression_is_true_of_its_object_only(world: WorldSummary, name: str) -> None:
    root = world.path / "refcoco" / name
    references = root / ("refs(umd).p" if name == "refcocog" else "refs(unc).p")
    clues = {
        str(sentence["sent_id"]): sentence["clue"]
        for reference in read_pickle(references, where="refs")
        for sentence in reference["sentences"]
    }
    told = list(refcoco.read_examples(references, root / "instances.json"))
    assert len(told) > 3 * IMAGES
    for example in told:
        assert isinstance(example.target, BoxTarget)
        drawn = picture(example.image_ids[0])
        found, clue = referred(drawn, example.texts[0])
        assert [10 * drawn.index + place + 1 for place in found] == [int(example.target.annotation_id)], example.texts[
            0
        ]
        assert clues[example.id] == clue, example.texts[0]
        if name == "refcoco+":
            assert not re.search(
                r"\b(left|right|top|bottom|leftmost|rightmost|above|below|on|inside)\b", example.texts[0]
            )
    assert set(clues.values()) == {"attributes", "relation"}


def official(given: list[str], said: str) -> float:
    """VQA's accuracy: the mean over people of min(1, others who agree / 3)."""
    scores = []
    for person in range(len(given)):
        others = given[:person] + given[person + 1 :]
        scores.append(min(1.0, others.count(said) / 3))
    return sum(scores) / len(scores)


def test_chance_prior_and_bound_are_recomputed_from_the_files(world: WorldSummary) -> None:
    tasks = {task.task: task for task in world.tasks}
    test = list(vqa_of(world, "test"))
    given = [[item["answer"] for item in extra["answers"]] for _, extra in test]
    bound = sum(max(official(answers, said) for said in answers) for answers in given) / len(given)
    assert tasks["VQA v2"].bound == pytest.approx(bound)
    assert tasks["VQA v2"].items == {split: len(list(vqa_of(world, split))) for split in SPLITS}
    attributes = sum(extra["clue"] == "attributes" for _, extra in test) / len(test)
    assert tasks["VQA v2"].attributes == pytest.approx(attributes)
    assert tasks["VQA v2"].attributes + tasks["VQA v2"].relation == pytest.approx(1)
    assert (tasks["NLVR2"].chance, tasks["NLVR2"].prior) == (0.5, 0.5)
    expressions = [
        example
        for split in ("testA", "testB")
        for example in refcoco.read_examples(
            world.path / "refcoco/refcoco/refs(unc).p", world.path / "refcoco/refcoco/instances.json", split=split
        )
    ]
    chance = sum(1 / len(picture(example.image_ids[0]).objects) for example in expressions) / len(expressions)
    assert tasks["RefCOCO"].chance == pytest.approx(chance)
    assert tasks["RefCOCO"].items["test"] == len(expressions)
    for task in world.tasks:
        assert 0 <= task.chance < task.bound <= 1, task
        assert task.prior is None or task.prior < task.bound, task


def test_retrieval_bound_counts_the_pictures_that_a_caption_is_true_of(world: WorldSummary) -> None:
    split = json.loads((world.path / "dataset_scenes.json").read_text())["images"]
    images = [image for image in split if image["split"] == "test"]
    scenes = [picture(image["filename"].removesuffix(".png")) for image in images]
    true = []
    for image, own in zip(images, scenes, strict=True):
        for sentence in image["sentences"]:
            meaning = understand(sentence["raw"]).meaning
            assert is_true(meaning, own)
            true.append(sum(is_true(meaning, other) for other in scenes))
    retrieval = next(task for task in world.tasks if task.task.startswith("Retrieval"))
    assert retrieval.bound == pytest.approx(sum(1 / count for count in true) / len(true))
    assert retrieval.chance == pytest.approx(1 / len(scenes))


def test_test_captions_hold_templates_that_training_never_uses(world: WorldSummary) -> None:
    templates: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for image in json.loads((world.path / "dataset_scenes.json").read_text())["images"]:
        templates[image["split"]].update(sentence["template"] for sentence in image["sentences"])
    held_out = templates["test"].keys() - templates["train"].keys()
    assert sum(templates["test"][name] for name in held_out) >= world.images["test"]


def test_the_readme_prints_every_number(world: WorldSummary) -> None:
    text = (world.path / "README.md").read_text()
    for task in world.tasks:
        row = next(line for line in text.splitlines() if line.startswith(f"| {task.task} |"))
        assert f"| {task.items['test']} | {task.chance:.3f} |" in row
        assert f"| {task.bound:.3f} | {task.attributes:.3f} | {task.relation:.3f} |" in row
    for pool in world.pools:
        assert f"| {pool.name} | {pool.scenes} | {pool.captions} | {pool.chance:.3f} |" in text
    numbers = json.loads((Path(world.path) / "world.json").read_text())
    assert [task["task"] for task in numbers["tasks"]] == [task.task for task in world.tasks]
