"""``vltk finetune --model vsrn``: trained, resumed, evaluated, searched and published like any dual encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.test_finetune_vse import WORDS, scan_split
from vltk.cli import main
from vltk.models._vsrn_checkpoints import read_vsrn
from vltk.run_folder import read_weights
from vltk.trainer import Trainer

SIZE = ["--model", "vsrn", "--hidden", "8", "--word-dim", "4", "--caption-hidden", "6", "--caption-word-dim", "4"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("scan")
    return {name: scan_split(folder / name, name) for name in ("train", "val")}


def arguments(stores: dict[str, tuple[Path, Path]], out: Path, *more: str, steps: int = 6) -> list[str]:
    examples, features = map(str, stores["train"])
    return ["finetune", "--task", "flickr30k", *SIZE, "--examples", examples, "--features", features, "--out", str(out),
            "--pairs", "10", "--steps", str(steps), "--warmup", "0", "--schedule", "step", "--device", "cpu",
            "--optimizer", "torch", "--no-drop-words", "--no-drop-regions", "--json", "-q", *more]  # fmt: skip


def ran(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main(words) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_scans_files_train_a_model_that_serves_everywhere(
    stores: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, features = map(str, stores["val"])
    run, given = tmp_path / "run", ["--examples", examples, "--features", features]
    more = ("--validation-examples", examples, "--validation-features", features)
    done = ran(capsys, arguments(stores, run, *more))
    assert {row["metric"] for row in done["metrics"]} >= {"rsum", "i2t_r1", "t2i_r10"}
    read = ran(capsys, ["eval", str(run), *given, "--out", str(tmp_path / "eval"), "--device", "cpu", "--json", "-q"])
    shown = {row["metric"]: row["value"] for row in done["metrics"]}
    evaluated = {row["metric"]: row["value"] for row in read["metrics"]}
    assert evaluated["rsum"] == pytest.approx(shown["rsum"])
    words = stores["train"][0].parent / "words.json"
    found = ran(capsys, ["search", str(run), "--features", features, "--tokenizer", str(words), "--text", "a red dog",
                         "--top", "2", "--device", "cpu", "--json", "-q"])  # fmt: skip
    assert (found["model"], len(found["found"])) == ("vsrn", 2)
    out = tmp_path / "published.pth"
    assert main(["convert", "vsrn", str(run), str(out), "--json", "-q"]) == 0
    capsys.readouterr()
    pair = torch.load(out, weights_only=False)["model"]
    # The vocabulary of the authors has no mask, and their layout no caption branch.
    assert pair[1]["embed.weight"].shape == (len(WORDS), 4)
    best = read_weights(run / "best")
    assert torch.equal(pair[0]["img_rnn.weight_ih_l0"], best["model.image.gru.weight_ih_l0"])
    own = tmp_path / "own.safetensors"
    assert main(["convert", "vsrn", str(out), str(own), "-q"]) == 0
    read = ran(capsys, ["eval", str(own), "--task", "flickr30k", *given, "--out", str(tmp_path / "converted"),
                        "--device", "cpu", "--json", "-q"])  # fmt: skip
    assert {row["metric"]: row["value"] for row in read["metrics"]}["rsum"] == pytest.approx(evaluated["rsum"])
    again = ran(capsys, arguments(stores, tmp_path / "again", "--init", str(out)))
    assert again["initialised"] == ["the branch that generates captions freshly initialised"]
    converted = read_vsrn(out)
    assert converted.model.config.vocabulary == len(WORDS) + 1


@pytest.mark.parametrize("updates", ["once", "official"])
def test_a_run_that_was_cut_goes_on_to_the_same_weights(
    updates: str,
    stores: dict[str, tuple[Path, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = ("--save-every", "1", "--caption-updates", updates)
    straight = ran(capsys, arguments(stores, tmp_path / "straight", *more, steps=4))
    update = Trainer._update

    def cut(self: Trainer, batches: Any) -> bool:
        if self.step == 2:
            raise KeyboardInterrupt
        return update(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", cut)
        assert main(arguments(stores, tmp_path / "cut", *more, steps=4)) == 130
        capsys.readouterr()
    resumed = ran(capsys, arguments(stores, tmp_path / "cut", *more, steps=4))
    assert resumed["weights"]["last"] == straight["weights"]["last"]


def test_the_order_of_regions_is_an_option_that_asks_for_boxes(
    stores: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(stores, tmp_path / "size", "--region-order", "size")) == 3
    assert "has no boxes" in capsys.readouterr().err
    learnt = {}
    for order in ("stored", "random", "confidence"):
        assert main(arguments(stores, tmp_path / order, "--region-order", order, steps=2)) == 0
        learnt[order] = read_weights(tmp_path / order / "last")["model.image.gru.weight_hh_l0"]
    # SCAN's files have no scores: they stand in the order of confidence already.
    assert torch.equal(learnt["confidence"], learnt["stored"])
    assert not torch.equal(learnt["confidence"], learnt["random"])
