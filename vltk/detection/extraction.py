"""From a list of pictures to a feature store: fixed chunks, part stores, a manifest, and a merge at the end.

A process may be killed at any moment; the same call goes on where it stopped and ends with the same store. Several
processes or machines take shares (:func:`share`), write a store each, and ``vltk store merge`` joins them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vltk.detection._workplace import Chunk, Finished, Workplace, divide
from vltk.detection.extractor import Extractor, PreparedImage, describe
from vltk.detection.images import ImageFailure, ImageFile
from vltk.detection.loading import Loading, Waiting, batches, failure, load_ahead
from vltk.errors import DataError, StoppedEarlyError, UsageError
from vltk.stores.features import FeatureMetadata, FeatureStore, FeatureWriter
from vltk.stores.lmdb_env import LOCK_NAME
from vltk.stores.maintenance import merge, verify
from vltk.stores.record_store import metadata_as_json, metadata_differences
from vltk.stores.whole_files import write_whole
from vltk.types import Progress

CHUNK_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionResult:
    """What an extraction did.

    Attributes:
        out: the store.
        images: pictures that were asked for.
        stored: pictures that the store holds.
        extracted: pictures that this call put through the network.
        failures: pictures that could not be used.
        left: pictures that the resumed plan did not know; the next call takes them.
        seconds: how long this call ran.
        waiting: how many of these seconds the network waited for decoded pictures.
    """

    out: Path
    images: int
    stored: int
    extracted: int
    failures: tuple[ImageFailure, ...]
    left: int
    seconds: float
    waiting: float


def share(files: Sequence[ImageFile], shard: tuple[int, int], *, chunk_size: int = CHUNK_SIZE) -> list[ImageFile]:
    """Return the pictures of shard ``i`` of ``n``: every n-th chunk of all of them.

    Args:
        files: all pictures, sorted by id.
        shard: (i, n) with 1 <= i <= n.
        chunk_size: pictures in a chunk; all shards use the same.

    Raises:
        UsageError: there is no such shard, or fewer chunks than shards.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise UsageError(f"there is no shard {number} of {count}", remedy="count from 1/n to n/n")
    chunks = divide(files, chunk_size)
    if len(chunks) < count:
        problem = f"{len(files)} pictures are {len(chunks)} chunks of {chunk_size}, too few for {count} shards"
        raise UsageError(problem, remedy=f"use --chunk-size {max(len(files) // count, 1)} or fewer shards")
    return [file for chunk in chunks[number - 1 :: count] for file in chunk.files]


def failures_path(out: Path) -> Path:
    """Return where the pictures that could not be used are listed, one JSON object a line."""
    return out.with_name(f"{out.name}.failures.jsonl")


def never() -> bool:
    """Return False: nobody asks to stop."""
    return False


class Extraction:
    """One extraction, begun or resumed; a context manager that holds the right to work on it.

    Args:
        files: the pictures, sorted by id.
        extractor: the network with its settings.
        out: the store to write. One that is there with equal metadata gets the pictures that it lacks.
        metadata: how the features are made.
        loading: how pictures are decoded.
        batch_size: pictures of equal size that go through the network together.
        chunk_size: pictures in a part store.
        overwrite: replace a store or an unfinished extraction that was made with other settings.

    Raises:
        UsageError: no pictures, or a size that is not positive.
        DataError: the store or an unfinished extraction was begun with other settings, or another process works on it.

    Example:
        with Extraction(files, extractor, out, metadata=metadata) as extraction:
            extraction.extract()
            result = extraction.finish()
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        extractor: Extractor,
        out: Path,
        *,
        metadata: FeatureMetadata,
        loading: Loading | None = None,
        batch_size: int = 1,
        chunk_size: int = CHUNK_SIZE,
        overwrite: bool = False,
    ) -> None:
        if not files:
            raise UsageError("there are no pictures to extract from", remedy="name a folder that holds pictures")
        if batch_size < 1 or chunk_size < 1:
            raise UsageError(f"batch size {batch_size} and chunk size {chunk_size}", remedy="both are at least 1")
        self.files, self.extractor, self.out, self.metadata = tuple(files), extractor, out, metadata
        self.loading, self.batch_size = loading or Loading(), batch_size
        self.overwrite = overwrite
        self.extracted, self._started, self._waiting = 0, time.perf_counter(), Waiting()
        stored = frozenset() if overwrite else stored_ids(out, metadata)
        self._place = Workplace(Workplace.beside(out))
        try:
            self.chunks = divide(self._plan(stored, chunk_size), chunk_size)
        except BaseException:
            self._place.__exit__()
            raise
        self._stored = len(stored)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.__exit__()

    def _plan(self, stored: frozenset[str], chunk_size: int) -> list[ImageFile]:
        missing = [file.image_id for file in self.files if file.image_id not in stored]
        if self.overwrite and not self._place.holds(missing, chunk_size=chunk_size, metadata=self.metadata):
            self._place.clear()
        self._place.begin(missing, chunk_size=chunk_size, metadata=self.metadata)
        by_id = {file.image_id: file for file in self.files}
        planned = self._place.ids()
        if gone := next((image_id for image_id in planned if image_id not in by_id), None):
            problem = f"was begun with picture {gone!r}, which is no longer among those to extract"
            raise DataError(problem, where=self._place.folder, remedy="restore it, or remove this folder to begin anew")
        return [by_id[image_id] for image_id in planned]

    @property
    def planned(self) -> int:
        """How many pictures the plan covers, finished or not."""
        return sum(len(chunk.files) for chunk in self.chunks)

    @property
    def remaining(self) -> int:
        """How many pictures of the plan are in no finished chunk and in no open part."""
        finished = self._place.finished()
        opened = sum(
            len(FeatureStore.open(path, unfinished=True))
            for chunk in self.chunks
            if chunk.number not in finished and _begun(path := self._temporary(chunk))
        )
        return sum(len(chunk.files) for chunk in self.chunks if chunk.number not in finished) - opened

    def extract(self, *, progress: Progress | None = None, stop: Callable[[], bool] = never) -> None:
        """Work off the chunks that are not finished.

        Args:
            progress: called with the number of pictures done.
            stop: asked between batches; when it says so, what is done is kept.

        Raises:
            StoppedEarlyError: ``stop`` said so; the same call resumes.
            VltkError: the disk or the memory of the device is full.
        """
        finished = self._place.finished()
        for chunk in self.chunks:
            known = finished.get(chunk.number)
            if known is None:
                self._place.add(self._chunk(chunk, progress or _nothing, stop))
            elif known.ids != chunk.ids_hash:
                problem = f"chunk {chunk.number} of the manifest holds other pictures"
                raise DataError(problem, where=self._place.folder, remedy="remove this folder to begin anew")

    def _temporary(self, chunk: Chunk) -> Path:
        return self._place.folder / f"{chunk.name}.tmp"

    def _chunk(self, chunk: Chunk, progress: Progress, stop: Callable[[], bool]) -> Finished:
        part, temporary = self._place.folder / chunk.name, self._temporary(chunk)
        if part.exists():  # it was finished, and the line about it was not written: its failures are not known
            part.replace(temporary)
        failures: list[ImageFailure] = []

        def fail(found: ImageFailure) -> None:
            failures.append(found)
            progress(1)

        with FeatureStore.create(temporary, self.metadata) as writer:
            files = chunk.files
            if self.batch_size == 1:  # a larger batch must come together again as it was
                files = tuple(file for file in files if file.image_id not in writer)
            with closing(load_ahead(files, self.extractor, self.loading, self._waiting)) as loaded:
                for batch in batches(loaded, self.batch_size, on_failure=fail):
                    if stop():
                        self._stop(len(writer), chunk)
                    new = [image for image in batch if image.image_id not in writer]
                    if new:
                        failures.extend(self._put(writer, batch, chunk))
                        progress(len(new))
        verification = verify(temporary)
        if not verification.ok:
            raise DataError(verification.problems[0], where=temporary, remedy="check the disk and start again")
        temporary.replace(part)
        return Finished(
            chunk=chunk.number,
            ids=chunk.ids_hash,
            part=chunk.name,
            images=verification.records,
            content=verification.content_hash,
            preset_hash=self.metadata.preset_hash,
            failures=tuple((one.image_id, str(one.path), one.reason) for one in failures),
        )

    def _stop(self, count: int, chunk: Chunk) -> None:
        problem = f"stopped in chunk {chunk.number + 1} of {len(self.chunks)}; its {count} finished pictures are kept"
        raise StoppedEarlyError(problem, where=self.out, remedy="the same command goes on from there")

    def _put(self, writer: FeatureWriter, batch: Sequence[PreparedImage], chunk: Chunk) -> Iterator[ImageFailure]:
        """Put a batch through the network into the part, and yield what could not be stored."""
        for image, regions in zip(batch, describe(self.extractor, batch), strict=True):
            try:
                if isinstance(regions, DataError):
                    raise regions
                if image.image_id not in writer:
                    writer.put(regions)
                    self.extracted += 1
            except DataError as error:
                file = next(file for file in chunk.files if file.image_id == image.image_id)
                yield failure(file, error)

    def finish(self, *, progress: Progress | None = None) -> ExtractionResult:
        """Merge the parts into the store, list the failures, and remove the parts.

        Args:
            progress: called with the number of pictures merged.

        Raises:
            DataError: a chunk is not finished.
        """
        finished = self._place.finished()
        if unfinished := [chunk.name for chunk in self.chunks if chunk.number not in finished]:
            raise DataError(f"{unfinished[0]} is not finished", where=self._place.folder, remedy="extract first")
        parts = [self._place.folder / finished[chunk.number].part for chunk in self.chunks]
        if parts:
            merge(parts, self.out, overwrite=self.overwrite, progress=progress)
        failures = tuple(one for chunk in self.chunks for one in finished[chunk.number].image_failures())
        _write_failures(failures_path(self.out), failures)
        self._place.remove()
        return ExtractionResult(
            out=self.out,
            images=len(self.files),
            stored=len(FeatureStore.open(self.out)),
            extracted=self.extracted,
            failures=failures,
            left=max(len(self.files) - self.planned - self._stored, 0),
            seconds=time.perf_counter() - self._started,
            waiting=self._waiting.seconds,
        )


def is_begun(out: Path) -> bool:
    """Return whether a store, or an extraction that was not finished, stands there."""
    return _begun(out) or Workplace.beside(out).exists()


def stored_ids(out: Path, metadata: FeatureMetadata) -> frozenset[str]:
    """Return the ids that a store holds already; none where it does not exist.

    Raises:
        DataError: it was made with other settings, or is no feature store.
    """
    if not _begun(out):
        # A process that was killed before its first commit leaves a lock file.
        if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {LOCK_NAME}):
            raise DataError("is there and is no feature store", where=out, remedy="use another --out")
        return frozenset()
    store = FeatureStore.open(out, unfinished=True)
    if differences := metadata_differences(store.header.metadata, metadata_as_json(metadata)):
        problem = f"was made with other settings: {'; '.join(one[:160] for one in differences)}"
        raise DataError(problem, where=out, remedy="use the same settings, another --out, or --overwrite")
    return frozenset(store.ids())


def _begun(store: Path) -> bool:
    return (store / "data.mdb").exists()


def _nothing(_: int) -> None:
    """Take the progress that nobody asked for."""


def _write_failures(path: Path, failures: Sequence[ImageFailure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)
        return
    lines = ({"image_id": one.image_id, "path": str(one.path), "reason": one.reason} for one in failures)
    write_whole(path, (f"{json.dumps(line)}\n" for line in lines))
