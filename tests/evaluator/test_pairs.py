"""The plan of pairs: everything once, nothing too long together, hardly any padding."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.evaluator.pairs import PairPlan, batches_by_length, length_counts

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=12).map(np.array)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, LENGTHS, st.integers(1, 200), st.integers(1, 60), st.randoms(use_true_random=False))
def test_every_wanted_pair_comes_once_within_the_budget(
    texts: np.ndarray, images: np.ndarray, tokens: int, block: int, dice: object
) -> None:
    seed = dice.randrange(2**32)  # type: ignore[attr-defined]
    wanted = np.random.default_rng(seed).random((len(texts), len(images))) < 0.6
    for mask in (wanted, None):
        plan = PairPlan(text_lengths=texts, image_lengths=images, wanted=mask, max_tokens=tokens, block_pairs=block)
        seen = np.zeros(wanted.shape, int)
        for part in plan.blocks():
            for batch in part.batches:
                np.add.at(seen, (batch.rows, batch.columns), 1)
                longest = (texts[batch.rows] + images[batch.columns]).max()
                assert len(batch) == 1 or longest * len(batch) <= tokens
                assert set(batch.rows.tolist()) <= set(part.rows.tolist())
        np.testing.assert_array_equal(seen, np.ones_like(seen) if mask is None else wanted)
        counts = length_counts(texts, images, mask)
        rows, columns = np.nonzero(seen)
        np.testing.assert_array_equal(counts, np.bincount(texts[rows] + images[columns], minlength=len(counts)))


def test_blocks_of_pictures_are_parts_of_the_whole() -> None:
    texts, images = np.array([3, 5, 4]), np.array([9, 2, 7, 4])
    seen = np.zeros((3, 4), int)
    for columns in (np.array([0, 1], np.int32), np.array([2, 3], np.int32)):
        for block in PairPlan(text_lengths=texts, image_lengths=images, columns=columns).blocks():
            for batch in block.batches:
                seen[batch.rows, batch.columns] += 1
    assert (seen == 1).all()


def test_hardly_any_padding_on_lengths_of_real_data() -> None:
    dice = np.random.default_rng(0)
    texts = dice.integers(8, 30, 60)
    images = np.clip(dice.lognormal(3.5, 0.5, 200), 10, 100).astype(int)
    plan = PairPlan(text_lengths=texts, image_lengths=images, max_tokens=2048)
    real = padded = 0
    for block in plan.blocks():
        for batch in block.batches:
            lengths = texts[batch.rows] + images[batch.columns]
            real, padded = real + lengths.sum(), padded + lengths.max() * len(lengths)
    assert 1 - real / padded < 0.01


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 200))
def test_every_item_comes_once_within_the_budget(lengths: list[int], tokens: int) -> None:
    batches = batches_by_length(np.array(lengths, np.int32), tokens)
    assert sorted(number for batch in batches for number in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[number] for number in batch) * len(batch) <= tokens


def test_few_short_questions_do_not_wait_for_long_ones() -> None:
    lengths = np.random.default_rng(0).integers(8, 28, 200)
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches_by_length(lengths, 2048))
    assert padded / lengths.sum() < 1.06
