"""Losses of the downstream tasks (UNITER, section 4.1 and A.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vltk.types import Losses


def binary_cross_entropy(logits: Tensor, scores: Tensor) -> Losses:
    """Return the binary cross entropies of every answer, whose mean is that of an example summed over its answers.

    The published loss of VQA and SNLI-VE: the mean over examples and answers, times the number of answers.

    Args:
        logits: [B, C].
        scores: [B, C] soft targets in 0..1.

    Example:
        >>> losses = binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3))
        >>> round(losses.mean().item(), 4)  # 3 ln 2
        2.0794
    """
    values = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    return Losses(values=values, count=len(logits), correct=scores.gather(1, logits.argmax(1, keepdim=True)) > 0.5)


def region_cross_entropy(scores: Tensor, target: Tensor, *, summed: bool = True) -> Losses:
    """Return the cross entropy of each expression over its regions (RefCOCO).

    Args:
        scores: [B, R] of a RegionHead, padding already hidden.
        target: [B] int64 index of the region that is meant.
        summed: add the examples of a batch up, as published; the mean otherwise.
    """
    values = F.cross_entropy(scores, target, reduction="none")
    return Losses(values=values, count=1 if summed else len(values), correct=scores.argmax(1) == target)


def region_ranking(
    scores: Tensor,
    region_mask: Tensor,
    target: Tensor,
    *,
    margin: float = 0.2,
    hard_share: float = 0.3,
    summed: bool = True,
    generator: torch.Generator | None = None,
) -> Losses:
    """Return for each expression the hinge between the region that is meant and a wrong one (RefCOCO).

    The wrong one is the region with the highest score among the others, or one of them at random. Scores pass
    through a sigmoid first, as published. A picture of one region has no wrong one and loses nothing.

    Args:
        scores: [B, R].
        region_mask: [B, R] bool.
        target: [B] int64.
        margin: by which the right one shall win.
        hard_share: probability of the highest scored wrong region.
        summed: add the examples of a batch up, as published; the mean otherwise.
        generator: of the draws, on the CPU.

    Example:
        >>> scores = torch.tensor([[2.0, 1.0, -3.0]])
        >>> mask, target = torch.ones(1, 3).bool(), torch.tensor([0])
        >>> losses = region_ranking(scores, mask, target, hard_share=1.0)
        >>> round(losses.values.item(), 4)  # 0.2 + sigmoid(1) - sigmoid(2)
        0.0503
    """
    chosen = F.one_hot(target, scores.shape[1]).bool()
    wrong = region_mask & ~chosen
    device = scores.device
    draws = torch.rand(scores.shape, generator=generator).to(device).masked_fill(~wrong, -1)
    hard = torch.rand(len(scores), generator=generator).to(device) < hard_share
    hardest = scores.masked_fill(~wrong, -torch.inf).argmax(dim=1)
    other = torch.where(hard, hardest, draws.argmax(dim=1))
    rate = scores.sigmoid()
    hinge = margin + rate.gather(1, other[:, None]) - rate.gather(1, target[:, None])
    values = hinge.squeeze(1).clamp(min=0) * wrong.any(dim=1)
    return Losses(values=values, count=1 if summed else len(values), correct=scores.argmax(1) == target)
