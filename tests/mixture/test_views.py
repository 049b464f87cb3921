"""Batches of pairs beside their augmented views: what stands where, and that it depends on the seed alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_pairs import write_examples
from tests.small_views import VIEWS, example, write_augmented
from vltk.batching import TokenBuckets
from vltk.metrics.trees import tree_distances
from vltk.mixture import Mixture, PairSource, Share
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureStore

BUCKETS = TokenBuckets(max_tokens=120, multiple=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> PairSource:
    examples, features, views = write_augmented(tmp_path_factory.mktemp("views"))
    return PairSource("set", ExampleStore.open(examples), FeatureStore.open(features), views=FeatureStore.open(views))


def picture_names(source: PairSource, batch_regions: torch.Tensor, mask: torch.Tensor, image: str) -> str:
    """Return under which id the regions of a row are stored."""
    names = [(image, source.features), *((f"{image}@{view}", source.views) for view in VIEWS)]
    for name, store in names:
        if store is not None and name in store:
            found = torch.from_numpy(store.get(name).features.astype(np.float32))
            if found.shape == batch_regions[mask].shape and torch.equal(found, batch_regions[mask].float()):
                return name
    return "unknown"


def test_the_second_half_holds_views_of_the_first(source: PairSource) -> None:
    rows = list(range(len(source)))
    batch = source.views_batch(rows, seed=3)
    assert batch.ids == tuple(source.ids[row] for row in rows) * 2
    trees, belongs = batch.targets["trees"], batch.targets["word_of_piece"]
    for row in range(2 * len(rows)):
        one = source.examples.get(batch.ids[row])
        ids = batch.input_ids[row][batch.text_mask[row]].tolist()
        image = one.image_ids[0]
        shown = picture_names(source, batch.regions[row], batch.region_mask[row], image)
        if row < len(rows):
            known = [(one.tokens[0], one.parses[0])]
            assert shown == image
        else:
            known = list(zip(one.paraphrase_tokens[0], one.paraphrase_parses[0], strict=True))
            # The first picture has no views and stands for itself.
            assert shown == image if image == "train-0" else shown in {f"{image}@{view}" for view in VIEWS}
        parse = next(parse for tokens, parse in known if ids == [2, *tokens.ids, 3])
        words = len(parse.words)
        assert belongs[row][batch.text_mask[row]].tolist() == [-1, *parse.pieces, -1]
        assert (belongs[row][~batch.text_mask[row]] == -1).all()
        np.testing.assert_array_equal(trees[row, :words, :words].numpy(), tree_distances(parse.heads))
        assert (trees[row, words:] == -1).all()
        assert (trees[row, :, words:] == -1).all()


def test_views_are_drawn_by_the_seed_alone(source: PairSource) -> None:
    rows = list(range(len(source)))
    one, same, other = (source.views_batch(rows, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.regions, same.regions)
    assert torch.equal(one.input_ids, same.input_ids)
    assert one.input_ids.shape != other.input_ids.shape or not torch.equal(one.input_ids, other.input_ids)


def test_a_share_of_texts_and_pictures_is_shown_otherwise(source: PairSource) -> None:
    rows, images = np.arange(len(source)), source.image_of
    plain, none = source.batch(rows, images), source.batch(rows, images, augmented=0.0, seed=9)
    assert torch.equal(plain.input_ids, none.input_ids)
    assert torch.equal(plain.regions, none.regions)
    counts: Counter[str] = Counter()
    for seed in range(40):
        batch = source.batch(rows, images, augmented=0.5, seed=seed)
        assert set(batch.targets) == {"match", "class_ids", "class_scores", "attribute_ids", "attribute_scores"}
        for row, name in enumerate(batch.ids):
            one = source.examples.get(name)
            text = batch.input_ids[row][batch.text_mask[row]].tolist() != [2, *one.tokens[0].ids, 3]
            image = one.image_ids[0]
            shown = picture_names(source, batch.regions[row], batch.region_mask[row], image) != image
            counts.update({"text": text, "picture": shown, "pictures": image != "train-0"})
    assert counts["text"] / (40 * len(rows)) == pytest.approx(0.5, abs=0.08)
    assert counts["picture"] / counts["pictures"] == pytest.approx(0.5, abs=0.08)


def test_a_budget_counts_both_halves_and_the_plan_says_so(source: PairSource) -> None:
    share = Share(source=0, objective="probing", weight=1)
    plan = Mixture([source], [share], buckets=BUCKETS, micro_batches=1, seed=0, paired=["probing"])
    lengths = source.text_lengths + source.region_counts[source.image_of] + 2
    for work in plan.epoch(share, 0):
        assert 2 * int(lengths[work.rows].max()) * len(work.rows) <= 120
        assert plan.tokens(work)[0] == 2 * int(lengths[work.rows].sum())
        assert len(plan.load(work).ids) == 2 * len(work.rows)


def test_texts_without_trees_or_paraphrases_stand_for_themselves(tmp_path: Path, source: PairSource) -> None:
    dice = np.random.default_rng(0)
    bare = replace(example("x", "train-0", dice), parses=(), paraphrases=(), paraphrase_tokens=(), paraphrase_parses=())
    unaligned = example("y", "train-1", dice, paraphrases=0)
    unaligned = replace(unaligned, parses=(replace(unaligned.parses[0], pieces=()),))
    store = ExampleStore.open(write_examples(tmp_path / "bare.lmdb", [bare, unaligned]))
    found = PairSource("bare", store, source.features)
    assert (found.parsed, found.paraphrased, found.longest_paraphrase, found.view_names) == (0, 0, 0, ())
    batch = found.views_batch([0, 1], seed=0)
    assert torch.equal(batch.input_ids[:2], batch.input_ids[2:])
    assert torch.equal(batch.regions[:2], batch.regions[2:])
    assert (batch.targets["trees"] == -1).all()
    count = len(bare.tokens[0].ids)
    assert batch.targets["word_of_piece"][0].tolist()[: count + 2] == [-1, *range(count), -1]


def test_paraphrases_that_are_too_long_are_not_shown(source: PairSource) -> None:
    longest = int(source.text_lengths.max())
    short = PairSource("short", source.examples, source.features, max_text_length=longest - 2)
    assert 0 < short.longest_paraphrase <= longest - 2
    rows = list(range(len(short)))
    for seed in range(10):
        assert int(short.views_batch(rows, seed=seed).text_mask.sum(dim=1).max()) <= longest
