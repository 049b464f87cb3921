"""A few random examples of every task that answers them, for tests of what reads them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from torch import nn

from tests.small_pairs import TINY_MODEL, VOCABULARY, WIDTH, caption, picture, write_examples, write_features
from vltk.config import listing
from vltk.models.uniter import UNITERConfig
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.tasks._prediction import AnsweringTask
from vltk.tasks._task import Split
from vltk.types import AnswersTarget, BoxTarget, ChoiceTarget, Example, LabelTarget, RegionFeatures, Tokens

Dice = np.random.Generator
ANSWERS = ("red", "blue", "two")


def _vqa(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    given = tuple(str(answer) for answer in dice.choice([*ANSWERS, "other"], 10, p=[0.5, 0.2, 0.2, 0.1]))
    return replace(example, target=AnswersTarget(answers=given, question_type="what", answer_type="other"))


def _gqa(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    return replace(example, target=AnswersTarget(answers=(str(dice.choice(ANSWERS)),), question_type="query"))


def _nlvr2(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    images = tuple(str(image) for image in dice.choice(sorted(pictures), 2, replace=False))
    target = LabelTarget(label=str(dice.choice(["True", "False"])))
    return replace(example, image_ids=images, target=target, group=f"group {dice.integers(3)}")


def _snli_ve(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    labels = ("contradiction", "entailment", "neutral")
    gold, *others = (str(label) for label in dice.choice(labels, 3))
    return replace(example, target=LabelTarget(label=gold, votes=(gold, gold, gold, *others)))


def _refcoco(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    own = pictures[example.image_ids[0]]
    row = int(dice.integers(len(own)))
    box = tuple(float(value) for value in own.boxes[row])
    return replace(example, target=BoxTarget(box=box, annotation_id=own.region_ids[row]))  # type: ignore[arg-type]


def _vcr(example: Example, pictures: Mapping[str, RegionFeatures], dice: Dice) -> Example:
    texts = [tuple(dice.integers(5, VOCABULARY, int(dice.integers(1, 4))).tolist()) for _ in range(9)]
    return replace(
        example,
        texts=tuple(" ".join(f"w{piece}" for piece in text) for text in texts),
        tokens=tuple(Tokens(ids=text, words=tuple(range(len(text)))) for text in texts),
        target=ChoiceTarget(answer=int(dice.integers(4)), rationale=int(dice.integers(4))),
    )


MAKERS: dict[str, Callable[[Example, Mapping[str, RegionFeatures], Dice], Example]] = {
    "vqa": _vqa,
    "gqa": _gqa,
    "nlvr2": _nlvr2,
    "snli_ve": _snli_ve,
    "refcoco": _refcoco,
    "vcr": _vcr,
}


def maker_of(task: str) -> Callable[[Example, Mapping[str, RegionFeatures], Dice], Example]:
    """Return what makes examples of a task: of one whose module names its LABELS nothing else is needed."""
    labels = getattr(importlib.import_module(f"vltk.tasks.{task}"), "LABELS", None)
    if task not in MAKERS and labels is None:
        raise LookupError(f"name the LABELS of {task} in its module, or add a maker of its examples to MAKERS")
    return MAKERS.get(task, lambda one, _, dice: replace(one, target=LabelTarget(label=str(dice.choice(labels)))))


def answering_tasks() -> list[str]:
    """Return the tasks that answer each example, found by listing."""
    found = []
    for name in listing("vltk.tasks"):
        config = getattr(importlib.import_module(f"vltk.tasks.{name}"), "Config", None)
        built = get_type_hints(config.build)["return"] if config is not None else None
        if isinstance(built, type) and issubclass(built, AnsweringTask):
            found.append(name)
    return found


def small_examples(
    task: str, name: str = "train", *, images: int = 8, texts: int = 3, seed: int = 0
) -> tuple[list[Example], list[RegionFeatures]]:
    """Return random examples of a task and the pictures that they are about."""
    dice = np.random.default_rng([seed, *name.encode()])
    names = [f"{name}-{number}" for number in range(images)]
    drawn = [picture(one, dice) for one in names]
    pictures = [replace(one, region_ids=tuple(f"{one.image_id}:{k}" for k in range(len(one)))) for one in drawn]
    by_id = {one.image_id: one for one in pictures}
    told = [caption(f"{one}#{k}", one, dice, longest=6) for one in names for k in range(texts)]
    make = maker_of(task)
    return [make(example, by_id, dice) for example in told], pictures


def split_of(
    folder: Path, examples: Sequence[Example], pictures: Sequence[RegionFeatures], name: str = "train"
) -> Split:
    """Write examples and pictures as stores and return them as a split."""
    texts = write_examples(folder / f"{name}.lmdb", examples)
    regions = write_features(folder / f"{name}-features.lmdb", pictures)
    return Split(name=name, examples=ExampleStore.open(texts), features=FeatureStore.open(regions))


def small_split(folder: Path, task: str, name: str = "train", **settings: int) -> Split:
    """Write a small random split of a task."""
    examples, pictures = small_examples(task, name, **settings)
    return split_of(folder, examples, pictures, name)


def encoder(sizes: Mapping[str, int] | None = None, *, dropout: float = 0.0) -> nn.Module:
    """Make a tiny UNITER that a task can use."""
    wanted = TINY_MODEL | {"vocabulary": VOCABULARY, "region_dim": WIDTH, "positions": 24} | dict(sizes or {})
    return UNITERConfig(**wanted, dropout=dropout).build()


def small_task(task: str, split: Split, **options: Any) -> Any:
    """Build a task around a tiny encoder."""
    if task in ("vqa", "gqa"):
        options.setdefault("min_answers", 1)
    config = importlib.import_module(f"vltk.tasks.{task}").Config(**options)
    return config.build(encoder(config.model_sizes()), split)
