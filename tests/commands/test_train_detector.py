"""``vltk train-detector`` from files to a weights file, in the middle of which it may be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vltk.cli import main
from vltk.datasets.scenes import write_world
from vltk.detection.weights import load_detector


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "world"
    write_world(out, images=20, seed=3)
    return out


def arguments(world: Path, out: Path, *more: str) -> list[str]:
    instances = world / "coco" / "annotations" / "instances_train.json"
    settings = ["--iterations", "4", "--batch-size", "4", "--warmup", "2"]
    return [
        "train-detector",
        "--images",
        str(world / "images"),
        "--instances",
        str(instances),
        "--out",
        str(out),
        "--quiet",
        *settings,
        *more,
    ]


def trained(capsys: pytest.CaptureFixture[str], world: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(arguments(world, out, "--json", *more)) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_detector(path).model.state_dict()


def test_a_detector_is_trained_saved_and_measured(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = world / "coco" / "annotations" / "instances_val.json"
    summary = trained(capsys, world, tmp_path / "d.safetensors", "--validation", str(validation))
    assert (summary["pictures"], summary["steps"], summary["classes"]) == (16, 4, 8)
    assert summary["attributes"] == {"size": 2, "texture": 2, "colour": 8}
    assert summary["validation"]["pictures"] == 2
    assert 0 <= summary["validation"]["mAP@0.5"] <= 1
    loaded = load_detector(tmp_path / "d.safetensors").model.config.predictor
    assert loaded.names[:2] == ("circle", "square")
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]


def test_stopped_after_a_save_it_goes_on_to_the_same_weights(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(capsys, world, tmp_path / "straight.safetensors")
    out = tmp_path / "stopped.safetensors"
    code = (
        "import os, signal, sys\nimport vltk.run_folder as run_folder\nfrom vltk.cli import main\n"
        "write = run_folder.write_checkpoint\n"
        "def killed(*args):\n    write(*args)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_folder.write_checkpoint = killed\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *arguments(world, out, "--save-every", "2")]
    done = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    trained(capsys, world, out, "--save-every", "2")
    straight, stopped = weights(tmp_path / "straight.safetensors"), weights(out)
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)


def test_other_settings_do_not_go_on_with_a_stopped_training(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ".d.safetensors.training"
    assert main(arguments(world, tmp_path / "d.safetensors", "--seed", "1", "--dry-run")) == 0
    assert not folder.exists()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": {"seed": 5}}))
    assert main(arguments(world, tmp_path / "d.safetensors", "--seed", "1")) == 2
    assert "was begun with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        (["--preset", "demmo"], 2, "there is no preset 'demmo'; did you mean demo?"),
        (["--architecture", "r51"], 2, "did you mean r50?"),
        (["--validation", "missing.json"], 3, "missing.json"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, sentence: str
) -> None:
    assert main(arguments(world, tmp_path / "d.safetensors", *more)) == code
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_missing_pictures_and_existing_weights_are_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.safetensors").write_bytes(b"mine")
    assert main(arguments(world, tmp_path / "d.safetensors")) == 2
    assert "exists; add --overwrite or name another file" in capsys.readouterr().err
    assert (tmp_path / "d.safetensors").read_bytes() == b"mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([*arguments(world, tmp_path / "e.safetensors"), "--images", str(empty)]) == 3
    assert "16 of 16 pictures of instances_train.json are missing" in capsys.readouterr().err


def test_training_starts_from_given_weights(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(capsys, world, tmp_path / "first.safetensors")
    still = ("--learning-rate", "0", "--weights", str(tmp_path / "first.safetensors"), "--seed", "9")
    trained(capsys, world, tmp_path / "second.safetensors", *still)
    first, second = weights(tmp_path / "first.safetensors"), weights(tmp_path / "second.safetensors")
    trainable = [name for name in first if "running_" not in name and "num_batches" not in name]
    assert len(trainable) > 40
    assert all(torch.equal(first[name], second[name]) for name in trainable)


def test_other_classes_begin_anew_and_are_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(capsys, world, tmp_path / "first.safetensors")
    content = json.loads((world / "coco" / "annotations" / "instances_train.json").read_text("utf-8"))
    content["categories"].append({"id": 99, "name": "moon", "supercategory": "shape"})
    (tmp_path / "more.json").write_text(json.dumps(content), "utf-8")
    line = arguments(world, tmp_path / "second.safetensors", "--weights", str(tmp_path / "first.safetensors"))
    line.remove("--quiet")
    assert main([*line, "--instances", str(tmp_path / "more.json")]) == 0
    said = capsys.readouterr().err
    assert "anew: roi_heads.box_predictor.cls_score.bias, roi_heads.box_predictor.cls_score.weight" in said


def test_weights_of_an_unrelated_network_are_refused(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile.safetensors").write_bytes(b"not weights")
    assert main(arguments(world, tmp_path / "d.safetensors", "--weights", str(tmp_path / "hostile.safetensors"))) == 3
    assert "hostile.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "d.safetensors").exists()
