"""Drawings show the best regions, one label a place, and the names that the store knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from vltk.detection import preview
from vltk.detection.images import ImageFile
from vltk.detection.loading import Loading
from vltk.detection.preview import PreviewStyle, draw_regions, write_previews
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures

LABELS = ("cat,kitten", "dog", "tree")
ATTRIBUTES = ("red", "old")
GREY = np.full((200, 300, 3), 128, np.uint8)


def regions(count: int = 3, **changes: object) -> RegionFeatures:
    random = np.random.default_rng(count)
    corner = random.uniform(0, 100, (count, 2))
    values = {
        "image_id": "7",
        "features": np.zeros((count, 2), np.float32),
        "boxes": np.hstack([corner, corner + random.uniform(20, 90, (count, 2))]).astype(np.float32),
        "size": (300, 200),
        "scores": np.linspace(0.2, 0.9, count).astype(np.float32),
        "class_ids": np.arange(count) % 3,
        "attribute_ids": np.arange(count) % 2,
        "attribute_scores": np.full(count, 0.5, np.float32),
    }
    return RegionFeatures(**{**values, **changes})


def texts(monkeypatch: pytest.MonkeyPatch, *args: object, **kwargs: object) -> list[str]:
    """Return what is written on a drawing, best region first."""
    written: list[str] = []
    monkeypatch.setattr(preview._Canvas, "label", lambda self, place, text, colour: written.append(text))
    draw_regions(*args, **kwargs)
    return written


def test_labels_name_attribute_class_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(monkeypatch, GREY, regions(), labels=LABELS, attribute_labels=ATTRIBUTES) == [
        "red tree 0.90",
        "old dog 0.55",
        "red cat 0.20",
    ]


def test_unsure_attributes_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = regions(attribute_scores=np.array([0.05, 0.5, 0.05], np.float32))
    written = texts(monkeypatch, GREY, unsure, labels=LABELS, attribute_labels=ATTRIBUTES)
    assert written == ["tree 0.90", "old dog 0.55", "cat 0.20"]


def test_without_names_the_numbers_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(monkeypatch, GREY, regions(1)) == ["class 0 0.20"]
    assert texts(monkeypatch, GREY, regions(1, class_ids=np.array([7])), labels=LABELS) == ["class 7 0.20"]


def test_given_boxes_are_named_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = regions(2, scores=None, class_ids=None, attribute_ids=None, attribute_scores=None, region_ids=("a", "b"))
    assert texts(monkeypatch, GREY, boxes) == ["a", "b"]


def test_only_the_best_are_labelled_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    monkeypatch.setattr(preview._Canvas, "box", lambda self, box, colour, strong: drawn.append(strong))
    style = PreviewStyle(boxes=6, labels=2, side=1000)
    written = texts(monkeypatch, GREY, regions(9), labels=LABELS, style=style)
    assert [text.split()[-1] for text in written] == ["0.90", "0.81"]
    assert (len(drawn), sum(drawn)) == (6, 2)


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=20),
    text=st.sampled_from(["cat 0.5", "a rather long label 0.99"]),
)
def test_labels_lie_inside_the_picture_and_never_on_each_other(
    boxes: list[tuple[float, float, float, float]], text: str
) -> None:
    canvas = preview._Canvas(Image.new("RGBA", (600, 400)), base=600)
    corners = [(min(a, c) * 600, min(b, d) * 400, max(a, c) * 600, max(b, d) * 400) for a, b, c, d in boxes]
    places = [place for place in canvas.places(corners, [text] * len(corners)) if place]
    assert bool(places) == bool(boxes)
    for number, one in enumerate(places):
        assert one[0] >= 0
        assert one[1] >= 0
        assert one[2] <= 600.001
        assert one[3] <= 400.001
        for other in places[:number]:
            assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


def test_small_pictures_grow_and_large_ones_stay() -> None:
    assert draw_regions(GREY, regions()).size == (1000, 667)
    large = np.zeros((1200, 1500, 3), np.uint8)
    assert draw_regions(large, regions(size=(1500, 1200))).size == (1500, 1200)


def test_boxes_grow_with_the_picture() -> None:
    box = regions(1, boxes=np.array([[30, 40, 120, 160]], np.float32), class_ids=None, attribute_ids=None, scores=None)
    drawing = np.asarray(draw_regions(GREY, box, style=PreviewStyle(side=600, labels=0))).astype(int)
    changed = np.argwhere(np.abs(drawing - 128).max(axis=2) > 20)
    assert changed.min(axis=0) == pytest.approx([80, 60], abs=3)
    assert changed.max(axis=0) == pytest.approx([320, 240], abs=3)


def test_a_class_has_one_colour_and_classes_differ() -> None:
    colours = [preview._colour(number) for number in range(100)]
    assert len(set(colours)) == 100
    assert preview._colour(5) == colours[5]


@pytest.mark.parametrize("changes", [{"boxes": None}, {}])
def test_nothing_to_draw_leaves_the_picture(changes: dict[str, None]) -> None:
    empty = regions(0, **changes)
    drawing = np.asarray(draw_regions(GREY, empty, style=PreviewStyle(side=300)))
    assert np.array_equal(drawing, GREY)


def test_previews_are_written_beside_each_other_with_the_names_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = FeatureMetadata(extra={"labels": list(LABELS), "attribute_labels": list(ATTRIBUTES)})
    with FeatureStore.create(tmp_path / "a.lmdb", metadata) as writer:
        writer.put(regions(image_id="deeper/7"))
    Image.fromarray(GREY).save(tmp_path / "7.png")
    written: list[str] = []
    label = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, xy, text, **style: (written.append(text), label(self, xy, text, **style)),
    )
    files = [ImageFile("deeper/7", tmp_path / "7.png"), ImageFile("absent", tmp_path / "no.png")]
    drawn = write_previews(FeatureStore.open(tmp_path / "a.lmdb"), files, tmp_path / "look", loading=Loading())
    assert drawn == [tmp_path / "look" / "deeper" / "7.jpg"]
    assert Image.open(drawn[0]).size == (1000, 667)
    assert "red tree 0.90" in written
