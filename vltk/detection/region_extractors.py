"""Faster R-CNN as a source of region features: of the boxes that it finds, of given boxes, or of a grid."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vltk.detection.extractor import Picture, PreparedImage, Provenance
from vltk.detection.faster_rcnn import FasterRCNN, Precision
from vltk.detection.given_boxes import GivenBoxes
from vltk.detection.preprocessing import NetworkImage
from vltk.detection.presets import Preset
from vltk.detection.selection import Selection
from vltk.detection.weights import load_detector
from vltk.errors import DataError, UsageError
from vltk.types import RegionFeatures

DEMO_WEIGHTS = Path(__file__).parent / "demo.safetensors"


def load_extractor(
    weights: str | Path,
    preset: Preset,
    *,
    features: Literal["regions", "grid"] = "regions",
    given: Mapping[str, GivenBoxes] | None = None,
    class_probs: bool = True,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    offline: bool = False,
    cache_dir: Path | None = None,
) -> FasterRCNNExtractor:
    """Load a detector and put it to one of its uses.

    Args:
        weights: a checkpoint file, a folder or a hub id, see :func:`vltk.detection.weights.load_detector`.
        preset: the settings around it.
        features: "regions" for boxes, "grid" for the cells of the last map.
        given: boxes of each picture, instead of those that the detector would find.
        class_probs: whether the class distribution is kept.
        device: where to run it.
        precision: arithmetic of its trunks.
        offline: download nothing.
        cache_dir: where downloads are kept.

    Raises:
        UsageError: boxes and a grid are asked for at once, or there is no such file.
        DataError: the weights do not fit.
        OfflineError: the weights would have to be downloaded and cannot be.
    """
    if given is not None and features == "grid":
        raise UsageError("a grid has no given boxes", remedy="leave out --boxes or --features grid")
    loaded = load_detector(weights, offline=offline, cache_dir=cache_dir)
    network = loaded.model.for_inference(precision).to(device)
    common: dict[str, Any] = {"weights_hash": loaded.sha256, "class_probs": class_probs}
    if given is not None:
        return GivenRegions(network, preset, given, **common)
    return {"regions": DetectedRegions, "grid": GridRegions}[features](network, preset, **common)


class FasterRCNNExtractor(ABC):
    """What the three uses of the detector share: its pre-processing, its heads and its provenance.

    Args:
        network: a detector that ``for_inference`` prepared.
        preset: the settings around it.
        weights_hash: hash of its weights.
        class_probs: whether the distribution over all classes is kept (float16), which UNITER's MRC-kl is trained on.
    """

    mode: str

    def __init__(self, network: FasterRCNN, preset: Preset, *, weights_hash: str, class_probs: bool = True) -> None:
        self.network, self.preset, self.class_probs = network, preset, class_probs
        self.predictor = network.roi_heads.box_predictor
        self._weights_hash = weights_hash

    @property
    def provenance(self) -> Provenance:
        """The detector by its architecture, and the preset; a use other than detection is part of the preset."""
        config = self.network.config
        architecture = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()
        attributes = config.predictor.attributes
        attribute_labels = attributes.names if attributes else ()
        return Provenance(
            detector=f"faster-rcnn-{architecture[:12]}",
            preset=self.preset.name if self.mode == "regions" else f"{self.preset.name}/{self.mode}",
            preset_hash=self._preset_hash(),
            weights_hash=self._weights_hash,
            classes=config.predictor.classes,
            attributes=getattr(attributes, "count", len(attribute_labels)),
            labels=config.predictor.names,
            attribute_labels=attribute_labels,
        )

    def _preset_hash(self) -> str:
        if self.mode == "regions":
            return self.preset.preset_hash()
        settings = {"mode": self.mode, **self.preset.describe()}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def prepare(self, picture: Picture) -> PreparedImage:
        """Resize and normalise as the preset says."""
        image = self.preset.preprocessing(picture.pixels)
        return PreparedImage(
            image_id=picture.image_id, size=picture.size, input=image.pixels, extras={"network": image}
        )

    @torch.inference_mode()
    def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
        """Describe pictures whose inputs have one shape."""
        batch = torch.stack([image.input for image in images]).to(self.network.device, non_blocking=True)
        return list(self._extract(batch, images))

    @abstractmethod
    def _extract(self, batch: Tensor, images: Sequence[PreparedImage]) -> Iterator[RegionFeatures]:
        """Describe the pictures of a batch."""

    def _described(self, features: Tensor, logits: Tensor) -> dict[str, Any]:
        """Return what the heads say of [R, D] features with [R, C + 1] class logits, besides the class itself."""
        found: dict[str, Any] = {"features": _array(features)}
        if self.class_probs:
            found["class_probs"] = _array(logits.float().softmax(dim=-1)[:, :-1]).astype(np.float16)
        answers = self.predictor.attribute_logits(features, logits)
        if answers:
            probs = self.predictor.attribute_probs(answers, with_none=self.preset.attribute_none)
            scores, ids = probs.max(dim=-1)
            found |= {"attribute_ids": _array(ids), "attribute_scores": _array(scores)}
        return found


class DetectedRegions(FasterRCNNExtractor):
    """Features of the regions that the detector finds and the preset keeps."""

    mode = "regions"

    def _extract(self, batch: Tensor, images: Sequence[PreparedImage]) -> Iterator[RegionFeatures]:
        network_images = [_network_image(image) for image in images]
        maps = self.network.maps(batch)
        proposals = self.network.proposals(maps, [image.size for image in network_images], self.preset.proposal)
        boxes = [found.boxes for found in proposals]
        features = torch.split(self.network.region_features(maps, boxes), [len(found) for found in boxes])
        for image, network_image, found, rows in zip(images, network_images, boxes, features, strict=True):
            yield self._regions(image, network_image, found, rows)

    def _regions(
        self, image: PreparedImage, network_image: NetworkImage, boxes: Tensor, features: Tensor
    ) -> RegionFeatures:
        candidates = self.network.candidates(boxes, features, network_image.size)
        selection: Selection = self.preset.selection.select(candidates)
        limit = boxes.new_tensor([*image.size, *image.size])
        kept = network_image.to_original(selection.boxes).clamp(min=0).minimum(limit)
        return RegionFeatures(
            image_id=image.image_id,
            boxes=_array(kept),
            size=image.size,
            scores=_array(selection.scores),
            class_ids=_array(selection.class_ids),
            **self._described(features[selection.rows], candidates.class_logits[selection.rows]),
        )


class GivenRegions(FasterRCNNExtractor):
    """Features of boxes that somebody else drew; boxes and their order stay as given.

    Args:
        network: a detector that ``for_inference`` prepared.
        preset: the settings around it; its proposal and selection rules are not used.
        given: the boxes of each picture.
        weights_hash: hash of the weights.
        class_probs: whether the class distribution is kept.
    """

    mode = "given"

    def __init__(
        self,
        network: FasterRCNN,
        preset: Preset,
        given: Mapping[str, GivenBoxes],
        *,
        weights_hash: str,
        class_probs: bool = True,
    ) -> None:
        super().__init__(network, preset, weights_hash=weights_hash, class_probs=class_probs)
        self.given = given

    def prepare(self, picture: Picture) -> PreparedImage:
        """Resize and normalise as the preset says, and fit the boxes into the picture.

        Raises:
            DataError: no boxes were given for it, or they lie outside.
        """
        where = f"image {picture.image_id}"
        if picture.image_id not in self.given:
            raise DataError("no boxes were given for it", where=where, remedy="leave it out or annotate it")
        given = self.given[picture.image_id]
        prepared = super().prepare(picture)
        extras = {**prepared.extras, "boxes": given.within(picture.size, where=where), "region_ids": given.region_ids}
        return PreparedImage(image_id=prepared.image_id, size=prepared.size, input=prepared.input, extras=extras)

    def _extract(self, batch: Tensor, images: Sequence[PreparedImage]) -> Iterator[RegionFeatures]:
        maps = self.network.maps(batch)
        boxes = [
            _network_image(image).to_network(torch.from_numpy(image.extras["boxes"]).to(batch.device))
            for image in images
        ]
        features = torch.split(self.network.region_features(maps, boxes), [len(found) for found in boxes])
        for image, rows in zip(images, features, strict=True):
            logits = self.predictor.class_logits(rows)
            scores, ids = logits.float().softmax(dim=-1)[:, :-1].max(dim=-1)
            yield RegionFeatures(
                image_id=image.image_id,
                boxes=image.extras["boxes"],
                size=image.size,
                scores=_array(scores),
                class_ids=_array(ids),
                region_ids=image.extras["region_ids"],
                **self._described(rows, logits),
            )


class GridRegions(FasterRCNNExtractor):
    """The last map of the trunk as h * w regions (Jiang et al. 2020, "In Defense of Grid Features").

    Rows of the map come first, each region with the box of its cell.
    """

    mode = "grid"

    def _extract(self, batch: Tensor, images: Sequence[PreparedImage]) -> Iterator[RegionFeatures]:
        maps = self.network.maps(batch)
        grids = self.network.grid_features(maps)
        height, width = grids.shape[-2:]
        # A last stage that halves the map makes cells of twice the side.
        stride = self.network.backbone.region_stride * round(maps.region.shape[-1] / width)
        for image, grid in zip(images, grids, strict=True):
            boxes = _network_image(image).to_original(_cells(height, width, stride))
            limit = torch.tensor([*image.size, *image.size], dtype=torch.float32)
            yield RegionFeatures(
                image_id=image.image_id,
                features=_array(grid.flatten(1).T),
                boxes=_array(boxes.minimum(limit)),
                size=image.size,
            )


def _cells(height: int, width: int, stride: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corner = torch.stack([x, y], dim=-1).reshape(-1, 2).float() * stride
    return torch.cat([corner, corner + stride], dim=1)


def _network_image(image: PreparedImage) -> NetworkImage:
    network_image: NetworkImage = image.extras["network"]
    return network_image


def _array(values: Tensor) -> Any:
    return values.cpu().numpy()
