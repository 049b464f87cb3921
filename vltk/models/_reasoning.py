"""Reasoning over the regions of a picture: relations among them, then a memory that reads them one after the other.

VSRN, sections 3.2 and 3.3, as its authors ran it: the affinity is divided by the number of regions and not normalised
row by row, every map has a bias, and a batch norm that begins at zero makes each fresh layer the identity.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from vltk.models._dual import initialise_projection, run_packed
from vltk.types import Batch


def over_regions(states: Tensor, mask: Tensor) -> Tensor:
    """Divide each channel of [B, R, H] states by its Euclidean length over a picture's regions; padding becomes zero.

    The published norm of a three-dimensional tensor; a channel that is zero everywhere stays zero here, where the
    authors' code divides by zero.

    Example:
        >>> over_regions(torch.tensor([[[3.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]])).flatten().tolist()
        [0.6000000238418579, 0.800000011920929, 0.0]
    """
    return F.normalize(without_padding(states, mask), dim=1, eps=1e-12)


def without_padding(states: Tensor, mask: Tensor) -> Tensor:
    """Return [B, R, H] states with zeros at padding, themselves where there is none (36 regions, as published)."""
    return states if bool(mask.all()) else states.masked_fill(~mask.unsqueeze(-1), 0)


class RelationLayer(nn.Module):
    """A layer of region relationship reasoning (VSRN, equations 2 and 3).

    The two maps of the affinity meet in their product alone, and so do those of the message. Where a batch has more
    regions than a state has dimensions, their product is made first, which leaves half of the work on regions.

    Args:
        hidden: H.
        inner: size between the maps; H as published where not given.
    """

    def __init__(self, hidden: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or hidden
        self.query, self.key, self.value = (nn.Linear(hidden, inner) for _ in range(3))
        self.output = nn.Linear(inner, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        nn.init.zeros_(self.norm.weight)

    def folds(self, regions: int) -> bool:
        """Say whether multiplying two maps first is less work for so many regions."""
        inner, hidden = self.query.weight.shape
        return hidden * (inner + regions) < 2 * regions * inner

    def affinity(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, R, R] relations of [B, R, H] regions, zero towards padding (equation 2)."""
        if self.folds(mask.numel()):
            query, key = self.query, self.key
            left = F.linear(states, key.weight.t() @ query.weight, key.weight.t() @ query.bias)
            right = states @ (query.weight.t() @ key.bias) + query.bias @ key.bias
            scores = left @ states.transpose(1, 2) + right.unsqueeze(2)
        else:
            scores = self.query(states) @ self.key(states).transpose(1, 2)
        count = mask.sum(dim=1).view(-1, 1, 1)
        return without_padding(scores.transpose(1, 2), mask).transpose(1, 2) / count

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Turn [B, R, H] regions under a [B, R] mask into relation-enhanced ones (equation 3); padding is zero."""
        relations = self.affinity(states, mask)
        if self.folds(mask.numel()):
            weight, bias = self.output.weight @ self.value.weight, self.output.weight @ self.value.bias
            update = F.linear(relations @ states, weight, self.output.bias)
            update.addcmul_(relations.sum(dim=2, keepdim=True), bias)
        else:
            update = self.output(relations @ self.value(states))
        return without_padding(norm_of_regions(self.norm, update, mask).add_(states), mask)


def norm_of_regions(norm: nn.BatchNorm1d, states: Tensor, mask: Tensor) -> Tensor:
    """Apply a batch norm whose statistics are those of all regions of a batch, without padding."""
    if not norm.training or bool(mask.all()):
        whole: Tensor = norm(states.flatten(0, 1)).view_as(states)
        return whole
    kept = norm(states[mask])
    found: Tensor = kept.new_zeros(states.shape)
    found[mask] = kept
    return found


class RegionReasoner(nn.Module):
    """Regions as one vector: a linear map, relation layers, and a memory that reads the regions in their order.

    Args:
        region_dim: D.
        hidden: H.
        layers: of relations; 0 leaves the regions as they are.
        memory: "gru" (global semantic reasoning, section 3.3), or the "mean" of the regions (section 4.4).
        norm_before: divide each channel by its length over the regions before the first layer (COCO).
        norm_after: the same behind the last one.
        batch_norm: of the memory's last state (Flickr30k).
        normalise: scale the vector to length one.
        absolute: drop the signs of the vector.
    """

    def __init__(
        self,
        region_dim: int,
        hidden: int,
        *,
        layers: int,
        memory: Literal["gru", "mean"],
        norm_before: bool,
        norm_after: bool,
        batch_norm: bool,
        normalise: bool,
        absolute: bool,
    ) -> None:
        super().__init__()
        self.project = initialise_projection(nn.Linear(region_dim, hidden))
        self.relations = nn.ModuleDict({str(number): RelationLayer(hidden) for number in range(1, layers + 1)})
        self.gru = nn.GRU(hidden, hidden, batch_first=True) if memory == "gru" else None
        self.norm = nn.BatchNorm1d(hidden) if batch_norm else None
        self.norm_before, self.norm_after = norm_before, norm_after
        self.normalise, self.absolute = normalise, absolute

    def projected(self, batch: Batch) -> Tensor:
        """Return [B, R, H] regions before the first relation layer."""
        states: Tensor = self.project(batch.regions)
        return over_regions(states, batch.region_mask) if self.norm_before else states

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return [B, H] vectors of pictures and the [B, R, H] relation-enhanced regions that they were read from."""
        mask = batch.region_mask
        states = without_padding(self.projected(batch), mask)
        for layer in self.relations.values():
            states = layer(states, mask)
        if self.norm_after:
            states = over_regions(states, mask)
        if self.gru is None:
            memory = states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        else:
            memory = run_packed(self.gru, states, mask)[1][-1]
        if self.norm is not None:
            memory = self.norm(memory)
        return embedding(memory, normalise=self.normalise, absolute=self.absolute), states


def embedding(states: Tensor, *, normalise: bool, absolute: bool) -> Tensor:
    """Return [B, H] states as the published code leaves them: of length one, without their signs where asked for."""
    states = F.normalize(states, dim=-1, eps=1e-12) if normalise else states
    return states.abs() if absolute else states
