"""Score matrices in memory and as files: what is written comes back, what does not fit is one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vltk.errors import DataError, UsageError
from vltk.stores.score_files import FORMAT, ScoreFile, read_scores, write_scores
from vltk.stores.score_matrix import ScoreMatrix, combine_scores

TEXTS, IMAGES, OWNERS = ("a#0", "a#1", "b#0"), ("a", "b"), ("a", "a", "b")


def matrix(seed: int = 0, **other: Any) -> ScoreMatrix:
    scores = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)
    given = {"scores": scores, "text_ids": TEXTS, "image_ids": IMAGES, "image_of": OWNERS, "name": f"m{seed}"}
    return ScoreMatrix(**(given | other))


def test_columns_lead_from_texts_to_their_images() -> None:
    assert matrix().columns.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"scores": np.zeros((2, 3))}, r"m0: has the shape \(2, 3\) for 3 texts and 2 images"),
        ({"scores": np.zeros((3, 2), int)}, "holds 6 numbers of int64; give floating numbers"),
        ({"text_ids": ("a#0", "a#0", "b#0")}, "names the text 'a#0' twice"),
        ({"image_ids": ("a", "a")}, "names the image 'a' twice"),
        ({"image_of": ("a", "b")}, "says of 2 of 3 texts which image they belong to"),
        ({"image_of": ("a", "a", "c")}, "text 'b#0' belongs to the image 'c', which has no column"),
    ],
)
def test_ids_and_scores_that_do_not_fit(other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        matrix(**other)


def test_permuting_ids_permutes_scores() -> None:
    whole = matrix()
    taken = whole.take(("b#0", "a#0"), ("b", "a"))
    np.testing.assert_array_equal(taken.scores, whole.scores[[2, 0]][:, [1, 0]])
    assert (list(taken.image_of), taken.columns.tolist()) == (["b", "a"], [0, 1])


def test_unknown_ids_are_named() -> None:
    with pytest.raises(DataError, match=r"m0: has no scores of 1 of 2 texts \(c#0\); score this split"):
        matrix().take(("a#0", "c#0"), IMAGES)


# -- combining ------------------------------------------------------------------------------------------------------


def test_the_mean_is_weighted_and_ids_may_stand_in_another_order() -> None:
    one, two = matrix(1), matrix(2)
    turned = two.take(TEXTS[::-1], IMAGES[::-1])
    mean = combine_scores([one, turned], weights=[3, 1])
    np.testing.assert_allclose(mean.scores, (3 * one.scores + two.scores) / 4, rtol=1e-6)
    assert mean.text_ids == TEXTS
    assert [made["weight"] for made in mean.provenance["mean_of"]] == [3, 1]


def test_standardised_scores_do_not_depend_on_their_scale() -> None:
    one, two = matrix(1), matrix(2)
    scaled = matrix(2, scores=two.scores * 1000 + 7)
    ours = combine_scores([one, scaled], standardise=True).scores
    np.testing.assert_allclose(ours, combine_scores([one, two], standardise=True).scores, atol=1e-5)
    z = [(m.scores - m.scores.mean()) / m.scores.std() for m in (one, two)]
    np.testing.assert_allclose(ours, (z[0] + z[1]) / 2, atol=1e-6)


def test_the_mean_of_one_matrix_is_itself() -> None:
    np.testing.assert_array_equal(combine_scores([matrix(3)]).scores, matrix(3).scores)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"text_ids": ("a#0", "a#1", "x")}, r"has no scores of 1 of 3 texts \(b#0\)"),
        ({"image_of": ("a", "b", "b")}, "text 'a#1' belongs to the image 'b', m1 to 'a'"),
        ({"scores": np.array([[1, np.nan], [3, 4], [5, 6]], np.float32)}, "scores of different pairs"),
        (
            {"scores": np.zeros((1, 2), np.float32), "text_ids": ("a#0",), "image_of": ("a",)},
            "m2: has 1 texts, m1 3; combine matrices of one split",
        ),
    ],
)
def test_matrices_of_other_things_are_not_combined(other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        combine_scores([matrix(1), matrix(2, **other)])


def test_matrices_whose_gaps_differ_are_not_combined() -> None:
    gaps = [np.ones((3, 2), np.float32) for _ in range(2)]
    gaps[0][0, 0] = gaps[1][1, 1] = np.nan
    with pytest.raises(DataError, match="scores of different pairs"):
        combine_scores([matrix(number, scores=scores) for number, scores in enumerate(gaps)])


@pytest.mark.parametrize(("weights", "sentence"), [([1.0], "1 weights for 2"), ([1.0, -1.0], "have the sum 0")])
def test_weights_that_make_no_mean(weights: list[float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        combine_scores([matrix(1), matrix(2)], weights=weights)


def test_equal_scores_cannot_be_standardised() -> None:
    with pytest.raises(DataError, match="m2: all 6 scores are equal"):
        combine_scores([matrix(1), matrix(2, scores=np.ones((3, 2), np.float32))], standardise=True)


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["m", "m.npy", "m.json"])
def test_what_is_written_is_read_by_any_of_its_names(dtype: Any, name: str, tmp_path: Path) -> None:
    scores = np.array([[0.1, np.nan], [2, 3], [4, 5]], dtype)
    write_scores(tmp_path / "m", matrix(scores=scores, provenance={"weights": "abc"}))
    found = read_scores(tmp_path / name)
    np.testing.assert_array_equal(found.scores, scores)
    assert (found.scores.dtype, found.pairs()) == (dtype, 5)
    assert (found.text_ids, found.image_of, found.provenance) == (list(TEXTS), list(OWNERS), {"weights": "abc"})


def test_a_card_of_another_tool_needs_ids_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", matrix().scores)
    card = {"format": FORMAT, "texts": TEXTS, "images": IMAGES, "image_of": OWNERS}
    (tmp_path / "m.json").write_text(json.dumps(card))
    np.testing.assert_array_equal(read_scores(tmp_path / "m.npy").scores, matrix().scores)


def damage(folder: Path, what: str) -> None:
    array, card = folder / "m.npy", folder / "m.json"
    told = json.loads(card.read_text())
    if what == "number":
        content = bytearray(array.read_bytes())
        content[-1] ^= 1
        array.write_bytes(content)
    elif what == "cut":
        array.write_bytes(array.read_bytes()[:-4])
    elif what == "pickle":
        np.save(array, np.array([{}]), allow_pickle=True)
    elif what == "no numbers":
        array.unlink()
    elif what == "no card":
        card.unlink()
    elif what == "no JSON":
        card.write_text("[")
    else:
        told |= {"key": {"text": ["x"]}, "format": {"format": "1"}, "ids": {"texts": "abc"}}[what]
        card.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("number", "m.npy: is not the file that its card describes"),
        ("cut", "m.npy: is no whole npy file"),
        ("pickle", "m.npy: is no whole npy file"),
        ("no numbers", "m.npy: is not there; it is NAME.npy beside NAME.json"),
        ("no card", "m.json: there is no such card"),
        ("no JSON", "m.json: cannot be read"),
        ("key", "m.json: has the key 'text'; did you mean texts"),
        ("format", "says the format '1', expected 'vltk-scores-1'"),
        ("ids", "texts is 'abc', expected a list of texts"),
    ],
)
def test_a_damaged_file_is_one_sentence(what: str, sentence: str, tmp_path: Path) -> None:
    write_scores(tmp_path / "m", matrix())
    damage(tmp_path, what)
    with pytest.raises(DataError, match=sentence):
        read_scores(tmp_path / "m")


def test_a_score_that_is_nan_is_named(tmp_path: Path) -> None:
    scores = matrix().scores.copy()
    scores[1, 1] = np.nan
    np.save(tmp_path / "m.npy", scores)
    card = {"format": FORMAT, "texts": TEXTS, "images": IMAGES, "image_of": OWNERS}
    (tmp_path / "m.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="5 of 6 scores are there, the first that is NaN is of text 'a#1' against im"):
        read_scores(tmp_path / "m")


def test_a_file_goes_on_where_it_was_left(tmp_path: Path) -> None:
    ScoreFile(tmp_path / "m", matrix()).scores[0] = 7
    with pytest.raises(DataError, match="2 of 6 scores are there"):
        read_scores(tmp_path / "m")
    again = ScoreFile(tmp_path / "m", matrix())
    assert (again.finished, np.isnan(again.scores).sum()) == (False, 4)
    again.scores[1:] = 1
    again.finish()
    assert read_scores(tmp_path / "m").scores[:, 0].tolist() == [7, 1, 1]
    assert ScoreFile(tmp_path / "m", matrix()).finished


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"provenance": {"weights": "b"}}, "was begun for something else (weights differ)"),
        ({"text_ids": ("a#0", "a#1", "c")}, "was begun for something else (texts differ)"),
    ],
)
def test_a_file_begun_for_something_else_is_left_alone(other: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    write_scores(tmp_path / "m", matrix(provenance={"weights": "a"}))
    before = (tmp_path / "m.npy").read_bytes()
    with pytest.raises(UsageError) as caught:
        ScoreFile(tmp_path / "m", matrix(**({"provenance": {"weights": "a"}} | other)))
    assert sentence in str(caught.value)
    assert (tmp_path / "m.npy").read_bytes() == before
    ScoreFile(tmp_path / "m", matrix(**other), overwrite=True)


@pytest.mark.parametrize("card", [True, False])
def test_what_is_there_is_not_overwritten(card: bool, tmp_path: Path) -> None:
    write_scores(tmp_path / "m", matrix())
    if not card:
        (tmp_path / "m.json").unlink()
    with pytest.raises(UsageError, match=r"is there (already|without its card)"):
        write_scores(tmp_path / "m", matrix())


def test_a_kill_leaves_what_was_written(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.stores.test_score_matrix import matrix\n"
        "from vltk.stores.score_files import ScoreFile\n"
        "file = ScoreFile(Path(sys.argv[1]), matrix()); file.scores[2] = 5\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], cwd=root, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert np.isnan(ScoreFile(tmp_path / "m", matrix()).scores).sum(axis=1).tolist() == [2, 2, 0]


def test_a_kill_before_the_numbers_begins_anew(tmp_path: Path) -> None:
    ScoreFile(tmp_path / "m", matrix())
    (tmp_path / "m.npy").unlink()
    assert np.isnan(ScoreFile(tmp_path / "m", matrix()).scores).all()
