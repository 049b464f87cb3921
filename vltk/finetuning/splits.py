"""From the stores that a configuration names to the splits that a run reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from vltk.config.training import SplitsConfig
from vltk.errors import DataError, first_few
from vltk.mixture import Exclusion
from vltk.stores.chained_examples import ChainedExamples, Examples
from vltk.stores.examples import ExampleStore
from vltk.stores.features import FeatureReader
from vltk.tasks._task import Split
from vltk.training_run import MADE_WITH, open_regions

_GIVEN = "/given"  # how the presets of features of given boxes end


def open_splits(data: SplitsConfig) -> tuple[Split, Split | None, dict[str, str]]:
    """Open the stores of a run.

    Returns:
        What is trained on, what is measured, and a hash of everything that was opened.

    Raises:
        DataError: a store is missing or damaged, or the features to train on and those to measure on were made
            differently.
    """
    inputs: dict[str, str] = {}
    features = open_regions(data.features, data, inputs)
    training = Split(name=_name(data.examples), examples=_examples(data.examples, inputs), features=features)
    if not data.validation_examples:
        return training, None, inputs
    others = open_regions(data.validation_features, data, inputs) if data.validation_features else features
    check_presets(features, others)
    measured = Split(
        name=_name(data.validation_examples),
        examples=_examples(data.validation_examples, inputs),
        features=others,
        limit=data.validation_limit,
    )
    check_vocabulary(training, measured)
    return training, measured, inputs


def _name(paths: Sequence[Path]) -> str:
    return "+".join(path.name.removesuffix(".lmdb") for path in paths)


def _examples(paths: Sequence[Path], inputs: dict[str, str]) -> Examples:
    stores = [ExampleStore.open(path) for path in paths]
    inputs |= {f"examples {store.path.name.removesuffix('.lmdb')}": store.content_hash for store in stores}
    return stores[0] if len(stores) == 1 else ChainedExamples(stores)


def check_presets(training: FeatureReader, measured: FeatureReader) -> None:
    """Make sure that features to train on and features to measure on were made with one detector and preset.

    Given boxes and detected ones of one detector may stand for each other: RefCOCO is trained on annotated boxes, and
    its best checkpoint is the one that finds the most among detected ones (UNITER's published runs).

    Raises:
        DataError: they were not, with what differs.
    """
    ours, theirs = training.metadata, measured.metadata
    if {ours.preset, theirs.preset} == {(bare := ours.preset.removesuffix(_GIVEN)), bare + _GIVEN}:
        theirs = replace(theirs, preset=ours.preset, preset_hash=ours.preset_hash)
    for name in MADE_WITH:
        trained, other = getattr(ours, name), getattr(theirs, name)
        if trained != other:
            problem = f"has {name.replace('_', ' ')} {other!r}, the features trained on have {trained!r}"
            remedy = "extract both with one detector and preset"
            raise DataError(problem, where="--validation-features", remedy=remedy)


def check_vocabulary(training: Split, measured: Split) -> None:
    """Make sure that the texts of both splits were cut into word pieces alike.

    Raises:
        DataError: they were not.
    """
    ours, theirs = training.examples.metadata.tokenizer, measured.examples.metadata.tokenizer
    if ours is not None and theirs is not None and ours.vocab_sha256 != theirs.vocab_sha256:
        problem = f"was prepared with the vocabulary {theirs.name}, {training.name} with {ours.name}"
        raise DataError(problem, where=measured.name, remedy="prepare both with one --tokenizer")


def shared_pictures(training: Split, measured: Split) -> tuple[int, str]:
    """Return how many pictures are both trained on and measured, by whichever of their names, and the first of them."""
    trained = Exclusion(image for example in training.examples for image in example.image_ids)
    images = dict.fromkeys(image for example in islice(measured.examples, len(measured)) for image in example.image_ids)
    shared = [image for image in images if image in trained]
    return len(shared), first_few(shared)
