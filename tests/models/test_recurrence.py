"""A GRU whose weights' gradients are made once for all steps, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vltk.models._dual import run_packed
from vltk.models._recurrence import learns_at_once

LENGTHS = {"varied": (3, 5, 1, 5), "whole": (5, 5, 5, 5), "one step": (1, 1, 1, 1)}


def mask_of(lengths: tuple[int, ...]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def learnt(gru: nn.GRU, states: Tensor, mask: Tensor, parts: tuple[str, ...]) -> list[Tensor]:
    """Return what a GRU gives and the gradients of a loss on the parts of it."""
    every, last = run_packed(gru, states, mask)
    losses = {"every": (every * every.cos()).sum(), "last": last.pow(3).sum()}
    total = torch.stack([losses[part] for part in parts]).sum()
    return [every, last, *torch.autograd.grad(total, [states, *gru.parameters()])]


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("parts", [("every",), ("last",), ("every", "last")], ids="-".join)
def test_states_and_gradients_are_torchs(
    lengths: tuple[int, ...], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True).double()
    states, mask = torch.randn(4, max(lengths), 3, dtype=torch.float64, requires_grad=True), mask_of(lengths)
    assert learns_at_once(gru, states)
    found = learnt(gru, states, mask, parts)
    monkeypatch.setattr("vltk.models._dual.learns_at_once", lambda gru, states: False)
    for one, other in zip(found, learnt(gru, states, mask, parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_small_changes() -> None:
    torch.manual_seed(0)
    gru, mask = nn.GRU(2, 3, batch_first=True).double(), mask_of((2, 3))
    states = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda states, *weights: run_packed(gru, states, mask), [states, *gru.parameters()])


def test_everything_else_is_torchs() -> None:
    states = torch.randn(2, 3, 4)
    assert not learns_at_once(nn.GRU(4, 4, bidirectional=True), states)
    assert not learns_at_once(nn.GRU(4, 4, 2), states)
    assert not learns_at_once(nn.GRU(4, 4).requires_grad_(False), states)
    gru = nn.GRU(4, 4)
    assert learns_at_once(gru, states)
    with torch.no_grad():
        assert not learns_at_once(gru, states)
    with torch.autocast("cpu", torch.bfloat16):
        assert not learns_at_once(gru, states)
