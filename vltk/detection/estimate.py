"""What an extraction will cost, measured on a few of its pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vltk.detection.extractor import Extractor, PreparedImage, describe
from vltk.detection.images import ImageFile, read_size
from vltk.detection.loading import Loading, load
from vltk.errors import DataError
from vltk.types import RegionFeatures

_SIZES = 200
_TIMED = 4
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The cost of an extraction.

    Attributes:
        smallest: (width, height) of the picture with the fewest pixels among those looked at.
        typical: the one in the middle.
        largest: the one with the most pixels.
        timed: how many pictures were put through the network for it.
        regions: regions of a picture, on average.
        record_bytes: bytes of a picture in the store, on average.
        seconds: of a picture, on average; decoding and network one after the other.
        decoding: how many of these go into decoding and resizing.
    """

    smallest: tuple[int, int]
    typical: tuple[int, int]
    largest: tuple[int, int]
    timed: int
    regions: float
    record_bytes: float
    seconds: float
    decoding: float


def estimate(
    files: Sequence[ImageFile],
    extractor: Extractor,
    *,
    loading: Loading,
    dtype: Literal["float16", "float32"] = "float16",
) -> Estimate:
    """Look at the sizes of up to 200 pictures and put up to 4 through the network, spread over all of them.

    Raises:
        DataError: none of the pictures that were tried can be used.
    """
    sizes = _sizes(_spread(files, _SIZES))
    decoding, computing, found, reason = [], [], list[RegionFeatures](), ""
    # The first picture pays for memory that the others reuse; it counts only if it is the only one.
    for file in _spread(files, _TIMED + 1):
        started = time.perf_counter()
        loaded = load(file, extractor, loading)
        decoded = time.perf_counter()
        if not isinstance(loaded, PreparedImage):
            reason = loaded.reason
            continue
        (regions,) = describe(extractor, [loaded])
        if isinstance(regions, DataError):
            reason = regions.problem
            continue
        found.append(regions)
        decoding.append(decoded - started)
        computing.append(time.perf_counter() - decoded)
        if sum(computing) > _SECONDS:
            break
    if not found or not sizes:
        raise DataError(f"none of the pictures tried can be used; the last {reason}", remedy="check the folder")
    warm = slice(1, None) if len(found) > 1 else slice(None)
    decode_seconds = statistics.fmean(decoding[warm])
    return Estimate(
        smallest=sizes[0],
        typical=sizes[len(sizes) // 2],
        largest=sizes[-1],
        timed=len(found),
        regions=statistics.fmean(map(len, found)),
        record_bytes=statistics.fmean(_stored_bytes(regions, dtype) for regions in found),
        seconds=decode_seconds + statistics.fmean(computing[warm]),
        decoding=decode_seconds,
    )


def _spread(files: Sequence[ImageFile], count: int) -> list[ImageFile]:
    step = max(len(files) / count, 1.0)
    return [files[int(index * step)] for index in range(min(count, len(files)))]


def _sizes(files: Sequence[ImageFile]) -> list[tuple[int, int]]:
    known = (read_size(file.path) for file in files)
    return sorted((size for size in known if size is not None), key=lambda size: (size[0] * size[1], size))


def _stored_bytes(regions: RegionFeatures, dtype: str) -> int:
    width = 2 if dtype == "float16" else 4
    others = sum(array.nbytes for name, array in regions.arrays().items() if name != "features")
    return int(regions.features.size * width + others + sum(len(one) for one in regions.region_ids or ()))
