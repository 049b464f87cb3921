"""Pictures on their way to the network: decoded and prepared ahead by threads, gathered by the size of their input."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from vltk.detection.extractor import Extractor, Picture, PreparedImage
from vltk.detection.images import MAX_PIXELS, ImageFailure, ImageFile, Transparency, decode
from vltk.errors import DataError, VltkError
from vltk.stores.record_store import encode_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How pictures are decoded.

    Attributes:
        num_workers: threads that decode and resize ahead; 0 does it in between.
        max_pixels: the largest picture that is decoded.
        transparency: what becomes of transparent pixels, see :func:`vltk.detection.images.decode`.
    """

    num_workers: int = 2
    max_pixels: int = MAX_PIXELS
    transparency: Transparency = "drop"


class Waiting:
    """A stop-watch of the seconds that the network waited for pictures, as a context manager."""

    def __init__(self) -> None:
        self.seconds = self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def load(file: ImageFile, extractor: Extractor, loading: Loading) -> PreparedImage | ImageFailure:
    """Decode and prepare one picture, or say why that is not possible."""
    try:
        encode_id(file.image_id)
        pixels = decode(file.path, max_pixels=loading.max_pixels, transparency=loading.transparency)
        return extractor.prepare(Picture(image_id=file.image_id, pixels=pixels))
    except DataError as error:
        return failure(file, error)
    except MemoryError:
        return ImageFailure(file.image_id, file.path, "is too large for the memory that is left; lower --max-pixels")


def failure(file: ImageFile, error: VltkError) -> ImageFailure:
    """Return the failure that an error about one picture stands for; the place is told by the failure itself."""
    reason = error.problem if error.remedy is None else f"{error.problem}; {error.remedy}"
    return ImageFailure(file.image_id, file.path, reason)


def load_ahead(
    files: Iterable[ImageFile], extractor: Extractor, loading: Loading, waiting: Waiting
) -> Generator[PreparedImage | ImageFailure]:
    """Yield what :func:`load` makes of each file, in their order; the workers are a bounded number of files ahead."""
    if loading.num_workers == 0:
        for file in files:
            with waiting:
                loaded = load(file, extractor, loading)
            yield loaded
        return
    # Threads: decoding and resizing run outside of Python's lock, and nothing has to be sent between processes.
    pool = ThreadPoolExecutor(loading.num_workers, thread_name_prefix="decode")
    ahead: deque[Future[PreparedImage | ImageFailure]] = deque()
    coming = iter(files)
    try:
        while True:
            with waiting:
                for file in itertools.islice(coming, 2 * loading.num_workers + 1 - len(ahead)):
                    ahead.append(pool.submit(load, file, extractor, loading))
                if not ahead:
                    return
                loaded = ahead.popleft().result()
            yield loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(
    loaded: Iterable[PreparedImage | ImageFailure],
    batch_size: int,
    *,
    on_failure: Callable[[ImageFailure], None],
) -> Iterator[Sequence[PreparedImage]]:
    """Gather prepared pictures whose inputs have one shape, at most ``batch_size`` of them.

    Which pictures come together depends on their order alone, so that work that was interrupted is divided again as
    it was. At most ``4 * batch_size`` pictures wait for others of their shape.

    Args:
        loaded: pictures and failures.
        batch_size: the largest number of pictures in a batch.
        on_failure: called with each failure.
    """
    gathered: dict[tuple[int, ...], list[PreparedImage]] = {}
    for item in loaded:
        if isinstance(item, ImageFailure):
            on_failure(item)
            continue
        shape = tuple(item.input.shape)
        gathered.setdefault(shape, []).append(item)
        if len(gathered[shape]) == batch_size:
            yield gathered.pop(shape)
        elif sum(map(len, gathered.values())) >= 4 * batch_size:
            yield gathered.pop(next(iter(gathered)))
    yield from gathered.values()
