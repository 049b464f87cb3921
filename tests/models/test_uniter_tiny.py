"""The weights that come with vltk: they load by name, and they look at the picture."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from vltk.cli import main
from vltk.config import recipes
from vltk.errors import DataError
from vltk.language.tokenization import load_tokenizer
from vltk.models._checkpoints import SHIPPED, initialise_from, read_checkpoint
from vltk.models.uniter import UNITERConfig, UNITERForPretraining

ROOT = Path(__file__).resolve().parents[2]
NAME = Path("uniter-tiny")


def learning() -> ModuleType:
    """Return benchmarks/uniter_learning.py, which measures the figures that the project states."""
    spec = importlib.util.spec_from_file_location("uniter_learning", ROOT / "benchmarks" / "uniter_learning.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def world(folder: Path, images: int) -> list[str]:
    """Draw a world, extract its regions, prepare its captions; return the options of a run that learns it."""
    drawn, features = folder / "world", str(folder / "features.lmdb")
    assert main(["scenes", "--out", str(drawn), "--images", str(images), "--seed", "7"]) == 0
    assert main(["extract-features", "--images", str(drawn / "images"), "--detector", "demo", "--out", features]) == 0
    for split in ("train", "val"):
        told = ["--karpathy", str(drawn / "dataset_scenes.json"), "--split", split]
        more = ["--tokenizer", str(drawn / "vocab.txt"), "--out", str(folder / f"{split}.lmdb")]
        assert main(["prepare", "--task", "captions", *told, *more]) == 0
    hidden = ["--focus-words", str(drawn / "attribute_words.txt"), "--vocab", str(drawn / "vocab.txt")]
    stores = ["--examples", str(folder / "train.lmdb"), "--features", features]
    return ["--recipe", "uniter-tiny", *hidden, *stores, "--device", "cpu", "--quiet"]


def test_they_are_found_by_name_and_fit_the_drawn_world() -> None:
    found = read_checkpoint(UNITERForPretraining, NAME)
    assert found.path.stat().st_size <= 4_000_000
    assert found.path.with_suffix(".md").is_file()
    tokenizer = load_tokenizer(ROOT / "vltk" / "datasets" / "scene_vocabulary.txt")
    assert found.config.vocabulary == tokenizer.description().vocab_size
    assert (found.config.hidden, found.config.heads, found.config.region_dim) == (128, 4, 256)
    assert found.missing == ()


def test_a_model_starts_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = read_checkpoint(UNITERForPretraining, NAME).config.build_for_pretraining()
    assert initialise_from(model, NAME) == []
    assert model.matching.weight.dtype == torch.float32
    with pytest.raises(DataError, match=r"is of another size: .*hidden 128 instead of 64"):
        initialise_from(UNITERConfig(vocabulary=191, hidden=64, heads=4, layers=1).build_for_pretraining(), NAME)


def test_a_file_of_that_name_comes_first_and_an_unknown_name_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"uniter-tinny: is not there; .* that come with vltk \(.*uniter-tiny"):
        read_checkpoint(UNITERForPretraining, Path("uniter-tinny"))
    # Only a bare name stands for them: no path that happens to lack its suffix.
    with pytest.raises(DataError, match="is not there"):
        read_checkpoint(UNITERForPretraining, SHIPPED / NAME)
    NAME.write_bytes(b"another file")
    with pytest.raises(DataError, match="uniter-tiny: cannot be read"):
        read_checkpoint(UNITERForPretraining, NAME)


def test_they_look_at_the_picture_of_unseen_scenes() -> None:
    benchmark = learning()
    figures: dict[str, Any] = benchmark.measure(benchmark.load(NAME), 60, None)
    colour, shape = figures["masked colour"], figures["masked shape"]
    assert colour["own attributes suffice"] > 0.9
    assert shape["own attributes suffice"] > 0.9
    assert colour["another scene's picture"] < colour["chance"] + 0.2
    assert figures["matching"]["accuracy"] > 0.9
    assert figures["one-edit neighbour"]["accuracy"] > 0.65


def test_the_recipe_makes_their_size_and_goes_on_from_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tomllib.loads(recipes()["uniter-tiny"].read_text("utf-8"))
    size = read_checkpoint(UNITERForPretraining, NAME).config
    for name in ("hidden", "layers", "heads", "intermediate", "positions"):
        assert recipe[name] == getattr(size, name)
    words = world(tmp_path, 50)
    capsys.readouterr()
    words += ["--validation-examples", str(tmp_path / "val.lmdb"), "--out", str(tmp_path / "run"), "--json"]
    assert main(["pretrain", *words, "--init", "uniter-tiny", "--steps", "2", "--warmup", "1"]) == 0
    measured = {row["metric"]: row["value"] for row in json.loads(capsys.readouterr().out)["metrics"]}
    assert measured["itm accuracy"] > 0.8
    assert measured["mlm accuracy"] > 0.5


@pytest.mark.slow
def test_the_recipe_learns_to_look_at_the_picture(tmp_path: Path) -> None:
    assert main(["pretrain", *world(tmp_path, 10_000), "--out", str(tmp_path / "run")]) == 0
    benchmark = learning()
    figures: dict[str, Any] = benchmark.measure(benchmark.load(tmp_path / "run" / "last"), 600, None)
    colour = figures["masked colour"]
    assert colour["own attributes suffice"] >= 0.75
    assert colour["another scene's picture"] <= colour["chance"] + 0.10
    assert figures["matching"]["accuracy"] >= 0.90
    assert figures["one-edit neighbour"]["accuracy"] >= 0.65
