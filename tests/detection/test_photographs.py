"""Real photographs through the full-size network with random weights: nothing fails, and boxes are Caffe's boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vltk.detection.extraction import Extraction, ExtractionResult
from vltk.detection.faster_rcnn import FasterRCNNConfig
from vltk.detection.images import ImageFile, list_images
from vltk.detection.loading import Loading
from vltk.detection.presets import PRESETS
from vltk.detection.region_extractors import DetectedRegions
from vltk.stores.features import FeatureStore
from vltk.stores.formats import lxmert_tsv
from vltk.types import RegionFeatures

# A third of the published proposals: they cost most of the time and change no property that is checked here.
PROPOSALS = 100


def check_boxes_of_butd_36(regions: RegionFeatures) -> None:
    """What facts of the published TSV say: 36 raw proposals at 600/1000, RPN suppression at 0.7, one scale factor."""
    width, height = regions.size
    scale = min(600 / min(width, height), 1000 / max(width, height))
    boxes = regions.boxes.astype(np.float64)
    assert boxes.shape == (36, 4)
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= (round(width * scale) - 1) / scale + 1e-3
    assert boxes[:, 3].max() <= (round(height * scale) - 1) / scale + 1e-3
    sides = (boxes[:, 2:] - boxes[:, :2]) * scale + 1
    assert sides.min() >= 16 * scale - 1e-2
    network = boxes * scale
    low = np.maximum(network[:, None, :2], network[None, :, :2])
    high = np.minimum(network[:, None, 2:], network[None, :, 2:])
    overlap = np.prod(np.maximum(high - low + 1, 0), axis=-1)
    area = np.prod(sides, axis=1)
    iou = overlap / (area[:, None] + area[None] - overlap)
    np.fill_diagonal(iou, 0)
    assert iou.max() <= 0.70 + 1e-3


def extracted(files: Sequence[ImageFile], out: Path, precision: str) -> ExtractionResult:
    torch.manual_seed(0)
    network = FasterRCNNConfig().build().for_inference(precision)
    butd = PRESETS["butd-36"]
    preset = dataclasses.replace(butd, proposal=dataclasses.replace(butd.proposal, after_nms=PROPOSALS))
    extractor = DetectedRegions(network, preset, weights_hash="random")
    metadata = extractor.provenance.metadata(precision=precision)
    with Extraction(files, extractor, out, metadata=metadata, loading=Loading(num_workers=1)) as extraction:
        extraction.extract()
        return extraction.finish()


def check(files: Sequence[ImageFile], result: ExtractionResult) -> None:
    assert result.failures == ()
    store = FeatureStore.open(result.out)
    assert store.ids() == sorted(file.image_id for file in files)
    for regions in store:
        check_boxes_of_butd_36(regions)
        assert regions.features.shape == (36, 2048)
        assert regions.features.min() >= 0
        assert regions.features.max() > 0
        assert regions.class_probs.shape == (36, 1600)
        assert regions.class_ids.max() < 1600
        assert regions.attribute_ids.max() < 400


def test_the_published_tsv_has_these_boxes(shared: Path) -> None:
    found = list(lxmert_tsv.read(shared / "data" / "butd_coco" / "train2014_obj36.tsv"))
    assert len(found) == 10
    for regions in found:
        check_boxes_of_butd_36(regions)


def test_three_photographs_go_through_the_full_network(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    folders = (data / "coco" / "val2017", data / "flickr30k_entities" / "flickr30k-images", data / "gqa" / "images")
    files = [list_images(folder).files[0] for folder in folders]
    check(files, extracted(sorted(files, key=lambda file: file.image_id), tmp_path / "a.lmdb", "fp32"))


@pytest.mark.slow
def test_all_photographs_go_through_the_full_network(shared: Path, tmp_path: Path) -> None:
    files = list_images(shared / "data", ids="path").files
    assert len(files) > 200
    check(files, extracted(files, tmp_path / "a.lmdb", "bf16"))
