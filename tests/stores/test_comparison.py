"""Comparing two extractions: a slow loop's matches, known drifts, and what the verdict says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.stores.formats.samples import FIELDS, make
from vltk.errors import DataError
from vltk.stores.comparison import Comparison, compare, compare_image, greedy_matches, overlap_matrix
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures

PICTURES = [make(str(number), 6, seed=number, columns=64) for number in range(8)]


def store(folder: Path, records: list[RegionFeatures], **metadata: Any) -> FeatureStore:
    with FeatureStore.create(folder, FeatureMetadata(**{"dtype": "float32", **metadata})) as writer:
        for record in records:
            writer.put(record)
    return FeatureStore.open(folder)


def compared(tmp_path: Path, change: Callable[[RegionFeatures], RegionFeatures], **metadata: Any) -> Comparison:
    second = store(tmp_path / "b", [change(record) for record in PICTURES], **metadata)
    return compare(store(tmp_path / "a", PICTURES), second)


def slow_overlap(a: Any, b: Any) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


BOXES = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.integers(0, 10)).map(
    lambda boxes: np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
    )
)


@given(first=BOXES, second=BOXES)
@settings(max_examples=100, deadline=None)
def test_overlaps_are_those_of_a_slow_loop(first: Any, second: Any) -> None:
    expected = [[slow_overlap(a.tolist(), b.tolist()) for b in second] for a in first]
    np.testing.assert_allclose(
        overlap_matrix(first, second), np.reshape(expected, (len(first), len(second))), atol=1e-6
    )


@given(
    overlaps=hnp.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.integers(0, 5)), elements=st.integers(0, 10).map(lambda n: n / 10)
    )
)
@settings(max_examples=100, deadline=None)
def test_matches_are_those_of_a_slow_loop(overlaps: Any) -> None:
    left, expected = overlaps.copy(), []
    while left.size and left.max() >= 0.5:
        row, column = np.unravel_index(left.argmax(), left.shape)
        expected.append((int(row), int(column)))
        left[row], left[:, column] = -1, -1
    rows, columns, values = greedy_matches(overlaps, least=0.5)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(values, overlaps[rows, columns])


def test_equal_stores_are_called_equal(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: record)
    assert found.verdict == "The two stores hold the same regions in all 8 images compared."
    assert found.identical_images == 8
    assert found.matched == {"iou_0.5": 1.0, "iou_0.9": 1.0}
    assert found.agreement == pytest.approx(1)
    assert found.class_agreement == 1
    assert found.worst == []
    assert sum(found.histogram.values()) == found.histogram["0.999 to 1"] == 48


def test_the_order_of_regions_and_float16_change_nothing_that_counts(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: record.take(np.arange(5, -1, -1)), dtype="float16", detector="other")
    assert found.verdict.startswith("The two extractions agree: 100.0% of the regions match")
    assert found.identical_images == 0
    assert found.differing_metadata == {"dtype": ("float32", "float16"), "detector": ("", "other")}


def test_noise_on_features_is_drift_with_its_cosine(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def noisy(record: RegionFeatures) -> RegionFeatures:
        noise = generator.normal(0, 0.2, record.features.shape).astype(np.float32)
        return replace(record, features=record.features + noise)

    found = compared(tmp_path, noisy)
    expected = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for number in range(8)
        for a, b in zip(
            FeatureStore.open(tmp_path / "a").get(str(number)).features.astype(float),
            FeatureStore.open(tmp_path / "b").get(str(number)).features.astype(float),
            strict=True,
        )
    ]
    assert found.cosine["mean"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert found.cosine["p5"] == pytest.approx(np.percentile(expected, 5), abs=1e-5)
    assert found.cosine["minimum"] == pytest.approx(min(expected), abs=1e-5)
    assert found.verdict.startswith("The two extractions drift: 100.0% of the regions match")


def test_other_boxes_are_another_extraction(tmp_path: Path) -> None:
    def moved(record: RegionFeatures) -> RegionFeatures:
        assert record.boxes is not None
        return replace(record, boxes=record.boxes + np.float32([100, 0, 100, 0]))

    found = compared(tmp_path, moved)
    assert found.verdict.startswith("The two extractions differ: ")
    assert found.matched["iou_0.5"] < 0.5
    assert len(found.worst) == 8
    assert found.worst[0]["agreement"] <= found.worst[-1]["agreement"]


def test_the_picture_that_went_wrong_is_named_first(tmp_path: Path) -> None:
    def spoilt(record: RegionFeatures) -> RegionFeatures:
        return replace(record, features=-record.features) if record.image_id == "5" else record

    found = compared(tmp_path, spoilt)
    assert [entry["image_id"] for entry in found.worst] == ["5"]
    assert found.worst[0]["mean_cosine"] == -1
    assert found.histogram["-1 to 0"] == 6
    assert found.identical_images == 7


def test_fewer_regions_of_the_same_extraction_are_told_from_drift(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: record.take(slice(2)))
    assert found.regions == (48, 16)
    assert "agree where both keep a region (48 regions against 16); select from both by one rule" in found.verdict


def test_features_of_another_length_cannot_be_mixed(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: replace(record, features=record.features[:, :8].copy()))
    assert "their features have different lengths" in found.verdict
    assert found.cosine == {}
    assert found.norm_ratio is None


def test_a_change_of_scale_is_seen_in_the_length_of_features(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: replace(record, features=record.features * 3))
    assert found.cosine["minimum"] == pytest.approx(1)
    assert found.norm_ratio == pytest.approx(3)


def test_classes_are_compared_region_by_region(tmp_path: Path) -> None:
    def renamed(record: RegionFeatures) -> RegionFeatures:
        assert record.class_ids is not None
        classes = record.class_ids.copy()
        classes[:3] += 1
        return replace(record, class_ids=classes)

    assert compared(tmp_path, renamed).class_agreement == pytest.approx(0.5)


def test_pixels_and_fractions_are_the_same_boxes(tmp_path: Path) -> None:
    def fractions(record: RegionFeatures) -> RegionFeatures:
        return replace(record, boxes=record.location()[:, :4], size=(1, 1), normalised_boxes=record.location()[:, :6])

    found = compared(tmp_path, fractions)
    assert found.matched["iou_0.9"] == 1
    assert found.other_sizes == 0


def test_pictures_of_another_size_are_counted(tmp_path: Path) -> None:
    found = compared(tmp_path, lambda record: replace(record, size=(800, 600)))
    assert found.other_sizes == 8


def test_without_boxes_rows_are_compared_in_their_order(tmp_path: Path) -> None:
    plain = [replace(record, boxes=None, **dict.fromkeys(FIELDS)) for record in PICTURES]
    found = compare(store(tmp_path / "a", plain), store(tmp_path / "b", PICTURES))
    assert found.matched_by == "rows"
    assert found.cosine["minimum"] == pytest.approx(1)
    with pytest.raises(DataError, match="image 0: has 6 and 5 regions and no boxes to match them by"):
        compare_image(plain[0], PICTURES[0].take(slice(5)))


def test_pictures_of_one_store_only_are_counted(tmp_path: Path) -> None:
    found = compare(store(tmp_path / "a", PICTURES[:5]), store(tmp_path / "b", PICTURES[3:]))
    assert found.images == {"both": 2, "only_first": 3, "only_second": 3, "compared": 2}
    none = compare(store(tmp_path / "c", PICTURES[:2]), store(tmp_path / "d", PICTURES[5:]))
    assert none.verdict == "The two stores have no image in common."


def test_a_limit_looks_at_pictures_spread_over_the_store(tmp_path: Path) -> None:
    seen: list[int] = []
    both = store(tmp_path / "a", PICTURES)
    found = compare(both, both, limit=3, progress=seen.append)
    assert found.images["compared"] == sum(seen) == 3


def test_zero_features_are_equal_to_zeros_and_nothing_else() -> None:
    zeros = replace(PICTURES[0], features=np.zeros_like(PICTURES[0].features))
    same, other = compare_image(zeros, zeros), compare_image(zeros, PICTURES[0])
    assert same.cosines is not None
    assert other.cosines is not None
    assert same.cosines.tolist() == [1] * 6
    assert other.cosines.tolist() == [0] * 6
