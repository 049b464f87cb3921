"""The regions that a run reads, from the stores that its options name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vltk.config.training import ReadingConfig
from vltk.errors import DataError
from vltk.mixture import JoinedFeatures
from vltk.run_folder import TRAINED_ON, WORD_MASK
from vltk.stores.absent_features import AbsentFeatures
from vltk.stores.examples import TokenizerDescription
from vltk.stores.features import ChainedFeatures, FeatureReader, FeatureStore

MADE_WITH = ("detector", "preset", "preset_hash", "weights_hash")
"""What must be equal in features that are trained on and features that are evaluated."""


def open_regions(paths: Sequence[Path], reading: ReadingConfig, inputs: dict[str, str]) -> FeatureReader:
    """Open feature stores as one, choose the regions of each picture, and put the given ones before them.

    Args:
        paths: stores of one detector and preset, one after the other; without any, asking for a picture is an error.
        reading: which regions are kept, and which come first.
        inputs: gets the content hash of every store that is opened.

    Raises:
        DataError: a store is missing or damaged, or the stores were made differently.
    """
    if not (paths or reading.first_features):
        return AbsentFeatures()
    stores = [FeatureStore.open(path) for path in paths]
    inputs |= {f"features {store.path.name}": store.content_hash for store in stores}
    chosen: FeatureReader = stores[0] if len(stores) == 1 else ChainedFeatures(stores)
    if reading.min_score is not None:
        bounds = {"min_boxes": reading.min_boxes, "max_boxes": reading.max_boxes}
        chosen = chosen.select(min_score=reading.min_score, **bounds)
    first = [FeatureStore.open(one) for one in reading.first_features]
    inputs |= {f"features {store.path.name}": store.content_hash for store in first}
    return JoinedFeatures([*first, chosen]) if first else chosen


def describe_stores(
    features: Sequence[FeatureReader], tokenizer: TokenizerDescription | None, reading: ReadingConfig
) -> dict[str, Any]:
    """Return what a checkpoint says of the stores that it was trained on; :func:`check_stores` compares it.

    Args:
        features: of the sets; a setting in which they differ is left out.
        tokenizer: that made the word pieces, or None.
        reading: which regions were kept.
    """
    made = {}
    for name in MADE_WITH:
        values = {getattr(one.metadata, name) for one in features}
        if len(values) == 1:
            made[name] = values.pop()
    vocabulary: dict[str, Any] = {} if tokenizer is None else {"vocabulary": tokenizer.vocab_sha256}
    if tokenizer is not None and "<mask>" in tokenizer.special_ids:
        vocabulary[WORD_MASK] = tokenizer.special_ids["<mask>"]
    kept = {name: getattr(reading, name) for name in ("min_score", "min_boxes", "max_boxes")}
    return {TRAINED_ON: {**made, **vocabulary, **kept}}


def check_stores(
    trained_on: Mapping[str, Any], features: FeatureReader, tokenizer: TokenizerDescription | None, *, where: str
) -> None:
    """Make sure that stores were made as those that a checkpoint was trained on.

    Args:
        trained_on: what the checkpoint says of them; what it does not say is not compared.
        features: to be evaluated on.
        tokenizer: of the examples to be evaluated.
        where: name of the split, for errors.

    Raises:
        DataError: they were not, with the first difference.
    """
    for name in MADE_WITH:
        given = getattr(features.metadata, name)
        if name in trained_on and trained_on[name] != given:
            problem = f"the features have {name.replace('_', ' ')} {given!r}, the run was trained on "
            remedy = "extract them with one detector and preset, or say --other-features allow"
            raise DataError(f"{problem}{trained_on[name]!r}", where=where, remedy=remedy)
    vocabulary = trained_on.get("vocabulary")
    if tokenizer is not None and vocabulary is not None and tokenizer.vocab_sha256 != vocabulary:
        problem = f"was prepared with the vocabulary {tokenizer.name}, the run was trained on another"
        raise DataError(problem, where=where, remedy="prepare it with the tokenizer of the training examples")
