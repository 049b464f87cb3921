"""Builds what looks at the pictures from the options of ``vltk extract-features``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.errors import DataError, UsageError, VltkError

if TYPE_CHECKING:
    from vltk.commands.extract_features import ExtractFeaturesConfig
    from vltk.detection.extractor import Extractor
    from vltk.detection.given_boxes import GivenBoxes
    from vltk.detection.presets import Preset
    from vltk.stores.features import FeatureMetadata


def build_extractor(config: ExtractFeaturesConfig, given: Mapping[str, GivenBoxes] | None) -> Extractor:
    """Load the network that the options ask for.

    Raises:
        UsageError: options that do not go together.
        DataError: weights that do not fit.
        OfflineError: weights that would have to be downloaded and cannot be.
    """
    from vltk.detection.extractor import choose_device

    where: dict[str, Any] = {
        "device": choose_device(config.device.device),
        "precision": config.device.precision,
        "offline": config.hub.offline,
        "cache_dir": config.hub.cache_dir,
    }
    name = config.detector.detector
    if name.startswith("hf:"):
        return _hub_detector(name.removeprefix("hf:"), config, where)
    if name not in ("faster-rcnn", "demo"):
        raise UsageError(f"there is no detector {name!r}", where="--detector", remedy="use faster-rcnn, demo or hf:ID")
    from vltk.detection.region_extractors import load_extractor

    return load_extractor(
        _weights(config),
        _preset(config),
        features=config.regions.features,
        given=given,
        class_probs=config.regions.class_probs,
        **where,
    )


def _hub_detector(source: str, config: ExtractFeaturesConfig, where: dict[str, Any]) -> Extractor:
    from vltk.detection.hub_detectors import HubDetector, QuerySelection

    regions, detector = config.regions, config.detector
    unfit = {
        "--weights": detector.weights,
        "--preset": detector.preset,
        "--boxes": regions.boxes or None,
        "--proposals": regions.proposals,
        "--features grid": regions.features == "grid" or None,
    }
    if wrong := next((flag for flag, value in unfit.items() if value is not None), None):
        raise UsageError(f"{wrong} goes with faster-rcnn, not with hf:{source}", remedy="leave it out")
    selection = QuerySelection(**_given(regions, "min_boxes", "max_boxes", "score_threshold"))
    return HubDetector.load(source, selection=selection, class_probs=regions.class_probs, **where)


def _given(group: object, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(group, name)) is not None}


def _weights(config: ExtractFeaturesConfig) -> str:
    from vltk.detection.region_extractors import DEMO_WEIGHTS

    weights, detector = config.detector.weights, config.detector.detector
    if detector == "demo":
        if weights is not None:
            raise UsageError("the demo detector has its own weights", where="--weights", remedy="leave it out")
        if not DEMO_WEIGHTS.is_file():
            raise VltkError("the demo detector is missing", where=DEMO_WEIGHTS, remedy="install vltk again")
        return str(DEMO_WEIGHTS)
    if weights is None:
        remedy = "give a checkpoint file or a hub id, or use --detector demo"
        raise UsageError("faster-rcnn needs weights", where="--weights", remedy=remedy)
    return weights


def _preset(config: ExtractFeaturesConfig) -> Preset:
    from vltk.detection.presets import find_preset

    detector, regions = config.detector, config.regions
    preset = find_preset(detector.preset or ("demo" if detector.detector == "demo" else "butd-36"))
    changes = _given(regions, "min_boxes", "max_boxes")
    if regions.score_threshold is not None:
        changes["min_score"] = regions.score_threshold
    selection = dataclasses.replace(preset.selection, **changes)
    if not 0 <= selection.min_boxes <= selection.max_boxes:
        problem = f"min_boxes {selection.min_boxes} and max_boxes {selection.max_boxes}"
        raise UsageError(problem, where="--min-boxes", remedy="give 0 <= min_boxes <= max_boxes")
    proposal = preset.proposal
    if regions.proposals is not None:
        proposal = dataclasses.replace(proposal, after_nms=regions.proposals)
    if (selection, proposal) == (preset.selection, preset.proposal):
        return preset
    return dataclasses.replace(preset, name=f"{preset.name}, changed", selection=selection, proposal=proposal)


def metadata_of(
    config: ExtractFeaturesConfig, extractor: Extractor, given: dict[str, GivenBoxes] | None
) -> FeatureMetadata:
    """Return what the store will say about itself: the network, its settings, the names of its classes."""
    from vltk.detection.given_boxes import hash_of

    provenance = extractor.provenance
    detector = config.detector
    provenance = dataclasses.replace(
        provenance,
        labels=_names(detector.labels, provenance.labels, provenance.classes),
        attribute_labels=_names(detector.attribute_labels, provenance.attribute_labels, provenance.attributes),
    )
    extra: dict[str, Any] = {"precision": config.device.precision, "transparency": config.pictures.transparency}
    if given is not None:
        extra["boxes"] = hash_of(given)
    return provenance.metadata(dtype=config.regions.dtype, compression=config.regions.compression, **extra)


def _names(path: Path | None, known: tuple[str, ...], count: int) -> tuple[str, ...]:
    if path is None:
        return known
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a text file with a name a line"
        raise DataError(f"cannot be read as names ({error})", where=path, remedy=remedy) from None
    if len(names) != count:
        problem = f"holds {len(names)} names, the detector tells {count} apart"
        raise DataError(problem, where=path, remedy="give the vocabulary that it was trained with")
    return names
