"""Given boxes are described as they are, in their order, under their ids; a box of another picture is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.detection.small_detector import PRESET, extractor, network
from vltk.detection.extractor import Picture
from vltk.detection.given_boxes import GivenBoxes, collect, hash_of
from vltk.detection.preprocessing import stack
from vltk.detection.region_extractors import GivenRegions, load_extractor
from vltk.errors import DataError, UsageError


def picture(image_id: str = "7", height: int = 48, width: int = 64) -> Picture:
    random = np.random.default_rng(0)
    return Picture(image_id=image_id, pixels=random.integers(0, 256, (height, width, 3)).astype(np.uint8))


def given(*boxes: tuple[float, float, float, float]) -> GivenBoxes:
    return GivenBoxes(boxes=np.array(boxes, np.float32), region_ids=tuple(f"r{i}" for i in range(len(boxes))))


def described(boxes: GivenBoxes, image: Picture | None = None):
    image = image or picture()
    chosen = extractor("given", {image.image_id: boxes})
    return chosen.extract([chosen.prepare(image)])[0]


def test_boxes_and_ids_come_back_in_their_order() -> None:
    boxes = given((30, 10, 60, 40), (0, 0, 64, 48), (5, 5, 9, 9))
    regions = described(boxes)
    assert np.array_equal(regions.boxes, boxes.boxes)
    assert regions.region_ids == ("r0", "r1", "r2")
    assert regions.features.shape == (3, 32)


def test_the_features_are_those_that_the_network_pools_there() -> None:
    boxes, image = given((30, 10, 60, 40), (0, 0, 64, 48)), picture(height=96, width=80)
    regions = described(boxes, image)
    built, prepared = network(), PRESET.preprocessing(image.pixels)
    with torch.inference_mode():
        maps = built.maps(stack([prepared]))
        # 80 x 96 becomes 48 x 58: one factor for both axes.
        expected = built.region_features(maps, [torch.from_numpy(boxes.boxes) * (48 / 80)])
        logits = built.roi_heads.box_predictor.class_logits(expected)
    assert np.allclose(regions.features, expected.numpy(), rtol=1e-4, atol=1e-4)
    probs = logits.softmax(dim=1)[:, :-1]
    assert regions.class_ids.tolist() == probs.argmax(dim=1).tolist()
    assert np.allclose(regions.scores, probs.amax(dim=1).numpy(), atol=1e-5)
    assert np.allclose(regions.class_probs, probs.numpy(), atol=1e-3)


def test_the_order_of_the_boxes_does_not_matter() -> None:
    boxes = given((30, 10, 60, 40), (0, 0, 64, 48), (5, 5, 25, 20))
    turned = GivenBoxes(boxes=boxes.boxes[::-1].copy(), region_ids=boxes.region_ids[::-1])
    assert np.allclose(described(boxes).features, described(turned).features[::-1], atol=1e-4)


def test_a_rounding_beyond_the_border_is_cut() -> None:
    regions = described(given((-1.5, 0, 65.5, 48)))
    assert regions.boxes.tolist() == [[0, 0, 64, 48]]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((0, 0, 80, 40), r"box r0 \[0\.0, 0\.0, 80\.0, 40\.0\] outside the picture of 64 x 48; give x1, y1, x2, y2"),
        ((-9, 0, 10, 10), "outside the picture"),
        ((30, 10, 20, 40), "has x2 < x1 or y2 < y1"),
    ],
)
def test_a_box_of_another_picture_is_refused(box: tuple[float, float, float, float], problem: str) -> None:
    chosen = extractor("given", {"7": given(box)})
    with pytest.raises(DataError, match=f"image 7: .*{problem}"):
        chosen.prepare(picture())


def test_a_picture_without_boxes_is_refused() -> None:
    with pytest.raises(DataError, match="image 7: no boxes were given for it"):
        extractor("given", {"8": given((0, 0, 1, 1))}).prepare(picture())


def test_collecting_keeps_the_order_within_a_picture() -> None:
    found = collect([("b", "2", (0, 0, 1, 1)), ("a", "9", (1, 1, 2, 2)), ("b", "1", (2, 2, 3, 3))])
    assert {image_id: one.region_ids for image_id, one in found.items()} == {"b": ("2", "1"), "a": ("9",)}
    assert found["b"].boxes.tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]


def test_the_hash_tells_boxes_and_ids_apart_but_not_the_order_of_pictures() -> None:
    entries = [("a", "1", (0.0, 0.0, 1.0, 1.0)), ("b", "2", (0.0, 0.0, 1.0, 1.0))]
    base = hash_of(collect(entries))
    assert hash_of(collect(entries[::-1])) == base
    assert hash_of(collect([*entries[:1], ("b", "3", entries[1][2])])) != base
    assert hash_of(collect([*entries[:1], ("b", "2", (0.0, 0.0, 1.0, 2.0))])) != base


def test_a_use_is_part_of_the_provenance() -> None:
    regions, boxes, grid = (extractor(mode).provenance for mode in ("regions", "given", "grid"))
    assert (regions.preset, boxes.preset, grid.preset) == ("small", "small/given", "small/grid")
    assert len({regions.preset_hash, boxes.preset_hash, grid.preset_hash}) == 3
    assert regions.preset_hash == PRESET.preset_hash()
    assert (regions.classes, regions.attributes, regions.labels[0]) == (7, 5, "cat")


def test_a_grid_is_the_map_of_the_fifth_stage() -> None:
    image, chosen = picture(height=50, width=90), extractor("grid")
    regions = chosen.extract([chosen.prepare(image)])[0]
    prepared = PRESET.preprocessing(image.pixels)
    with torch.inference_mode():
        built = network()
        expected = built.grid_features(built.maps(stack([prepared])))[0]
    height, width = expected.shape[1:]
    assert regions.features.shape == (height * width, 32)
    for row, column in ((0, 0), (height - 1, 2), (1, width - 1)):
        assert np.allclose(regions.features[row * width + column], expected[:, row, column].numpy(), atol=1e-5)
    cell = regions.boxes[width + 2]
    # One factor leads from 48 x 86 network pixels back to 50 x 90.
    assert np.allclose(cell, np.array([32, 16, 48, 32]) * (50 / 48), atol=1e-3)
    assert regions.boxes[-1, 2:].tolist() == [90, 50]
    areas = np.prod(regions.boxes[:, 2:] - regions.boxes[:, :2], axis=1)
    assert areas.min() > 0
    assert areas.sum() == pytest.approx(90 * 50, rel=1e-4)


def test_a_grid_takes_no_boxes() -> None:
    with pytest.raises(UsageError, match="a grid has no given boxes; leave out --boxes or --features grid"):
        load_extractor("anything", PRESET, features="grid", given={"7": given((0, 0, 1, 1))})


@pytest.mark.parametrize("mode", ["regions", "given", "grid"])
def test_a_picture_does_not_depend_on_the_others_of_its_batch(mode: str) -> None:
    images = [
        Picture(image_id=str(i), pixels=np.random.default_rng(i).integers(0, 256, (48, 64, 3)).astype(np.uint8))
        for i in range(3)
    ]
    boxes = {str(i): given(*[(i, j, 30 + i, 20 + j) for j in range(i + 1)]) for i in range(3)}
    chosen = extractor(mode, boxes)
    prepared = [chosen.prepare(image) for image in images]
    for alone, together in zip([chosen.extract([one])[0] for one in prepared], chosen.extract(prepared), strict=True):
        assert (alone.image_id, len(alone)) == (together.image_id, len(together))
        assert np.allclose(alone.features, together.features, atol=1e-4)
        assert np.allclose(alone.boxes, together.boxes, atol=1e-3)


def test_class_distributions_are_left_out_on_demand() -> None:
    chosen = GivenRegions(network(), PRESET, {"7": given((0, 0, 9, 9))}, weights_hash="", class_probs=False)
    regions = chosen.extract([chosen.prepare(picture())])[0]
    assert regions.class_probs is None
    assert regions.class_ids is not None
