"""What a detector says of each region: its feature, its class, its attributes and a better box."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vltk.detection._winograd import WinogradStage
from vltk.detection.backbone import Norm, bottleneck_stage
from vltk.detection.region_ops import roi_align, roi_pool

# Regions that are pooled at once, and that go through the fifth stage at once on a CPU, where its caches set the limit.
_POOLED_CHUNK = 256
_CPU_CHUNK = 8

# -- predictors: feature -> class, box, attributes ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EmbeddedAttributesConfig:
    """One attribute a region, predicted from its feature and an embedding of its class (Anderson et al. 2018)."""

    count: int = 400
    """Attributes; "none" comes on top."""
    embedding: int = 256
    """Width of the class embedding."""
    hidden: int = 512
    """Width of the hidden layer."""
    names: tuple[str, ...] = ()
    """Names of the attributes, where known."""

    def build(self, predictor: PredictorConfig, features: int) -> BoxPredictor:
        """Return the predictor that goes with these attributes."""
        return EmbeddedAttributePredictor(predictor, self, features)


@dataclass(frozen=True, kw_only=True)
class AttributeHead:
    """A question that has one answer for every region, such as its colour."""

    name: str
    """What is asked: colour, texture, size."""
    values: tuple[str, ...]
    """The possible answers."""


@dataclass(frozen=True, kw_only=True)
class AttributeHeadsConfig:
    """Several attributes a region, each a softmax of its own."""

    heads: tuple[AttributeHead, ...]
    """What is asked of every region."""

    @property
    def names(self) -> tuple[str, ...]:
        """The joint answers, e.g. "small striped red"; a store keeps one attribute a region."""
        return tuple(" ".join(values) for values in itertools.product(*(head.values for head in self.heads)))

    @property
    def count(self) -> int:
        """The number of joint answers."""
        return len(self.names)

    def answers(self, joint_ids: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """Return the answer to each question of [R] joint ids, which count as :attr:`names` does."""
        shape = [len(head.values) for head in self.heads]
        return {h.name: ids for h, ids in zip(self.heads, np.unravel_index(joint_ids, shape), strict=True)}

    def build(self, predictor: PredictorConfig, features: int) -> BoxPredictor:
        """Return the predictor that goes with these attributes."""
        return AttributeHeadsPredictor(predictor, self, features)


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Classes, boxes and attributes of a detector."""

    classes: int = 1600
    """Object classes; the background comes on top, last."""
    names: tuple[str, ...] = ()
    """Names of the classes, where known."""
    class_agnostic_boxes: bool = False
    """Whether one box is predicted for all classes."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Factors that the predicted offsets were trained with."""
    attributes: EmbeddedAttributesConfig | AttributeHeadsConfig | None = EmbeddedAttributesConfig()
    """What is said of a region besides its class."""

    def build(self, features: int) -> BoxPredictor:
        """Return the predictor with fresh weights, for features of the given width."""
        return BoxPredictor(self, features) if self.attributes is None else self.attributes.build(self, features)


class BoxPredictor(nn.Module):
    """Linear heads for the class and the box of a region (Fast R-CNN, section 2.1)."""

    def __init__(self, config: PredictorConfig, features: int) -> None:
        super().__init__()
        self.class_agnostic = config.class_agnostic_boxes
        self.cls_score = nn.Linear(features, config.classes + 1)
        self.bbox_pred = nn.Linear(features, 4 * (1 if self.class_agnostic else config.classes))
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

    def class_logits(self, features: Tensor) -> Tensor:
        """Return [R, C + 1] logits of [R, D] features, the background last."""
        logits: Tensor = self.cls_score(features)
        return logits

    def box_deltas(self, features: Tensor) -> Tensor:
        """Return [R, C, 4] offsets, or [R, 1, 4] for all classes together."""
        deltas: Tensor = self.bbox_pred(features)
        return deltas.reshape(len(features), deltas.shape[1] // 4, 4)

    def box_deltas_of(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return [R, 4] offsets for one class of each region, without computing those of the others."""
        if self.class_agnostic:
            return self.box_deltas(features)[:, 0]
        weight = self.bbox_pred.weight.view(-1, 4, features.shape[1])[classes]
        return torch.einsum("rkd,rd->rk", weight, features) + self.bbox_pred.bias.view(-1, 4)[classes]

    def attribute_logits(self, features: Tensor, class_logits: Tensor) -> dict[str, Tensor]:
        """Return [R, A] logits for each thing that is asked about a region; none here."""
        return {}

    def attribute_probs(self, logits: Mapping[str, Tensor], *, with_none: bool) -> Tensor:
        """Return [R, A] probabilities of the attributes that have names; ``with_none`` lets "none" take its share."""
        raise NotImplementedError


class EmbeddedAttributePredictor(BoxPredictor):
    """Adds one attribute a region, conditioned on the most probable class, the background among them."""

    def __init__(self, config: PredictorConfig, attributes: EmbeddedAttributesConfig, features: int) -> None:
        super().__init__(config, features)
        self.cls_embedding = nn.Embedding(config.classes + 1, attributes.embedding)
        self.fc_attr = nn.Linear(features + attributes.embedding, attributes.hidden)
        self.attr_score = nn.Linear(attributes.hidden, attributes.count + 1)

    def attribute_logits(self, features: Tensor, class_logits: Tensor) -> dict[str, Tensor]:
        """Return {"attribute": [R, A + 1]}, "none" last."""
        embedding = self.cls_embedding(class_logits.argmax(dim=-1))
        hidden = F.relu(self.fc_attr(torch.cat([features, embedding], dim=-1)))
        return {"attribute": self.attr_score(hidden)}

    def attribute_probs(self, logits: Mapping[str, Tensor], *, with_none: bool) -> Tensor:
        """Return [R, A] probabilities of the attributes without "none"."""
        scores = logits["attribute"]
        return scores.softmax(dim=-1)[:, :-1] if with_none else scores[:, :-1].softmax(dim=-1)


class AttributeHeadsPredictor(BoxPredictor):
    """Adds a linear softmax for each thing that is asked about a region."""

    def __init__(self, config: PredictorConfig, attributes: AttributeHeadsConfig, features: int) -> None:
        super().__init__(config, features)
        heads = {head.name: nn.Linear(features, len(head.values)) for head in attributes.heads}
        self.attributes = nn.ModuleDict(heads)

    def attribute_logits(self, features: Tensor, class_logits: Tensor) -> dict[str, Tensor]:
        """Return [R, number of values] for each name."""
        return {name: head(features) for name, head in self.attributes.items()}

    def attribute_probs(self, logits: Mapping[str, Tensor], *, with_none: bool) -> Tensor:
        """Return [R, A] probabilities of the joint answers, as if the questions were independent."""
        joint = next(iter(logits.values())).new_ones((len(next(iter(logits.values()))), 1))
        for scores in logits.values():
            joint = (joint.unsqueeze(2) * scores.softmax(dim=-1).unsqueeze(1)).flatten(1)
        return joint


# -- heads: map and boxes -> features -------------------------------------------------------------------------------


class RegionHead(nn.Module):
    """What a detector asks of its second stage; ``box_predictor`` reads the features that it makes.

    Attributes:
        feature_size: D, the width of a region's feature.
        trunk: the part that may run in low precision.
    """

    feature_size: int
    box_predictor: BoxPredictor
    trunk: nn.Module

    def features(self, region_map: Tensor, rois: Tensor) -> Tensor:
        """Return [R, D] float32 features of [R, 5] boxes (index of the picture, x1, y1, x2, y2) on a map."""
        raise NotImplementedError

    def grid_features(self, region_map: Tensor) -> Tensor:
        """Return [B, D, h, w]: what the head computes when it slides over the whole map.

        Raises:
            NotImplementedError: the head is not convolutional.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """Choose the fastest way to the same features; called once the trunk is folded and in its final precision."""


@dataclass(frozen=True, kw_only=True)
class Res5HeadConfig:
    """The fifth stage of a residual network, run on every pooled region (He et al. 2016; facts of Caffe's C4)."""

    mid_channels: int = 512
    """Channels of its 3x3 convolutions."""
    out_channels: int = 2048
    """Width of a region's feature."""
    groups: int = 1
    """Groups of its 3x3 convolutions (ResNeXt)."""
    pool_size: int = 14
    """Bins along each side of a pooled region."""
    halve: bool = False
    """Whether the stage halves the region (the usual one) or keeps its size and spreads its taps (this detector's)."""
    norm: Norm = "frozen"
    """Batch normalisation with fixed statistics, or a trainable one."""

    def build(self, *, channels: int, stride: int, predictor: PredictorConfig) -> Res5Head:
        """Return the head with fresh weights, for a map of ``channels`` at ``stride``."""
        return Res5Head(self, channels=channels, stride=stride, predictor=predictor)


class Res5Head(RegionHead):
    """RoIPool, three bottlenecks and the mean: 92 % of the arithmetic of the whole detector."""

    def __init__(self, config: Res5HeadConfig, *, channels: int, stride: int, predictor: PredictorConfig) -> None:
        super().__init__()
        self.config, self.stride = config, stride
        self.feature_size = config.out_channels
        self.winograd: WinogradStage | None = None
        self.res5 = bottleneck_stage(
            3,
            channels,
            config.mid_channels,
            config.out_channels,
            stride=2 if config.halve else 1,
            dilation=1 if config.halve else 2,
            groups=config.groups,
            norm=config.norm,
        )
        self.box_predictor = predictor.build(config.out_channels)

    @property
    def trunk(self) -> nn.Module:  # type: ignore[override]
        """The bottlenecks."""
        return self.res5

    def pool(self, region_map: Tensor, rois: Tensor) -> Tensor:
        """Return [R, C, pool_size, pool_size] maxima of [R, 5] boxes."""
        return roi_pool(region_map, rois, output_size=self.config.pool_size, spatial_scale=1 / self.stride)

    def features(self, region_map: Tensor, rois: Tensor) -> Tensor:
        """Return [R, D] features; without gradients in chunks, so that the memory does not grow with the regions."""
        if torch.is_grad_enabled():
            return self._features(self.pool(region_map, rois))
        chunk = _CPU_CHUNK if region_map.device.type == "cpu" else _POOLED_CHUNK
        parts = (self.pool(region_map, part) for part in torch.split(rois, _POOLED_CHUNK))
        return torch.cat([self._features(piece) for part in parts for piece in torch.split(part, chunk)])

    def prepare(self) -> None:
        """Use fewer multiplications where that is faster: in float32 on a CPU."""
        on_cpu = next(self.res5.parameters()).device.type == "cpu"
        if on_cpu and WinogradStage.fits(self.res5, self.config.pool_size):
            self.winograd = WinogradStage(self.res5, self.config.pool_size)

    def grid_features(self, region_map: Tensor) -> Tensor:
        """Return [B, D, h, w], the fifth stage over the whole map."""
        features: Tensor = self.res5(region_map)
        return features.float()

    def _features(self, pooled: Tensor) -> Tensor:
        if self.winograd is not None and pooled.device.type == "cpu":
            return self.winograd(pooled)
        maps: Tensor = self.res5(pooled)
        return maps.mean(dim=(2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))


@dataclass(frozen=True, kw_only=True)
class FCHeadConfig:
    """RoIAlign and two fully connected layers, for small detectors."""

    hidden: int = 256
    """Width of both layers, and of a region's feature."""
    pool_size: int = 7
    """Bins along each side of a pooled region."""
    sampling_ratio: int = 2
    """Samples along each side of a bin; 0 for as many as the region covers."""

    def build(self, *, channels: int, stride: int, predictor: PredictorConfig) -> FCHead:
        """Return the head with fresh weights, for a map of ``channels`` at ``stride``."""
        return FCHead(self, channels=channels, stride=stride, predictor=predictor)


class FCHead(RegionHead):
    """RoIAlign (He et al. 2017), then two layers; the feature is the second one's output after its ReLU."""

    def __init__(self, config: FCHeadConfig, *, channels: int, stride: int, predictor: PredictorConfig) -> None:
        super().__init__()
        self.config, self.stride = config, stride
        self.feature_size = config.hidden
        self.trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * config.pool_size**2, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
        )
        self.box_predictor = predictor.build(config.hidden)

    def features(self, region_map: Tensor, rois: Tensor) -> Tensor:
        """Return [R, D] features."""
        pooled = roi_align(
            region_map,
            rois,
            output_size=self.config.pool_size,
            spatial_scale=1 / self.stride,
            sampling_ratio=self.config.sampling_ratio,
        )
        features: Tensor = self.trunk(pooled)
        return features.float()


def as_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Return [R, 5]: the boxes of several pictures, each with the index of its picture in front.

    Example:
        >>> as_rois([torch.zeros(1, 4), torch.ones(1, 4)])[:, 0].tolist()
        [0.0, 1.0]
    """
    indexed = [torch.cat([one.new_full((len(one), 1), i), one], dim=1) for i, one in enumerate(boxes)]
    return torch.cat(indexed)
