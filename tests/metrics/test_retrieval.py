"""Counted recalls equal sorted ones, whatever the ties, the memory order and the folds; what has no rank is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vltk.metrics.retrieval as retrieval_module
from vltk.errors import DataError
from vltk.metrics.crisscrossed_captions import cxc_figures
from vltk.metrics.protocol import RETRIEVAL_PROTOCOLS, RetrievalProtocol, Ties, split_hash
from vltk.metrics.published_retrieval import compat_figures, uniter_figures, vsrn_figures
from vltk.metrics.retrieval import RetrievalResult, best_ranks, evaluate_retrieval, recall_figures


def evaluated(scores: np.ndarray, image_of: Any, **other: Any) -> RetrievalResult:
    images, captions = scores.shape
    given = {"image_ids": [f"i{n}" for n in range(images)], "caption_ids": [f"c{n}" for n in range(captions)]}
    return evaluate_retrieval(scores, np.asarray(image_of), **(given | other))


def slow_ranks(scores: np.ndarray, image_of: np.ndarray, ties: Ties) -> tuple[list[int], list[int]]:
    """Sort every row and column, the wrong answers of an equal score before or behind the right ones."""

    def position(values: list[float], right: list[bool]) -> int:
        order = sorted(range(len(values)), key=lambda n: (-values[n], right[n] if ties == "against" else not right[n]))
        return 1 + next(place for place, n in enumerate(order) if right[n])

    i2t = [position(list(row), list(image_of == image)) for image, row in enumerate(scores)]
    columns = [(scores[:, c], np.arange(len(scores)) == image_of[c]) for c in range(len(image_of))]
    return i2t, [position(list(values), list(right)) for values, right in columns]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(0, 9),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["against", "for"]),
    st.sampled_from(["float32", "float16", "float64", "int8"]),
    st.booleans(),
)
def test_counting_equals_sorting(
    images: int, more: int, seed: int, ties: Ties, kind: str, captions_first: bool
) -> None:
    rng = np.random.default_rng(seed)
    image_of = rng.permutation(np.concatenate([np.arange(images), rng.integers(0, images, more)]))
    scores = rng.integers(-2, 3, (images, len(image_of))).astype(kind)  # few values, many ties
    if kind != "int8":
        scores[rng.random(scores.shape) < 0.1] = -np.inf
    if captions_first:
        scores = np.ascontiguousarray(scores.T).T
    result = evaluated(scores, image_of, ties=ties)
    assert (result.i2t.tolist(), result.t2i.tolist()) == slow_ranks(scores, image_of, ties)


@pytest.mark.parametrize("captions_first", [False, True])
@pytest.mark.parametrize("block", [1, 7, 255])
def test_blocks_do_not_change_a_rank(block: int, captions_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    scores, image_of = rng.integers(0, 9, (300, 600)).astype(np.float32), np.arange(600) // 2
    whole = slow_ranks(scores, image_of, "against")
    monkeypatch.setattr(retrieval_module, "_ROWS", block)
    result = evaluated(np.ascontiguousarray(scores.T).T if captions_first else scores, image_of)
    assert (result.i2t.tolist(), result.t2i.tolist()) == whole


def test_a_model_that_gives_everything_one_score_has_found_nothing() -> None:
    scores, image_of = np.zeros((20, 40), np.float16), np.arange(40) // 2
    against, favoured = evaluated(scores, image_of), evaluated(scores, image_of, ties="for")
    assert against.figures["rsum"] == 0
    assert against.i2t.tolist() == [39] * 20
    assert against.t2i.tolist() == [20] * 40
    assert favoured.figures["rsum"] == 600


def test_permuting_images_and_captions_permutes_the_ranks() -> None:
    rng = np.random.default_rng(5)
    scores, image_of = rng.random((12, 30)), rng.permutation(np.r_[np.arange(12), rng.integers(0, 12, 18)])
    images, captions = rng.permutation(12), rng.permutation(30)
    base = evaluated(scores, image_of)
    other = evaluated(scores[images][:, captions], np.argsort(images)[image_of[captions]])
    assert other.i2t.tolist() == base.i2t[images].tolist()
    assert other.t2i.tolist() == base.t2i[captions].tolist()
    assert {**other.figures} == pytest.approx(base.figures)


def test_each_fold_is_searched_alone_and_the_figures_are_means() -> None:
    rng = np.random.default_rng(7)
    scores, image_of = rng.random((10, 20)), np.arange(20) // 2
    cut = evaluated(scores, image_of, protocol=RetrievalProtocol(name="x", folds=5))
    parts = [evaluated(scores[2 * f : 2 * f + 2, 4 * f : 4 * f + 4], np.arange(4) // 2) for f in range(5)]
    assert cut.i2t.tolist() == [rank for part in parts for rank in part.i2t]
    assert cut.t2i.tolist() == [rank for part in parts for rank in part.t2i]
    for name, value in cut.figures.items():
        assert value == pytest.approx(np.mean([part.figures[name] for part in parts]))
    assert cut.card["split"] != evaluated(scores, image_of).card["split"], "other folds are another split"


def test_folds_follow_the_image_of_a_caption_wherever_it_stands() -> None:
    rng = np.random.default_rng(8)
    scores, image_of, order = rng.random((10, 20)), np.arange(20) // 2, rng.permutation(20)
    protocol = RetrievalProtocol(name="x", folds=5)
    straight, mixed = (
        evaluated(scores, image_of, protocol=protocol),
        evaluated(scores[:, order], image_of[order], protocol=protocol),
    )
    assert mixed.t2i.tolist() == straight.t2i[order].tolist()
    assert mixed.figures == pytest.approx(straight.figures)


def test_a_protocol_takes_the_first_captions_of_each_image() -> None:
    rng = np.random.default_rng(9)
    image_of = np.array([0, 0, 1, 1, 0, 1])
    scores = rng.random((2, 6))
    result = evaluated(scores, image_of, protocol=RetrievalProtocol(name="x", captions=2))
    assert result.captions.tolist() == [0, 1, 2, 3]
    alone = evaluated(scores[:, :4], image_of[:4])
    assert (result.i2t.tolist(), result.t2i.tolist()) == (alone.i2t.tolist(), alone.t2i.tolist())
    assert (result.card["captions"], result.card["captions_per_image"]) == (4, 2)


def test_published_protocols_and_their_card() -> None:
    sizes = {name: (p.images, p.captions, p.folds) for name, p in RETRIEVAL_PROTOCOLS.items()}
    assert sizes == {
        "split": (None, None, 1),
        "flickr30k-1k": (1000, 5, 1),
        "coco-1k": (5000, 5, 5),
        "coco-5k": (5000, 5, 1),
    }
    card = evaluated(np.eye(2), [0, 1]).card
    assert card.items() >= {"protocol": "split", "ties": "against", "folds": 1, "images": 2, "captions": 2}.items()
    assert card["split"] == split_hash(["c0", "c1"], ["i0", "i1"], ["0", "0"])
    assert "any caption of the image" in str(card["hit_rule"])


def test_rows_are_ready_for_the_receipt() -> None:
    rows = {row["metric"]: row for row in evaluated(np.eye(3)[:, [0, 1, 2, 2]], [0, 1, 2, 2]).rows()}
    assert rows["t2i_r1"] == {"metric": "t2i_r1", "value": 100.0, "n": 4, "unit": "percent", "higher_is_better": True}
    assert rows["i2t_median_rank"] == {
        "metric": "i2t_median_rank",
        "value": 1.0,
        "n": 3,
        "unit": "rank",
        "higher_is_better": False,
    }
    assert rows["rsum"]["value"] == 600
    assert len(rows) == 11


def test_a_median_between_two_ranks() -> None:
    assert recall_figures(np.array([1, 2]))["median_rank"] == 1
    assert recall_figures(np.array([1, 2]), whole_median=False)["median_rank"] == 1.5


def test_any_number_of_right_items() -> None:
    scores = np.array([[5.0, 4, 3, 2], [1, 1, 1, 1]])
    assert best_ranks(scores, np.array([0, 0, 1, 1]), np.array([2, 3, 0, 2])).tolist() == [3, 3]
    assert best_ranks(scores, np.array([0, 0, 1, 1]), np.array([2, 3, 0, 2]), ties="for").tolist() == [3, 1]


class TestPublished:
    def test_uniter_exceeds_hundred_for_a_perfect_model(self) -> None:
        result = evaluated(np.eye(1000, dtype=np.float32)[:, np.arange(5000) // 5], np.arange(5000) // 5)
        assert (result.figures["t2i_r1"], result.figures["t2i_r10"]) == (100, 100)
        published = compat_figures(result, "uniter")
        assert [published[f"t2i_r{k}"] for k in (1, 5, 10)] == pytest.approx([100.02, 100.1, 100.2])

    def test_uniter_counts_row_numbers_as_ranks(self) -> None:
        t2i = np.array([3, 11, 1, 9, 2, 40])
        places = [(row, rank - 1) for row, rank in enumerate(t2i) if rank <= 10]  # what nonzero() of the top 10 gives
        for k in (1, 5, 10):
            counted = sum(number < k for pair in places for number in pair)
            assert uniter_figures(np.array([1]), t2i)[f"t2i_r{k}"] == pytest.approx(100 * counted / 6)

    def test_vsrn_mixes_its_means_up(self) -> None:
        fold = {"i2t_r1": 10.0, "i2t_r5": 20.0, "i2t_r10": 30.0, "t2i_r1": 1.0, "t2i_r5": 2.0, "t2i_r10": 3.0}
        assert vsrn_figures([fold, fold]) == {"rsum": 120.0, "average_i2t": 2.0, "average_t2i": 66.0}


class TestRefused:
    def test_nan_is_named_with_its_place(self) -> None:
        scores = np.random.default_rng(0).random((300, 300), np.float32)
        scores[280, 17] = np.nan
        for matrix in (scores, np.ascontiguousarray(scores.T).T):
            sentence = "image 280, caption 17|caption 17, image 280"
            with pytest.raises(DataError, match=rf"score matrix, ({sentence}) \(from 0\): the score is NaN"):
                evaluated(matrix, np.arange(300))

    def test_nan_of_a_right_pair(self) -> None:
        with pytest.raises(DataError, match="the score of a right pair is NaN"):
            evaluated(np.array([[np.nan, 0], [0, 1]]), [0, 1])

    @pytest.mark.parametrize(
        ("scores", "image_of", "sentence"),
        [
            (np.eye(3), [0, 1, 1], "image i2 has 0 captions, 1 are needed; leave it out of the split"),
            (np.eye(2), [0, 2], "caption c1 is of image 2, there are 2"),
            (np.eye(2), [0, -1], "caption c1 is of image -1"),
            (np.eye(2) > 0, [0, 1], "score matrix: holds bool"),
            (np.zeros((2, 0)), np.zeros(0, int), "the split has no caption"),
        ],
    )
    def test_what_is_not_a_split(self, scores: np.ndarray, image_of: Any, sentence: str) -> None:
        with pytest.raises(DataError, match=sentence):
            evaluated(scores, image_of)

    def test_a_matrix_of_the_wrong_shape(self) -> None:
        with pytest.raises(DataError, match=r"has the shape \(2, 3\) for 3 images and 2 captions"):
            evaluate_retrieval(np.zeros((2, 3)), np.zeros(2, int), image_ids="abc", caption_ids="xy")

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("flickr30k-1k", "protocol flickr30k-1k: the split has 2 images, the protocol 1000"),
            ("five", "protocol five: image i1 has 4 captions, 5 are needed"),
            ("folds", "protocol folds: 2 images cannot be cut into 3 folds"),
        ],
    )
    def test_a_split_that_does_not_fit_the_protocol(self, name: str, sentence: str) -> None:
        own = {
            p.name: p for p in (RetrievalProtocol(name="five", captions=5), RetrievalProtocol(name="folds", folds=3))
        }
        with pytest.raises(DataError, match=sentence):
            evaluated(np.zeros((2, 9)), [0] * 5 + [1] * 4, protocol=(own | RETRIEVAL_PROTOCOLS)[name])

    def test_a_query_without_right_item(self) -> None:
        with pytest.raises(DataError, match=r"query 1 \(from 0\) has no right answer"):
            best_ranks(np.eye(2), np.array([0]), np.array([0]))


class TestCrisscrossedCaptions:
    IMAGES = np.array([[1.0, 0], [0, 1.0]])
    CAPTIONS = np.array([[0.9, 0.1], [0.8, 0.0], [0.1, 0.9], [0.2, 0.7]])

    def figures(self, images: np.ndarray = IMAGES, **other: Any) -> dict[str, float]:
        ratings = {
            "i2t": {"a": [("0", 5.0), ("1", 5.0)], "b": [("2", 5.0), ("absent", 5.0)]},
            "t2i": {str(n): [("ab"[n // 2], 5.0)] for n in range(4)},
            "i2i": {"a": [("b", 2.5)], "b": [("a", 2.4)]},
            "t2t": {"0": [("2", 2.9)]},
        }
        given = {"image_ids": "ab", "caption_ids": "0123", "image_of": np.arange(4) // 2, "ratings": ratings}
        return cxc_figures(images, self.CAPTIONS, **(given | other))

    def test_four_kinds(self) -> None:
        assert {self.figures()[f"{kind}_r1"] for kind in ("i2t", "t2i", "i2i", "t2t")} == {100.0}

    def test_an_item_of_zero_similarity_to_itself_stands_before_negative_ones(self) -> None:
        opposite = np.array([[1.0, 0.0], [-1.0, 0.1]])
        assert self.figures(opposite)["i2i_r1"] == 100
        assert self.figures(opposite, own="zero")["i2i_r1"] == 0

    def test_a_query_without_rating_is_named(self) -> None:
        ratings = {"i2t": {"a": [("0", 5.0)]}, "t2i": {}, "i2i": {}, "t2t": {}}
        with pytest.raises(DataError, match="ratings i2t: query b has no right item"):
            self.figures(ratings=ratings)
