"""The outcomes of an evaluation come back as they were written, and a damaged file is one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vltk.errors import DataError
from vltk.run_folder.outcomes import OUTCOMES, Outcomes, Series, read_outcomes, write_outcomes

CARD: dict[str, Any] = {"format": "vltk-outcomes-1", "task": "vqa", "split": "abc", "series": {"accuracy": "score"}}
ITEM: dict[str, Any] = {"series": "accuracy", "id": "1", "value": 0.3}


def series(**other: Any) -> Series:
    given = {"kind": "rank", "ids": ("a", "b"), "values": np.array([1.0, 7.0]), "clusters": ("image 1", "image 1")}
    return Series(**(given | other))


def write(folder: Path, *lines: object) -> Path:
    path = folder / OUTCOMES
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("asked", ["outcomes.jsonl", "results.json", ""])
def test_what_is_written_is_read_from_the_file_the_receipt_or_the_folder(asked: str, tmp_path: Path) -> None:
    scores = Series(kind="score", ids=("q\u20281",), values=np.array([0.1 + 0.2]))
    outcomes = Outcomes(task="x", split="s", protocol={"ties": "against"}, series={"t2i": series(), "soft": scores})
    write_outcomes(tmp_path / OUTCOMES, outcomes)
    found = read_outcomes(tmp_path / asked)
    assert (found.task, found.split, found.protocol) == ("x", "s", {"ties": "against"})
    assert found.series.keys() == {"t2i", "soft"}
    for name, wanted in outcomes.series.items():
        there = found.series[name]
        assert (there.kind, there.ids, there.clusters) == (wanted.kind, wanted.ids, wanted.clusters)
        assert there.values.tolist() == wanted.values.tolist()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(min_size=1).filter(lambda text: text.isprintable()), min_size=1, max_size=6, unique=True),
    st.data(),
)
def test_any_ids_and_values_survive(tmp_path_factory: Any, ids: list[str], data: st.DataObject) -> None:
    number = st.floats(allow_nan=False, allow_infinity=False)
    values = np.array(data.draw(st.lists(number, min_size=len(ids), max_size=len(ids))))
    path = tmp_path_factory.mktemp("outcomes") / OUTCOMES
    write_outcomes(
        path,
        Outcomes(task="t", split="s", series={"x": series(kind="score", ids=tuple(ids), values=values, clusters=())}),
    )
    found = read_outcomes(path).series["x"]
    assert (found.ids, found.values.tolist()) == (tuple(ids), values.tolist())


def test_a_file_that_another_tool_wrote_is_read(tmp_path: Path) -> None:
    found = read_outcomes(write(tmp_path, CARD, ITEM)).series["accuracy"]
    assert (found.ids, found.values.tolist(), found.clusters) == (("1",), [0.3], ())


def test_clusters_are_numbered_in_order() -> None:
    assert series(ids=("a", "b", "c"), values=np.ones(3), clusters=("y", "x", "y")).cluster_numbers().tolist() == [
        0,
        1,
        0,
    ]
    assert series(clusters=()).cluster_numbers().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ids": ("a", "a")}, "item 'a' occurs twice"),
        ({"values": np.array([1.0, np.nan])}, "item 'b' has the rank nan"),
        ({"values": np.array([0.0, 1.0])}, r"item 'a' has the rank 0.0, expected a whole number from 1"),
        ({"values": np.array([1.5, 1.0])}, "item 'a' has the rank 1.5"),
        ({"kind": "score", "values": np.array([1.0, np.inf])}, "item 'b' has the score inf, expected a finite number"),
        ({"values": np.ones(3)}, r"\(3,\) values and 2 clusters for 2 ids"),
        ({"clusters": ("x",)}, r"\(2,\) values and 1 clusters for 2 ids"),
    ],
)
def test_values_that_cannot_be_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        series(**given)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([""], "line 1: is not JSON"),
        (["[]"], r"line 1: is \[\], expected a JSON object"),
        (["{}"], "line 1: says the format None, expected 'vltk-outcomes-1'"),
        ([CARD | {"series": {}}], r"line 1: has the series \{\}, expected names with one of rank, score"),
        ([CARD | {"series": {"a": "hits"}}], "expected names with one of rank, score"),
        ([CARD | {"task": 3}, ITEM], "line 1: lacks its task, split or protocol"),
        ([CARD], "series accuracy: has no item"),
        ([CARD, ITEM | {"series": "acuracy"}], "line 2: is of the series 'acuracy'; did you mean accuracy?"),
        ([CARD, ITEM | {"series": ["x"]}], "line 2: is of the series"),
        ([CARD, ITEM | {"id": 1}], "line 2: has the id 1 and the value 0.3, expected a text and a number"),
        ([CARD, ITEM | {"value": True}], "line 2: has the id '1' and the value True"),
        ([CARD, '{"series": "accuracy", "id": "1", "value": NaN}'], "series accuracy: item '1' has the score nan"),
        ([CARD, ITEM, ITEM], "series accuracy: item '1' occurs twice"),
        ([CARD, ITEM | {"cluster": "a"}, ITEM | {"id": "2"}], "1 clusters for 2 ids"),
        ([CARD, ITEM, '{"series": "accuracy", "id"'], "line 3: is not JSON"),
    ],
)
def test_a_damaged_file_is_one_sentence(lines: list[Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        read_outcomes(write(tmp_path, *lines))


def test_a_file_that_is_not_there_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"outcomes\.jsonl: there is no such file; give the results\.json"):
        read_outcomes(tmp_path / "results.json")
