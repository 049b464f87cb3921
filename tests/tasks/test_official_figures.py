"""The figures of real result files through the tasks, without a model and without pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_pairs import write_examples
from tests.small_tasks import small_examples, small_task
from vltk.config.training import ReadingConfig
from vltk.errors import DataError
from vltk.evaluation.prediction_files import measure_predictions, read_prediction_file
from vltk.stores.absent_features import AbsentFeatures
from vltk.stores.examples import ExampleStore
from vltk.tasks import nlvr2, vqa
from vltk.tasks._task import Split
from vltk.training_run import open_regions
from vltk.types import BoxTarget, Example, Prediction

# From the README of the reference material: overall, then per answer type, in percent with two digits.
VQA = {
    "valid_all_yes": {"accuracy": 20.79, "other": 1.05, "yes/no": 61.88, "number": 0.2},
    "valid_surface_variants": {"accuracy": 73.12, "other": 81.37, "yes/no": 63.54, "number": 74.14},
}


def split_of(folder: Path, examples: Iterable[Example]) -> Split:
    store = ExampleStore.open(write_examples(folder / "examples.lmdb", list(examples)))
    return Split(name="real", examples=store, features=open_regions((), ReadingConfig(), {}))


@pytest.fixture(scope="module")
def questions(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = shared / "data/vqa_v2"
    source = vqa.Source(questions=folder / "vqa_questions_valid.gzip", annotations=folder / "vqa_annotatons_valid.gzip")
    return split_of(tmp_path_factory.mktemp("vqa"), source.examples())


@pytest.mark.parametrize("name", VQA)
def test_vqa(name: str, questions: Split, shared: Path) -> None:
    predictions = read_prediction_file(shared / f"data/vqa_v2/results/{name}_results.json", task="vqa")
    task = small_task("vqa", questions)
    report = measure_predictions(task, questions, predictions, protocol={})
    figures = {one.metric: one for one in report.measurements}
    for kind, official in VQA[name].items():
        one = figures["accuracy" if kind == "accuracy" else f"accuracy of {kind!r}"]
        assert round(100 * one.value, 2) == official
        assert one.interval_95 is not None
        assert one.interval_95[0] <= one.value <= one.interval_95[1]
    assert figures["accuracy"].n == 7158
    series = report.outcomes.series["accuracy"]
    assert len(set(series.clusters)) == 6603
    assert round(100 * float(series.values.mean()), 2) == VQA[name]["accuracy"]


@pytest.mark.parametrize(
    ("always", "accuracy", "consistency"),
    [(True, "0.5085935262", "0.0386521308"), (False, "0.8766828989", "0.7616451933")],
)
def test_nlvr2(always: bool, accuracy: str, consistency: str, shared: Path, tmp_path: Path) -> None:
    split = split_of(tmp_path, nlvr2.Source(annotations=shared / "data/nlvr2/dev.json").examples())
    answers = {
        one.id: "true" if always or int(one.id.split("-")[1]) % 4 == 0 else one.target.label  # type: ignore[union-attr]
        for one in split.examples
    }
    (tmp_path / "dev.csv").write_text("".join(f"{name},{answer}\n" for name, answer in answers.items()))
    predictions = read_prediction_file(tmp_path / "dev.csv", task="nlvr2")
    figures = measure_predictions(small_task("nlvr2", split), split, predictions, protocol={}).measurements
    assert [f"{one.value:.10f}" for one in figures] == [accuracy, consistency]
    assert [one.n for one in figures] == [6982, 2018]


def test_boxes_without_features_are_measured_and_the_oracle_is_left_out(tmp_path: Path) -> None:
    target = BoxTarget(box=(0.0, 0.0, 20.0, 20.0), annotation_id="1")
    examples = [replace(one, target=target) for one in small_examples("refcoco")[0]]
    split = split_of(tmp_path, examples)
    assert isinstance(split.features, AbsentFeatures)
    predictions = {one.id: Prediction(id=one.id, answer="[0, 0, 20, 19]") for one in examples}
    figures = measure_predictions(small_task("refcoco", split), split, predictions, protocol={}).measurements
    assert {one.metric: one.value for one in figures} == {"accuracy": 1.0, "accuracy by plain overlap": 1.0}


@pytest.mark.parametrize("ask", ["get", "region_count", "scores"])
def test_absent_features_say_which_option_brings_them(ask: str) -> None:
    features: Any = AbsentFeatures()
    assert (len(features), features.ids(), features.metadata.detector, "x" in features) == (0, [], "", False)
    with pytest.raises(DataError, match=r"image x: the regions of the picture are needed.*with --features"):
        getattr(features, ask)("x")
