"""The fifth stage on pooled regions with a third of the multiplications, for float32 on a CPU.

Two thirds of what its 3x3 convolutions multiply can be saved (Winograd 1980; Lavin and Gray 2016, F(4x4, 3x3)), and a
region is small enough that the whole transform is one matrix: no tiles are cut out and nothing is copied. The taps lie
two positions apart, so the four parities of a region are four independent maps with neighbouring taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vltk.detection.backbone import Bottleneck, Convolution

_TILE = 4  # outputs of a tile along each axis; a tile sees _TILE + 2 inputs
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@dataclass(frozen=True, eq=False)
class _Block:
    """A folded bottleneck: matrices of its 1x1 convolutions, transformed weights of its 3x3."""

    reduce: tuple[Tensor, Tensor]
    spread: tuple[Tensor, Tensor]
    expand: tuple[Tensor, Tensor]
    shortcut: tuple[Tensor, Tensor] | None


class WinogradStage:
    """Computes the mean feature of pooled regions as the stage it is made from does, up to rounding.

    Args:
        stage: bottlenecks of stride 1 and dilation 2, folded, in float32.
        size: positions along each side of a pooled region, an even number.
    """

    def __init__(self, stage: nn.Sequential, size: int) -> None:
        self.side = size // 2
        into, out = _axis_transforms(self.side)
        self.into, self.out = _both_axes(into), _both_axes(out.permute(1, 2, 0)).T.contiguous()
        self.blocks = [_folded(block) for block in stage]

    @staticmethod
    def fits(stage: nn.Sequential, size: int) -> bool:
        """Whether the stage is one that this can compute."""
        return size % 2 == 0 and all(
            isinstance(block, Bottleneck)
            and (block.conv2.dilation, block.conv2.stride, block.conv2.groups) == ((2, 2), (1, 1), 1)
            and block.conv1.stride == (1, 1)
            and all(one.norm is None and one.weight.dtype == torch.float32 for one in _convolutions(block))
            for block in stage
        )

    def __call__(self, pooled: Tensor) -> Tensor:
        """Return [R, D] of [R, C, size, size]."""
        regions, channels, side = len(pooled), pooled.shape[1], self.side
        by_parity = pooled.reshape(regions, channels, side, 2, side, 2).permute(2, 4, 3, 5, 0, 1)
        features = by_parity.reshape(-1, channels)  # rows: position, parity, region
        for block in self.blocks:
            hidden = nn.functional.linear(features, *block.reduce).relu_()
            hidden = self._spread(hidden, *block.spread)
            if block.shortcut is not None:
                features = nn.functional.linear(features, *block.shortcut)
            weight, bias = block.expand
            features = torch.addmm(features, hidden, weight.T).add_(bias).relu_()
        return features.view(4 * side * side, regions, -1).mean(dim=0)

    def _spread(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        points, channels = len(weight), hidden.shape[1]
        transformed = self.into @ hidden.view(self.side**2, -1)
        products = torch.bmm(transformed.view(points, -1, channels), weight)
        spread = self.out @ products.view(len(self.into), -1)
        return spread.view(-1, products.shape[-1]).add_(bias).relu_()


def _convolutions(block: Bottleneck) -> list[Convolution]:
    every = [block.conv1, block.conv2, block.conv3, block.shortcut]
    return [one for one in every if one is not None]


def _folded(block: nn.Module) -> _Block:
    if not isinstance(block, Bottleneck):
        raise TypeError(f"{type(block).__name__} is not a bottleneck")
    transform = torch.tensor(_WEIGHT, dtype=torch.float64)
    taps = torch.einsum("py,oiyx,qx->pqio", transform, block.conv2.weight.detach().double(), transform)
    return _Block(
        reduce=_matrix(block.conv1),
        spread=(taps.flatten(0, 1).to(torch.float32).contiguous(), _bias(block.conv2)),
        expand=_matrix(block.conv3),
        shortcut=None if block.shortcut is None else _matrix(block.shortcut),
    )


def _matrix(convolution: Convolution) -> tuple[Tensor, Tensor]:
    return convolution.weight.detach().flatten(1).contiguous(), _bias(convolution)


def _bias(convolution: Convolution) -> Tensor:
    bias = convolution.bias
    return convolution.weight.new_zeros(convolution.out_channels) if bias is None else bias.detach()


def _axis_transforms(side: int) -> tuple[Tensor, Tensor]:
    """Return [6, tiles, side] and [side, 6, tiles]: the transforms of one axis with its padding and its tiles."""
    tiles = -(-side // _TILE)
    into, out = torch.zeros(6, tiles, side), torch.zeros(side, 6, tiles)
    for tile in range(tiles):
        for point in range(6):
            for offset in range(6):
                position = tile * _TILE - 1 + offset
                if 0 <= position < side:
                    into[point, tile, position] = _INPUT[point][offset]
            for offset in range(_TILE):
                if tile * _TILE + offset < side:
                    out[tile * _TILE + offset, point, tile] = _OUTPUT[offset][point]
    return into, out


def _both_axes(transform: Tensor) -> Tensor:
    """Return [36 * tiles * tiles, side * side] of the transform of one axis, [6, tiles, side]."""
    both = torch.einsum("ptx,qsy->pqtsxy", transform, transform)
    return both.flatten(4, 5).flatten(0, 3).contiguous()
