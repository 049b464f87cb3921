"""The types refuse what does not fit, and say where."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from vltk.errors import DataError, UsageError, VltkError, did_you_mean
from vltk.types import Example, Parse, Phrase, RegionFeatures, Tokens

PARSE = Parse(words=("a",), heads=(0,), relations=("root",))


def regions(**changes: Any) -> RegionFeatures:
    values: dict[str, Any] = {
        "image_id": "7",
        "features": np.arange(6, dtype=np.float16).reshape(2, 3),
        "boxes": np.array([[0, 0, 50, 20], [10, 5, 100, 40]], np.float32),
        "size": (100, 40),
        "scores": np.array([0.9, 0.4], np.float32),
    }
    return RegionFeatures(**values | changes)


def test_location_is_unit_corners_sides_and_area() -> None:
    expected = [[0, 0, 0.5, 0.5, 0.5, 0.5, 0.25], [0.1, 0.125, 1, 1, 0.9, 0.875, 0.9 * 0.875]]
    np.testing.assert_allclose(regions().location(), expected, rtol=1e-6)


def test_stored_normalised_boxes_win_over_pixels() -> None:
    six = np.array([[0, 0, 1, 1, 0.5, 0.25]] * 2, np.float32)
    np.testing.assert_array_equal(regions(normalised_boxes=six).location()[:, 6], [0.125, 0.125])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": ""}, "image id ''"),
        ({"size": (0, 4)}, "two positive integers"),
        ({"features": np.ones(3, np.float16)}, r"features has shape \(3,\)"),
        ({"scores": np.ones(3, np.float32)}, "3 rows of scores for 2 rows of features"),
        ({"boxes": np.ones((2, 5), np.float32)}, "boxes has 5 columns, expected 4"),
        ({"class_ids": np.ones(2, np.float32)}, "class_ids is float32, expected integers"),
        ({"scores": np.array([0.5, np.nan], np.float32)}, "row 1: scores is not finite"),
        ({"boxes": np.array([[0, 0, 1, 1], [9, 0, 1, 1]], np.float32)}, r"row 1: x2 < x1 .*\[9.0, 0.0, 1.0, 1.0\]"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 1, 99]], np.float32)}, "row 1: outside the picture of 100 x 40"),
        ({"region_ids": ("a",)}, "1 region ids for 2 rows"),
    ],
)
def test_a_part_that_does_not_fit_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        regions(**changes)


def test_location_without_boxes_says_so() -> None:
    with pytest.raises(DataError, match="image 7: has no boxes"):
        regions(boxes=None).location()


def test_take_keeps_every_field_and_equals_sees_each_difference() -> None:
    whole = regions(region_ids=("a", "b"), class_ids=np.array([3, 4]))
    assert whole.take(slice(0, 2)).equals(whole)
    assert whole.take(np.array([1, 0])).region_ids == ("b", "a")
    assert not whole.equals(regions(region_ids=("a", "c"), class_ids=np.array([3, 4])))
    assert not whole.equals(regions(region_ids=("a", "b")))
    assert not regions().equals(regions(features=np.arange(6, dtype=np.float32).reshape(2, 3)))


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [((2, 1), "0 roots"), ((0, 0), "2 roots"), ((0, 3), "head 3 of 2 words"), ((0, 1, 1), "2 words, 3 heads")],
)
def test_a_parse_is_a_tree(heads: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Parse(words=("a", "b"), heads=heads, relations=("x", "y"))


def test_a_word_piece_belongs_to_a_word_that_is_there() -> None:
    with pytest.raises(DataError, match="parse of 'a': a word piece in word 1 of 1; count words from 0"):
        Parse(words=("a",), heads=(0,), relations=("root",), pieces=(0, 1))


def test_a_cycle_beside_the_root_is_found() -> None:
    with pytest.raises(DataError, match="a cycle through word 2"):
        Parse(words=("a", "b", "c"), heads=(0, 3, 2), relations=("root", "x", "x"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": ""}, "has no id"),
        ({"texts": ()}, "example 1: has no text"),
        ({"image_ids": ("",)}, "example 1: has image ids"),
        ({"texts": ("b'A dog runs.'",)}, "has the text \"b'A dog runs.'\", which is how Python 3 prints bytes; decode"),
        ({"tokens": (Tokens(ids=(1,), words=(0,)),) * 2}, "2 tokens for 1 texts"),
        ({"paraphrases": (("a", "b"),), "paraphrase_tokens": ((),)}, r"has \[0\] paraphrase_tokens for \[2\] paraphr"),
        ({"paraphrase_parses": ((PARSE,),)}, r"has \[1\] paraphrase_parses for \[\] paraphrases"),
        ({"phrases": (Phrase(text=0, start=1, end=4, entity="9"),)}, r"words 1\.\.4 of 2"),
        ({"phrases": (Phrase(text=1, start=0, end=1, entity="9"),)}, "a phrase in text 1"),
    ],
)
def test_an_example_refuses_parts_that_do_not_fit(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Example(**{"id": "1", "image_ids": ("7",), "texts": ("a dog",)} | changes)


def test_an_error_is_one_sentence_and_survives_a_worker_process() -> None:
    error = UsageError("batch size -1", where="--batch-size", remedy="give a positive number")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "--batch-size: batch size -1; give a positive number"
    assert (type(again), again.exit_code, VltkError.exit_code, DataError.exit_code) == (UsageError, 2, 1, 3)


def test_suggestions_name_the_closest_or_all() -> None:
    assert did_you_mean("flickr30", ["flickr30k", "coco"]) == "did you mean flickr30k?"
    assert did_you_mean("zzz", ["b", "a"]) == "known are a, b"
