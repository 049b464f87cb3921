"""Presets: what they fix, that their hash tells them apart, and that butd-36 makes boxes like the published file's."""

from __future__ import annotations

import base64
import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.detection.test_faster_rcnn import NARROW, build
from vltk.detection.boxes import box_iou
from vltk.detection.preprocessing import CaffePreprocessing, NetworkImage
from vltk.detection.presets import PRESETS, Preset, find_preset
from vltk.detection.proposals import ProposalRule
from vltk.detection.selection import Candidates
from vltk.errors import UsageError


def test_every_preset_has_a_hash_of_its_own() -> None:
    hashes = {preset.preset_hash() for preset in PRESETS.values()}
    assert len(hashes) == len(PRESETS)
    assert {"butd-36", "butd-10-100", "uniter", "d2-maxnms", "hf-frcnn"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_hash_follows_every_setting_but_the_name(name: str) -> None:
    preset = find_preset(name)
    assert replace(preset, name="mine").preset_hash() == preset.preset_hash()
    changed = [
        replace(preset, preprocessing=replace(preset.preprocessing, max_side=999)),
        replace(preset, proposal=replace(preset.proposal, after_nms=299)),
        replace(preset, selection=replace(preset.selection, max_boxes=99)),
        replace(preset, attribute_none=not preset.attribute_none),
    ]
    assert len({preset.preset_hash(), *(other.preset_hash() for other in changed)}) == 5


def test_the_class_of_a_part_is_part_of_the_hash() -> None:
    preset = PRESETS["d2-maxnms"]
    caffe = CaffePreprocessing(**{k: getattr(preset.preprocessing, k) for k in ("min_side", "max_side")})
    assert replace(preset, preprocessing=caffe).preset_hash() != preset.preset_hash()


def test_an_unknown_preset_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match="there is no preset 'butd36'; did you mean butd-36"):
        find_preset("butd36")


@pytest.mark.parametrize("name", ["butd-36", "butd-10-100", "uniter"])
def test_the_caffe_presets_fix_all_of_caffes_habits_together(name: str) -> None:
    preset = PRESETS[name]
    assert isinstance(preset.preprocessing, CaffePreprocessing)
    assert (preset.preprocessing.min_side, preset.preprocessing.max_side) == (600, 1000)
    assert preset.proposal == ProposalRule(
        before_nms=6000,
        after_nms=300,
        nms_threshold=0.7,
        min_side=16,
        min_side_scales=True,
        filter_first=True,
        plus_one=True,
        scale_clamp=None,
        anchors="caffe",
    )
    assert preset.selection.plus_one
    assert preset.selection.scale_clamp is None


# -- the boxes of the published file --------------------------------------------------------------------------------


def published_boxes(shared: Path) -> dict[str, Tensor]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    boxes = {}
    with (shared / "data/butd_coco/train2014_obj36.tsv").open(newline="") as file:
        for row in csv.reader(file, delimiter="\t"):
            boxes[row[0]] = torch.from_numpy(np.frombuffer(base64.b64decode(row[8]), np.float32).reshape(-1, 4).copy())
    return boxes


def check_box_facts(boxes: Tensor, image: NetworkImage) -> None:
    """Raw proposals of a 600/1000 network with one scale: border, smallest side, overlap, number."""
    scale = image.size.scale
    border = torch.tensor([image.size.width - 1, image.size.height - 1]) / scale
    assert len(boxes) == 36
    assert float(boxes.min()) >= 0
    assert bool((boxes[:, 2:] <= border + 2e-3).all()), "boxes stop at the last pixel of the resized picture"
    sides = boxes[:, 2:] - boxes[:, :2] + 1 / scale
    assert float(sides.min()) >= 16 - 1e-3
    overlap = box_iou(boxes * scale, boxes * scale, plus_one=True).fill_diagonal_(0)
    assert float(overlap.max()) <= 0.7 + 1e-4


def proposals_and_regions(preset: Preset, image: NetworkImage) -> tuple[Tensor, Tensor]:
    """Run a network with the published strides and anchors, and random weights."""
    model = build(NARROW).for_inference()
    with torch.no_grad():
        maps = model.maps(image.pixels[None])
        proposals = model.proposals(maps, [image.size], preset.proposal)[0]
        logits = model.roi_heads.box_predictor.class_logits(model.region_features(maps, [proposals.boxes]))
        found = preset.selection.select(
            Candidates(
                boxes=proposals.boxes,
                class_logits=logits * 100,
                deltas=lambda rows, classes: torch.zeros(len(rows), 4),
                box_weights=model.config.predictor.box_weights,
                size=image.size,
            )
        )
    return image.to_original(proposals.boxes), image.to_original(found.boxes)


def test_butd_36_makes_boxes_with_the_properties_of_the_published_ones(shared: Path) -> None:
    preset, published = PRESETS["butd-36"], published_boxes(shared)
    assert len(published) == 10
    for image_id, boxes in published.items():
        with Image.open(shared / f"data/butd_coco/images/{image_id}.jpg") as picture:
            image = preset.preprocessing(np.asarray(picture.convert("RGB")))
        check_box_facts(boxes, image)
        proposals, ours = proposals_and_regions(preset, image)
        check_box_facts(ours, image)
        for found in (boxes, proposals):
            last = (round(image.original[0] * image.size.scale) - 1) / image.size.scale
            assert float(found[:, 2].max()) == pytest.approx(last, abs=2e-3), image_id
