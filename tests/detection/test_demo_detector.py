"""The shipped detector finds the drawn world, in pictures that it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from vltk.datasets.scenes import draw, scene
from vltk.detection.evaluation import Annotated, evaluate
from vltk.detection.extractor import Picture
from vltk.detection.presets import find_preset
from vltk.detection.region_extractors import DEMO_WEIGHTS, DetectedRegions
from vltk.detection.weights import load_detector
from vltk.types import RegionFeatures

UNSEEN = [scene(77_000, index) for index in range(120)]


@pytest.fixture(scope="module")
def extractor() -> DetectedRegions:
    loaded = load_detector(DEMO_WEIGHTS)
    return DetectedRegions(loaded.model.for_inference(), find_preset("demo"), weights_hash=loaded.sha256)


@pytest.fixture(scope="module")
def found(extractor: DetectedRegions) -> list[RegionFeatures]:
    prepared = [extractor.prepare(Picture(image_id=str(s.index), pixels=draw(s))) for s in UNSEEN]
    return [one for start in range(0, len(prepared), 8) for one in extractor.extract(prepared[start : start + 8])]


def test_it_finds_objects_and_their_attributes(extractor: DetectedRegions, found: list[RegionFeatures]) -> None:
    predictor = extractor.network.config.predictor
    truth = [
        Annotated(
            boxes=np.array([thing.box for thing in drawn.objects], np.float32),
            classes=np.array([predictor.names.index(thing.shape) for thing in drawn.objects]),
            attributes={
                head.name: np.array([head.values.index(thing.attribute(head.name)) for thing in drawn.objects])
                for head in predictor.attributes.heads
            },
        )
        for drawn in UNSEEN
    ]
    report = evaluate(truth, found, attributes=predictor.attributes, names=predictor.names)
    assert report["mAP@0.5"] > 0.95
    assert report["colour accuracy"] > 0.98
    assert report["texture accuracy"] > 0.98
    assert report["size accuracy"] > 0.98
    assert report["objects inside others"] > 20
    assert report["class accuracy inside others"] > 0.85


def test_one_object_is_one_region(found: list[RegionFeatures]) -> None:
    counts = [len(regions) - len(drawn.objects) for regions, drawn in zip(found, UNSEEN, strict=True)]
    assert np.mean(np.abs(counts)) < 0.2


def test_a_picture_of_another_size_is_brought_to_its_own(extractor: DetectedRegions) -> None:
    large = extractor.prepare(Picture(image_id="large", pixels=draw(UNSEEN[0], size=256)))
    (regions,) = extractor.extract([large])
    assert regions.size == (256, 256)
    (small,) = extractor.extract([extractor.prepare(Picture(image_id="small", pixels=draw(UNSEEN[0])))])
    np.testing.assert_allclose(regions.boxes, 2 * small.boxes, atol=4)


def test_the_file_is_small_and_says_how_it_was_made() -> None:
    assert DEMO_WEIGHTS.stat().st_size < 3 * 2**20
    beside = DEMO_WEIGHTS.with_suffix(".md").read_text("utf-8")
    assert "vltk train-detector" in beside
    assert "vltk scenes" in beside
