"""All tasks about the scenes of one split, drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vltk.datasets._scene_choices import Choice, draw_choices
from vltk.datasets._scene_expressions import COLLECTIONS, Expression, draw_expressions
from vltk.datasets._scene_files import CAPTIONS, Picture
from vltk.datasets._scene_language import Caption, captions
from vltk.datasets._scene_model import Dice, Scene
from vltk.datasets._scene_pools import CaptionSearch
from vltk.datasets._scene_query import Facts
from vltk.datasets._scene_question_families import FAMILIES, GQA_FAMILIES, draw_questions
from vltk.datasets._scene_questions import Question, ten_answers
from vltk.datasets._scene_statements import PairSet, Statement, draw_hypotheses, draw_pair_sets

SPLITS = ("train", "val", "test")

QUESTIONS, HYPOTHESES, CHOICES, OBJECTS = 8, 6, 2, 4
PAIR_SENTENCES = 4
SENTENCES = {"refcoco": 3, "refcoco+": 3, "refcocog": 2}
HELD_OUT_CAPTIONS = 1


@dataclass(frozen=True, kw_only=True)
class SplitTasks:
    """The pictures of one split and everything that is asked about them.

    Attributes:
        split: "train", "val" or "test".
        pictures: the pictures, in the order of their numbers.
        vqa: for each picture its questions, each with ten answers.
        gqa: for each picture its questions.
        hypotheses: for each picture SNLI-VE's hypotheses.
        pair_sets: NLVR2's sets; a pair holds positions in ``pictures``.
        choices: for each picture VCR's questions.
        expressions: for each collection and each picture the expressions of some objects.
    """

    split: str
    pictures: tuple[Picture, ...]
    vqa: list[list[tuple[Question, tuple[str, ...]]]]
    gqa: list[list[Question]]
    hypotheses: list[list[Statement]]
    pair_sets: list[PairSet]
    choices: list[list[Choice]]
    expressions: dict[str, list[list[list[Expression]]]]


def split_of(index: int) -> str:
    """Return the split of a scene: of ten scenes in a row eight train, the ninth validates, the tenth tests.

    So a longer world with the same seed holds every shorter one, split by split.
    """
    return {8: "val", 9: "test"}.get(index % 10, "train")


def image_id(split: str, index: int) -> str:
    """Return the file name of a picture without suffix, in the manner of COCO.

    Example:
        >>> image_id("val", 8)
        'COCO_val_000000000008'
    """
    return f"COCO_{split}_{index:012d}"


def draw_tasks(split: str, scenes: Sequence[Scene], seed: int) -> SplitTasks:
    """Ask everything about the scenes of one split; a pure function of its arguments."""
    told = _captions(split, scenes, seed)
    pictures = tuple(
        Picture(number=drawn.index, image_id=image_id(split, drawn.index), split=split, scene=drawn, captions=own)
        for drawn, own in zip(scenes, told, strict=True)
    )
    facts = [Facts(drawn) for drawn in scenes]

    def dice(task: str) -> Dice:
        return Dice(task, seed, split)

    asked = draw_questions(facts, dice("vqa"), families=tuple(FAMILIES), count=QUESTIONS)
    people = dice("answers")
    return SplitTasks(
        split=split,
        pictures=pictures,
        vqa=[[(question, ten_answers(question, people)) for question in own] for own in asked],
        gqa=list(draw_questions(facts, dice("gqa"), families=GQA_FAMILIES, count=QUESTIONS)),
        hypotheses=list(draw_hypotheses(facts, dice("snli_ve"), count=HYPOTHESES)),
        pair_sets=list(draw_pair_sets(facts, dice("nlvr2"), sentences=PAIR_SENTENCES)),
        choices=list(draw_choices(facts, dice("vcr"), count=CHOICES)),
        expressions={name: _expressions(name, facts, dice(name)) for name in COLLECTIONS},
    )


def _expressions(collection: str, facts: Sequence[Facts], dice: Dice) -> list[list[list[Expression]]]:
    sentences = SENTENCES[collection]
    return [draw_expressions(own, dice, collection=collection, objects=OBJECTS, sentences=sentences) for own in facts]


def _captions(split: str, scenes: Sequence[Scene], seed: int) -> list[tuple[Caption, ...]]:
    """Return five captions a scene; in val and test each is true of one scene of its split, where that can be.

    The last caption of a test scene is said by a template that training never uses.
    """
    if split == "train":
        return [captions(drawn, CAPTIONS, seed=seed) for drawn in scenes]
    search = CaptionSearch(scenes)
    held = HELD_OUT_CAPTIONS if split == "test" else 0
    shares = [(held_out, count) for held_out, count in ((False, CAPTIONS - held), (True, held)) if count]
    told = []
    for position, drawn in enumerate(scenes):
        own: tuple[Caption, ...] = ()
        for held_out, count in shares:
            found = search.find(position, count, seed=seed, held_out=held_out)
            own += found or captions(drawn, count, seed=seed, held_out=held_out)
        told.append(own)
    return told
