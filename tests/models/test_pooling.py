"""Poolings against loops written from their equations, and what must not change them."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch

from vltk.models._coefficients import GENERATORS, RecurrentCoefficients, build_coefficients, within
from vltk.models._pooling import GeneralizedPooling, KMaxPooling, build_pooling
from vltk.models._sorting import network, sort_descending

KINDS = [*GENERATORS, "average", "max", "k-max", "first"]
HIDDEN = 6


def sets(count: int = 4, longest: int = 7, hidden: int = HIDDEN, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    states = torch.randn(count, longest, hidden, generator=dice)
    lengths = torch.tensor([longest, 1, 3, longest - 1])[:count]
    return states, torch.arange(longest) < lengths.unsqueeze(1)


def pooling(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_pooling(kind, hidden=HIDDEN, k=3).eval()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 37, 100])
def test_a_network_sorts_every_pattern_of_zeros_and_ones(size: int) -> None:
    """A network that sorts these sorts everything (Knuth's 0-1 principle); for large sizes a sample of them."""
    dice = torch.Generator().manual_seed(0)
    count = min(2**size, 4096)
    numbers = torch.arange(count) if size <= 12 else torch.randint(2**31, (count,), generator=dice)
    patterns = (numbers.unsqueeze(0) >> (torch.arange(size).unsqueeze(1) % 31)) & 1
    rows = list(patterns)
    for first, second in network(size):
        rows[first], rows[second] = rows[first].maximum(rows[second]), rows[first].minimum(rows[second])
    assert all(bool((one >= other).all()) for one, other in itertools.pairwise(rows))


@pytest.mark.parametrize("count", [2, 5, 36, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sorting_equals_the_general_sort_with_its_gradient(count: int, dtype: torch.dtype) -> None:
    states = torch.randn(33, count, 256, dtype=dtype, generator=torch.Generator().manual_seed(2))
    states[:, 1:, 3] = -torch.inf
    ours, plain = states.clone().requires_grad_(), states.clone().requires_grad_()
    found, expected = sort_descending(ours), plain.sort(dim=1, descending=True).values
    assert torch.equal(found, expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    distinct = torch.isfinite(expected) & torch.isfinite(expected.detach())
    (torch.where(distinct, found, 0) * weight).sum().backward()
    (torch.where(distinct, expected, 0) * weight).sum().backward()
    # Where two values are equal, either may take the gradient of a rank.
    different = (ours.grad != plain.grad) & torch.isfinite(states)
    assert int(different.sum()) <= 2 * int((expected[:, 1:] == expected[:, :-1])[distinct[:, 1:]].sum())
    with torch.no_grad():
        assert torch.equal(sort_descending(states), expected.detach())
    assert torch.equal(states[:, 0], ours.detach()[:, 0]), "the input stays as it is"


def test_gpo_equals_the_equations_one_number_at_a_time() -> None:
    states, mask = sets()
    coefficients = RecurrentCoefficients(size=4, hidden=5)
    found = GeneralizedPooling(coefficients)(states, mask).detach()
    for row, real in enumerate(mask):
        count = int(real.sum())
        position = [[0.0] * 4 for _ in range(count)]
        for rank in range(count):
            for pair in range(2):
                angle = torch.tensor(rank / 10000 ** (2 * pair / 4))
                position[rank][2 * pair], position[rank][2 * pair + 1] = float(angle.sin()), float(angle.cos())
        both, _ = coefficients.gru(torch.tensor([position]))
        scores = ((both[0, :, :5] + both[0, :, 5:]) / 2) @ coefficients.linear.weight[0]
        weights = ((scores / 0.1).exp() / (scores / 0.1).exp().sum()).detach()
        for dimension in range(HIDDEN):
            values = sorted(states[row, :count, dimension].tolist(), reverse=True)
            expected = sum(float(weight) * value for weight, value in zip(weights, values, strict=True))
            assert float(found[row, dimension]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    states, mask = sets()
    module = pooling(kind)
    wide = torch.cat([states, torch.full((4, 3, HIDDEN), 1e6)], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    noisy = torch.where(wide_mask.unsqueeze(-1), wide, 1e6)
    torch.testing.assert_close(module(noisy, wide_mask), module(states, mask), rtol=1e-5, atol=1e-6)
    alone = [module(states[row : row + 1, : int(real.sum())], real[None, : int(real.sum())])[0]
             for row, real in enumerate(mask)]  # fmt: skip
    torch.testing.assert_close(torch.stack(alone), module(states, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "first"])
def test_the_order_of_elements_does_not_matter(kind: str) -> None:
    states, mask = sets()
    order = torch.randperm(states.shape[1], generator=torch.Generator().manual_seed(5))
    module = pooling(kind)
    torch.testing.assert_close(module(states[:, order], mask[:, order]), module(states, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("design", GENERATORS)
def test_coefficients_are_shares_of_their_set(design: str) -> None:
    coefficients = build_coefficients(design, hidden=HIDDEN)
    lengths, features = torch.tensor([1, 4, 9]), torch.randn(3, 9, HIDDEN)
    weights = coefficients(lengths, 9, features) if coefficients.reads_features else coefficients(lengths, 9)
    assert weights.shape == ((3, 9, HIDDEN) if coefficients.per_dimension else (3, 9))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones_like(weights.sum(dim=1)))
    outside = ~within(lengths, 9)
    assert not bool(weights[outside].any())


@pytest.mark.parametrize("design", GENERATORS)
def test_gradients_reach_every_weight(design: str) -> None:
    states, mask = sets()
    module = build_pooling(design, hidden=HIDDEN).train()
    states.requires_grad_()
    (module(states, mask) * torch.randn(4, HIDDEN)).sum().backward()
    assert all(bool(weight.grad.abs().sum() > 0) for weight in module.parameters())
    assert bool(states.grad[mask].abs().sum() > 0)
    assert not bool(states.grad[~mask].any())


def test_kept_coefficients_notice_every_change_of_the_weights() -> None:
    states, mask = sets()
    module, other = pooling("gpo"), build_pooling("gpo", hidden=HIDDEN).eval()
    with torch.no_grad():
        before = module(states, mask)
        assert torch.equal(module(states, mask), before)
        module.coefficients.linear.weight.mul_(3)
        scaled = module(states, mask)
        assert not torch.allclose(scaled, before)
        module.load_state_dict(other.state_dict())
        torch.testing.assert_close(module(states, mask), other(states, mask))
    torch.testing.assert_close(module.train()(states, mask), other(states, mask))
    assert pickle.loads(pickle.dumps(module))._kept == (None, {})
    assert copy.deepcopy(module)._kept == (None, {})


def test_k_max_takes_what_a_small_set_has() -> None:
    states, mask = sets()
    found = KMaxPooling(3)(states, mask)
    for row, real in enumerate(mask):
        values = states[row, real].sort(dim=0, descending=True).values[:3]
        torch.testing.assert_close(found[row], values.mean(dim=0))
