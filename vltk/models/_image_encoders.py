"""Pictures as one vector: from regions, grids of a network, or both (VSE-infinity); videos, from frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.errors import DataError
from vltk.models._dual import compacted, initialise_projection, unit_length
from vltk.models._grids import Trunk, grid_drop, kept_grids
from vltk.types import Batch


class RegionProjection(nn.Module):
    """Region features to the joint space: a linear map plus a perceptron with batch norm (supplement, section 1.1).

    In training the statistics are those of all rows of the batch, padding included, as the authors ran it.

    Args:
        region_dim: D.
        hidden: H; the perceptron has half of it.
    """

    def __init__(self, region_dim: int, hidden: int) -> None:
        super().__init__()
        self.project = initialise_projection(nn.Linear(region_dim, hidden))
        self.expand = nn.Linear(region_dim, hidden // 2)
        self.norm = nn.BatchNorm1d(hidden // 2)
        self.contract = nn.Linear(hidden // 2, hidden)

    def forward(self, regions: Tensor) -> Tensor:
        """Turn [B, R, D] features into [B, R, H] states."""
        inner = self.norm(self.expand(regions).flatten(0, 1)).unflatten(0, regions.shape[:2])
        states: Tensor = self.project(regions) + self.contract(F.relu(inner))
        return states


class RegionEncoder(nn.Module):
    """Regions of a detector as one vector.

    Args:
        region_dim: D.
        hidden: H.
        pooling: of [B, N, H] states under a mask.
        normalise: scale the vector to length one.
    """

    def __init__(self, region_dim: int, hidden: int, pooling: nn.Module, *, normalise: bool = True) -> None:
        super().__init__()
        self.projection = RegionProjection(region_dim, hidden)
        self.pooling, self.normalise = pooling, normalise

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, H] of the batch's regions; size augmentation has dropped some of them before."""
        states: Tensor = self.pooling(self.projection(batch.regions), batch.region_mask)
        return unit_length(states) if self.normalise else states


class FrameEncoder(nn.Module):
    """Frames of a video as one vector: a linear map and a pooling, as HGR's global encoder with GPO in it.

    Args:
        frame_dim: D.
        hidden: H.
        pooling: of [B, N, H] states under a mask.
        dropout: of the mapped frames.
        normalise: scale the vector to length one.
    """

    def __init__(
        self, frame_dim: int, hidden: int, pooling: nn.Module, *, dropout: float = 0.2, normalise: bool = True
    ) -> None:
        super().__init__()
        self.project = nn.Linear(frame_dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.pooling, self.normalise = pooling, normalise

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, H] of the batch's frames, which stand where a picture has regions."""
        states: Tensor = self.pooling(self.dropout(self.project(batch.regions)), batch.region_mask)
        return unit_length(states) if self.normalise else states


class GridHead(nn.Module):
    """Grids of features as one vector: a linear map, because the network below has layers enough, and a pooling.

    Args:
        channels: C.
        hidden: H.
        pooling: of [B, N, H] states under a mask.
        normalise: scale the vector to length one.
    """

    def __init__(self, channels: int, hidden: int, pooling: nn.Module, *, normalise: bool = True) -> None:
        super().__init__()
        self.project = initialise_projection(nn.Linear(channels, hidden))
        self.pooling, self.normalise = pooling, normalise

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Turn [B, N, C] grids under a [B, N] mask into [B, H]."""
        pooled: Tensor = self.pooling(self.project(states), mask)
        return unit_length(pooled) if self.normalise else pooled


class GridEncoder(nn.Module):
    """The grid of a convolutional network as one vector.

    Args:
        trunk: pixels to [B, N, C].
        head: [B, N, C] to [B, H].
    """

    def __init__(self, trunk: Trunk, head: GridHead) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, H] of the batch's pixels; a generator drops grids (size augmentation).

        Raises:
            DataError: the batch brings no pixels.
        """
        embedded: Tensor = self.head(*grids(self.trunk, batch, generator))
        return embedded


class RegionGridEncoder(nn.Module):
    """Regions and grids of a picture as one set, which is pooled once.

    The paper gives results of "Region+Grid" but no formula; the other reading is an ensemble of two models.

    Args:
        region_dim: D.
        trunk: pixels to [B, N, C].
        hidden: H.
        pooling: of [B, N, H] states under a mask.
        normalise: scale the vector to length one.
    """

    def __init__(
        self, region_dim: int, trunk: Trunk, hidden: int, pooling: nn.Module, *, normalise: bool = True
    ) -> None:
        super().__init__()
        self.projection = RegionProjection(region_dim, hidden)
        self.trunk = trunk
        self.project = initialise_projection(nn.Linear(trunk.channels, hidden))
        self.pooling, self.normalise = pooling, normalise

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, H] of the batch's regions and pixels; a generator drops grids (size augmentation).

        Raises:
            DataError: the batch brings no pixels.
        """
        states, mask = grids(self.trunk, batch, generator)
        joint = torch.cat([self.projection(batch.regions), self.project(states)], dim=1)
        pooled: Tensor = self.pooling(joint, torch.cat([batch.region_mask, mask], dim=1))
        return unit_length(pooled) if self.normalise else pooled


def grids(trunk: Trunk, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return the [B, N, C] grids of a batch's pixels and the [B, N] mask of those that are there.

    Raises:
        DataError: the batch brings no pixels.
    """
    if batch.images is None:
        remedy = "name the pictures, or use a model of regions"
        raise DataError("there are no pixels for a model of grids", where=f"batch of {batch.ids[:1]}", remedy=remedy)
    states = trunk(batch.images)
    if generator is None:
        return states, states.new_ones(states.shape[:2], dtype=torch.bool)
    return dropped_grids(states, *grid_drop(states.shape[1], len(states), generator))


def dropped_grids(states: Tensor, draws: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return the [B, M, C] grids that :func:`~vltk.models._grids.kept_grids` keeps, in order, and their mask."""
    places, mask = compacted(kept_grids(draws, sample).to(states.device))
    kept = states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[2]))
    return kept.masked_fill(~mask.unsqueeze(-1), 0), mask
