"""UNITER's region databases and its rule of how many regions are kept, against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.golden.case import Case
from vltk.stores.features import kept_regions
from vltk.stores.formats import uniter_img_db
from vltk.types import RegionFeatures


def read_database(path: Path) -> dict[str, RegionFeatures]:
    return {f"{record.image_id}.npz": record for record in uniter_img_db.read(path)}


def db_img(case: Case) -> None:
    official, toy = case.tensors(), case.folder / "db" / "toyimg"
    keys, key = case.entry["params"]["keys"], case.entry["params"]["key"]
    for variant in ("", "_compressed"):
        records = read_database(toy / f"feat_th0.2_max12_min5{variant}")
        assert list(records) == keys
        assert [len(records[name]) for name in keys] == official["out.nbb"].tolist()
        record = records[key]
        dump = {
            "norm_bb": record.normalised_boxes,
            "features": record.features,
            "conf": record.scores,
            "soft_labels": record.class_probs,
            "item_features": record.features,
            "item_norm_bb": record.location()[:, :6],
        }
        for name, array in dump.items():
            assert array is not None
            np.testing.assert_array_equal(array.astype(np.float32), official[f"out.{name}"])
    everything = read_database(toy / "all")
    counts = json.loads((toy / "nbb_th0.2_max12_min5.json").read_text("utf-8"))
    for name, record in everything.items():
        assert record.scores is not None
        count = kept_regions(record.scores, min_score=0.2, min_boxes=5, max_boxes=12)
        assert count == counts[name]
        assert record.take(slice(count)).equals(records[name])
    for name, record in read_database(toy / "feat_numbb8").items():
        assert record.equals(everything[name].take(slice(8)))


def num_bb_rule(case: Case) -> None:
    tensors = case.tensors()
    for vector, threshold, low, high, expected in tensors["out.rows"].tolist():
        scores = tensors[f"in.conf_{int(vector)}"]
        kept = kept_regions(scores, min_score=threshold, min_boxes=int(low), max_boxes=int(high))
        assert kept == int(expected), (vector, threshold, low, high)


CHECKS: dict[str, Callable[[Case], None]] = {"uniter/db_img": db_img, "uniter/num_bb_rule": num_bb_rule}
