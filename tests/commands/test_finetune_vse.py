"""``vltk finetune --model vse``: SCAN's files through the stores, resuming, and published checkpoints to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from vltk.cli import main
from vltk.models._vse_checkpoints import read_vse
from vltk.run_folder import read_weights

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat", "runs", "sits", "red", "."]
SIZE = ["--model", "vse", "--text", "bigru", "--hidden", "8", "--word-dim", "4"]


def scan_split(folder: Path, name: str) -> tuple[Path, Path]:
    """Write 12 pictures with 5 captions each as SCAN does, with its vocabulary; import them into stores."""
    folder.mkdir()
    dice = np.random.default_rng(0)
    np.save(folder / f"{name}_ims.npy", dice.random((12, 4, 6), np.float32))
    words = [" ".join(WORDS[k] for k in dice.integers(4, 10, 5)) + " ." for _ in range(60)]
    ids = [f"{name}{number}" for number in range(12)]
    (folder / f"{name}_caps.txt").write_text("".join(f"{one}\n" for one in words))
    (folder / f"{name}_ids.txt").write_text("".join(f"{one}\n" for one in ids))
    captions = {f"{one}.jpg": words[5 * k : 5 * k + 5] for k, one in enumerate(ids)}
    (folder / "captions.json").write_text(json.dumps(captions))
    vocabulary = {"word2idx": {word: number for number, word in enumerate(WORDS)}, "idx2word": {}, "idx": len(WORDS)}
    (folder / "words.json").write_text(json.dumps(vocabulary))
    features, examples = folder / "features.lmdb", folder / f"{name}.lmdb"
    assert main(["store", "import", str(folder), "--format", "scan_npy", "--out", str(features), "-q"]) == 0
    given = ["--caption-lists", str(folder / "captions.json"), "--tokenizer", str(folder / "words.json")]
    assert main(["prepare", "--task", "flickr30k", *given, "--out", str(examples), "-q"]) == 0
    return examples, features


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return scan_split(tmp_path_factory.mktemp("scan") / "train", "train")


def arguments(stores: tuple[Path, Path], out: Path, *more: str, steps: int = 6) -> list[str]:
    examples, features = map(str, stores)
    return ["finetune", "--task", "flickr30k", *SIZE, "--examples", examples, "--features", features, "--out", str(out),
            "--pairs", "10", "--steps", str(steps), "--warmup", "0", "--schedule", "step", "--device", "cpu",
            "--optimizer", "torch", "--json", "-q", *more]  # fmt: skip


def finetune(capsys: pytest.CaptureFixture[str], *given: Any) -> dict[str, Any]:
    assert main(arguments(*given)) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_scans_files_train_a_model_that_its_authors_can_load(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, features = map(str, scan_split(tmp_path / "val", "val"))
    more = ("--validation-examples", examples, "--validation-features", features)
    done = finetune(capsys, stores, tmp_path / "run", *more)
    assert {row["metric"] for row in done["metrics"]} >= {"rsum", "i2t_r1", "t2i_r10"}
    out = tmp_path / "published.pth"
    assert main(["convert", "vse", str(tmp_path / "run"), str(out), "--json", "-q"]) == 0
    capsys.readouterr()
    found = read_vse(out)
    assert (found.model.config.vocabulary, found.model.config.region_dim) == (len(WORDS) + 1, 6)
    best = read_weights(tmp_path / "run" / "best")
    assert torch.equal(found.model.state_dict()["text.word.weight"], best["model.text.word.weight"])
    again = finetune(capsys, stores, tmp_path / "again", "--init", str(out))
    assert again["weights"]["last"] != done["weights"]["last"]


def test_a_run_that_was_cut_goes_on_to_the_same_weights(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = finetune(capsys, stores, tmp_path / "straight", "--save-every", "1")
    from vltk.trainer import Trainer

    update = Trainer._update

    def cut(self: Trainer, batches: Any) -> bool:
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", cut)
        assert main(arguments(stores, tmp_path / "cut", "--save-every", "1")) == 130
        capsys.readouterr()
    resumed = finetune(capsys, stores, tmp_path / "cut", "--save-every", "1")
    weights = [read_weights(tmp_path / name / "last") for name in ("straight", "cut")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert resumed["weights"]["last"] == straight["weights"]["last"]


def test_data_loading_processes_change_nothing(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = finetune(capsys, stores, tmp_path / "alone")
    helped = finetune(capsys, stores, tmp_path / "helped", "--num-workers", "1")
    assert helped["weights"] == alone["weights"]


def test_hard_candidates_are_not_for_dual_encoders(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(stores, tmp_path / "run", "--negatives", "hard")) == 2
    assert "need an encoder that sees both sides" in capsys.readouterr().err


def test_a_model_of_grids_learns_from_pixels(
    stores: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = {"embedding_size": 4, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    ResNetModel(ResNetConfig(layer_type="bottleneck", **size)).save_pretrained(tmp_path / "resnet")
    grid = ["--image", "grid", "--backbone", "folder", "--backbone-folder", str(tmp_path / "resnet"), "--pairs", "2"]
    assert main(arguments(stores, tmp_path / "run", *grid)) == 2
    assert "--pictures: is needed by a model of grids" in capsys.readouterr().err
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(12):
        Image.new("RGB", (40, 30), (number * 20, 0, 99)).save(pictures / f"train{number}.png")
    grid += ["--pictures", str(pictures), "--mean-warmup", "0", "--embedding-warmup", "0"]
    # The loss of the very first batch is multiplied by 0, as published.
    assert main(arguments(stores, tmp_path / "run", *grid, steps=2)) == 0
    trained = read_weights(tmp_path / "run" / "last")
    before = ResNetModel.from_pretrained(tmp_path / "resnet").state_dict()
    moved = [
        name for name, tensor in before.items() if not torch.equal(trained[f"model.image.trunk.model.{name}"], tensor)
    ]
    assert any(name.endswith("convolution.weight") for name in moved)
    assert not any("running" in name for name in moved), "the statistics of its norms stand still"
    moved_away = pictures.rename(tmp_path / "elsewhere")
    line = [
        "eval",
        str(tmp_path / "run"),
        "--examples",
        str(stores[0]),
        "--features",
        str(stores[1]),
        "--device",
        "cpu",
    ]
    assert main([*line, "--out", str(tmp_path / "a"), "-q"]) == 2
    assert f"{pictures}: does not exist" in capsys.readouterr().err
    assert main([*line, "--pictures", str(moved_away), "--out", str(tmp_path / "a"), "-q"]) == 0
    assert main(arguments(stores, tmp_path / "regions", steps=2)) == 0
    capsys.readouterr()
    line[1] = str(tmp_path / "regions")
    assert main([*line, "--pictures", str(moved_away), "--out", str(tmp_path / "b"), "-q"]) == 2
    assert "--pictures: does nothing for a model of regions; leave it out" in capsys.readouterr().err
