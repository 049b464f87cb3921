"""The published optimiser against a loop from its equations, and the schedule's corners."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vltk.optimization import BETAS, EPS, PublishedAdamW, clip_repeated, learning_rate, optimizer_of, warmup_linear


def plain_step(p: float, g: float, state: list[float], step: int, *, lr: float, decay: float) -> float:
    state[0] = 0.9 * state[0] + 0.1 * g
    state[1] = 0.98 * state[1] + 0.02 * g * g
    rate = lr * math.sqrt(1 - 0.98**step) / (1 - 0.9**step)
    p -= rate * state[0] / (math.sqrt(state[1]) + 1e-6)
    return p - lr * decay * p


def test_equals_the_plain_loop_and_skips_what_has_no_gradient() -> None:
    value, idle = nn.Parameter(torch.tensor([0.3])), nn.Parameter(torch.tensor([1.0]))
    optimizer = PublishedAdamW([value, idle], lr=0.1, weight_decay=0.2)
    expected, state = 0.3, [0.0, 0.0]
    for step, gradient in enumerate((0.5, -1e-6, 2.0, 0.0), 1):
        value.grad = torch.tensor([gradient])
        optimizer.step()
        expected = plain_step(expected, gradient, state, step, lr=0.1, decay=0.2)
        assert value.item() == pytest.approx(expected, rel=1e-5)
    assert idle.item() == 1.0


def test_a_saved_state_continues_the_same_way() -> None:
    def run(steps: int, resume_at: int | None) -> float:
        value = nn.Parameter(torch.tensor([0.3, -0.7]))
        optimizer = PublishedAdamW([value], lr=0.1)
        for step in range(steps):
            if step == resume_at:
                saved = optimizer.state_dict()
                value = nn.Parameter(value.detach().clone())
                optimizer = PublishedAdamW([value], lr=0.1)
                optimizer.load_state_dict(saved)
            value.grad = torch.tensor([math.sin(step), 0.1 * step])
            optimizer.step()
        return value.sum().item()

    assert run(6, None) == run(6, 3)


def test_the_schedule_rises_falls_and_ends_at_its_floor() -> None:
    shares = [warmup_linear(step, warmup=10, total=50) for step in range(1, 60)]
    assert max(shares) == shares[9] == 1.0
    assert shares[:10] == sorted(shares[:10])
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert learning_rate(50, peak=1e-3, warmup=10, total=50) == 1e-8


def test_groups_that_repeat_step_again_with_a_counter_of_their_own() -> None:
    """The published mistake of VSRN: parameters that stand twice in Adam's list."""
    values = [torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    groups = [{"params": [value], "repeats": 1 + number} for number, value in enumerate(values)]
    ours = optimizer_of([{**group, "lr": 0.1, "weight_decay": 0.01} for group in groups], form="torch")
    plain = [torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    alone = [torch.optim.AdamW([one], lr=0.1, weight_decay=0.01, betas=BETAS, eps=EPS) for one in plain]
    for step in range(3):
        for one in (*values, *plain):
            one.grad = torch.tensor([0.3, -0.1 * step])
        ours.step()
        alone[0].step()
        alone[1].step()
        alone[1].step()
    for one, other in zip(values, plain, strict=True):
        torch.testing.assert_close(one, other)
    assert [int(ours.state[value]["step"]) for value in values] == [3, 6]


def test_a_group_of_the_published_optimiser_repeats_as_well() -> None:
    once, twice = (torch.nn.Parameter(torch.tensor([1.0])) for _ in range(2))
    groups = [{"params": [once], "lr": 0.1}, {"params": [twice], "lr": 0.1, "repeats": 2}]
    optimizer, plain = optimizer_of(groups), optimizer_of([{"params": [torch.nn.Parameter(torch.tensor([1.0]))]}])
    for one in (once, twice):
        one.grad = torch.tensor([0.5])
    optimizer.step()
    reference = plain.param_groups[0]["params"][0]
    plain.param_groups[0]["lr"] = 0.1
    for expected in (once, twice):
        reference.grad = torch.tensor([0.5])
        plain.step()
        torch.testing.assert_close(expected, reference)


def test_gradients_that_stand_twice_count_and_shrink_twice() -> None:
    values = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    values[0].grad, values[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    norm = clip_repeated(values, [values[1]], limit=1.0)
    expected = math.sqrt(9 + 2 * 16)
    assert float(norm) == pytest.approx(expected)
    assert values[0].grad.tolist() == pytest.approx([3 / expected, 0], rel=1e-5)
    assert values[1].grad.tolist() == pytest.approx([0, 4 / expected**2], rel=1e-5)


def test_a_step_schedule_falls_again_and_again() -> None:
    how = {"peak": 1.0, "warmup": 0, "total": 9, "schedule": "step", "step_at": 1 / 3}
    assert [learning_rate(step, **how) for step in range(1, 10)] == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)
    once = [learning_rate(step, **{**how, "step_at": 0.6, "total": 10}) for step in range(1, 11)]
    assert once == pytest.approx([1] * 6 + [0.1] * 4)
