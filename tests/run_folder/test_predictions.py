"""Predictions come back as they were written, go on after a kill, and a damaged file is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError, UsageError
from vltk.run_folder.predictions import PredictionLog, read_predictions, write_predictions
from vltk.types import Prediction


def scores(*values: float) -> Any:
    return np.array(values, np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.tuples(
            st.text(max_size=5), st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_answers_and_scores_survive(tmp_path_factory: Any, told: dict[str, tuple[str, list[float] | None]]) -> None:
    path = tmp_path_factory.mktemp("predictions") / "p.jsonl"
    given_scores = {key: None if values is None else scores(*values) for key, (_, values) in told.items()}
    write_predictions(path, [Prediction(id=k, answer=a, scores=given_scores[k]) for k, (a, _) in told.items()], {})
    found = read_predictions(path)
    assert {key: one.answer for key, one in found.items()} == {key: answer for key, (answer, _) in told.items()}
    for key, one in found.items():
        np.testing.assert_array_equal(one.scores, given_scores[key])


@pytest.mark.parametrize("everything", [True, False])
def test_scores_of_many_choices_are_kept_on_demand(everything: bool, tmp_path: Path) -> None:
    many = Prediction(id="1", answer="x", scores=np.arange(65, dtype=np.float32))
    write_predictions(tmp_path / "p.jsonl", [many], {}, all_scores=everything)
    assert (read_predictions(tmp_path / "p.jsonl")["1"].scores is not None) == everything


def test_a_file_of_another_tool_needs_no_card(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": 7, "answer": "yes"}\n{"id": "8", "answer": "no", "scores": [1, 2]}')
    found = read_predictions(tmp_path / "p.jsonl")
    assert (found["7"].answer, found["8"].scores.tolist()) == ("yes", [1.0, 2.0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2: is not JSON; expected one JSON object a line"),
        ("[]", r"line 2: is \[\], expected a JSON object"),
        ('{"id": "2"}', "line 2: has the id '2' and the answer None, expected two texts"),
        ('{"id": true, "answer": "x"}', "line 2: has the id True"),
        ('{"id": "1", "answer": "x"}', "line 2: the id '1' comes twice"),
        ('{"id": "2", "answer": "x", "scores": ["a"]}', r"line 2: has the scores \['a'\], expected a list of numbers"),
        ('{"id": "2", "answer": "x", "scores": [NaN]}', "line 2: has the scores"),
        ('{"id": "2", "answer": "x", "scores": 3}', "line 2: has the scores 3"),
    ],
)
def test_a_damaged_line_is_one_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "1", "answer": "x"}\n' + line + "\n")
    with pytest.raises(DataError, match=sentence):
        read_predictions(tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file; predict first"),
        (b"\xff\n", "cannot be read"),
        (b'{"format": "vltk-outcomes-1"}\n', "says the format 'vltk-outcomes-1', expected 'vltk-predictions-1'"),
        (b'{"format": "vltk-predictions-1", "provenance": {}}\n', "holds no prediction"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_predictions(tmp_path / "p.jsonl")


# -- logs -----------------------------------------------------------------------------------------------------------


def test_a_log_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    path, one, two = tmp_path / "log.jsonl", Prediction(id="1", answer="a"), Prediction(id="2", answer="b")
    PredictionLog(path, {"weights": "w"}).add([one, two])
    path.write_bytes(path.read_bytes()[:-5])
    again = PredictionLog(path, {"weights": "w"})
    assert again.ids == {"1"}
    again.add([Prediction(id="2", answer="c")])
    assert {key: one.answer for key, one in again.predictions().items()} == {"1": "a", "2": "c"}
    assert read_predictions(path).keys() == {"1", "2"}


def test_of_an_example_that_was_predicted_again_the_last_counts(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log.jsonl", {})
    log.add([Prediction(id="1", answer="a")])
    log.add([Prediction(id="1", answer="b")])
    assert log.predictions()["1"].answer == "b"


@pytest.mark.parametrize("content", [b"", b'{"form'])
def test_a_log_that_was_cut_before_its_first_line_begins_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(content)
    assert PredictionLog(tmp_path / "log.jsonl", {}).ids == set()


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    PredictionLog(tmp_path / "log.jsonl", {"weights": "a", "split": "s"}).add([Prediction(id="1", answer="a")])
    with pytest.raises(UsageError, match=r"was begun for something else \(weights differ\); name another file"):
        PredictionLog(tmp_path / "log.jsonl", {"weights": "b", "split": "s"})
