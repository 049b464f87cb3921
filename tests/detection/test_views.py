"""Views: boxes go where their pixels go, and each view is described as the turned picture is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.detection.images import ImageFile
from vltk.detection.views import PUBLISHED, VIEWS, find_view, split_view, view_files, view_id
from vltk.errors import UsageError

SIZE = (12, 7)


@st.composite
def boxes(draw):
    x = sorted(draw(st.lists(st.integers(0, SIZE[0]), min_size=2, max_size=2, unique=True)))
    y = sorted(draw(st.lists(st.integers(0, SIZE[1]), min_size=2, max_size=2, unique=True)))
    return np.array([[x[0], y[0], x[1], y[1]]], np.float32)


def crop(pixels, box):
    x1, y1, x2, y2 = box[0].astype(int)
    return pixels[y1:y2, x1:x2]


@pytest.mark.parametrize("name", VIEWS)
@given(box=boxes())
@settings(max_examples=20, deadline=None)
def test_the_crop_of_a_view_is_the_view_of_the_crop(name, box):
    view = VIEWS[name]
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    found = crop(view.picture(pixels), view.boxes(box, SIZE))
    assert np.array_equal(found, view.picture(crop(pixels, box)))


def test_a_vertical_flip_exchanges_top_and_bottom():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(VIEWS["flip-vertical"].picture(pixels), pixels[::-1])
    assert np.array_equal(VIEWS["flip"].picture(pixels), pixels[:, ::-1])


def test_jitter_scales_about_the_centre_and_stays_in_the_picture():
    box = np.array([[20, 10, 40, 30], [0, 0, 10, 10]], np.float32)
    assert find_view("roi-jitter-0.8").boxes(box, (100, 50)).tolist() == [[22, 12, 38, 28], [1, 1, 9, 9]]
    assert find_view("roi-jitter-1.2").boxes(box, (100, 50)).tolist() == [[18, 8, 42, 32], [0, 0, 11, 11]]


def test_every_published_view_is_known_and_has_an_id_of_its_own():
    files = [ImageFile("b@0", "b.jpg"), ImageFile("a", "a.jpg")]
    found = view_files(files, [find_view(name) for name in PUBLISHED])
    assert len({file.image_id for file in found}) == 14
    assert [file.image_id for file in found] == sorted(file.image_id for file in found)
    assert split_view(view_id("b@0", "roi-jitter-0.8")) == ("b@0", "roi-jitter-0.8")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("roi-fl", "--view: there is no view 'roi-fl'; did you mean roi-flip?"),
        ("roi-jitter-0", "roi-jitter-0: got the scale 0; give one above 0 and at most 4"),
    ],
)
def test_a_view_that_is_not_there_is_refused(name, sentence):
    with pytest.raises(UsageError, match=sentence.replace("?", r"\?")):
        find_view(name)
