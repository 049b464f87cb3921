"""Trunks of a detector: pictures in, the maps that proposals and regions are made from out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["frozen", "batch"]

_BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23), 152: (3, 8, 36)}


class Maps(NamedTuple):
    """What a backbone sees in pictures: [B, C, H, W] for anchors, and [B, C, H, W] to pool boxes from."""

    proposal: Tensor
    region: Tensor


class Backbone(nn.Module):
    """What a detector asks of its trunk: ``forward`` gives :class:`Maps`, and these say how they are laid out."""

    proposal_channels: int
    proposal_stride: int
    region_channels: int
    region_stride: int


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed scale, as detectors are fine-tuned.

    Its four vectors are buffers under the names that checkpoints use: weight, bias, running_mean, running_var.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        return F.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class Convolution(nn.Conv2d):
    """A convolution followed by its normalisation, which is a submodule ``norm`` as in published checkpoints.

    Args:
        in_channels: channels that come in.
        out_channels: channels that go out.
        kernel_size: positions along each side; the map keeps its size at stride 1.
        stride: step.
        dilation: distance of the taps.
        groups: independent parts.
        norm: which normalisation follows; None for a bias instead.
    """

    norm: FrozenBatchNorm2d | nn.BatchNorm2d | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm | None,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=norm is None)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        kinds = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}
        self.norm = None if norm is None else kinds[norm](out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve and normalise [B, C, H, W]."""
        features = super().forward(features)
        return features if self.norm is None else self.norm(features)

    def fold(self) -> None:
        """Move the normalisation into the weights; the outputs stay, the state dict changes."""
        norm = self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return
        # float64, so that folding rounds once and not at every step.
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = norm.bias.double() - norm.running_mean.double() * scale
        dtype = self.weight.dtype
        self.weight = nn.Parameter((self.weight.double() * scale[:, None, None, None]).to(dtype), requires_grad=False)
        self.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        self.norm = None


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions (He et al. 2016, figure 5).

    Args:
        in_channels: channels that come in.
        mid_channels: channels of the 3x3 convolution.
        out_channels: channels that go out.
        stride: step of the block.
        stride_in_1x1: whether the first 1x1 takes the step (Caffe) or the 3x3 (torchvision).
        dilation: distance of the taps of the 3x3.
        groups: groups of the 3x3.
        norm: normalisation of every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        stride_in_1x1: bool = True,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = "frozen",
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = Convolution(in_channels, mid_channels, 1, stride=first, norm=norm)
        self.conv2 = Convolution(
            mid_channels, mid_channels, 3, stride=second, dilation=dilation, groups=groups, norm=norm
        )
        self.conv3 = Convolution(mid_channels, out_channels, 1, norm=norm)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = Convolution(in_channels, out_channels, 1, stride=stride, norm=norm)
        if self.conv3.norm is not None:
            # A fresh stack of 33 blocks would double its variance at each; a trained one overwrites this.
            nn.init.constant_(self.conv3.norm.weight, 0.25)

    def forward(self, features: Tensor) -> Tensor:
        """Transform [B, in_channels, H, W] into [B, out_channels, H / stride, W / stride]."""
        out = F.relu_(self.conv1(features))
        out = F.relu_(self.conv2(out))
        out = self.conv3(out)
        out += features if self.shortcut is None else self.shortcut(features)
        return F.relu_(out)


def bottleneck_stage(
    blocks: int, in_channels: int, mid_channels: int, out_channels: int, *, stride: int, **options: object
) -> nn.Sequential:
    """Return bottlenecks, the first of which takes the step; ``options`` are those of :class:`Bottleneck`."""
    channels = [in_channels] + [out_channels] * (blocks - 1)
    steps = [stride] + [1] * (blocks - 1)
    made = [
        Bottleneck(channel, mid_channels, out_channels, stride=step, **options)  # type: ignore[arg-type]
        for channel, step in zip(channels, steps, strict=True)
    ]
    return nn.Sequential(*made)


@dataclass(frozen=True, kw_only=True)
class ResNetC4Config:
    """A residual network up to its fourth stage, at stride 16 (He et al. 2016; facts of the Caffe detector)."""

    depth: Literal[50, 101, 152] = 101
    """Layers of the network: 50, 101 or 152."""
    stem_channels: int = 64
    """Channels after the first convolution."""
    width: int = 64
    """Channels of the 3x3 convolutions of the second stage; later stages double."""
    out_channels: int = 256
    """Channels that leave the second stage; later stages double."""
    groups: int = 1
    """Groups of the 3x3 convolutions (ResNeXt)."""
    stride_in_1x1: bool = True
    """Whether the first 1x1 convolution of a stage takes its step, as in Caffe, or the 3x3."""
    caffe_pool: bool = True
    """Whether the first pooling is Caffe's (no padding, sizes rounded up) or padded by one."""
    norm: Norm = "frozen"
    """Batch normalisation with fixed statistics, or a trainable one."""

    def build(self) -> ResNetC4:
        """Return the network with fresh weights."""
        return ResNetC4(self)


class _Stem(nn.Module):
    def __init__(self, config: ResNetC4Config) -> None:
        super().__init__()
        self.conv1 = Convolution(3, config.stem_channels, 7, stride=2, norm=config.norm)
        self.caffe_pool = config.caffe_pool

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu_(self.conv1(images))
        if self.caffe_pool:
            return F.max_pool2d(features, 3, 2, padding=0, ceil_mode=True)
        return F.max_pool2d(features, 3, 2, padding=1)


class ResNetC4(Backbone):
    """A residual network whose fourth stage serves proposals and regions alike."""

    proposal_stride = region_stride = 16

    def __init__(self, config: ResNetC4Config) -> None:
        super().__init__()
        self.stem = _Stem(config)
        in_channels = config.stem_channels
        for stage, blocks in enumerate(_BLOCKS[config.depth]):
            out_channels = config.out_channels << stage
            made = bottleneck_stage(
                blocks,
                in_channels,
                (config.width * config.groups) << stage,
                out_channels,
                stride=1 if stage == 0 else 2,
                stride_in_1x1=config.stride_in_1x1,
                groups=config.groups,
                norm=config.norm,
            )
            setattr(self, f"res{stage + 2}", made)
            in_channels = out_channels
        self.proposal_channels = self.region_channels = in_channels

    def forward(self, images: Tensor) -> Maps:
        """Turn [B, 3, H, W] network pixels into the map at stride 16, twice."""
        features: Tensor = self.stem(images)
        for stage in ("res2", "res3", "res4"):
            features = self.get_submodule(stage)(features)
        return Maps(features, features)


@dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """A small trunk for small pictures: one residual block at each of the strides 4, 8 and 16."""

    width: int = 12
    """Channels at stride 2; twice as many at stride 4, four times as many beyond."""
    region_channels: int = 16
    """Channels of the map that boxes are pooled from."""
    norm: Norm = "batch"
    """Normalisation of every convolution."""

    def build(self) -> Pyramid:
        """Return the network with fresh weights."""
        return Pyramid(self)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, at stride 2."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, 3, stride=2, norm=norm)
        self.conv2 = Convolution(out_channels, out_channels, 3, norm=norm)
        self.shortcut = Convolution(in_channels, out_channels, 1, stride=2, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(features))) + self.shortcut(features))


class Pyramid(Backbone):
    """Proposals at stride 8 with the context of stride 16, regions at stride 4 with the context of both."""

    proposal_stride, region_stride = 8, 4

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        width, norm = config.width, config.norm
        self.stem = Convolution(3, width, 3, stride=2, norm=norm)
        self.res4 = _BasicBlock(width, 2 * width, norm)
        self.res8 = _BasicBlock(2 * width, 4 * width, norm)
        self.res16 = _BasicBlock(4 * width, 4 * width, norm)
        self.fine = Convolution(2 * width, config.region_channels, 1, norm=None)
        self.coarse = Convolution(4 * width, config.region_channels, 1, norm=None)
        self.proposal_channels, self.region_channels = 4 * width, config.region_channels

    def forward(self, images: Tensor) -> Maps:
        """Turn [B, 3, H, W] network pixels into maps at strides 8 and 4."""
        fine = self.res4(F.relu_(self.stem(images)))
        middle = self.res8(fine)
        proposal = middle + F.interpolate(self.res16(middle), size=middle.shape[-2:])
        region = self.fine(fine) + F.interpolate(self.coarse(proposal), size=fine.shape[-2:])
        return Maps(proposal, region)
