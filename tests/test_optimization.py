"""The published optimiser against a loop from its equations, and the schedule's corners."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vltk.optimization import PublishedAdamW, learning_rate, warmup_linear


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
