"""Pictures that are searched with: those of the store by their ids, others through its detector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands import extract_features
from vltk.commands._extractor import build_extractor
from vltk.errors import DataError, UsageError

if TYPE_CHECKING:
    from vltk.commands.search import SearchConfig
    from vltk.detection.extractor import Extractor
    from vltk.evaluator import Execution
    from vltk.models._dual_checkpoints import LoadedDual
    from vltk.stores.embedding_files import Embeddings
    from vltk.stores.features import FeatureStore
    from vltk.types import RegionFeatures


def embedded_pictures(
    config: SearchConfig, loaded: LoadedDual, store: FeatureStore, known: Embeddings, execution: Execution
) -> tuple[list[str], Any]:
    """Return what the asked pictures are called, and their [Q, H] embeddings.

    Raises:
        DataError: a picture is neither in the store nor a file, cannot be read, or the store is of another detector.
        UsageError: a file of its own, without ``--detector``.
    """
    import numpy as np

    places = {image_id: place for place, image_id in enumerate(known.ids)}
    names = [name if name in places else Path(name).stem for name in config.image]
    files = {name: Path(asked) for name, asked in zip(names, config.image, strict=True) if name not in places}
    fresh = _embedded_files(files, config, loaded, store, execution) if files else {}
    return names, np.stack([fresh[name] if name in fresh else known.vectors[places[name]] for name in names])


def _embedded_files(
    files: dict[str, Path], config: SearchConfig, loaded: LoadedDual, store: FeatureStore, execution: Execution
) -> dict[str, Any]:
    import numpy as np

    from vltk.batching import collate_regions
    from vltk.evaluator.embedding import embed_each
    from vltk.stores.ordered_features import region_places

    order = getattr(loaded.model.config, "region_order", None)
    found = _described(files, config, store)
    regions = [one if order is None else one.take(region_places(one, order)) for one in found]
    names = [one.image_id for one in regions]

    def read(numbers: Any) -> Any:
        chosen = [regions[number] for number in numbers]
        return collate_regions([one.image_id for one in chosen], chosen, half=True, located=False)

    lengths, model = np.array(list(map(len, regions))), loaded.model
    vectors = embed_each(
        model, model.embed_images, read, lengths=lengths, names=names, where="search", execution=execution
    )
    return dict(zip(names, vectors, strict=True))


def _described(files: dict[str, Path], config: SearchConfig, store: FeatureStore) -> list[RegionFeatures]:
    """Return the regions of pictures that are no part of the store, as its detector sees them."""
    from vltk.detection.extractor import Picture, describe
    from vltk.detection.images import decode

    for name, path in files.items():
        if not path.is_file():
            problem = f"holds no picture {name!r}; its ids look like {store.ids()[0]!r}"
            raise DataError(problem, where=config.features, remedy="name an id of the store or a picture's file")
    if config.detector.detector is None:
        problem = f"{next(iter(files.values()))} is no picture of the store, and no detector is named to look at it"
        remedy = f"name the one that made the store ({store.metadata.detector}), e.g. --detector demo"
        raise UsageError(problem, where="--image", remedy=remedy)
    extractor = _detector(config, store)
    prepared = [extractor.prepare(Picture(image_id=name, pixels=decode(path))) for name, path in files.items()]
    described = [one for image in prepared for one in describe(extractor, [image])]
    for one in described:
        if isinstance(one, DataError):
            raise one
    return [one for one in described if not isinstance(one, DataError)]


def _detector(config: SearchConfig, store: FeatureStore) -> Extractor:
    """Load the detector, with the settings that the store records.

    Raises:
        DataError: the store was made by another one.
    """
    known, asked = store.metadata, config.detector
    detector = extract_features.DetectorConfig(
        detector=asked.detector or "", weights=asked.weights, preset=asked.preset or re.split("[,/]", known.preset)[0]
    )
    extractor = build_extractor(
        extract_features.ExtractFeaturesConfig(
            images=config.features, out=config.features, detector=detector, device=config.device, hub=config.hub
        ),
        None,
    )
    own = extractor.provenance
    if (own.detector, own.weights_hash) != (known.detector, known.weights_hash):
        problem = f"was made by {known.detector} (weights {known.weights_hash[:12]}), not by {own.detector}"
        remedy = "give the detector and weights that made it"
        raise DataError(f"{problem} ({own.weights_hash[:12]})", where=store.path, remedy=remedy)
    return extractor
