"""The example of real photographs holds on COCO's and Flickr30k's own files, with random weights that it names as such.

The full-size detector looks at the photographs; UNITER is a small one unless the slow tests are run.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vltk.stores.features import FeatureStore

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "real_photos"
FAST = "--proposals 40 --precision bf16"
SMALL = "--hidden 32 --layers 2 --heads 4 --intermediate 64 --pairs 4 --steps 2 --warmup 1"
BASE = "--pairs 4 --steps 2 --warmup 1"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("real_photos", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_photos"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detector(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full-size detector with random weights, written once as the example writes it."""
    return example.random_detector(tmp_path_factory.mktemp("random") / "random-detector.safetensors")


def linked(folder: Path, photographs: list[Path]) -> Path:
    folder.mkdir()
    for one in photographs:
        (folder / one.name).symlink_to(one)
    return folder


def check(out: str, work: Path, images: Path) -> None:
    """Look at what was said and made: every figure says that weights are random, every photograph has 36 regions."""
    lines = out.splitlines()
    assert lines[0].startswith("RANDOM WEIGHTS: no --detector and no --init")
    figures = [line for line in lines if line.startswith(("eval ", "isd "))]
    assert figures
    assert all(line.endswith("(RANDOM WEIGHTS: detector and init)") for line in figures)
    features = FeatureStore.open(work / "features.lmdb")
    assert features.ids() == sorted(one.stem for one in images.iterdir())
    assert all(regions.features.shape == (36, 2048) for regions in features)


def begun(work: Path, detector: Path) -> str:
    """Make the folder that the example works in, its random detector written already."""
    (work / "made").mkdir()
    (work / "made" / detector.name).symlink_to(detector)
    return str(work / "made")


def flickr(example: Any, shared: Path, work: Path, detector: Path, photographs: list[Path], *more: str) -> None:
    data = shared / "data"
    entities = data / "flickr30k_entities" / "derived_from_phraseloceval"
    captions = work / "captions.json"
    kept = {one.stem for one in photographs}
    texts = json.loads((data / "flickr30k_entities" / "captions" / "test.json").read_text("utf-8"))
    listed = [(name, own[:5]) for name, own in texts.items() if Path(name).stem in kept]
    images = [
        {
            "filename": Path(name).name,
            "split": "test",
            "sentences": [
                {"raw": text, "tokens": text.lower().split(), "sentid": 5 * row + number}
                for number, text in enumerate(own)
            ],
        }
        for row, (name, own) in enumerate(listed)
    ]
    captions.write_text(json.dumps({"images": images, "dataset": "flickr30k"}), "utf-8")
    (work / "list.txt").write_text("".join(f"{name}\n" for name in sorted(kept)), "utf-8")
    vocabulary = str(data / "bert_vocab" / "vocab.txt")
    told = ["--images", str(linked(work / "photographs", photographs)), "--captions", str(captions)]
    given = ["--train-split", "test", "--tokenizer", vocabulary, "--shuffles", "2", "--out", begun(work, detector)]
    phrases = ["--entities", str(entities), "--entity-images", str(work / "list.txt")]
    example.main([*told, *given, *phrases, *more])


def coco(example: Any, shared: Path, work: Path, detector: Path, photographs: list[Path], *more: str) -> None:
    data = shared / "data"
    captions = str(data / "coco" / "annotations" / "captions_val2017.json")
    told = ["--images", str(linked(work / "photographs", photographs)), "--captions", captions, "--task", "coco"]
    vocabulary = str(data / "bert_vocab" / "vocab.txt")
    example.main([*told, "--test-captions", captions, "--tokenizer", vocabulary, "--out", begun(work, detector), *more])


def of_flickr(shared: Path) -> list[Path]:
    return sorted((shared / "data" / "flickr30k_entities" / "flickr30k-images").iterdir())


def test_two_photographs_with_phrases_go_through_the_whole_line_and_stand(
    example: Any, detector: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--extract", FAST, "--finetune", SMALL)
    flickr(example, shared, tmp_path, detector, of_flickr(shared)[:2], *few)
    out = capsys.readouterr().out
    check(out, tmp_path / "made", tmp_path / "photographs")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("isd ")] == ["ISDa", "L(s)", "L(d)"]
    assert json.loads((tmp_path / "made" / "isd" / "results.json").read_text())["metrics"][0]["n"] == 10


def test_a_photograph_with_cocos_captions_goes_through_the_line(
    example: Any, detector: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = sorted((shared / "data" / "coco" / "val2017").iterdir())[:2]
    coco(example, shared, tmp_path, detector, photographs, "--extract", FAST, "--finetune", SMALL)
    check(capsys.readouterr().out, tmp_path / "made", tmp_path / "photographs")
    features = FeatureStore.open(tmp_path / "made" / "features.lmdb")
    assert "random" not in features.metadata.preset
    assert (tmp_path / "made" / "eval" / "outcomes.jsonl").is_file()


@pytest.mark.slow
def test_all_photographs_of_flickr30k_with_a_base_size_uniter(
    example: Any, detector: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flickr(example, shared, tmp_path, detector, of_flickr(shared), "--finetune", BASE)
    check(capsys.readouterr().out, tmp_path / "made", tmp_path / "photographs")


@pytest.mark.slow
def test_all_photographs_of_coco_with_a_base_size_uniter(
    example: Any, detector: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = sorted((shared / "data" / "coco" / "val2017").iterdir())
    coco(example, shared, tmp_path, detector, photographs, "--finetune", BASE)
    check(capsys.readouterr().out, tmp_path / "made", tmp_path / "photographs")
