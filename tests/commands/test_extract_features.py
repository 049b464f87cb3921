"""``vltk extract-features`` from a folder to a store, as a user calls it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.detection.small_detector import CONFIG, write_pictures
from tests.detection.test_hub_detectors import FAMILIES
from vltk.cli import main
from vltk.datasets.coco import read_instances
from vltk.datasets.flickr30k_entities import read_annotation
from vltk.datasets.refcoco import read_examples
from vltk.detection.presets import PRESETS
from vltk.detection.region_extractors import DetectedRegions
from vltk.detection.weights import save_detector
from vltk.stores.features import FeatureStore
from vltk.stores.formats import lxmert_tsv
from vltk.stores.maintenance import verify


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    save_detector(CONFIG.build(), path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "world"
    assert main(["scenes", "--out", str(out), "--images", "10", "--size", "96", "--quiet"]) == 0
    return out


class Command:
    """Calls the command and keeps what it said."""

    # Small pictures stay small enough for a test: no preset of a paper looks at 48 pixels.
    SMALL = ("--preset", "demo", "--proposals", "20", "--max-boxes", "6")

    def __init__(self, capsys: pytest.CaptureFixture[str], weights: Path) -> None:
        self.capsys, self.weights = capsys, weights
        self.stderr = ""

    def __call__(self, images: Path, out: Path, *args: object, code: int = 0, detector: bool = True) -> dict[str, Any]:
        chosen = ("--weights", self.weights, *self.SMALL) if detector else ()
        given = ["extract-features", "--images", images, "--out", out, "--device", "cpu", "--json", *chosen, *args]
        found = main([str(one) for one in given])
        captured = self.capsys.readouterr()
        self.stderr = captured.err
        assert found == code, captured.err
        summary: dict[str, Any] = json.loads(captured.out) if captured.out else {}
        return summary

    def refused(self, images: Path, out: Path, *args: object, code: int = 2, detector: bool = True) -> str:
        """Return the one sentence of a refusal, and check that nothing was written."""
        self(images, out, *args, code=code, detector=detector)
        assert not out.exists()
        return self.stderr.strip().splitlines()[-1]


@pytest.fixture
def extract(capsys: pytest.CaptureFixture[str], weights: Path) -> Command:
    return Command(capsys, weights)


# -- from a folder to a store --------------------------------------------------------------------------------------


def test_a_folder_becomes_a_store(tmp_path: Path, extract: Command, pictures: Path) -> None:
    out = tmp_path / "a.lmdb"
    summary = extract(pictures, out)
    store = FeatureStore.open(out)
    assert verify(out).ok
    assert store.ids() == [path.stem for path in sorted(pictures.iterdir())]
    assert (summary["pictures"], summary["extracted now"], summary["failures"]) == (5, 5, 0)
    assert summary["content hash"] == store.content_hash
    assert store.metadata.preset == "demo, changed"
    assert store.metadata.weights_hash.startswith(summary["weights sha256"])
    assert store.metadata.extra["precision"] == "fp32"
    assert extract(pictures, out)["extracted now"] == 0
    assert "5 of 5 pictures are done already" in extract.stderr


def test_the_detector_that_comes_with_vltk_knows_the_drawn_world(tmp_path: Path, extract: Command, world: Path) -> None:
    summary = extract(world / "images", tmp_path / "a.lmdb", "--detector", "demo", detector=False)
    store = FeatureStore.open(tmp_path / "a.lmdb")
    assert (summary["preset"], store.metadata.preset) == ("demo", "demo")
    named = store.metadata.extra["labels"]
    right = total = 0
    for one in read_instances(world / "coco" / "annotations" / "instances_train.json"):
        regions = store.get(one.image_id)
        middle = np.mean([one.box[:2], one.box[2:]], axis=0)
        nearest = int(np.argmin(np.abs((regions.boxes[:, :2] + regions.boxes[:, 2:]) / 2 - middle).sum(axis=1)))
        right, total = right + (named[regions.class_ids[nearest]] == one.category), total + 1
    assert total > 15
    assert right / total > 0.8


def test_resuming_can_be_demanded_and_forbidden(tmp_path: Path, extract: Command, pictures: Path) -> None:
    out = tmp_path / "a.lmdb"
    assert "a.lmdb: nothing was begun there; leave out" in extract.refused(pictures, out, "--resume", "must")
    extract(pictures, out, "--resume", "never", "--limit", 2)
    extract(pictures, out, "--resume", "never", code=2)
    assert "a.lmdb: work was begun there; use another --out, or --overwrite" in extract.stderr
    assert extract(pictures, out, "--resume", "must")["extracted now"] == 3
    assert extract(pictures, out, "--resume", "never", "--overwrite")["extracted now"] == 5


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_runs(tmp_path: Path, extract: Command, preset: str) -> None:
    pictures = write_pictures(tmp_path / "large", 1, sizes=((640, 480),))
    extract(pictures, tmp_path / "a.lmdb", "--weights", extract.weights, "--preset", preset, detector=False)
    metadata = FeatureStore.open(tmp_path / "a.lmdb").metadata
    assert (metadata.preset, metadata.preset_hash) == (preset, PRESETS[preset].preset_hash())


def test_a_plan_costs_a_few_pictures_and_writes_nothing(tmp_path: Path, extract: Command, pictures: Path) -> None:
    plan = extract(pictures, tmp_path / "a.lmdb", "--dry-run", "--chunk-size", 2)
    assert (plan["pictures"], plan["chunks"], plan["pictures timed"]) == (5, 3, 5)
    assert plan["smallest, typical, largest"] == ["48 x 64", "64 x 48", "70 x 50"]
    assert plan["hours"] >= 0
    assert list(tmp_path.iterdir()) == []
    extract(pictures, tmp_path / "a.lmdb")
    store = FeatureStore.open(tmp_path / "a.lmdb")
    stored = sum(array.nbytes for regions in store for array in regions.arrays().values())
    assert plan["megabytes"] == pytest.approx(stored / 1e6, abs=0.05)
    assert extract(pictures, tmp_path / "a.lmdb", "--dry-run")["done already"] == 5
    assert plan["regions a picture"] == pytest.approx(np.mean([len(regions) for regions in store]), abs=0.05)


def test_shards_join_into_the_whole(tmp_path: Path, extract: Command, pictures: Path) -> None:
    whole = extract(pictures, tmp_path / "whole.lmdb", "--chunk-size", 2)["content hash"]
    for number in (1, 2):
        extract(pictures, tmp_path / "a.lmdb", "--chunk-size", 2, "--shard", f"{number}/2")
    parts = [tmp_path / f"a.shard-{number}-of-2.lmdb" for number in (1, 2)]
    assert [len(FeatureStore.open(part)) for part in parts] == [3, 2]
    assert main(["store", "merge", *map(str, parts), "--out", str(tmp_path / "a.lmdb"), "--quiet"]) == 0
    assert FeatureStore.open(tmp_path / "a.lmdb").content_hash == whole


def test_drawings_show_what_is_stored(tmp_path: Path, extract: Command, pictures: Path) -> None:
    extract(pictures, tmp_path / "a.lmdb", "--preview", tmp_path / "look", "--preview-count", 2)
    drawings = sorted((tmp_path / "look").iterdir())
    assert [path.name for path in drawings] == ["00000.jpg", "00001.jpg"]
    assert max(Image.open(drawings[0]).size) == 1000


def test_names_of_classes_come_from_files(tmp_path: Path, extract: Command, pictures: Path) -> None:
    (tmp_path / "objects.txt").write_text("\n".join("abcdefg"), "utf-8")
    extract(pictures, tmp_path / "a.lmdb", "--labels", tmp_path / "objects.txt")
    assert FeatureStore.open(tmp_path / "a.lmdb").metadata.extra["labels"] == list("abcdefg")
    (tmp_path / "objects.txt").write_text("a\nb\n", "utf-8")
    sentence = extract.refused(pictures, tmp_path / "b.lmdb", "--labels", tmp_path / "objects.txt", code=3)
    assert "objects.txt: holds 2 names, the detector tells 7 apart; give the vocabulary" in sentence


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_score_threshold_is_a_change_of_every_preset(tmp_path: Path, extract: Command, preset: str) -> None:
    pictures = write_pictures(tmp_path / "large", 1, sizes=((640, 480),))
    options = ("--weights", extract.weights, "--preset", preset, "--score-threshold", 0.99, "--min-boxes", 2)
    extract(pictures, tmp_path / "a.lmdb", *options, detector=False)
    store = FeatureStore.open(tmp_path / "a.lmdb")
    assert store.metadata.preset == f"{preset}, changed"
    assert store.metadata.preset_hash != PRESETS[preset].preset_hash()
    regions = store.get("00000")
    assert len(regions) == max(2, int((regions.scores >= 0.99).sum()))


def test_class_distributions_and_types_are_options(tmp_path: Path, extract: Command, pictures: Path) -> None:
    options = ("--no-class-probs", "--dtype", "float32", "--compression", "lz4")
    extract(pictures, tmp_path / "a.lmdb", *options)
    regions = next(iter(FeatureStore.open(tmp_path / "a.lmdb")))
    assert (regions.class_probs, regions.features.dtype) == (None, np.float32)


def test_a_grid_is_stored_with_its_cells(tmp_path: Path, extract: Command, pictures: Path) -> None:
    extract(pictures, tmp_path / "a.lmdb", "--features", "grid")
    store = FeatureStore.open(tmp_path / "a.lmdb")
    # 48 x 64 becomes 96 x 128 network pixels, cells are 16 of them.
    assert store.get("00000").features.shape == (6 * 8, 32)
    assert store.metadata.preset == "demo, changed/grid"


# -- boxes that are given ------------------------------------------------------------------------------------------


def test_boxes_of_coco(tmp_path: Path, extract: Command, world: Path) -> None:
    files = [world / "coco" / "annotations" / f"instances_{split}.json" for split in ("train", "val")]
    extract(world / "images", tmp_path / "a.lmdb", "--boxes", files[0], "--boxes", files[1])
    assert "9 of 10 pictures have boxes; 9 pictures are annotated" in extract.stderr
    store = FeatureStore.open(tmp_path / "a.lmdb")
    stored = {(one.image_id, name): box for one in store for name, box in zip(one.region_ids, one.boxes, strict=True)}
    instances = [one for file in files for one in read_instances(file)]
    assert stored.keys() == {(one.image_id, one.id) for one in instances}
    for one in instances:
        assert np.allclose(stored[one.image_id, one.id], one.box, atol=1e-3)


def test_boxes_of_flickr30k_entities(tmp_path: Path, extract: Command, world: Path) -> None:
    annotations = world / "flickr30k_entities" / "Annotations"
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    named = {path.stem: path for path in world.rglob("*.png")}
    for file in annotations.iterdir():
        shutil.copy(named[file.stem], pictures)
    extract(pictures, tmp_path / "a.lmdb", "--boxes", annotations.parent)
    for regions in FeatureStore.open(tmp_path / "a.lmdb"):
        boxes = read_annotation(annotations / f"{regions.image_id}.xml").boxes
        expected = [(chain, box) for chain, found in boxes.items() for box in found]
        assert regions.region_ids == tuple(chain for chain, _ in expected)
        assert np.allclose(regions.boxes, [box for _, box in expected], atol=1e-3)


def test_boxes_of_refcoco_are_the_candidates_of_its_pictures(tmp_path: Path, extract: Command, world: Path) -> None:
    folder = world / "refcoco" / "refcoco"
    extract(world / "images", tmp_path / "a.lmdb", "--boxes", folder)
    store = FeatureStore.open(tmp_path / "a.lmdb")
    examples = list(read_examples(folder / "refs(unc).p", folder / "instances.json"))
    assert store.ids() == sorted({example.image_ids[0] for example in examples})
    for example in examples:
        assert example.target.annotation_id in store.get(example.image_ids[0]).region_ids


def test_boxes_of_a_tsv_and_of_a_store(tmp_path: Path, extract: Command, pictures: Path) -> None:
    extract(pictures, tmp_path / "found.lmdb")
    exported = [
        "store",
        "export",
        str(tmp_path / "found.lmdb"),
        "--format",
        "lxmert_tsv",
        "--out",
        str(tmp_path / "f.tsv"),
    ]
    assert main([*exported, "--quiet"]) == 0
    found = FeatureStore.open(tmp_path / "found.lmdb")
    for source in ("found.lmdb", "f.tsv"):
        out = tmp_path / f"from-{source}.lmdb"
        extract(pictures, out, "--boxes", tmp_path / source)
        for regions in FeatureStore.open(out):
            assert np.allclose(regions.boxes, found.get(regions.image_id).boxes, atol=1e-3)
            assert regions.region_ids == tuple(map(str, range(len(regions))))


def test_boxes_of_real_coco_photographs_leave_crowds_out(tmp_path: Path, extract: Command, shared: Path) -> None:
    coco = shared / "data" / "coco"
    file = coco / "annotations" / "instances_val2017.json"
    extract(coco / "val2017", tmp_path / "a.lmdb", "--boxes", file, "--limit", 6)
    store = FeatureStore.open(tmp_path / "a.lmdb")
    assert len(store) == 6
    instances = [one for one in read_instances(file) if one.image_id in store]
    assert sorted(name for regions in store for name in regions.region_ids) == sorted(
        one.id for one in instances if not one.crowd
    )
    assert any(one.crowd for one in read_instances(file))


def test_boxes_of_the_published_tsv(tmp_path: Path, extract: Command, shared: Path) -> None:
    butd = shared / "data" / "butd_coco"
    extract(butd / "images", tmp_path / "a.lmdb", "--boxes", butd / "train2014_obj36.tsv", "--limit", 4)
    assert "10 of 16 pictures have boxes; 10 pictures are annotated" in extract.stderr
    published = {regions.image_id: regions for regions in lxmert_tsv.read(butd / "train2014_obj36.tsv")}
    for regions in FeatureStore.open(tmp_path / "a.lmdb"):
        assert np.allclose(regions.boxes, published[regions.image_id].boxes, atol=1e-3)
        assert regions.size == published[regions.image_id].size


def test_other_boxes_are_another_store(tmp_path: Path, extract: Command, world: Path) -> None:
    annotations = world / "coco" / "annotations"
    extract(world / "images", tmp_path / "a.lmdb", "--boxes", annotations / "instances_val.json")
    extract(world / "images", tmp_path / "a.lmdb", "--boxes", annotations / "instances_test.json", code=3)
    assert "was made with other settings: extra" in extract.stderr


def test_boxes_that_fit_no_picture_are_refused(tmp_path: Path, extract: Command, world: Path, pictures: Path) -> None:
    file = world / "coco" / "annotations" / "instances_val.json"
    sentence = extract.refused(pictures, tmp_path / "a.lmdb", "--boxes", file, code=3)
    assert "ids look like '00000', those of the boxes like 'COCO_val_" in sentence
    sentence = extract.refused(pictures, tmp_path / "a.lmdb", "--boxes", tmp_path / "absent")
    assert "absent: does not exist; give the file or folder with the boxes" in sentence
    sentence = extract.refused(pictures, tmp_path / "a.lmdb", "--boxes", pictures)
    assert "holds neither data.mdb, instances.json nor XML files; name its layout with --boxes-format" in sentence
    sentence = extract.refused(world / "images", tmp_path / "a.lmdb", "--boxes", file, "--features", "grid")
    assert "a grid has no given boxes; leave out --boxes or --features grid" in sentence


# -- detectors of transformers -------------------------------------------------------------------------------------


def test_a_detector_of_transformers_from_a_folder(tmp_path: Path, extract: Command, pictures: Path) -> None:
    model, processor, queries = FAMILIES["rt_detr"]
    torch.manual_seed(0)
    model().save_pretrained(tmp_path / "model")
    processor().save_pretrained(tmp_path / "model")
    options = ("--detector", f"hf:{tmp_path / 'model'}", "--min-boxes", 3, "--max-boxes", 5, "--no-class-probs")
    summary = extract(pictures, tmp_path / "a.lmdb", *options, detector=False)
    assert (summary["detector"], summary["preset"]) == ("hf:rt_detr", "hub")
    for regions in FeatureStore.open(tmp_path / "a.lmdb"):
        assert 3 <= len(regions) <= min(5, queries)
        assert regions.features.shape[1] == 32
        assert regions.class_probs is None


def test_what_would_have_to_be_downloaded_is_its_own_code(tmp_path: Path, extract: Command, pictures: Path) -> None:
    options = ("--offline", "--cache-dir", tmp_path / "cache")
    for detector in (("--detector", "hf:nobody/nothing"), ("--weights", "nobody/nothing")):
        sentence = extract.refused(pictures, tmp_path / "a.lmdb", *detector, *options, code=4, detector=False)
        assert "nobody/nothing" in sentence


# -- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_after_what_is_begun(
    tmp_path: Path, extract: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    undisturbed = extract(pictures, tmp_path / "whole.lmdb")["content hash"]
    calls, inner = [], DetectedRegions.extract

    def interrupted(self: DetectedRegions, images: Any) -> Any:
        calls.append(images[0].image_id)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return inner(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(DetectedRegions, "extract", interrupted)
        extract(pictures, tmp_path / "a.lmdb", code=code)
    assert calls == ["00000", "00001"]
    assert "its 2 finished pictures are kept; the same command goes on from there" in extract.stderr
    summary = extract(pictures, tmp_path / "a.lmdb")
    assert (summary["extracted now"], summary["content hash"]) == (3, undisturbed)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_interrupt_stops_at_once(
    tmp_path: Path, extract: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: DetectedRegions, images: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second interrupt was ignored")

    with monkeypatch.context() as patch:
        patch.setattr(DetectedRegions, "extract", interrupted)
        extract(pictures, tmp_path / "a.lmdb", code=130)
    assert extract(pictures, tmp_path / "a.lmdb")["pictures"] == 5


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    folder = write_pictures(tmp_path / "spoiled", 4)
    (folder / "00002.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture", "utf-8")
    return folder


def test_a_broken_picture_is_listed_and_the_command_says_so(tmp_path: Path, extract: Command, spoiled: Path) -> None:
    out = tmp_path / "a.lmdb"
    summary = extract(spoiled, out, code=3)
    assert (summary["pictures"], summary["failures"]) == (3, 1)
    assert "a.lmdb: 1 of 4 pictures could not be used; they are listed in" in extract.stderr
    assert "00002.png: is empty (0 bytes)" in extract.stderr
    assert "1 files are no pictures by their name" in extract.stderr
    listed = json.loads(Path(summary["failures listed in"]).read_text("utf-8"))
    assert listed["image_id"] == "00002"
    assert extract(spoiled, out, "--on-error", "skip")["failures"] == 1


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("--detector", "yolo"), "--detector: there is no detector 'yolo'; use faster-rcnn, demo or hf:ID"),
        ((), "--weights: faster-rcnn needs weights; give a checkpoint file or a hub id, or use --detector demo"),
        (("--detector", "demo", "--weights", "x"), "--weights: the demo detector has its own weights"),
        (("--detector", "hf:a/b", "--preset", "uniter"), "--preset goes with faster-rcnn, not with hf:a/b"),
        (("--detector", "hf:a/b", "--features", "grid"), "--features grid goes with faster-rcnn"),
        (("--detector", "hf:/absent"), "'/absent' is neither a folder nor a hub id"),
        (("--device", "tpu", "--detector", "demo"), "there is no device 'tpu'; use auto, cpu, cuda or cuda:N"),
        (("--weights", "{weights}", "--preset", "butd36"), "there is no preset 'butd36'; did you mean butd-36?"),
        (("--weights", "{weights}", "--min-boxes", "40"), "--min-boxes: min_boxes 40 and max_boxes 36"),
        (("--weights", "{weights}", "--shard", "1of3"), "--shard: got '1of3', expected i/n such as 1/3"),
        (("--weights", "{weights}", "--shard", "3/2"), "there is no shard 3 of 2"),
        (("--weights", "{weights}", "--shard", "1/2"), "5 pictures are 1 chunks of 256, too few for 2 shards"),
        (("--weights", "{weights}", "--batch-size", "0"), "batch size 0 and chunk size 256; both are at least 1"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    tmp_path: Path, extract: Command, pictures: Path, args: tuple[str, ...], problem: str
) -> None:
    given = [arg.format(weights=extract.weights) for arg in args]
    assert problem in extract.refused(pictures, tmp_path / "a.lmdb", *given, detector=False)


def test_an_empty_folder_holds_no_pictures(tmp_path: Path, extract: Command) -> None:
    (tmp_path / "empty").mkdir()
    sentence = extract.refused(tmp_path / "empty", tmp_path / "a.lmdb", code=3)
    assert "empty: holds no pictures; name the folder that holds them" in sentence
