"""Builds the views of ``vltk augment --images`` from its options, and makes them as an extraction does."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands import extract_features
from vltk.commands._extractor import build_extractor
from vltk.commands._stopping import stoppable
from vltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.commands.augment import AugmentConfig
    from vltk.detection.images import ImageFile
    from vltk.detection.region_extractors import GivenRegions
    from vltk.detection.views import View, ViewBoxes, ViewExtractor
    from vltk.stores.features import FeatureMetadata, FeatureStore


def make_views(config: AugmentConfig, terminal: Terminal) -> dict[str, object]:
    """Describe the views of the pictures, and return what is in the store.

    Raises:
        UsageError: options that do not go together.
        DataError: no picture of the folder is in the feature store.
    """
    from vltk.detection.extraction import Extraction, failures_path
    from vltk.detection.loading import Loading
    from vltk.detection.views import PUBLISHED, ViewBoxes, ViewExtractor, find_view
    from vltk.stores.features import FeatureStore

    images, features = _required(config)
    views = [find_view(name) for name in dict.fromkeys(config.views.view or PUBLISHED)]
    store = FeatureStore.open(features)
    files = _files(images, store, views, config)
    boxes = ViewBoxes(store, views)
    extractor = ViewExtractor(_regions(config, store, boxes, images), boxes)
    metadata = _metadata(config, store, extractor, views)
    if config.write.dry_run:
        return _plan(config, files, views, metadata)
    with warnings.catch_warnings(), stoppable(terminal) as stop:
        warnings.filterwarnings("ignore", module="PIL")
        loading = Loading(num_workers=config.device.num_workers)
        sizes = {"batch_size": config.batches.batch_size, "chunk_size": config.batches.chunk_size}
        overwrite = config.write.overwrite
        with Extraction(
            files, extractor, config.out, metadata=metadata, loading=loading, overwrite=overwrite, **sizes
        ) as extraction:
            with terminal.progress(extraction.remaining, "views") as advance:
                extraction.extract(progress=advance, stop=stop)
            result = extraction.finish()
    if result.failures:
        problem = (
            f"{len(result.failures)} of {result.images} views could not be made, first: {result.failures[0].reason}"
        )
        remedy = f"all are listed in {failures_path(result.out)}; repair them and run the same command"
        terminal.fail_after(DataError(problem, where=result.out, remedy=remedy))
    return {
        "store": str(result.out),
        "views": [view.name for view in views],
        "stored": result.stored,
        "extracted now": result.extracted,
        "failures": len(result.failures),
        "content hash": FeatureStore.open(result.out).content_hash,
    }


def _required(config: AugmentConfig) -> tuple[Path, Path]:
    if config.views.images is None or config.views.features is None:
        problem = "views need the pictures and the store with their boxes"
        raise UsageError(problem, where="--images, --features", remedy="give both")
    return config.views.images, config.views.features


def _files(images: Path, store: FeatureStore, views: list[View], config: AugmentConfig) -> list[ImageFile]:
    from vltk.detection.images import list_images
    from vltk.detection.views import view_files

    found = list_images(images, ids="stem").files
    known = [file for file in found if file.image_id in store][: config.limit]
    if not known:
        looks = found[0].image_id if found else None
        problem = f"none of its {len(found)} pictures is in {config.views.features} (ids look like {looks!r})"
        raise DataError(problem, where=images, remedy="give the folder that was extracted")
    return view_files(known, views)


def _regions(config: AugmentConfig, store: FeatureStore, boxes: ViewBoxes, images: Path) -> GivenRegions:
    from vltk.detection.region_extractors import GivenRegions

    # What is behind the name of the published settings says which boxes were kept, and they are given here.
    recorded = re.split("[,/]", store.metadata.preset)[0]
    detector = replace(config.detector, preset=config.detector.preset or recorded)
    asked = extract_features.ExtractFeaturesConfig(
        images=images, out=config.out, detector=detector, device=config.device, hub=config.hub
    )
    regions = build_extractor(asked, boxes)
    if not isinstance(regions, GivenRegions):
        problem = f"{config.detector.detector} cannot describe given boxes"
        raise UsageError(problem, where="--detector", remedy="use faster-rcnn or demo")
    return regions


def _metadata(
    config: AugmentConfig, store: FeatureStore, extractor: ViewExtractor, views: list[View]
) -> FeatureMetadata:
    """Return the record of the originals with what is special to the views, so that both can be read as one.

    Raises:
        DataError: the originals were made by another detector.
    """
    import vltk

    own, known = extractor.provenance, store.metadata
    if (own.detector, own.weights_hash) != (known.detector, known.weights_hash):
        problem = f"was made by {known.detector} (weights {known.weights_hash[:12]}), not by {own.detector}"
        remedy = "give the detector and weights that made it"
        raise DataError(f"{problem} ({own.weights_hash[:12]})", where=store.path, remedy=remedy)
    extra = {
        **known.extra,
        "precision": config.device.precision,
        "views_preset_hash": own.preset_hash,
        "views_of": store.content_hash,
        "views": [view.name for view in views],
    }
    created_by = f"vltk {vltk.__version__}"
    return replace(known, dtype=config.views.dtype, compression="none", created_by=created_by, extra=extra)


def _plan(
    config: AugmentConfig, files: list[ImageFile], views: list[View], metadata: FeatureMetadata
) -> dict[str, Any]:
    from vltk.detection.extraction import stored_ids

    stored = frozenset[str]() if config.write.overwrite else stored_ids(config.out, metadata)
    return {
        "would write": str(config.out),
        "pictures": len(files) // len(views),
        "views": [view.name for view in views],
        "records": len(files),
        "done already": sum(file.image_id in stored for file in files),
    }
