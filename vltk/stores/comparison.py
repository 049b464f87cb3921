"""Whether two feature stores hold the same extraction: boxes matched by overlap, features compared by cosine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError
from vltk.stores.features import FeatureReader
from vltk.types import Progress, RegionFeatures

Floats = NDArray[np.float32]

HISTOGRAM_EDGES = (-1.0, 0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
PERCENTILES = (1, 5, 25, 50, 75)
_IMPORTANT = ("detector", "preset", "preset_hash", "weights_hash", "dtype", "source")
# Rounding to float16 keeps a cosine above 0.9999; another batch size or GPU keeps nearly every box and moves a
# feature by less than one in a hundred. Padding inside a batch, another resize rule or other weights do not.
_AGREE_SHARE, _AGREE_COSINE = 0.98, 0.99
_DRIFT_SHARE, _DRIFT_COSINE = 0.5, 0.8
_WORTH_NAMING = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageComparison:
    """One picture in two stores.

    Attributes:
        image_id: the picture.
        regions: how many regions each store has of it.
        overlaps: [M] IoU of the matched regions, at least 0.5; 1 where rows were matched by their order.
        cosines: [M] cosine of their features, or None where the features have different lengths.
        same_class: [M] whether the classes agree, or None where a store has none.
        norm_ratios: [M] length of the second feature over that of the first, or None as ``cosines``.
        by_boxes: whether regions were matched by their boxes, not by the order of rows.
        identical: whether boxes and features are equal to the last bit.
        same_size: whether both stores know the same width and height (or one knows none).
    """

    image_id: str
    regions: tuple[int, int]
    overlaps: Floats
    cosines: Floats | None
    same_class: NDArray[np.bool_] | None
    norm_ratios: Floats | None
    by_boxes: bool
    identical: bool
    same_size: bool

    @property
    def agreement(self) -> float:
        """Mean cosine over all regions, one that found no partner counting 0; overlap where there is no cosine."""
        values = self.overlaps if self.cosines is None else self.cosines
        return 1.0 if not max(self.regions) else float(values.sum()) / max(self.regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two stores have in common, and in what they differ.

    Attributes:
        images: pictures in both, only in the first, only in the second.
        regions: regions of the pictures in both, in each store.
        identical_images: pictures whose boxes and features are equal to the last bit.
        other_sizes: pictures whose width and height differ.
        matched_by: "boxes", or "rows" where a store has no boxes.
        matched: share of the regions that found a partner of IoU >= 0.5 and >= 0.9: 2 M / (R1 + R2).
        cosine: mean and percentiles of the cosine of matched features; empty where their lengths differ.
        histogram: number of matched regions between two edges of the cosine.
        norm_ratio: median length of the second store's features over the first's, or None.
        class_agreement: share of matched regions of one class, or None.
        differing_metadata: field -> the two values.
        worst: the pictures that agree least, worst first.
        agreement: mean over the pictures of :attr:`ImageComparison.agreement`.
        verdict: the above in one sentence.
    """

    images: dict[str, int]
    regions: tuple[int, int]
    identical_images: int
    other_sizes: int
    matched_by: str
    matched: dict[str, float]
    cosine: dict[str, float]
    histogram: dict[str, int]
    norm_ratio: float | None
    class_agreement: float | None
    differing_metadata: dict[str, tuple[Any, Any]]
    worst: list[dict[str, Any]]
    agreement: float
    verdict: str = field(default="")


def compare(
    first: FeatureReader,
    second: FeatureReader,
    *,
    limit: int | None = None,
    worst: int = 10,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two feature stores picture by picture.

    Boxes are matched greedily, the pair of largest overlap first, each box once. Overlaps are those of the boxes
    divided by the picture's size, so that a store of pixels and one of fractions can be compared.

    Args:
        first: the one that is known.
        second: the one in question.
        limit: look at so many of the common pictures, spread evenly; None looks at all.
        worst: how many of the least agreeing pictures are named.
        progress: told the number of pictures done.

    Raises:
        DataError: a damaged record, or pictures without boxes and with another number of regions.
    """
    mine, theirs = set(first.ids()), set(second.ids())
    common = sorted(mine & theirs)
    if limit is not None and limit < len(common):
        common = [common[int(index)] for index in np.linspace(0, len(common) - 1, limit)]
    compared = list(_compared(first, second, common, progress))
    images = {"both": len(mine & theirs), "only_first": len(mine - theirs), "only_second": len(theirs - mine)}
    return _summary(compared, images | {"compared": len(compared)}, _differing(first, second), worst)


def _compared(
    first: FeatureReader, second: FeatureReader, ids: Sequence[str], progress: Progress | None
) -> Iterator[ImageComparison]:
    for image_id in ids:
        yield compare_image(first.get(image_id), second.get(image_id))
        if progress:
            progress(1)


def _differing(first: FeatureReader, second: FeatureReader) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (getattr(first.metadata, name), getattr(second.metadata, name)) for name in _IMPORTANT}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compare_image(first: RegionFeatures, second: RegionFeatures) -> ImageComparison:
    """Compare the regions that two stores have of one picture.

    Raises:
        DataError: no boxes to match by, and another number of regions.
    """
    rows, partners, overlaps = _match(first, second)
    cosines, ratios = _features(first.features[rows], second.features[partners])
    classes = [_classes(regions) for regions in (first, second)]
    comparable = classes[0] is not None and classes[1] is not None and classes[0][0] == classes[1][0]
    return ImageComparison(
        image_id=first.image_id,
        regions=(len(first), len(second)),
        overlaps=overlaps,
        cosines=cosines,
        same_class=classes[0][1][rows] == classes[1][1][partners] if comparable else None,  # type: ignore[index]
        norm_ratios=ratios,
        by_boxes=_has_boxes(first, second),
        identical=_equal(first.boxes, second.boxes) and _equal(first.features, second.features),
        same_size=(1, 1) in (first.size, second.size) or first.size == second.size,
    )


def _equal(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _has_boxes(first: RegionFeatures, second: RegionFeatures) -> bool:
    return first.boxes is not None and second.boxes is not None


def _match(first: RegionFeatures, second: RegionFeatures) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    if _has_boxes(first, second):
        return greedy_matches(overlap_matrix(first.location()[:, :4], second.location()[:, :4]), least=0.5)
    if len(first) != len(second):
        problem = f"has {len(first)} and {len(second)} regions and no boxes to match them by"
        raise DataError(problem, where=f"image {first.image_id}", remedy="compare stores with boxes")
    order = np.arange(len(first))
    return order, order, np.ones(len(first), np.float32)


def overlap_matrix(first: Floats, second: Floats) -> Floats:
    """Return [N, M] intersection over union of boxes [N, 4] and [M, 4] as x1, y1, x2, y2.

    Example:
        >>> one = np.array([[0, 0, 2, 2]], np.float32)
        >>> round(float(overlap_matrix(one, one + np.float32([1, 0, 1, 0]))[0, 0]), 3)
        0.333
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def greedy_matches(overlaps: Floats, *, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return rows, columns and overlaps of the pairs of at least ``least``, largest first, each row and column once."""
    rows, columns = np.nonzero(overlaps >= least)
    values = overlaps[rows, columns]
    free_rows, free_columns = np.ones(len(overlaps), bool), np.ones(overlaps.shape[1], bool)
    taken = []
    for index in np.argsort(-values, kind="stable"):
        if free_rows[rows[index]] and free_columns[columns[index]]:
            free_rows[rows[index]] = free_columns[columns[index]] = False
            taken.append(index)
    chosen = np.array(taken, np.intp)
    return rows[chosen], columns[chosen], values[chosen]


def _features(first: NDArray[Any], second: NDArray[Any]) -> tuple[Floats | None, Floats | None]:
    if first.shape != second.shape:
        return None, None
    # float16 overflows in a sum of 2,048 squares.
    a, b = first.astype(np.float32), second.astype(np.float32)
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = norms[0] * norms[1]
    cosines = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a), np.float32), where=product > 0)
    cosines[(norms[0] == 0) & (norms[1] == 0)] = 1.0
    ratios = np.divide(norms[1], norms[0], out=np.full(len(a), np.nan, np.float32), where=norms[0] > 0)
    return np.clip(cosines, -1, 1), ratios


def _classes(regions: RegionFeatures) -> tuple[str, NDArray[Any]] | None:
    if regions.class_ids is not None:
        return "class_ids", regions.class_ids
    if regions.class_probs is not None and regions.class_probs.shape[1]:
        return "class_probs", regions.class_probs.argmax(axis=1)
    return None


def _joined(parts: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


def _summary(
    compared: list[ImageComparison], images: dict[str, int], differing: dict[str, tuple[Any, Any]], worst: int
) -> Comparison:
    overlaps = _joined([image.overlaps for image in compared])
    cosines = _joined([image.cosines for image in compared])
    classes = _joined([image.same_class for image in compared])
    ratios = _joined([image.norm_ratios for image in compared])
    regions = (sum(image.regions[0] for image in compared), sum(image.regions[1] for image in compared))
    ranked = sorted(compared, key=lambda image: (image.agreement, image.image_id))[:worst]
    values: dict[str, Any] = {
        "images": images,
        "regions": regions,
        "identical_images": sum(image.identical for image in compared),
        "other_sizes": sum(not image.same_size for image in compared),
        "matched_by": "boxes" if all(image.by_boxes for image in compared) else "rows",
        "matched": {f"iou_{level}": _share(overlaps, level, regions) for level in (0.5, 0.9)},
        "cosine": _statistics(cosines),
        "histogram": _histogram(cosines),
        "norm_ratio": None if ratios is None or np.isnan(ratios).all() else float(np.nanmedian(ratios)),
        "class_agreement": None if classes is None or not len(classes) else float(classes.mean()),
        "differing_metadata": differing,
        "worst": [_described(image) for image in ranked if image.agreement < _WORTH_NAMING],
        "agreement": float(np.mean([image.agreement for image in compared])) if compared else 0.0,
    }
    return Comparison(**values, verdict=_verdict(values))


def _share(overlaps: Floats | None, level: float, regions: tuple[int, int]) -> float:
    return 0.0 if overlaps is None or not sum(regions) else 2 * int((overlaps >= level).sum()) / sum(regions)


def _statistics(cosines: Floats | None) -> dict[str, float]:
    if cosines is None or not len(cosines):
        return {}
    points = np.percentile(cosines, PERCENTILES)
    named = {f"p{percent}": float(point) for percent, point in zip(PERCENTILES, points, strict=True)}
    return {"mean": float(cosines.mean()), "minimum": float(cosines.min()), **named}


def _histogram(cosines: Floats | None) -> dict[str, int]:
    counts = np.histogram([] if cosines is None else cosines, HISTOGRAM_EDGES)[0]
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(HISTOGRAM_EDGES)]
    return dict(zip(names, counts.tolist(), strict=True))


def _described(image: ImageComparison) -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "agreement": round(image.agreement, 4),
        "regions": list(image.regions),
        "matched": len(image.overlaps),
        "mean_cosine": None
        if image.cosines is None or not len(image.cosines)
        else round(float(image.cosines.mean()), 4),
    }


def _verdict(values: dict[str, Any]) -> str:
    images, regions, cosine = values["images"], values["regions"], values["cosine"]
    if not images["compared"]:
        return "The two stores have no image in common."
    if values["identical_images"] == images["compared"]:
        return f"The two stores hold the same regions in all {images['compared']} images compared."
    share = values["matched"]["iou_0.5"]
    found = f"{share:.1%} of the regions match"
    if not cosine and share:
        return f"The two extractions cannot be mixed: {found}, but their features have different lengths."
    median = cosine.get("p50", 0.0)
    found += f", with a median cosine of {median:.4f}" if cosine else ""
    counts = "" if regions[0] == regions[1] else f" ({regions[0]} regions against {regions[1]})"
    if share >= _AGREE_SHARE and cosine.get("p5", 0.0) >= _AGREE_COSINE:
        return f"The two extractions agree: {found}{counts}."
    if share * sum(regions) / 2 >= _AGREE_SHARE * min(regions) and cosine.get("p5", 0.0) >= _AGREE_COSINE:
        remedy = "select from both by one rule before they are mixed"
        return f"The two extractions agree where both keep a region{counts}; {remedy}."
    if share >= _DRIFT_SHARE and median >= _DRIFT_COSINE:
        remedy = "train and evaluate on one of them"
        return f"The two extractions drift: {found}{counts}; {remedy}."
    remedy = "a model trained on one of them does not work on the other"
    return f"The two extractions differ: {found}{counts}; {remedy}."
