"""The folder beside a feature store in which an extraction keeps its parts until they are merged.

``plan.json`` says what is extracted and how, ``images.txt`` which pictures, ``manifest.jsonl`` gets a line for every
finished chunk. A chunk that has a line is never touched again; one without is done from what its part holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from vltk.detection.images import ImageFailure, ImageFile
from vltk.errors import DataError
from vltk.stores.features import FeatureMetadata
from vltk.stores.lmdb_env import LOCK_NAME, WriteLock
from vltk.stores.record_store import metadata_as_json, metadata_differences
from vltk.stores.whole_files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A fixed piece of the work, which ends in a part store of its own.

    Attributes:
        number: its place in the plan.
        files: its pictures, in the order of their ids.
    """

    number: int
    files: tuple[ImageFile, ...]

    @property
    def name(self) -> str:
        """Name of its part store."""
        return f"part-{self.number:05d}.lmdb"

    @property
    def ids_hash(self) -> str:
        """Hash of its ids."""
        return hashlib.sha256("\n".join(file.image_id for file in self.files).encode(errors="replace")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A line of the manifest.

    Attributes:
        chunk: number of the chunk.
        ids: hash of its ids.
        part: name of the part store.
        images: pictures that the part holds.
        content: hash of what the part holds.
        preset_hash: hash of the settings.
        failures: pictures of the chunk that could not be used: id, path, reason.
    """

    chunk: int
    ids: str
    part: str
    images: int
    content: str
    preset_hash: str
    failures: tuple[tuple[str, str, str], ...]

    def image_failures(self) -> list[ImageFailure]:
        """Return the failures as they were told."""
        return [ImageFailure(image_id, Path(path), reason) for image_id, path, reason in self.failures]


def divide(files: Sequence[ImageFile], chunk_size: int) -> list[Chunk]:
    """Divide pictures, in their order, into chunks."""
    starts = range(0, len(files), chunk_size)
    return [Chunk(number=number, files=tuple(files[start : start + chunk_size])) for number, start in enumerate(starts)]


class Workplace:
    """The folder of one extraction; one process at a time works there.

    Args:
        folder: where.

    Raises:
        DataError: another process works there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = WriteLock(folder)

    @classmethod
    def beside(cls, out: Path) -> Path:
        """Return where the parts of a store are kept."""
        return out.with_name(f"{out.name}.parts")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release(remove=True)

    @property
    def begun(self) -> bool:
        """Whether a plan stands there."""
        return (self.folder / "plan.json").is_file()

    def begin(self, ids: Sequence[str], *, chunk_size: int, metadata: FeatureMetadata) -> None:
        """Write the plan; one that was begun with equal settings stays, with the pictures that it knows.

        Raises:
            DataError: what is there was begun with other settings.
        """
        if not self.begun:
            plan = {"chunk_size": chunk_size, "metadata": metadata_as_json(metadata)}
            write_whole(self.folder / "images.txt", (f"{json.dumps(one)}\n" for one in ids))
            write_whole(self.folder / "plan.json", [json.dumps(plan, indent=1)])
        elif differences := self._differences(chunk_size, metadata):
            problem = f"was begun with other settings: {'; '.join(one[:160] for one in differences)}"
            remedy = "use the same settings, another --out, or --overwrite"
            raise DataError(problem, where=self.folder, remedy=remedy)

    def holds(self, ids: Sequence[str], *, chunk_size: int, metadata: FeatureMetadata) -> bool:
        """Return whether a plan for exactly these pictures with these settings is there."""
        return self.begun and not self._differences(chunk_size, metadata) and self.ids() == list(ids)

    def _differences(self, chunk_size: int, metadata: FeatureMetadata) -> list[str]:
        known = json.loads((self.folder / "plan.json").read_text("utf-8"))
        differences = metadata_differences(known["metadata"], metadata_as_json(metadata))
        if known["chunk_size"] != chunk_size:
            differences.append(f"chunk_size {known['chunk_size']} against {chunk_size}")
        return differences

    def ids(self) -> list[str]:
        """Return the ids that the plan covers."""
        return [json.loads(line) for line in (self.folder / "images.txt").read_text("utf-8").splitlines()]

    def finished(self) -> dict[int, Finished]:
        """Return the finished chunks; a line that a crash cut short counts as not written."""
        path = self.folder / "manifest.jsonl"
        found: dict[int, Finished] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            values["failures"] = tuple(tuple(one) for one in values["failures"])
            found[values["chunk"]] = Finished(**values)
        return found

    def add(self, finished: Finished) -> None:
        """Add a line to the manifest, and wait until the disk has it."""
        with (self.folder / "manifest.jsonl").open("a+b") as manifest:
            if manifest.tell() and not self._ends_with_newline():
                manifest.write(b"\n")
            manifest.write(json.dumps(asdict(finished)).encode() + b"\n")
            manifest.flush()
            os.fsync(manifest.fileno())

    def _ends_with_newline(self) -> bool:
        with (self.folder / "manifest.jsonl").open("rb") as manifest:
            manifest.seek(-1, os.SEEK_END)
            return manifest.read(1) == b"\n"

    def clear(self) -> None:
        """Remove everything that an earlier plan left."""
        for path in sorted(self.folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_NAME:
                path.unlink()

    def remove(self) -> None:
        """Remove the folder; the plan goes first, so that a crash here does not look like work to resume."""
        (self.folder / "plan.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder)
