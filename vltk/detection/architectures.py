"""Detectors by name: the full networks of bottom-up attention, and the small one of the drawn world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from vltk.detection.backbone import PyramidConfig, ResNetC4Config
from vltk.detection.faster_rcnn import FasterRCNNConfig
from vltk.detection.proposals import ProposalConfig
from vltk.detection.region_head import AttributeHead, AttributeHeadsConfig, FCHeadConfig, PredictorConfig
from vltk.errors import UsageError, did_you_mean

_DEPTHS: dict[str, Literal[50, 101, 152]] = {"r50": 50, "r101": 101, "r152": 152}


def architecture(
    name: str, *, classes: Sequence[str], questions: Mapping[str, Sequence[str]] | None = None
) -> FasterRCNNConfig:
    """Return the configuration of a detector for the given classes.

    Args:
        name: demo, r50, r101 or r152.
        classes: names of the object classes.
        questions: for each question about a region, such as its colour, the possible answers.

    Raises:
        UsageError: no such name.

    Example:
        >>> architecture("demo", classes=["star"], questions={"colour": ["red", "blue"]}).predictor.classes
        1
    """
    heads = tuple(AttributeHead(name=asked, values=tuple(values)) for asked, values in (questions or {}).items())
    attributes = AttributeHeadsConfig(heads=heads) if heads else None
    predictor = PredictorConfig(
        classes=len(classes), names=tuple(classes), class_agnostic_boxes=name == "demo", attributes=attributes
    )
    if name == "demo":
        # Objects of the drawn world measure 12 to 51 of 128 pixels.
        proposal = ProposalConfig(hidden_channels=48, sizes=(17.0, 27.0, 45.0), ratios=(1.0,))
        return FasterRCNNConfig(backbone=PyramidConfig(), proposal=proposal, head=FCHeadConfig(), predictor=predictor)
    if name not in _DEPTHS:
        raise UsageError(f"no detector {name!r}", where="--architecture", remedy=did_you_mean(name, ["demo", *_DEPTHS]))
    return FasterRCNNConfig(backbone=ResNetC4Config(depth=_DEPTHS[name]), predictor=predictor)
