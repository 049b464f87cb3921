"""Image-text matching and word-region alignment by optimal transport (UNITER, section 3.2, equation 3, and A.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from vltk.config.training import ObjectivesConfig
from vltk.models.uniter import UNITERForPretraining
from vltk.objectives.masked import cross_entropy
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses

# The published cosine cost divides by norms clamped at this value.
COSINE_EPS = 1e-5

# A product of kernels stays above exp(-40), far from the smallest fp32.
_SAFE_EXPONENT, _MOST_PATIENCE = 40.0, 16


@dataclass(frozen=True, kw_only=True)
class ITM:
    """Tell matched from mismatched pairs, optionally with word-region alignment (section 3.2).

    Args:
        wra_weight: weight of the optimal-transport term (published: 0.1); 0 leaves it out.
    """

    wra_weight: float = 0.0

    @classmethod
    def build(cls, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> Self:
        """Make it as configured."""
        return cls(wra_weight=settings.wra_weight)

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch as it is: mismatched pictures are chosen when it is planned, before they are read."""
        return batch

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return one loss a pair; needs ``targets["match"]`` [B] int64, 1 for a matched pair.

        The published transport term lowers the distance of matched pairs and raises that of mismatched ones,
        where the paper's equation 3 speaks of matched pairs only.
        """
        output = model.encoder(batch)
        match = batch.targets["match"]
        losses = cross_entropy(model.matching_logits(output.pooled), match)
        if not self.wra_weight:
            return losses
        sign = match.to(losses.values.dtype) * 2 - 1
        distance = transport_distance(output.text, batch.text_mask, output.regions, batch.region_mask)
        return replace(losses, values=losses.values + self.wra_weight * sign * distance)


def cosine_cost(text: Tensor, regions: Tensor) -> Tensor:
    """Return the [B, T, R] cost 1 - cosine of [B, T, H] and [B, R, H] states."""
    return 1 - F.normalize(text, dim=-1, eps=COSINE_EPS) @ F.normalize(regions, dim=-1, eps=COSINE_EPS).transpose(1, 2)


def transport_distance(
    text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, *, beta: float = 0.5, iterations: int = 50
) -> Tensor:
    """Return the [B] optimal-transport distances between words and regions (equation 3).

    No gradient flows through the plan, as published.

    Args:
        text: [B, T, H] states.
        text_mask: [B, T] bool; special tokens take part, as published.
        regions: [B, R, H] states.
        region_mask: [B, R] bool.
        beta: step of the proximal iteration.
        iterations: number of iterations.
    """
    cost = cosine_cost(text.float(), regions.float())
    plan = ipot(cost.detach(), text_mask, region_mask, beta=beta, iterations=iterations)
    return (cost * plan).sum(dim=(1, 2))


def ipot(cost: Tensor, text_mask: Tensor, region_mask: Tensor, *, beta: float = 0.5, iterations: int = 50) -> Tensor:
    """Return the transport plans of the inexact proximal point method (UNITER's supplement, algorithm 1).

    Args:
        cost: [B, T, R].
        text_mask: [B, T] bool; each marked position carries the mass 1 / T.
        region_mask: [B, R] bool; likewise.
        beta: step of the proximal iteration; smaller is sharper and slower.
        iterations: number of iterations.

    Returns:
        [B, T, R] plans, zero on padding, that sum to 1; differentiable in ``cost``.

    Example:
        >>> plan = ipot(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.ones(1, 2).bool(), torch.ones(1, 2).bool())
        >>> [[round(v, 3) for v in row] for row in plan[0].tolist()]
        [[0.5, 0.0], [0.0, 0.5]]
    """
    valid = text_mask.unsqueeze(2) & region_mask.unsqueeze(1)
    kernel = torch.exp(cost / -beta).masked_fill(~valid, 0)
    text_mass, region_mass = _uniform(text_mask, cost.dtype), _uniform(region_mask, cost.dtype)
    text_padding, region_padding = ((~mask).unsqueeze(1).to(cost.dtype) for mask in (text_mask, region_mask))
    multiply = Tensor.mul if cost.requires_grad else Tensor.mul_
    patience = _patience(cost, beta)
    # The plan is diag(text) core diag(region): a step multiplies the core by the kernel and passes over it twice more,
    # in matrix-vector products. Only now and then are the two diagonals multiplied into it.
    core = valid.to(cost.dtype)
    text, region, scaling = torch.ones_like(text_mass), torch.ones_like(region_mass), text_mass
    for step in range(1, iterations + 1):
        core = multiply(core, kernel)
        column_sums = torch.bmm(text * scaling, core)
        region = region * (region_mass / torch.addcmul(region_padding, region, column_sums))
        row_sums = torch.bmm(region, core.transpose(1, 2))
        scaling = text_mass / torch.addcmul(text_padding, text, row_sums)
        text = text * scaling
        if step % patience == 0 or step == iterations:
            core = multiply(multiply(core, text.transpose(1, 2)), region)
            text, region = torch.ones_like(text), torch.ones_like(region)
    return core


def _patience(cost: Tensor, beta: float) -> int:
    """Return after how many steps the plan's diagonals must be multiplied into it, before fp32 underflows."""
    if not cost.numel():
        return 1
    low, high = (abs(float(extreme)) for extreme in cost.detach().aminmax())
    return max(1, min(_MOST_PATIENCE, int(_SAFE_EXPONENT * beta / max(low, high, 1e-6))))


def _uniform(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [B, 1, N] masses that sum to 1 over what is marked."""
    return (mask.to(dtype) / mask.sum(dim=1, keepdim=True).clamp(min=1)).unsqueeze(1)
