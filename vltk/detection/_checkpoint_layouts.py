"""Turns the keys and conventions of published checkpoints into those of :class:`~vltk.detection.FasterRCNN`.

detectron2 and Hugging Face checkpoints have our keys already. MILVLG's keep the conventions of Caffe: the background
comes first, box offsets are not normalised, and anchors are scored by a softmax over two logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vltk.detection.backbone import ResNetC4Config
from vltk.detection.boxes import caffe_cells
from vltk.detection.faster_rcnn import FasterRCNNConfig
from vltk.detection.proposals import ProposalConfig
from vltk.detection.region_head import EmbeddedAttributesConfig, PredictorConfig, Res5HeadConfig
from vltk.errors import DataError

Layout = Literal["auto", "detectron2", "milvlg"]

MILVLG_NAMES = {
    "roi_heads.box_predictor.cls_embed.": "roi_heads.box_predictor.cls_embedding.",
    "roi_heads.box_predictor.attr_linear1.": "roi_heads.box_predictor.fc_attr.",
    "roi_heads.box_predictor.attr_linear2.": "roi_heads.box_predictor.attr_score.",
}
"""Beginnings of MILVLG's keys that differ from ours."""

CELLS = "proposal_generator.anchor_generator.cell_anchors.0"
_PREDICTOR = "roi_heads.box_predictor."
_RPN = "proposal_generator.rpn_head."
_DEPTHS: dict[int, Literal[50, 101, 152]] = {6: 50, 23: 101, 36: 152}
_OLD_NORM = {".gamma": ".weight", ".beta": ".bias"}
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def our_keys(state: Mapping[str, Tensor], renames: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors under our keys: wrappers and counters gone, old names replaced.

    Args:
        state: tensors by their key in a checkpoint.
        renames: further beginnings of keys and what stands for them here.
    """
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    ours = {}
    for name, tensor in state.items():
        for old, new in (MILVLG_NAMES | dict(renames)).items():
            if name.startswith(old):
                name = new + name[len(old) :]
        for old, new in _OLD_NORM.items():
            if ".norm" in name and name.endswith(old):
                name = name.removesuffix(old) + new
        if not name.endswith(".num_batches_tracked"):
            ours[name] = tensor
    return ours


def detect_layout(state: Mapping[str, Tensor]) -> Literal["detectron2", "milvlg"]:
    """Tell by the offsets: only a layout with a background among the boxes has as many boxes as class scores."""
    scores, boxes = state.get(_PREDICTOR + "cls_score.weight"), state.get(_PREDICTOR + "bbox_pred.weight")
    return "milvlg" if scores is not None and boxes is not None and len(boxes) == 4 * len(scores) else "detectron2"


def from_milvlg(state: Mapping[str, Tensor], *, where: Path | str) -> dict[str, Tensor]:
    """Bring MILVLG's conventions to ours: background last, offsets normalised, one logit an anchor.

    Raises:
        DataError: the offsets are not four a class with the background among them.
    """
    ours = dict(state)
    for name in ("cls_score.weight", "cls_score.bias", "cls_embedding.weight", "attr_score.weight", "attr_score.bias"):
        if _PREDICTOR + name in ours:
            ours[_PREDICTOR + name] = ours[_PREDICTOR + name].roll(-1, dims=0)
    factors = torch.tensor(_BOX_WEIGHTS)
    for name in (_PREDICTOR + "bbox_pred.weight", _PREDICTOR + "bbox_pred.bias"):
        if name in ours:
            if len(ours[name]) % 4 or len(ours[name]) < 8:
                raise DataError(f"{name} has {len(ours[name])} rows", where=where, remedy="try --layout detectron2")
            by_class = ours[name].float().view(-1, 4, *ours[name].shape[1:])[1:]
            ours[name] = (by_class * factors.view(1, 4, *[1] * (by_class.dim() - 2))).flatten(0, 1)
    anchors = len(ours.get(_RPN + "anchor_deltas.bias", ())) // 4
    for name in (_RPN + "objectness_logits.weight", _RPN + "objectness_logits.bias"):
        if name in ours and len(ours[name]) == 2 * anchors:
            background, foreground = ours[name].chunk(2)
            ours[name] = foreground - background
    proposal = ProposalConfig()
    if CELLS not in ours and anchors == len(proposal.sizes) * len(proposal.ratios):
        ours[CELLS] = caffe_cells(proposal.sizes, proposal.ratios)
    return ours


def lower_keys(settings: Any) -> Any:
    """Return nested settings with all keys in lower case; both spellings are published."""
    if isinstance(settings, Mapping):
        return {str(name).lower(): lower_keys(value) for name, value in settings.items()}
    return settings


def infer_config(state: Mapping[str, Tensor], settings: Mapping[str, Any], *, where: Path | str) -> FasterRCNNConfig:
    """Read the sizes of a C4 detector off its weights, and what weights do not tell off its ``config.yaml``.

    Args:
        state: tensors under our keys.
        settings: of a Hugging Face ``config.yaml``, with keys in lower case; may be empty.
        where: named by errors.

    Raises:
        DataError: a tensor that sizes are read off is missing, or the settings contradict the weights.
    """
    shapes = _Shapes(state, where)
    blocks = len({name.split(".")[2] for name in state if name.startswith("backbone.res4.")})
    if blocks not in _DEPTHS:
        problem = f"{blocks} blocks in backbone.res4, expected 6, 23 or 36 (ResNet-50, 101, 152)"
        raise DataError(problem, where=where, remedy="give a C4 detector, or name the keys with --rename OLD=NEW")
    resnets, box_head = settings.get("resnets", {}), settings.get("roi_box_head", {})
    depth = _DEPTHS[blocks]
    if resnets.get("depth", depth) != depth:
        problem = f"weights of depth {depth} beside a config.yaml of depth {resnets['depth']}"
        raise DataError(problem, where=where, remedy="give the config.yaml that belongs to the weights")
    width, groups = _width_and_groups(shapes, "backbone.res2.0.conv2.weight")
    mid, head_groups = _width_and_groups(shapes, "roi_heads.res5.0.conv2.weight")
    return FasterRCNNConfig(
        backbone=ResNetC4Config(
            depth=depth,
            stem_channels=shapes["backbone.stem.conv1.weight"][0],
            width=width // groups,
            out_channels=shapes["backbone.res2.0.conv3.weight"][0],
            groups=groups,
            stride_in_1x1=bool(resnets.get("stride_in_1x1", True)),
            caffe_pool=bool(settings.get("model", {}).get("max_pool", True)),
        ),
        proposal=_proposal_config(shapes, settings),
        head=Res5HeadConfig(
            mid_channels=mid,
            out_channels=shapes["roi_heads.res5.0.conv3.weight"][0],
            groups=head_groups,
            pool_size=int(box_head.get("pooler_resolution", 14)),
            halve=bool(box_head.get("res5halve", False)),
        ),
        predictor=_predictor_config(shapes, box_head),
    )


class _Shapes:
    def __init__(self, state: Mapping[str, Tensor], where: Path | str) -> None:
        self.state, self.where = state, where

    def __contains__(self, name: str) -> bool:
        return name in self.state

    def __getitem__(self, name: str) -> tuple[int, ...]:
        if name not in self.state:
            remedy = "give a C4 detector, or name the keys with --rename OLD=NEW"
            raise DataError(f"has no {name}", where=self.where, remedy=remedy)
        shape = tuple(self.state[name].shape)
        if not shape or math.prod(shape) == 0:
            raise DataError(f"{name} has shape {shape}", where=self.where, remedy="get an undamaged copy")
        return shape


def _width_and_groups(shapes: _Shapes, name: str) -> tuple[int, int]:
    out_channels, in_channels = shapes[name][:2] if len(shapes[name]) == 4 else (1, 1)
    return out_channels, max(out_channels // in_channels, 1)


def _proposal_config(shapes: _Shapes, settings: Mapping[str, Any]) -> ProposalConfig:
    default = ProposalConfig()
    anchors, rpn = settings.get("anchor_generator", {}), settings.get("rpn", {})
    if float(anchors.get("offset", 0.0)) != 0.0:
        problem = f"anchor_generator.offset is {anchors['offset']}"
        raise DataError(problem, where=shapes.where, remedy="only anchors without an offset are known")
    return ProposalConfig(
        hidden_channels=shapes[_RPN + "conv.weight"][0],
        sizes=tuple(float(size) for size in anchors.get("sizes", [default.sizes])[0]),
        ratios=tuple(float(ratio) for ratio in anchors.get("aspect_ratios", [default.ratios])[0]),
        box_weights=_four(rpn.get("bbox_reg_weights", default.box_weights)),
    )


def _predictor_config(shapes: _Shapes, box_head: Mapping[str, Any]) -> PredictorConfig:
    attributes = None
    if _PREDICTOR + "attr_score.weight" in shapes:
        attributes = EmbeddedAttributesConfig(
            count=shapes[_PREDICTOR + "attr_score.weight"][0] - 1,
            embedding=shapes[_PREDICTOR + "cls_embedding.weight"][-1],
            hidden=shapes[_PREDICTOR + "fc_attr.weight"][0],
        )
    return PredictorConfig(
        classes=shapes[_PREDICTOR + "cls_score.weight"][0] - 1,
        class_agnostic_boxes=shapes[_PREDICTOR + "bbox_pred.weight"][0] == 4,
        box_weights=_four(box_head.get("bbox_reg_weights", _BOX_WEIGHTS)),
        attributes=attributes,
    )


def _four(values: Any) -> tuple[float, float, float, float]:
    x, y, w, h = (float(value) for value in values)
    return x, y, w, h
