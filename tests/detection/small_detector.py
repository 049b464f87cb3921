"""A detector of the published architecture that is small enough for a thousand pictures in a test."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vltk.detection.backbone import ResNetC4Config
from vltk.detection.faster_rcnn import FasterRCNN, FasterRCNNConfig
from vltk.detection.given_boxes import GivenBoxes
from vltk.detection.preprocessing import CaffePreprocessing
from vltk.detection.presets import PRESETS, Preset
from vltk.detection.proposals import ProposalConfig, ProposalRule
from vltk.detection.region_extractors import DetectedRegions, FasterRCNNExtractor, GivenRegions, GridRegions
from vltk.detection.region_head import EmbeddedAttributesConfig, PredictorConfig, Res5HeadConfig
from vltk.detection.selection import ClasswiseRule

CONFIG = FasterRCNNConfig(
    backbone=ResNetC4Config(depth=50, stem_channels=8, width=4, out_channels=16),
    proposal=ProposalConfig(hidden_channels=16, sizes=(16.0, 32.0), ratios=(0.5, 1.0)),
    head=Res5HeadConfig(mid_channels=8, out_channels=32, pool_size=3),
    predictor=PredictorConfig(
        classes=7,
        names=("cat", "dog", "bird", "tree", "car", "cup", "sky"),
        attributes=EmbeddedAttributesConfig(count=5, embedding=4, hidden=8, names=("red", "old", "wet", "big", "far")),
    ),
)
PRESET: Preset = dataclasses.replace(
    PRESETS["butd-36"],
    name="small",
    preprocessing=CaffePreprocessing(min_side=48, max_side=96),
    proposal=ProposalRule(before_nms=200, after_nms=20, min_side=2.0, plus_one=True),
    selection=ClasswiseRule(min_boxes=4, max_boxes=6, plus_one=True),
)


def network(seed: int = 0) -> FasterRCNN:
    """Return the detector with random weights that spread its outputs."""
    torch.manual_seed(seed)
    built = CONFIG.build()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("weight"):
                # Offsets stay small: boxes that leave the picture are no boxes.
                offsets = "deltas" in name or "bbox_pred" in name
                parameter.normal_(0, 1e-4 if offsets else (2 / parameter[0].numel()) ** 0.5)
    return built.for_inference()


def extractor(mode: str = "regions", given: Mapping[str, GivenBoxes] | None = None) -> FasterRCNNExtractor:
    """Return a use of the small detector."""
    weights_hash = hashlib.sha256(b"random weights of seed 0").hexdigest()
    if mode == "given":
        return GivenRegions(network(), PRESET, given or {}, weights_hash=weights_hash)
    kind = {"regions": DetectedRegions, "grid": GridRegions}[mode]
    return kind(network(), PRESET, weights_hash=weights_hash)


def write_pictures(
    folder: Path, count: int, *, sizes: tuple[tuple[int, int], ...] = ((64, 48), (48, 64), (70, 50))
) -> Path:
    """Write pictures of soft coloured blocks, so that neighbouring pixels agree as in a photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng(number)
        blocks = Image.fromarray(random.integers(0, 256, (5, 6, 3)).astype(np.uint8))
        blocks.resize(sizes[number % len(sizes)], Image.Resampling.BICUBIC).save(folder / f"{number:05d}.png")
    return folder
