"""The order of a retrieval run: every caption once a pass, negatives that are none of its own, the same anywhere."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_pairs import (
    TINY_MODEL,
    VOCABULARY,
    WIDTH,
    caption,
    picture,
    write_examples,
    write_features,
    write_pairs,
)
from vltk.config.relations import IAISConfig
from vltk.config.training import FinetuningConfig
from vltk.errors import DataError, UsageError
from vltk.models.uniter import UNITERConfig
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore
from vltk.tasks._retrieval_plan import Work
from vltk.tasks._task import JointScorer, RetrievalTask, Split
from vltk.tasks.flickr30k import Config

IMAGES, CAPTIONS = 7, 3


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    examples, features = write_pairs(tmp_path_factory.mktemp("pairs"), "train", images=IMAGES, captions=CAPTIONS)
    return Split(name="train", examples=ExampleStore.open(examples), features=FeatureStore.open(features))


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNITERConfig(vocabulary=VOCABULARY, region_dim=WIDTH, **TINY_MODEL).build()


def plan_of(split: Split, *, seed: int = 0, micro_batches: int = 2, **settings: Any) -> Any:
    training = FinetuningConfig(steps=10, warmup=1, micro_batches=micro_batches)
    return Config(**settings).build(model(), split).plan(split, training, seed, max_text_length=60)


def works(plan: Any, steps: int, start: int = 0) -> Iterator[Work]:
    for found in itertools.islice(plan.steps(start), steps):
        yield from found


def same(one: Work, other: Work) -> bool:
    return (one.objective, one.seed, dict(one.targets)) == (other.objective, other.seed, dict(other.targets)) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("rows", "images")
    )


HARD = {"negatives": "hard", "candidates": 4, "hard": 2}


@pytest.mark.parametrize("settings", [{"pairs": 4}, HARD], ids=["random", "hard"])
def test_a_step_depends_on_its_number_alone(split: Split, settings: dict[str, Any]) -> None:
    whole = list(works(plan_of(split, **settings), 30))
    later = list(works(plan_of(split, **settings), 5, start=25))
    assert all(same(a, b) for a, b in zip(whole[50:], later, strict=True))
    assert not all(same(a, b) for a, b in zip(whole, works(plan_of(split, seed=1, **settings), 30), strict=True))
    assert len({work.seed for work in whole}) == len(whole)


def test_every_caption_is_the_matched_one_once_a_pass(split: Split) -> None:
    found = [work.rows[::3].tolist() for work in works(plan_of(split, pairs=3, micro_batches=1), 14)]
    first, second = (list(itertools.chain(*found[part])) for part in (slice(0, 7), slice(7, 14)))
    assert sorted(first) == sorted(second) == list(range(IMAGES * CAPTIONS))
    assert first != second


def test_random_groups_hold_the_pair_then_other_pictures_then_other_texts(split: Split) -> None:
    plan = plan_of(split, pairs=4, negative_images=2, negative_texts=3)
    image_of = plan.source.image_of
    for work in works(plan, 40):
        assert work.targets["group"] == 6
        for rows, images in zip(work.rows.reshape(-1, 6), work.images.reshape(-1, 6), strict=True):
            row, own = rows[0], images[0]
            assert image_of[row] == own
            assert set(rows[:3]) == {row}
            assert set(images[3:]) == {own}
            assert len({own, *images[1:3]}) == 3
            assert len(set(rows[3:])) == 3
            assert own not in image_of[rows[3:]]


def test_candidates_take_turns_and_are_none_of_the_pair(split: Split) -> None:
    plan = plan_of(split, **HARD)
    image_of = plan.source.image_of
    for number, work in enumerate(works(plan, 60)):
        if number % 2:  # a text among pictures
            assert (len(work.rows), len(work.images)) == (1, 5)
            assert len(set(work.images.tolist())) == 5
        else:  # a picture among texts
            assert (len(work.rows), len(work.images)) == (5, 1)
            assert len(set(work.rows.tolist())) == 5
            assert work.images[0] not in image_of[work.rows[1:]]
        assert image_of[work.rows[0]] == work.images[0]


def alike_by_hand(plan: Any, own: int, count: int) -> list[int]:
    """The other pictures in the order of the cosine between mean regions, by the slow way."""
    means = [plan.source.features.get(name).features.astype(np.float64).mean(axis=0) for name in plan.source.image_ids]
    means = [mean / np.linalg.norm(mean) for mean in means]
    others = [place for place in range(len(means)) if place != own]
    return sorted(others, key=lambda place: -float(means[place] @ means[own]))[:count]


def test_random_negatives_that_look_alike_come_before_others(split: Split) -> None:
    plan = plan_of(split, pairs=4, negative_images=3, negative_texts=3, alike=2)
    image_of = plan.source.image_of
    chosen = Counter()
    for work in works(plan, 40):
        for rows, images in zip(work.rows.reshape(-1, 7), work.images.reshape(-1, 7), strict=True):
            near = alike_by_hand(plan, int(images[0]), 2)
            assert images[1:3].tolist() == near
            assert image_of[rows[4:6]].tolist() == near
            assert len({*images[:4].tolist()}) == 4
            assert len({*rows[4:].tolist()}) == 3
            assert images[0] not in image_of[rows[4:]]
            chosen.update(rows[4:6].tolist())
    assert len(chosen) == CAPTIONS * len(set(image_of[list(chosen)])), "any caption of a picture alike is taken"


def test_candidates_that_look_alike_are_always_there(split: Split) -> None:
    plan = plan_of(split, **HARD, alike=3)
    image_of = plan.source.image_of
    for number, work in enumerate(works(plan, 30)):
        own = int(image_of[work.rows[0]]) if number % 2 else int(work.images[0])
        others = work.images[1:].tolist() if number % 2 else image_of[work.rows[1:]].tolist()
        assert others[:3] == alike_by_hand(plan, own, 3)
        assert len(set((work.images if number % 2 else work.rows).tolist())) == 5
        assert own not in others


def test_a_negative_number_of_pictures_cannot_be_alike() -> None:
    with pytest.raises(UsageError, match="--alike: -1 pictures cannot be alike; use 0 or more"):
        Config(alike=-1)


def test_negatives_are_drawn_evenly(split: Split) -> None:
    plan = plan_of(split, pairs=7)
    seen = Counter(
        tuple(pair) for work in works(plan, 300) for pair in zip(work.images[::3], work.images[1::3], strict=True)
    )
    texts = Counter(int(row) for work in works(plan, 300) for row in work.rows[2::3])
    pairs, drawn = IMAGES * (IMAGES - 1), 300 * 2 * 7
    assert len(seen) == pairs
    # Four standard deviations of a binomial count.
    for count, kinds in ((seen, pairs), (texts, IMAGES * CAPTIONS)):
        mean = drawn / kinds
        assert max(abs(value - mean) for value in count.values()) < 4.5 * mean**0.5


def test_all_others_are_candidates_where_fewer_are_there(split: Split) -> None:
    plan = plan_of(split, negatives="hard", candidates=399)
    picture_half, text_half = works(plan, 1)
    assert len(picture_half.rows) == 1 + (IMAGES - 1) * CAPTIONS
    assert sorted(text_half.images.tolist()) == list(range(IMAGES))


def test_batches_hold_what_the_work_says(split: Split) -> None:
    plan = plan_of(split, **HARD, relations=IAISConfig(iais="singular"))
    picture_half, text_half = (plan.load(work) for work in works(plan, 1))
    assert (len(picture_half.input_ids), len(picture_half.regions), len(picture_half.ids)) == (5, 1, 1)
    assert (len(text_half.input_ids), len(text_half.regions), len(text_half.ids)) == (1, 5, 1)
    assert float(text_half.targets["relation_weight"]) == pytest.approx(np.exp(-5))
    last = next(works(plan, 1, start=10))
    assert last.targets["relation_weight"] == 1
    random = plan_of(split, pairs=2)
    work = next(works(random, 1))
    loaded = random.load(work)
    expected = random.source.batch(work.rows, work.images)
    for name in ("input_ids", "text_mask", "regions", "locations", "region_mask"):
        assert torch.equal(getattr(loaded, name), getattr(expected, name))
    assert loaded.targets.keys() == {"group"}


def test_tokens_count_what_is_loaded(split: Split) -> None:
    for plan in (plan_of(split, **HARD), plan_of(split, pairs=3)):
        for work in works(plan, 2):
            batch = plan.load(work)
            lengths = batch.text_mask.sum(1) + batch.region_mask.sum(1)
            assert plan.tokens(work) == (int(lengths.sum()), int(lengths.max()) * len(lengths))


def test_a_plan_goes_to_loading_processes(split: Split) -> None:
    plan = plan_of(split, **HARD, relations=IAISConfig(iais="singular"))
    work = next(works(plan, 1))
    there = pickle.loads(pickle.dumps(plan))
    assert torch.equal(there.load(work).input_ids, plan.load(work).input_ids)


def test_the_task_keeps_its_contract(split: Split) -> None:
    task = Config().build(model(), split)
    assert isinstance(task, RetrievalTask)
    assert task.family == "joint"
    scorer: JointScorer = task.scorer
    texts, images = task.text_batch(split, split.ids[:2]), task.image_batch(split, ["train-0", "train-1"])
    assert (texts.regions.shape[1], images.input_ids.shape[1]) == (0, 0)
    sides = (scorer.embed_text(texts), texts.text_mask, scorer.embed_regions(images.to("cpu")), images.region_mask)
    assert scorer.match_scores(scorer.encode(*sides).pooled).shape == (2,)


@pytest.mark.parametrize(
    ("settings", "micro_batches", "sentence"),
    [
        (HARD, 3, "--micro-batches: 3 micro-batches are no whole number of picture and text halves; use an even num"),
        ({"negative_images": 7}, 1, "train, --negative-images: 7 of 6 others are wanted; use fewer"),
        ({"negative_texts": 19}, 1, "train, --negative-texts: 19 of 18 others are wanted; use fewer"),
    ],
)
def test_a_plan_refuses_what_cannot_be_drawn(
    split: Split, settings: dict[str, Any], micro_batches: int, sentence: str
) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        plan_of(split, micro_batches=micro_batches, **settings)
    assert sentence in str(caught.value)


def test_a_single_picture_has_no_negatives(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    examples = write_examples(tmp_path / "one.lmdb", [caption(f"{n}", "x", dice) for n in range(3)])
    features = write_features(tmp_path / "features.lmdb", [picture("x", dice)])
    alone = Split(name="one", examples=ExampleStore.open(examples), features=FeatureStore.open(features))
    with pytest.raises(DataError, match="one: has a single image, which has no negatives; add images"):
        plan_of(alone)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pairs": 0}, "--pairs: 0 is too few"),
        ({"negative_images": 0, "negative_texts": 0}, "--negative-images: no negatives"),
        ({"negative_images": -1, "negative_texts": 3}, "--negative-images: a negative number of negatives"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Config(**settings)
    assert sentence in str(caught.value)
