from __future__ import annotations

import numpy as np
import pytest

from vltk.metrics.attention_patterns import PATTERNS, HeadShape, head_shapes

TEXT, REGIONS = 9, 11
SIZE = TEXT + REGIONS
SPECIALS = (0, TEXT - 1)


def normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=1, keepdims=True)


def synthetic() -> dict[str, np.ndarray]:
    """Pure maps of each kind with a little of everything mixed in."""
    place = np.arange(SIZE)
    text = place < TEXT
    same = (text[:, None] == text[None, :]).astype(float)
    special = np.isin(place, SPECIALS)
    vertical = np.tile(special.astype(float), (SIZE, 1))
    near = (np.abs(np.subtract.outer(place, place)) <= 1) * same
    content = (~special).astype(float)[None, :]
    pure = {
        "vertical": vertical,
        "diagonal": near,
        "vertical + diagonal": normalised(vertical) + normalised(near),
        "block": same * content,
        "reversed block": (1 - same) * content,
        "heterogeneous": np.ones((SIZE, SIZE)),
    }
    return {name: 0.85 * normalised(one) + 0.15 / SIZE for name, one in pure.items()}


def shape(map_: np.ndarray) -> HeadShape:
    return head_shapes([map_[None]], [TEXT], [SPECIALS])[0]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_map_of_a_kind_is_called_so(pattern: str) -> None:
    assert shape(synthetic()[pattern]).pattern == pattern
    assert shape(synthetic()[pattern]).strength > 0.5


def test_even_attention_goes_towards_nothing() -> None:
    even = shape(np.full((SIZE, SIZE), 1 / SIZE))
    assert (even.vertical, even.diagonal) == pytest.approx((0, 0), abs=1e-12)
    assert even.block == pytest.approx(0, abs=1e-12)
    assert even.pattern == "heterogeneous"


def test_attention_that_is_drawn_at_random_is_heterogeneous() -> None:
    dice = np.random.default_rng(5)
    drawn = [normalised(dice.exponential(size=(SIZE, SIZE)))[None] for _ in range(10)]
    assert head_shapes(drawn, [TEXT] * 10, [SPECIALS] * 10)[0].pattern == "heterogeneous"


def test_shapes_are_those_of_loops_over_every_pair_of_positions() -> None:
    dice = np.random.default_rng(2)
    map_ = normalised(dice.exponential(size=(SIZE, SIZE)))
    vertical, diagonal, block = [], [], []
    for i in range(SIZE):
        if i in SPECIALS:
            continue
        others = [j for j in range(SIZE) if j not in SPECIALS]
        mine = [j for j in others if (j < TEXT) == (i < TEXT)]
        close = [j for j in mine if abs(i - j) <= 1]
        v, d = sum(map_[i, j] for j in SPECIALS), sum(map_[i, j] for j in close)
        vertical.append((v - 2 / SIZE) / (1 - 2 / SIZE))
        diagonal.append((d - len(close) / SIZE) / (1 - len(close) / SIZE))
        own, chance = sum(map_[i, j] for j in mine) / sum(map_[i, j] for j in others), len(mine) / len(others)
        block.append((own - chance) / ((1 - chance) if own >= chance else chance))
    found = shape(map_)
    assert found.vertical == pytest.approx(max(0, np.mean(vertical)))
    assert found.diagonal == pytest.approx(max(0, np.mean(diagonal)))
    assert found.block == pytest.approx(np.mean(block))


def test_the_order_of_regions_matters_to_neighbours_alone() -> None:
    dice = np.random.default_rng(3)
    map_ = normalised(dice.exponential(size=(SIZE, SIZE)))
    order = np.r_[np.arange(TEXT), TEXT + dice.permutation(REGIONS)]
    one, other = shape(map_), shape(map_[np.ix_(order, order)])
    assert (one.vertical, one.block) == pytest.approx((other.vertical, other.block))


def test_several_pairs_are_averaged() -> None:
    kinds = synthetic()
    maps = [kinds["block"][None], kinds["reversed block"][None]]
    mean = head_shapes(maps, [TEXT] * 2, [SPECIALS] * 2)[0]
    alone = [shape(kinds[name]).block for name in ("block", "reversed block")]
    assert mean.block == pytest.approx(np.mean(alone))
    assert mean.pattern == "heterogeneous"


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair to look at"):
        head_shapes([], [], [])
    with pytest.raises(ValueError, match="without word or region"):
        head_shapes([np.eye(4)[None]], [4], [(0, 3)])
    with pytest.raises(ValueError, match="without word or region"):
        head_shapes([np.eye(4)[None]], [2], [(0, 1)])
