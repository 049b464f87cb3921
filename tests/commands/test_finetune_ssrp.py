"""SSRP on VQA, GQA and NLVR2 through the relation-aware heads of its supplement (equations A.1 to A.5)."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.test_ssrp import TINY
from tests.small_tasks import small_examples, small_split, split_of
from vltk.cli import main
from vltk.finetuning import open_run
from vltk.models._checkpoints import about_weights
from vltk.models.ssrp import SSRPConfig
from vltk.run_folder import read_weights
from vltk.run_folder.checkpoint import write_checkpoint

TASKS = {
    "vqa": ["--head", "relations", "--min-answers", "1"],
    "gqa": ["--head", "relations"],
    "nlvr2": ["--setting", "relations"],
}
SIZE = TINY | {"positions": 24}


@pytest.fixture(scope="module", params=["share", "visual", "cross"])
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = SSRPConfig(**SIZE | {"variant": request.param})
    weights = {f"model.{name}": tensor for name, tensor in config.build_for_pretraining().state_dict().items()}
    folder: Path = tmp_path_factory.mktemp(request.param)
    write_checkpoint(folder / "last", weights, {}, about=about_weights(config, "ssrp"))
    return folder


def task_of(name: str, split: Any, variant: str) -> Any:
    module = importlib.import_module(f"vltk.tasks.{name}")
    options = {"setting": "relations"} if name == "nlvr2" else {"head": "relations", "min_answers": 1}
    torch.manual_seed(0)
    return module.Config(**options).build(SSRPConfig(**SIZE | {"variant": variant}).build(), split)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("variant", ["share", "visual", "cross"])
def test_relations_are_learnt_with_and_enter_the_prediction(name: str, variant: str, tmp_path: Path) -> None:
    split = small_split(tmp_path, name)
    task = task_of(name, split, variant)
    batch = task.batch(split, [0, 1, 2, 3]).to("cpu")
    losses = task.module("task", batch, torch.Generator().manual_seed(0))
    losses.mean().backward()
    for probe in (task.module.model.text_probe, task.module.model.region_probe):
        assert probe.map.weight.grad.abs().sum() > 0
    assert task.module.model.text_layers[0].expand.weight.grad.abs().sum() > 0
    before = task.module.eval().scores(batch)
    with torch.no_grad():
        task.module.model.region_probe.map.weight.mul_(4)
    assert not torch.allclose(task.module.scores(batch), before)


@torch.no_grad()
@pytest.mark.parametrize("name", TASKS)
def test_what_stands_beside_an_example_changes_nothing(name: str, tmp_path: Path) -> None:
    split = small_split(tmp_path, name)
    task = task_of(name, split, "cross")
    task.module.eval()
    whole = task.predict(task.batch(split, [0, 5, 9]))
    for row, found in zip((0, 5, 9), whole, strict=True):
        (alone,) = task.predict(task.batch(split, [row]))
        assert alone.answer == found.answer
        torch.testing.assert_close(torch.from_numpy(alone.scores), torch.from_numpy(found.scores), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_from_a_pretrained_run_to_an_evaluation(
    name: str, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, pictures = small_examples(name)
    split = split_of(tmp_path, examples, pictures)
    given = ["--examples", str(tmp_path / "train.lmdb"), "--features", str(tmp_path / "train-features.lmdb")]
    line = ["finetune", "--task", name, "--model", "ssrp", "--init", str(pretrained), *given, *TASKS[name]]
    line += ["--out", str(tmp_path / "run"), "--steps", "3", "--warmup", "1", "--batch-tokens", "600", "--quiet"]
    assert main([*line, "--learning-rate", "1e-3", "--device", "cpu", "--max-text-length", "20"]) == 0
    fresh = json.loads((tmp_path / "run" / "results.json").read_text())["initialised"]
    assert fresh == ["head freshly initialised"] or fresh == []
    own, start = read_weights(tmp_path / "run" / "last"), read_weights(pretrained / "last")
    same = [
        torch.equal(own[f"model.{k.removeprefix('model.encoder.')}"], t) for k, t in start.items() if ".encoder." in k
    ]
    assert not all(same)
    assert len(own) > len(same)
    found = open_run(tmp_path / "run", split)
    assert found.model == "ssrp"
    assert (found.task.module.model.config.variant, found.task.module.model.config.layers) == (
        pretrained.name.rstrip("0123456789"),
        5,
    )  # type: ignore[attr-defined]
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), *given, "--device", "cpu", "--json", "--quiet"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert "accuracy" in json.dumps(figures)


def test_a_run_of_other_stores_is_refused(pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples, pictures = small_examples("vqa")
    wide = [replace(one, features=one.features[:, :4]) for one in pictures]
    split_of(tmp_path, examples, wide)
    given = ["--examples", str(tmp_path / "train.lmdb"), "--features", str(tmp_path / "train-features.lmdb")]
    line = ["finetune", "--task", "vqa", "--model", "ssrp", "--init", str(pretrained), *given, *TASKS["vqa"]]
    assert main([*line, "--out", str(tmp_path / "run"), "--max-text-length", "20", "--device", "cpu"]) == 3
    error = capsys.readouterr().err
    assert "knows 40 word pieces and features of size 6, the stores have 40 and 4" in error
