"""Answers beside their pictures, and maps of what a picture's embedding speaks of."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small_pages import check
from tests.small_pairs import write_examples, write_features, write_pairs
from tests.small_runs import make_evaluation, make_run, write_json
from vltk.metrics.attention_map import attention_map, rank_weights
from vltk.reporting import picture_attention as maps_module
from vltk.reporting.answers import answer_figure, gold
from vltk.reporting.material import Material
from vltk.reporting.picture_attention import map_figure
from vltk.reporting.report import write_report
from vltk.run_folder.outcomes import OUTCOMES, Outcomes, Series, write_outcomes
from vltk.run_folder.predictions import PREDICTIONS, write_predictions
from vltk.types import (
    AnswersTarget,
    BoxTarget,
    ChoiceTarget,
    Example,
    LabelTarget,
    Prediction,
    RegionFeatures,
    ScoredTarget,
    Tokens,
)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A run that answered four questions, two of them right."""
    said = {"q0": ("red", 1.0), "q1": ("blue", 0.0), "q2": ("two", 1.0), "q3": ("<no>", 0.0)}
    tokens = (Tokens(ids=(5, 6), words=(0, 1)),)
    examples = [
        Example(
            id=name,
            image_ids=(f"p{place}",),
            texts=(f"which {name}?",),
            tokens=tokens,
            target=AnswersTarget(answers=("red", "red", "pink")),
        )
        for place, name in enumerate(said)
    ]
    dice = np.random.default_rng(0)
    pictures = [
        RegionFeatures(image_id=f"p{place}", features=dice.normal(size=(2, 6)).astype(np.float16), size=(9, 9),
                       boxes=np.array([[0, 0, 4, 4], [2, 2, 9, 9]], np.float32))
        for place in range(4)
    ]  # fmt: skip
    stores = write_examples(tmp_path / "e.lmdb", examples), write_features(tmp_path / "f.lmdb", pictures)
    run = make_run(tmp_path / "vqa", task="vqa")
    folder = run / "eval" / "val"
    row = {"metric": "accuracy", "value": 0.5, "n": 4, "unit": "fraction", "interval_95": [0.1, 0.9]}
    write_json(folder / "results.json", {"task": "vqa", "metrics": [row], "protocol": {"split": "s"}})
    given = {"examples": [str(stores[0])], "features": [str(stores[1])], "run": str(run)}
    write_json(folder / "config.json", {"all": given})
    write_predictions(folder / PREDICTIONS, [Prediction(id=name, answer=one) for name, (one, _) in said.items()], {})
    values = np.array([value for _, value in said.values()])
    series = {"accuracy": Series(kind="score", ids=tuple(said), values=values)}
    write_outcomes(folder / OUTCOMES, Outcomes(task="vqa", split="s", protocol={}, series=series))
    return run


def test_right_and_wrong_answers_stand_beside_what_people_say(asked: Path, tmp_path: Path) -> None:
    report = write_report([asked], tmp_path / "report.html", figures=tmp_path / "figures", formats=["svg"], count=2)
    page = check(report.page)
    labels = " ".join(str(attributes.get("aria-label")) for tag, attributes in page.elements if tag == "svg")
    assert "'which q0?' about picture p0: said 'red', right is red (2 of 3), pink (1 of 3)." in labels
    assert "said '<no>'" in labels
    names = {path.stem for path in report.figures}
    assert {f"answer-vqa-{what}-{place}" for what in ("right", "wrong") for place in (1, 2)} <= names


def test_answers_whose_predictions_are_damaged_get_a_line(asked: Path, tmp_path: Path) -> None:
    (asked / "eval" / "val" / PREDICTIONS).write_text("{", "utf-8")
    page = check(write_report([asked], tmp_path / "report.html").page)
    assert "vqa shows no answers" in page.text
    assert "is not JSON" in page.text


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (AnswersTarget(answers=("down",)), "down"),
        (LabelTarget(label="True"), "True"),
        (ScoredTarget(labels=("no", "yes"), scores=(0.3, 1.0)), "yes (1.0), no (0.3)"),
        (ChoiceTarget(answer=2, rationale=0), "answer 2, rationale 0"),
        (BoxTarget(box=(1.0, 2.0, 30.4, 40.0), annotation_id="7"), "the box 1, 2, 30, 40"),
        (None, "unknown"),
    ],
)
def test_what_is_right_is_told_for_every_kind_of_task(target: object, told: str) -> None:
    assert gold(target) == told  # type: ignore[arg-type]


def test_boxes_that_are_right_and_that_were_said_lie_on_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "p0.png")
    example = Example(
        id="q", image_ids=("p0",), texts=("the ring",), target=BoxTarget(box=(0, 0, 100, 50), annotation_id="1")
    )
    said = Prediction(id="q", answer="[100, 50, 200, 100]")
    figure = answer_figure(example, said, 0.0, Material(pictures={"p0": tmp_path / "p0.png"}), name="a")
    wrong, right = re.findall(r'<rect class="(l\d)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', figure.body)
    assert right == ("l2", "0", "24", "60")
    assert wrong == ("l1", "60", "54", "60")
    assert figure.alt.endswith("said 'the box 100, 50, 200, 100', right is the box 0, 0, 100, 50.")


def test_both_pictures_of_a_statement_are_there(tmp_path: Path) -> None:
    for name in ("p0", "p1"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    pictures = {name: tmp_path / f"{name}.png" for name in ("p0", "p1")}
    example = Example(id="q", image_ids=("p0", "p1"), texts=("both are black",), target=LabelTarget(label="True"))
    figure = answer_figure(example, Prediction(id="q", answer="False"), 0.0, Material(pictures=pictures), name="a")
    assert figure.body.count("<image") == 2
    assert "said: False" in figure.body


def test_a_map_shades_what_the_weights_say_and_outlines_the_strongest() -> None:
    boxes = np.array([[0, 0, 48, 96], [24, 0, 96, 48], [60, 60, 90, 90]], np.float32)
    regions = RegionFeatures(image_id="p", features=np.ones((3, 2), np.float16), boxes=boxes, size=(96, 96))
    weights = rank_weights(np.array([0.2, 0.9, 0.1]))
    figure = map_figure(regions, weights, None, name="m", title="p")
    assert "the strongest has the corners 24, 0, 96, 48" in figure.alt
    (address,) = re.findall(r"data:image/png;base64,([^\"]+)", figure.body)
    shades = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))))[..., 3] / 255
    wanted = attention_map(weights, boxes, (96, 96))
    wanted = 0.75 * (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(shades, wanted, atol=1 / 255)


def test_maps_of_a_run_weigh_the_regions_of_each_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, features = write_pairs(tmp_path, "test", images=3, captions=2)
    run = make_run(tmp_path / "vsrn")
    for file in ("config.json", "results.json"):
        text = (run / file).read_text("utf-8").replace('"uniter"', '"vsrn"')
        (run / file).write_text(text, "utf-8")
    stores = {"examples": [str(examples)], "features": [str(features)]}
    make_evaluation(run / "eval" / "test", [1, 1, 2, 1, 1, 3], [1, 2, 1], run=run, config=stores)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def region_correlations(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.flip(1)

    asked: list[list[str]] = []

    def image_batch(split: object, ids: list[str]) -> torch.Tensor:
        asked.append(list(ids))
        return torch.arange(6.0).expand(len(ids), 6)

    task = SimpleNamespace(scorer=Model(), region_order=None, image_batch=image_batch)
    monkeypatch.setattr(maps_module, "open_run", lambda run, split: SimpleNamespace(task=task))
    report = write_report([run], tmp_path / "report.html", figures=tmp_path / "figures", formats=["svg"], count=2)
    assert "What a picture's embedding speaks of" in check(report.page).text
    assert asked == [["test-0", "test-1"]]
    assert {"map-vsrn-1.svg", "map-vsrn-2.svg"} <= {path.name for path in report.figures}
