"""Faster R-CNN (Ren et al. 2015) put together from a backbone, a proposal network and a region head.

The default is the detector of bottom-up attention (Anderson et al. 2018): ResNet-101 C4, 1600 classes and 400
attributes of Visual Genome; its state dict has the keys of the published checkpoints. Another configuration of the
same class is a detector of 0.4 million weights for pictures of 128 pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vltk.detection.backbone import Convolution, Maps, PyramidConfig, ResNetC4Config
from vltk.detection.boxes import ImageSize
from vltk.detection.proposals import ProposalConfig, ProposalRule, Proposals
from vltk.detection.region_head import (
    AttributeHead,
    AttributeHeadsConfig,
    EmbeddedAttributesConfig,
    FCHeadConfig,
    PredictorConfig,
    RegionHead,
    Res5HeadConfig,
    as_rois,
)
from vltk.detection.selection import Candidates
from vltk.errors import DataError, UsageError

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PARTS: dict[str, Any] = {
    part.__name__: part
    for part in (
        AttributeHead,
        AttributeHeadsConfig,
        EmbeddedAttributesConfig,
        FCHeadConfig,
        PredictorConfig,
        ProposalConfig,
        PyramidConfig,
        Res5HeadConfig,
        ResNetC4Config,
    )
}


@dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig:
    """A detector by its parts; the default is that of bottom-up attention.

    Example:
        >>> config = FasterRCNNConfig(backbone=ResNetC4Config(depth=50))
        >>> FasterRCNNConfig.from_json(config.to_json()) == config
        True
    """

    backbone: ResNetC4Config | PyramidConfig = field(default_factory=ResNetC4Config)
    """The trunk."""
    proposal: ProposalConfig = field(default_factory=ProposalConfig)
    """The proposal network."""
    head: Res5HeadConfig | FCHeadConfig = field(default_factory=Res5HeadConfig)
    """The second stage, which makes the feature of a region."""
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    """Classes, boxes and attributes."""

    def build(self) -> FasterRCNN:
        """Return the detector with fresh weights."""
        return FasterRCNN(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_json` reads back."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "detector configuration") -> FasterRCNNConfig:
        """Build a configuration from :meth:`to_json`.

        Raises:
            DataError: it holds a part or a field that this version does not know.
        """
        try:
            return cls(**{name: _part(value) for name, value in values.items()})
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            remedy = "convert the original weights again with this version"
            raise DataError(f"is not a detector's configuration ({error})", where=where, remedy=remedy) from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"part": type(value).__name__, **fields}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _part(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {name: _part(one) for name, one in value.items() if name != "part"}
        return _PARTS[value["part"]](**fields)
    return tuple(_part(one) for one in value) if isinstance(value, list) else value


class FasterRCNN(nn.Module):
    """A two-stage detector whose stages can be run one by one.

    Pictures of one batch have equal sizes: padding leaks into the features near the border and changes most of the
    proposals, so :mod:`vltk.detection.preprocessing` refuses to pad unless told to.

    Example:
        >>> detector = FasterRCNNConfig(backbone=PyramidConfig(), proposal=ProposalConfig(sizes=(32.0,), ratios=(1.0,)),
        ...     head=FCHeadConfig(), predictor=PredictorConfig(classes=8, attributes=None)).build().eval()
        >>> with torch.no_grad():
        ...     maps = detector.maps(torch.zeros(1, 3, 128, 128))
        ...     proposals = detector.proposals(maps, [ImageSize(128, 128)], ProposalRule(after_nms=5))
        ...     detector.region_features(maps, [proposals[0].boxes]).shape
        torch.Size([5, 256])
    """

    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__()
        self.config = config
        backbone = config.backbone.build()
        self.backbone = backbone
        self.proposal_generator = config.proposal.build(
            channels=backbone.proposal_channels, stride=backbone.proposal_stride
        )
        self.roi_heads: RegionHead = config.head.build(
            channels=backbone.region_channels, stride=backbone.region_stride, predictor=config.predictor
        )

    @property
    def feature_size(self) -> int:
        """D, the width of a region's feature."""
        return self.roi_heads.feature_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.proposal_generator.cells.device

    def maps(self, images: Tensor) -> Maps:
        """Run the trunk on [B, 3, H, W] network pixels."""
        weight = next(self.backbone.parameters())
        images = images.to(weight.device, weight.dtype, memory_format=torch.channels_last)
        if self._together() or len(images) == 1:
            maps: Maps = self.backbone(images)
            return maps
        every = [self.backbone(image) for image in torch.split(images, 1)]
        return Maps(torch.cat([one.proposal for one in every]), torch.cat([one.region for one in every]))

    def proposals(self, maps: Maps, sizes: Sequence[ImageSize], rule: ProposalRule) -> list[Proposals]:
        """Return the proposals of each picture.

        Args:
            maps: of :meth:`maps`.
            sizes: of each picture, in network pixels.
            rule: which anchors become proposals.
        """
        generator = self.proposal_generator
        if self._together():
            return generator.select(generator(maps.proposal, anchors=rule.anchors), sizes, rule)
        return [
            generator.select(generator(features, anchors=rule.anchors), [size], rule)[0]
            for features, size in zip(torch.split(maps.proposal, 1), sizes, strict=True)
        ]

    def region_features(self, maps: Maps, boxes: Sequence[Tensor]) -> Tensor:
        """Return [R, D] float32 features of any boxes, the pictures' regions one after the other.

        Args:
            maps: of :meth:`maps`.
            boxes: [R_b, 4] network pixels for each picture.
        """
        if not sum(map(len, boxes)):
            return maps.region.new_zeros((0, self.feature_size), dtype=torch.float32)
        if self._together():
            return self.roi_heads.features(maps.region, as_rois(boxes))
        every = ((maps.region[i : i + 1], as_rois([found])) for i, found in enumerate(boxes) if len(found))
        return torch.cat([self.roi_heads.features(region_map, rois) for region_map, rois in every])

    def candidates(self, boxes: Tensor, features: Tensor, size: ImageSize) -> Candidates:
        """Return what a rule selects one picture's regions from; deltas wait until a rule asks for them.

        Args:
            boxes: [R, 4] proposals, network pixels.
            features: [R, D] of :meth:`region_features`.
            size: of the picture, in network pixels.
        """
        predictor = self.roi_heads.box_predictor
        return Candidates(
            boxes=boxes,
            class_logits=predictor.class_logits(features),
            deltas=lambda rows, classes: predictor.box_deltas_of(features[rows], classes),
            box_weights=self.config.predictor.box_weights,
            size=size,
        )

    def grid_features(self, maps: Maps) -> Tensor:
        """Return [B, D, h, w] float32, the region head slid over the whole map.

        Raises:
            UsageError: the head of this detector is not convolutional.
        """
        try:
            return self.roi_heads.grid_features(maps.region)
        except NotImplementedError as error:
            remedy = "use a detector with a residual head, or its boxes"
            raise UsageError("this detector has no grid features", remedy=remedy) from error

    def _together(self) -> bool:
        """Whether the pictures of a batch go through in one piece: only in training.

        Convolutions of another batch size round differently, and one bit can turn the order of two proposals. What a
        picture gets must not depend on its neighbours, and on a CPU a batch is no faster anyway.
        """
        return self.training or torch.is_grad_enabled()

    def for_inference(self, precision: Precision = "fp32") -> FasterRCNN:
        """Prepare the detector, in place, for extraction: no gradients, normalisation folded, channels last.

        With ``bf16`` or ``fp16`` the trunk and the region head's trunk compute in it; proposal scores, box
        arithmetic, suppression and the linear heads stay float32. The state dict is no longer that of a checkpoint.
        """
        self.eval().requires_grad_(False)
        for module in self.modules():
            if isinstance(module, Convolution):
                module.fold()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for trunk in (self.backbone, self.roi_heads.trunk):
            trunk.to(_DTYPES[precision])
        self.roi_heads.prepare()
        return self
