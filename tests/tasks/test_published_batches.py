"""What each task makes of UNITER's toy databases: rows, segments and targets as the authors' data sets give them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.golden.case import Case, read_set
from vltk.models.uniter import UNITERConfig
from vltk.stores.examples import ExampleMetadata, ExampleStore, TokenizerDescription
from vltk.stores.features import FeatureMetadata, FeatureReader
from vltk.stores.formats import uniter_img_db, uniter_txt_db
from vltk.tasks import nlvr2, refcoco, vcr, vqa
from vltk.tasks._task import Split
from vltk.types import Batch, Example, RegionFeatures


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Case]:
    return {case.name: case for case in read_set(shared / "golden" / "uniter")}


class Pictures(FeatureReader):
    """Regions in memory."""

    def __init__(self, pictures: Iterable[RegionFeatures]) -> None:
        self._pictures = {one.image_id: one for one in pictures}

    @property
    def metadata(self) -> FeatureMetadata:
        return FeatureMetadata()

    def ids(self) -> list[str]:
        return sorted(self._pictures)

    def get(self, image_id: str) -> RegionFeatures:
        return self._pictures[image_id]

    def region_count(self, image_id: str) -> int:
        return len(self._pictures[image_id])

    def scores(self, image_id: str) -> NDArray[np.float32]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._pictures)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._pictures


def split(folder: Path, db: Path, name: str, examples: Iterable[Example], pictures: Iterable[RegionFeatures]) -> Split:
    meta = uniter_txt_db.read_meta(db / name)
    special = {"[PAD]": 0, "[UNK]": meta["UNK"], "[CLS]": meta["CLS"], "[SEP]": meta["SEP"], "[MASK]": meta["MASK"]}
    tokenizer = TokenizerDescription(name="toy", vocab_size=90, vocab_sha256="0" * 64, special_ids=special)
    with ExampleStore.create(folder / name, ExampleMetadata(tokenizer=tokenizer)) as writer:
        for example in examples:
            # A txt_db keeps pieces alone, an example has a text.
            writer.put(replace(example, texts=tuple(text or "-" for text in example.texts)))
    return Split(name=name, examples=ExampleStore.open(folder / name), features=Pictures(pictures))


def whole(built: Any, read: Split, wanted: Sequence[str]) -> Batch:
    batch: Batch = built.batch(read, [read.ids.index(name) for name in wanted])
    return batch


def encoder(**sizes: int) -> Any:
    return UNITERConfig(vocabulary=90, hidden=8, heads=2, layers=1, intermediate=8, region_dim=12, **sizes).build()


def compare(batch: Batch, official: dict[str, np.ndarray], *, rows: slice = slice(None)) -> None:
    ids = official["out.input_ids"]
    np.testing.assert_array_equal(batch.input_ids.numpy()[rows, : ids.shape[1]], ids)
    np.testing.assert_array_equal(batch.regions.numpy()[rows].astype(np.float32), official["out.img_feat"])
    np.testing.assert_array_equal(batch.locations.numpy()[rows], official["out.img_pos_feat"])
    if "out.txt_type_ids" in official:
        mask = batch.text_mask.numpy()[rows, : ids.shape[1]]
        types = batch.text_types.numpy()[rows, : ids.shape[1]]
        np.testing.assert_array_equal(types * mask, official["out.txt_type_ids"] * mask)
    if "out.img_type_ids" in official:
        mask = batch.region_mask.numpy()[rows]
        np.testing.assert_array_equal(batch.region_types.numpy()[rows] * mask, official["out.img_type_ids"] * mask)


def test_vqa(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["db_vqa_batch"]
    db, official = case.folder / "db", case.tensors()
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps([str(label) for label in range(official["out.targets"].shape[1])]), "utf-8")
    pictures = uniter_img_db.read(db / "toyimg" / "feat_th0.2_max12_min5")
    read = split(tmp_path, db, "vqa_toy.db", uniter_txt_db.read(db / "vqa_toy.db"), pictures)
    built = vqa.Config(answers=answers).build(encoder(), read)
    batch = whole(built, read, case.entry["ids"]["qids"])
    compare(batch, official)
    np.testing.assert_array_equal(batch.targets["scores"].numpy(), official["out.targets"])
    # The published lengths leave out the special tokens.
    lengths = [built.lengths(read)[read.ids.index(name)] - 2 for name in case.entry["ids"]["qids"]]
    assert lengths == case.entry["extra"]["lens"]


@pytest.mark.parametrize(("setting", "special"), [("pair", 4), ("triplet", 2)])
def test_nlvr2(setting: Any, special: int, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["db_nlvr2_paired_batch" if setting == "pair" else "db_nlvr2_triplet_batch"]
    db, official = case.folder / "db", case.tensors()
    pictures = uniter_img_db.read(db / "nlvr2_dev" / "feat_th0.2_max12_min5")
    read = split(tmp_path, db, "nlvr2_toy.db", uniter_txt_db.read(db / "nlvr2_toy.db"), pictures)
    config = nlvr2.Config(setting=setting)
    built = config.build(encoder(**config.model_sizes()), read)
    batch = whole(built, read, case.entry["ids"]["qids"])
    compare(batch, official)
    np.testing.assert_array_equal(batch.targets["label"].numpy(), official["out.targets"])
    lengths = [built.lengths(read)[read.ids.index(name)] - special for name in case.entry["ids"]["qids"]]
    assert lengths == case.entry["extra"]["lens"]


def test_refcoco(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["db_re_train_batch"]
    db, official = case.folder / "db", case.tensors()
    sizes = tmp_path / "sizes.json"
    images = json.loads((db / "refcoco_val.db" / "images.json").read_text("utf-8"))
    named = {f"visual_grounding_coco_gt_{i['id']:012d}": [i["width"], i["height"]] for i in images}
    sizes.write_text(json.dumps(named), "utf-8")
    options = uniter_img_db.ReadOptions(sizes=sizes)
    pictures = uniter_img_db.read(db / "re_coco_gt" / "feat_numbb100", options)
    read = split(tmp_path, db, "refcoco_val.db", uniter_txt_db.read(db / "refcoco_val.db"), pictures)
    built = refcoco.Config().build(encoder(), read)
    batch = whole(built, read, read.ids)
    compare(batch, official)
    np.testing.assert_array_equal(batch.targets["region"].numpy(), official["out.targets"][:, 0])
    boxes = cases["db_re_eval_batch"].entry["extra"]["obj_boxes"]
    for row, expected in enumerate(boxes):
        x1, y1, x2, y2 = batch.targets["boxes"][row, : len(expected)].double().numpy().T
        np.testing.assert_allclose(np.stack([x1, y1, x2 - x1, y2 - y1], 1), expected, atol=0.3)


@pytest.mark.parametrize(("name", "labelled"), [("db_vcr_val_batch", True), ("db_vcr_test_batch", False)])
def test_vcr(name: str, labelled: bool, cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases[name]
    db, official = case.folder / "db", case.tensors()
    given = [replace(one, image_id=f"gt:{one.image_id}") for one in uniter_img_db.read(db / "toyimg" / "feat_numbb8")]
    detected = list(uniter_img_db.read(db / "toyimg" / "feat_th0.2_max12_min5"))
    examples = [
        replace(
            example,
            image_ids=(f"gt:{example.image_ids[0]}", example.image_ids[1]),
            target=example.target if labelled else None,
        )
        for example in uniter_txt_db.read(db / "vcr_toy.db")
    ]
    read = split(tmp_path, db, "vcr_toy.db", examples, [*given, *detected])
    config = vcr.Config()
    built = config.build(encoder(**config.model_sizes()), read)
    batch = whole(built, read, case.entry["ids"]["qids"])
    compare(batch, official)
    if labelled:
        right = batch.targets["right"].reshape(-1, 2, 4).argmax(dim=2).numpy()
        np.testing.assert_array_equal(right[:, :1], official["out.qa_targets"])
        np.testing.assert_array_equal(right[:, 1:], official["out.qar_targets"])
        rationales = cases["db_vcr_qar_train_batch"].tensors()
        kept = batch.targets["right"].reshape(-1, 2, 4)[:, 1].reshape(-1, 1).numpy()
        np.testing.assert_array_equal(kept, rationales["out.targets"])
