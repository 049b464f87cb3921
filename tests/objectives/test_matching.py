"""Optimal transport against the plain loop of the paper's algorithm and against its marginals."""

from __future__ import annotations

import math

import ot
import pytest
import torch

from tests.models.test_uniter import TINY, batch
from vltk.objectives.matching import ITM, ipot, transport_distance


def plain_ipot(cost: list[list[float]], beta: float, iterations: int) -> list[list[float]]:
    """Algorithm 1 of UNITER's supplement on one unpadded problem, one number at a time."""
    rows, columns = len(cost), len(cost[0])
    kernel = [[math.exp(-c / beta) for c in row] for row in cost]
    plan = [[1.0] * columns for _ in range(rows)]
    sigma = [1 / rows] * rows
    for _ in range(iterations):
        q = [[kernel[i][j] * plan[i][j] for j in range(columns)] for i in range(rows)]
        delta = [1 / (columns * sum(q[i][j] * sigma[i] for i in range(rows))) for j in range(columns)]
        sigma = [1 / (rows * sum(q[i][j] * delta[j] for j in range(columns))) for i in range(rows)]
        plan = [[sigma[i] * q[i][j] * delta[j] for j in range(columns)] for i in range(rows)]
    return plan


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cost = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0))
    text_mask = torch.arange(6) < torch.tensor([[6], [2], [4]])
    region_mask = torch.arange(5) < torch.tensor([[3], [5], [1]])
    return cost, text_mask, region_mask


@pytest.mark.parametrize("beta", [0.7, 0.1, 0.02])  # the last makes a kernel of e**-50, whose powers leave fp32
def test_padded_batch_equals_the_plain_loop_row_by_row(beta: float) -> None:
    cost, text_mask, region_mask = problem()
    plan = ipot(cost, text_mask, region_mask, beta=beta, iterations=20)
    for row in range(3):
        rows, columns = int(text_mask[row].sum()), int(region_mask[row].sum())
        expected = torch.tensor(plain_ipot(cost[row, :rows, :columns].tolist(), beta, 20))
        torch.testing.assert_close(plan[row, :rows, :columns], expected, rtol=1e-4, atol=1e-6)
        assert float(plan[row].sum()) == float(plan[row, :rows, :columns].sum())


def test_the_plan_has_uniform_marginals() -> None:
    cost, text_mask, region_mask = problem()
    plan = ipot(cost, text_mask, region_mask, iterations=200)
    torch.testing.assert_close(plan.sum(2), text_mask / text_mask.sum(1, keepdim=True), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(plan.sum(1), region_mask / region_mask.sum(1, keepdim=True), rtol=1e-3, atol=1e-4)


def test_a_gradient_reaches_the_cost() -> None:
    cost, text_mask, region_mask = problem()
    cost.requires_grad_()
    (ipot(cost, text_mask, region_mask, iterations=5) * cost.detach()).sum().backward()
    assert cost.grad is not None
    assert bool(cost.grad[0, :, :3].any())
    assert not cost.grad[1, 2:].any()
    wide = cost.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: ipot(c, text_mask, region_mask, iterations=10), wide)


def test_equal_states_cost_nothing_and_the_term_enters_with_the_sign_of_the_pair() -> None:
    states = torch.randn(2, 4, 8).repeat_interleave(1, 0)
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert float(transport_distance(states, mask, states, mask, iterations=500).abs().max()) < 1e-3
    torch.manual_seed(0)
    model = TINY.build_for_pretraining().eval()
    pair = batch()
    pair.targets["match"] = torch.tensor([1, 0])
    output = model.encoder(pair)
    distance = transport_distance(output.text, pair.text_mask, output.regions, pair.region_mask)
    change = ITM(wra_weight=0.1).forward(model, pair).values - ITM().forward(model, pair).values
    torch.testing.assert_close(change, 0.1 * distance * torch.tensor([1.0, -1.0]))


def exact_cost(cost: torch.Tensor) -> torch.Tensor:
    """Return the optimal transport costs between uniform masses of [B, T, R] problems, by POT's exact solver."""
    return torch.tensor([float(ot.emd2([], [], matrix)) for matrix in cost.double().numpy()])


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (2, 3), (14, 36), (30, 60)])
@pytest.mark.parametrize(("iterations", "excess"), [(200, 0.02), (1600, 0.002)])
def test_the_cost_of_the_plan_approaches_the_optimum(rows: int, columns: int, iterations: int, excess: float) -> None:
    cost = torch.rand(40, rows, columns, generator=torch.Generator().manual_seed(0))
    masks = (torch.ones(40, size, dtype=torch.bool) for size in (rows, columns))
    found = (ipot(cost, *masks, iterations=iterations) * cost).sum(dim=(1, 2))
    ratio = found / exact_cost(cost)
    # A plan whose marginals are not met to the last digit may also be a little too cheap.
    assert 1 - 1e-3 < float(ratio.min()) <= float(ratio.max()) < 1 + excess
