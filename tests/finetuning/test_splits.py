"""What is trained on and what is measured were made alike, but for boxes that were given and boxes that were found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vltk.errors import DataError
from vltk.finetuning.splits import check_presets
from vltk.stores.features import FeatureMetadata, FeatureStore

FOUND = FeatureMetadata(detector="d", preset="butd-36", preset_hash="1", weights_hash="w")
GIVEN = replace(FOUND, preset="butd-36/given", preset_hash="2")


def store(folder: Path, metadata: FeatureMetadata) -> FeatureStore:
    path = folder / f"{metadata.preset.replace('/', '-')}-{metadata.weights_hash}-{metadata.preset_hash}.lmdb"
    with FeatureStore.create(path, metadata):
        pass
    return FeatureStore.open(path)


@pytest.mark.parametrize(("trained", "measured"), [(FOUND, FOUND), (GIVEN, FOUND), (FOUND, GIVEN), (GIVEN, GIVEN)])
def test_given_and_found_boxes_of_one_detector_stand_for_each_other(
    trained: FeatureMetadata, measured: FeatureMetadata, tmp_path: Path
) -> None:
    first = store(tmp_path, trained)
    check_presets(first, first if trained == measured else store(tmp_path, measured))


@pytest.mark.parametrize(
    ("measured", "problem"),
    [
        (replace(FOUND, preset_hash="3"), "has preset hash '3', the features trained on have '1'"),
        (replace(GIVEN, weights_hash="x"), "has weights hash 'x', the features trained on have 'w'"),
        (replace(GIVEN, preset="butd-10-100/given"), "has preset 'butd-10-100/given'"),
    ],
)
def test_other_features_are_refused(measured: FeatureMetadata, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"--validation-features: {problem}"):
        check_presets(store(tmp_path, FOUND), store(tmp_path, measured))
