"""``vltk convert detector``: one file out of any published layout, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.detection.test_faster_rcnn import NARROW, build
from vltk.cli import main
from vltk.detection.weights import load_detector


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "pytorch_model.bin"
    torch.save(build(NARROW, seed=3).state_dict(), path)
    return path


def test_a_checkpoint_becomes_one_file(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = checkpoint.parent / "detector.safetensors"
    assert main(["convert", "detector", str(checkpoint), str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["layout"], summary["classes"], summary["attributes"]) == ("detectron2", 9, 5)
    before, after = load_detector(checkpoint), load_detector(out)
    assert summary["sha256"] == before.sha256
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)


def test_a_dry_run_writes_nothing(checkpoint: Path) -> None:
    out = checkpoint.parent / "detector.safetensors"
    assert main(["convert", "detector", str(checkpoint), str(out), "--dry-run", "--json"]) == 0
    assert not out.exists()


def test_keys_can_be_renamed(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {name.replace("roi_heads.", "heads."): tensor for name, tensor in torch.load(checkpoint).items()}
    torch.save(state, checkpoint)
    out = str(checkpoint.parent / "detector.safetensors")
    assert main(["convert", "detector", str(checkpoint), out]) == 3
    assert "has no roi_heads." in capsys.readouterr().err
    assert not Path(out).exists()
    assert main(["convert", "detector", str(checkpoint), out, "--rename", "heads.=roi_heads.", "--json"]) == 0
    assert main(["convert", "detector", str(checkpoint), out, "--rename", "heads", "--overwrite"]) == 2
    assert "'heads' is not OLD=NEW" in capsys.readouterr().err


def test_refusals_come_before_the_work(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "detector", "nowhere.pkl", str(checkpoint.parent / "detector.bin")]) == 2
    assert "the name ends in '.bin'" in capsys.readouterr().err
    existing = checkpoint.parent / "old.safetensors"
    existing.write_text("precious")
    assert main(["convert", "detector", str(checkpoint), str(existing)]) == 3
    assert "exists already" in capsys.readouterr().err
    assert existing.read_text() == "precious"
    assert (
        main(["convert", "detector", "someone/detector", "x.safetensors", "--offline", "--cache-dir", "/nowhere"]) == 4
    )
    assert "someone/detector: is not in the local cache" in capsys.readouterr().err
