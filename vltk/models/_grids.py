"""Convolutional networks from pixels to a grid of features (VSE-infinity, "grid"; He et al. 2016; ResNeXt)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vltk.detection.backbone import Convolution, bottleneck_stage
from vltk.errors import DataError, UsageError

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("stem", "res2", "res3", "res4", "res5")


class Trunk(nn.Module):
    """A network whose batch norms keep their statistics: fine-tuning trains their scale and shift alone.

    Attributes:
        channels: of the grid.
    """

    channels: int

    def train(self, mode: bool = True) -> Self:
        """Switch to training, all batch norms excepted."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self

    def stages(self) -> tuple[Iterable[nn.Parameter], ...]:
        """Return the parameters of the stem and of the four stages."""
        raise NotImplementedError

    def train_stages(self, fixed: int | None) -> None:
        """Say what is trained (the published warm-up unfreezes from the top).

        Args:
            fixed: 0 trains everything; 1, 2, 3 keep the stem and so many stages; None keeps everything.
        """
        kept = len(STAGES) if fixed is None else fixed + 1 if fixed else 0
        for number, parameters in enumerate(self.stages()):
            for parameter in parameters:
                parameter.requires_grad_(number >= kept)


class ResidualTrunk(Trunk):
    """A residual network at stride 32, built of the detector's blocks, so that its backbone can be taken over.

    Args:
        blocks: of the four stages.
        width: channels of the 3x3 convolutions of the first stage; 64 in a ResNet, 8 in a ResNeXt 32x8d.
        groups: of the 3x3 convolutions; 32 in a ResNeXt.
        stem_channels: after the first convolution.
        out_channels: of the first stage; 256.
        caffe: the step in the first 1x1 convolution and Caffe's pooling, as in bottom-up attention and the authors'
            networks of ImageNet; else torchvision's graph, as in ResNeXt on Instagram pictures (WSL).
    """

    def __init__(
        self,
        *,
        blocks: tuple[int, ...] = BLOCKS[101],
        width: int = 64,
        groups: int = 1,
        stem_channels: int = 64,
        out_channels: int = 256,
        caffe: bool = True,
    ) -> None:
        super().__init__()
        self.caffe = caffe
        self.stem = Convolution(3, stem_channels, 7, stride=2, norm="batch")
        channels = stem_channels
        for stage, count in enumerate(blocks):
            made = bottleneck_stage(
                count,
                channels,
                (width * groups) << stage,
                out_channels << stage,
                stride=1 if stage == 0 else 2,
                stride_in_1x1=caffe,
                groups=groups,
                norm="batch",
            )
            setattr(self, STAGES[stage + 1], made)
            channels = out_channels << stage
        self.channels = channels
        self.train()

    def stages(self) -> tuple[Iterable[nn.Parameter], ...]:
        """Return the parameters of the stem and of the four stages."""
        return tuple(self.get_submodule(stage).parameters() for stage in STAGES)

    def forward(self, images: Tensor) -> Tensor:
        """Turn [B, 3, H, W] pixels into [B, H / 32 * W / 32, channels], row by row."""
        features = F.relu_(self.stem(images))
        padding: dict[str, Any] = {"padding": 0, "ceil_mode": True} if self.caffe else {"padding": 1}
        features = F.max_pool2d(features, 3, 2, **padding)
        for stage in STAGES[1:]:
            features = self.get_submodule(stage)(features)
        grid: Tensor = features
        return grid.flatten(2).transpose(1, 2)


class HubTrunk(Trunk):
    """A network of ``transformers`` (ResNet, RegNet, ConvNeXt, ...) that ends in a map of features.

    Args:
        model: with ``last_hidden_state`` [B, C, h, w] and, for its warm-up, ``embedder`` and ``encoder.stages``.
        channels: C.
    """

    def __init__(self, model: nn.Module, channels: int) -> None:
        super().__init__()
        self.model, self.channels = model, channels
        self.train()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder with ``config.json`` and, where they are, weights; nothing is downloaded.

        Raises:
            DataError: it holds no such model.
        """
        import transformers

        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            whole = any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
            kind: Any = transformers.AutoModel
            model = kind.from_pretrained(folder, local_files_only=True) if whole else kind.from_config(config)
            channels = config.hidden_sizes[-1]
        except (OSError, ValueError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            remedy = "name the folder of a ResNet or another network of transformers that ends in a map"
            raise DataError(f"holds no network of pictures ({reason})", where=folder, remedy=remedy) from error
        return cls(model, channels)

    def stages(self) -> tuple[Iterable[nn.Parameter], ...]:
        """Return the parameters of the stem and of the stages.

        Raises:
            UsageError: the network is not built of a stem and four stages.
        """
        stem, encoder = getattr(self.model, "embedder", None), getattr(self.model, "encoder", None)
        stages = getattr(encoder, "stages", None)
        if not isinstance(stem, nn.Module) or not isinstance(stages, nn.ModuleList) or len(stages) != 4:
            problem = f"{type(self.model).__name__} has no stem and four stages"
            raise UsageError(problem, where="--backbone", remedy="train all of it (--backbone-warmup 0)")
        return (stem.parameters(), *(stage.parameters() for stage in stages))

    def forward(self, images: Tensor) -> Tensor:
        """Turn [B, 3, H, W] pixels into [B, h * w, channels], row by row."""
        grid: Tensor = self.model(images).last_hidden_state
        return grid.flatten(2).transpose(1, 2)


def grid_drop(count: int, sets: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw what :func:`kept_grids` needs: [B, N] and [B] uniform numbers."""
    return torch.rand(sets, count, generator=generator), torch.rand(sets, generator=generator)


def kept_grids(draws: Tensor, sample: Tensor, *, rate: float = 0.2) -> Tensor:
    """Return which grids size augmentation keeps, as published: [B, N] bool.

    A fifth of the pictures keeps all grids; of the others a share drawn between 4 and 20 % is dropped. A picture never
    loses all of them.

    Args:
        draws: [B, N] uniform.
        sample: [B] uniform.
        rate: highest share that is dropped.
    """
    keep = (draws > rate * sample.unsqueeze(1)) | (sample <= rate).unsqueeze(1)
    return keep | (~keep.any(dim=1, keepdim=True) & (draws == draws.amax(dim=1, keepdim=True)))
