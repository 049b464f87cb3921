"""A GRU's training on a CPU, where the gradients of its weights are made once for all steps.

Whoever differentiates the steps one after the other adds a gradient as large as the weights at each of them: for VSRN's
memory 36 products of 128 rows, and 36 sums of 50 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def learns_at_once(gru: nn.GRU, states: Tensor) -> bool:
    """Say whether :func:`run_at_once` can stand for the GRU: learning on a CPU, one layer, one direction."""
    here = states.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    learns = torch.is_grad_enabled() and all(weight.requires_grad for weight in gru.parameters())
    return here and learns and gru.bias and gru.num_layers == 1 and not gru.bidirectional


def run_at_once(gru: nn.GRU, states: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Run a GRU over B sequences, the longest first, as the GRU itself would.

    Args:
        gru: one layer of H dimensions, one direction.
        states: [N, E], first that of every sequence's first place, then those of the second places, and so on.
        counts: how many sequences have a place, for each.

    Returns:
        [N, H] states and the [B, H] last of each sequence.

    Example:
        >>> gru = nn.GRU(2, 3)
        >>> every, last = run_at_once(gru, torch.randn(5, 2), [2, 2, 1])
        >>> torch.equal(last, every[[4, 3]])
        True
    """
    weights: dict[str, Tensor] = dict(gru.named_parameters())
    fed = F.linear(states, weights["weight_ih_l0"], weights["bias_ih_l0"])
    apply: Any = _Recurrence.apply
    found: tuple[Tensor, Tensor] = apply(fed, weights["weight_hh_l0"], weights["bias_hh_l0"], counts)
    return found


class _Recurrence(torch.autograd.Function):
    """The recurrent half of a GRU over packed sequences, the longest first; step t goes on with ``counts[t]`` rows."""

    @staticmethod
    def forward(ctx: Any, fed: Tensor, weight: Tensor, bias: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return [N, H] states and the [B, H] last ones, given the inputs' [N, 3 H] part of the gates."""
        ctx.set_materialize_grads(False)
        size = weight.shape[1]
        gates, own = torch.empty_like(fed), fed.new_empty(len(fed), size)
        every, last = fed.new_empty(len(fed), size), fed.new_zeros(counts[0], size)
        before, start = last, 0
        for count in counts:
            rows, before = slice(start, start + count), before[:count]
            asked = torch.addmm(bias, before, weight.t()) if start else bias.expand(count, -1)
            both = torch.add(fed[rows, : 2 * size], asked[:, : 2 * size], out=gates[rows, : 2 * size]).sigmoid_()
            own[rows] = asked[:, 2 * size :]
            new = torch.addcmul(fed[rows, 2 * size :], both[:, :size], own[rows], out=gates[rows, 2 * size :]).tanh_()
            before = torch.lerp(new, before, both[:, size:], out=every[rows])
            last[:count] = before
            start += count
        ctx.save_for_backward(weight, gates, own, every)
        ctx.counts = counts
        return every, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_every: Tensor | None, of_last: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs' part, the weight and the bias."""
        weight, gates, own, every = ctx.saved_tensors
        counts, size = ctx.counts, weight.shape[1]
        flow = every.new_zeros(counts[0], size) if of_last is None else of_last.clone()
        grown, of_new = torch.empty_like(gates), torch.empty_like(own)
        through_tanh, through_sigmoid = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward
        befores, stop = _befores(every, counts), len(every)
        for count, before in zip(reversed(counts), reversed(befores), strict=True):
            rows, back = slice(stop - count, stop), flow[:count]
            if of_every is not None:
                back += of_every[rows]
            reset, update, new = gates[rows].split(size, dim=1)
            kept = back * update
            back_new = through_tanh(back - kept, new, grad_input=of_new[rows])
            through_sigmoid(back_new * own[rows], reset, grad_input=grown[rows, :size])
            through_sigmoid(back * (before - new), update, grad_input=grown[rows, size : 2 * size])
            torch.mul(back_new, reset, out=grown[rows, 2 * size :])
            if stop > count:
                torch.addmm(kept, grown[rows], weight, out=back)
            stop -= count
        of_weight = grown[counts[0] :].t() @ torch.cat(befores[1:]) if len(counts) > 1 else torch.zeros_like(weight)
        of_bias = grown.sum(dim=0)
        grown[:, 2 * size :] = of_new
        return grown, of_weight, of_bias, None


def _befores(every: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Return the states that each step began with."""
    found, start = [every.new_zeros(counts[0], every.shape[1])], 0
    for count, following in pairwise(counts):
        found.append(every[start : start + following])
        start += count
    return found
