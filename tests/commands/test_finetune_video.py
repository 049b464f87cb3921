"""Videos from HGR's files to figures: import, prepare, fine-tune, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from vltk.cli import main

WORDS = {"<BOS>": 0, "<EOS>": 1, "<UNK>": 2, "a": 3, "dog": 4, "cat": 5, "runs": 6, "sits": 7}
SIZE = ["--hidden", "8", "--word-dim", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HGR's layout of a dozen videos, brought into stores."""
    root = tmp_path_factory.mktemp("hgr")
    dice, names = np.random.default_rng(0), [f"video{number}" for number in range(12)]
    with h5py.File(root / "trn_ft.hdf5", "w") as file:
        for name in names:
            file[name] = dice.random((int(dice.integers(2, 30)), 6), np.float32)
    np.save(root / "trn_names.npy", np.array(names))
    sentences = {name: [f"a {dice.choice(['dog', 'cat'])} runs {name}", "a cat sits"] for name in names}
    (root / "ref_captions.json").write_text(json.dumps(sentences))
    (root / "word2int.json").write_text(json.dumps(WORDS))
    given = ["--format", "hgr_frames", "--names", str(root / "trn_names.npy")]
    assert main(["store", "import", str(root / "trn_ft.hdf5"), *given, "--out", str(root / "frames.lmdb"), "-q"]) == 0
    given = ["--ref-captions", str(root / "ref_captions.json"), "--names", str(root / "trn_names.npy")]
    given += ["--tokenizer", str(root / "word2int.json"), "--features", str(root / "frames.lmdb")]
    assert main(["prepare", "--task", "msrvtt", *given, "--out", str(root / "trn.lmdb"), "-q"]) == 0
    return root


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--device", "cpu", "--json", "-q"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def finetuned(folder: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: object) -> dict[str, Any]:
    return shown(capsys, "finetune", "--recipe", "vse-msrvtt", *SIZE, "--examples", folder / "trn.lmdb", "--features",
                 folder / "frames.lmdb", "--pairs", 8, "--steps", 6, "--learning-rate", 1e-2, "--out", out,
                 *more)  # fmt: skip


def test_a_run_on_videos_is_measured_as_hgr_measures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetuned(folder, tmp_path / "run", capsys)
    found = shown(capsys, "eval", tmp_path / "run", "--examples", folder / "trn.lmdb", "--features",
                  folder / "frames.lmdb", "--metric-compat", "hgr")  # fmt: skip
    told = {row["metric"]: row for row in found["metrics"]}
    # One sentence belongs to all videos: right for all of them to HGR, one video's own by the strict rule.
    assert told["i2t_r1 as hgr prints it"]["value"] >= told["i2t_r1"]["value"]
    assert told["t2i_r10 as hgr prints it"]["value"] >= told["t2i_r10"]["value"]
    assert told["i2t_median_rank as hgr prints it"]["unit"] == "rank"


def test_a_run_that_is_repeated_ends_alike(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        finetuned(folder, tmp_path / name, capsys, "--num-workers", int(name == "two"))
    first, second = ((tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert first == second


def test_scores_alone_do_not_tell_which_sentences_are_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetuned(folder, tmp_path / "run", capsys)
    shown(capsys, "eval", tmp_path / "run", "--examples", folder / "trn.lmdb", "--features", folder / "frames.lmdb",
          "--out", tmp_path / "measured")  # fmt: skip
    assert main(["eval", "--scores", str(tmp_path / "measured" / "scores"), "--metric-compat", "hgr"]) == 2
    assert "--metric-compat hgr: needs the texts of the whole split" in capsys.readouterr().err


def test_a_joint_encoder_cannot_read_texts_without_a_frame(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--examples", str(folder / "trn.lmdb"), "--features", str(folder / "frames.lmdb")]
    assert main(["finetune", "--task", "msrvtt", *given, "--out", str(tmp_path / "run"), "-q"]) == 3
    assert "names no [CLS] and [SEP]; prepare with --tokenizer" in capsys.readouterr().err
