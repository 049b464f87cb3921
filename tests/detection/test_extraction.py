"""However the work is divided, interrupted and resumed, the store is the same."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.detection.small_detector import PRESET, extractor, network, write_pictures
from tests.detection.test_images import bomb
from vltk.detection._workplace import Workplace
from vltk.detection.extraction import Extraction, ExtractionResult, failures_path, share
from vltk.detection.extractor import Extractor, PreparedImage
from vltk.detection.images import ImageFailure, ImageFile, list_images
from vltk.detection.loading import Loading, batches
from vltk.detection.region_extractors import DetectedRegions
from vltk.errors import DataError, StoppedEarlyError, UsageError, VltkError
from vltk.stores.features import FeatureStore
from vltk.stores.maintenance import merge, verify
from vltk.types import RegionFeatures


@pytest.fixture(scope="module")
def small() -> Extractor:
    return extractor()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageFile, ...]:
    return list_images(write_pictures(tmp_path_factory.mktemp("pictures"), 23)).files


def run(
    files: Sequence[ImageFile],
    small: Extractor,
    out: Path,
    *,
    num_workers: int = 0,
    stop: Callable[[], bool] = lambda: False,
    **options: object,
) -> ExtractionResult:
    options = {"chunk_size": 8, "metadata": small.provenance.metadata(), **options}
    with Extraction(files, small, out, loading=Loading(num_workers=num_workers), **options) as extraction:
        extraction.extract(stop=stop)
        return extraction.finish()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small: Extractor, pictures: tuple[ImageFile, ...]) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "features.lmdb"
    run(pictures, small, out)
    return out


def content(store: Path) -> str:
    assert verify(store).ok
    return FeatureStore.open(store).content_hash


# -- one store, however it is made ---------------------------------------------------------------------------------


def test_every_picture_is_in_the_store_with_its_provenance(
    undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    store = FeatureStore.open(undisturbed)
    assert store.ids() == [file.image_id for file in pictures]
    assert store.metadata == small.provenance.metadata()
    assert store.metadata.preset_hash == PRESET.preset_hash()
    assert store.metadata.extra["labels"][0] == "cat"
    for regions, file in zip(store, pictures, strict=True):
        assert regions.size == Image.open(file.path).size
        assert 4 <= len(regions) <= 6
        assert regions.features.dtype == np.float16
        assert regions.class_probs.shape == (len(regions), 7)
        assert regions.attribute_ids.max() < 5
    assert not Workplace.beside(undisturbed).exists()


@pytest.mark.parametrize(
    "options", [{"batch_size": 8}, {"num_workers": 4}, {"batch_size": 3, "num_workers": 2}, {"chunk_size": 1000}]
)
def test_batches_workers_and_chunks_change_nothing(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...], options: dict[str, int]
) -> None:
    run(pictures, small, tmp_path / "a.lmdb", **options)
    assert content(tmp_path / "a.lmdb") == content(undisturbed)


def test_three_shards_merged_are_one(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    parts = [tmp_path / f"{i}.lmdb" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        run(share(pictures, (i, 3), chunk_size=8), small, part)
    merge(parts, tmp_path / "all.lmdb")
    assert content(tmp_path / "all.lmdb") == content(undisturbed)


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 60), shards=st.integers(1, 8), chunk_size=st.integers(1, 9))
def test_shards_share_the_pictures_out(count: int, shards: int, chunk_size: int) -> None:
    files = [ImageFile(f"{i:03d}", Path(f"{i}.jpg")) for i in range(count)]
    if -(-count // chunk_size) < shards:
        with pytest.raises(UsageError, match=f"too few for {shards} shards; use --chunk-size"):
            share(files, (1, shards), chunk_size=chunk_size)
        return
    parts = [share(files, (i, shards), chunk_size=chunk_size) for i in range(1, shards + 1)]
    assert sorted(file.image_id for part in parts for file in part) == [file.image_id for file in files]
    assert max(map(len, parts)) - min(map(len, parts)) <= chunk_size


def test_there_is_no_shard_beyond_the_last() -> None:
    with pytest.raises(UsageError, match="there is no shard 4 of 3; count from 1/n to n/n"):
        share([ImageFile("a", Path("a.jpg"))], (4, 3))


class StopAfter:
    """Asks to stop when it was asked so many times."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.integers(0, 9), min_size=1, max_size=4), batch_size=st.sampled_from([1, 3]))
def test_stopped_and_resumed_equals_undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    undisturbed: Path,
    small: Extractor,
    pictures: tuple[ImageFile, ...],
    stops: list[int],
    batch_size: int,
) -> None:
    out = tmp_path_factory.mktemp("stopped") / "a.lmdb"
    extracted = 0
    for stop in stops:
        with Extraction(
            pictures, small, out, metadata=small.provenance.metadata(), chunk_size=8, batch_size=batch_size
        ) as extraction:
            with suppress(StoppedEarlyError):
                extraction.extract(stop=StopAfter(stop))
            extracted += extraction.extracted
            assert extraction.remaining == len(pictures) - extracted
        assert not out.exists()
    result = run(pictures, small, out, batch_size=batch_size)
    assert (result.extracted, result.stored) == (len(pictures) - extracted, len(pictures))
    assert content(out) == content(undisturbed)


def test_a_stop_says_what_is_kept(tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]) -> None:
    match = r"a\.lmdb: stopped in chunk 2 of 3; its 3 finished pictures are kept; the same command goes on from there"
    with pytest.raises(StoppedEarlyError, match=match):
        run(pictures, small, tmp_path / "a.lmdb", stop=StopAfter(11))


# Each line of the plan is worked off by a process of its own, forked from one that has imported everything.
KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.detection.small_detector import extractor
from vltk.detection import extraction
from vltk.detection.images import list_images
from vltk.stores.features import FeatureStore

files, out, plan = list_images(Path(sys.argv[1])).files, Path(sys.argv[2]), json.loads(sys.argv[3])

def kill_after(function, count):
    calls = 0
    def wrapped(*args, **kwargs):
        nonlocal calls
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return function(*args, **kwargs)
    return wrapped

def work(moment, count):
    small = extractor()
    owner, name = {
        "network": (small, "extract"),
        "verify": (extraction, "verify"),
        "manifest": (extraction.Workplace, "add"),
        "merge": (FeatureStore, "get"),
    }[moment]
    setattr(owner, name, kill_after(getattr(owner, name), count))
    with extraction.Extraction(files, small, out, metadata=small.provenance.metadata(), chunk_size=8) as running:
        running.extract()
        running.finish()

for moment, count in plan:
    child = os.fork()
    if child == 0:
        work(moment, count)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_at_any_moment_the_same_call_resumes(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out, folder = tmp_path / "a.lmdb", pictures[0].path.parent
    root = Path(__file__).resolve().parents[2]
    plan = [("network", 3), ("verify", 0), ("manifest", 0), ("network", 2), ("manifest", 1), ("merge", 12)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(out), json.dumps(plan)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(plan)
    result = run(pictures, small, out)
    assert (result.extracted, result.stored) == (0, len(pictures))
    assert content(out) == content(undisturbed)
    assert not Workplace.beside(out).exists()


@pytest.mark.parametrize("moment", ["_write_failures", "Workplace.remove"])
def test_a_crash_after_the_merge_leaves_nothing_to_do_twice(
    tmp_path: Path,
    undisturbed: Path,
    small: Extractor,
    pictures: tuple[ImageFile, ...],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    out = tmp_path / "a.lmdb"
    with monkeypatch.context() as patch:
        patch.setattr(f"vltk.detection.extraction.{moment}", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            run(pictures, small, out)
    assert run(pictures, small, out).extracted == 0
    assert content(out) == content(undisturbed)


# -- what comes later, what has changed ----------------------------------------------------------------------------


def test_a_finished_store_is_left_alone(tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]) -> None:
    out = tmp_path / "a.lmdb"
    run(pictures[:3], small, out)
    before = (out / "data.mdb").stat().st_mtime_ns
    result = run(pictures[:3], small, out)
    assert (result.extracted, result.stored, result.left) == (0, 3, 0)
    assert (out / "data.mdb").stat().st_mtime_ns == before


def test_new_pictures_join_a_finished_store(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out = tmp_path / "a.lmdb"
    run(pictures[::2], small, out)
    result = run(pictures, small, out)
    assert (result.extracted, result.stored) == (11, 23)
    assert content(out) == content(undisturbed)


def test_pictures_that_come_while_work_is_interrupted_are_told(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out = tmp_path / "a.lmdb"
    with pytest.raises(StoppedEarlyError, match="stopped in chunk 1"):
        run(pictures[::2], small, out, stop=StopAfter(2))
    result = run(pictures, small, out)
    assert (result.stored, result.left) == (12, 11)
    assert run(pictures, small, out).stored == 23


def test_a_picture_that_went_away_is_named(tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]) -> None:
    with pytest.raises(StoppedEarlyError, match="stopped in chunk 1"):
        run(pictures, small, tmp_path / "a.lmdb", stop=StopAfter(2))
    with pytest.raises(DataError, match=r"a\.lmdb\.parts: was begun with picture '00000', which is no longer"):
        run(pictures[1:], small, tmp_path / "a.lmdb")


def test_other_settings_are_refused_before_anything_runs(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out, other = tmp_path / "a.lmdb", extractor("grid")
    run(pictures[:3], small, out)
    with pytest.raises(
        DataError, match=r"was made with other settings: preset 'small' against 'small/grid'.*--overwrite"
    ):
        run(pictures[:3], other, out)
    run(pictures[:3], other, out, overwrite=True)
    assert FeatureStore.open(out).metadata.preset == "small/grid"


def test_an_unfinished_extraction_keeps_its_settings(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out = tmp_path / "a.lmdb"
    with pytest.raises(StoppedEarlyError, match="stopped in chunk 2"):
        run(pictures, extractor("grid"), out, stop=StopAfter(11))
    with pytest.raises(DataError, match="was begun with other settings: preset 'small/grid' against 'small'"):
        run(pictures, small, out)
    with pytest.raises(DataError, match="was begun with other settings: chunk_size 8 against 4; use the same settings"):
        run(pictures, extractor("grid"), out, chunk_size=4)
    run(pictures, small, out, overwrite=True)
    assert content(out) == content(undisturbed)


def test_overwriting_is_not_misled_by_a_smaller_plan(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out = tmp_path / "a.lmdb"
    run(pictures[::2], small, out)
    with pytest.raises(StoppedEarlyError, match="stopped in chunk 1"):
        run(pictures, small, out, stop=StopAfter(2))
    result = run(pictures, small, out, overwrite=True)
    assert (result.extracted, result.stored) == (23, 23)
    assert content(out) == content(undisturbed)


def test_overwriting_resumes_where_it_was_stopped(
    tmp_path: Path, undisturbed: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    out = tmp_path / "a.lmdb"
    run(pictures[:3], extractor("grid"), out)
    with pytest.raises(StoppedEarlyError, match="stopped in chunk 2"):
        run(pictures, small, out, overwrite=True, stop=StopAfter(11))
    assert FeatureStore.open(out).metadata.preset == "small/grid"
    assert run(pictures, small, out, overwrite=True).extracted == 12
    assert content(out) == content(undisturbed)


def test_two_processes_do_not_work_on_one_extraction(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    options = {"metadata": small.provenance.metadata()}
    with (
        Extraction(pictures, small, tmp_path / "a.lmdb", **options),
        pytest.raises(DataError, match=r"a\.lmdb\.parts: is in use by another process"),
    ):
        Extraction(pictures, small, tmp_path / "a.lmdb", **options)


def test_what_is_no_store_is_not_written_into(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    (tmp_path / "file").write_text("precious", "utf-8")
    with pytest.raises(DataError, match="file: is there and is no feature store; use another --out"):
        run(pictures, small, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"batch_size": 0}, "batch size 0 and chunk size 8"), ({"chunk_size": 0}, "batch size 1 and chunk size 0")],
)
def test_sizes_are_positive(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...], options: dict[str, int], problem: str
) -> None:
    with pytest.raises(UsageError, match=f"{problem}; both are at least 1"):
        run(pictures, small, tmp_path / "a.lmdb", **options)
    with pytest.raises(UsageError, match="there are no pictures to extract from"):
        run([], small, tmp_path / "a.lmdb")


# -- pictures that cannot be used ----------------------------------------------------------------------------------


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    folder = write_pictures(tmp_path / "spoiled", 12)
    (folder / "00003.png").write_bytes(b"")
    (folder / "00007.png").write_bytes(b"no picture")
    whole = (folder / "00010.png").read_bytes()
    (folder / "00010.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.mark.parametrize("num_workers", [0, 3])
def test_broken_pictures_are_listed_and_the_rest_goes_on(
    tmp_path: Path, small: Extractor, spoiled: Path, num_workers: int
) -> None:
    out = tmp_path / "a.lmdb"
    result = run(list_images(spoiled).files, small, out, num_workers=num_workers, batch_size=2)
    assert result.stored == 9
    listed = [json.loads(line) for line in failures_path(out).read_text("utf-8").splitlines()]
    assert [one["image_id"] for one in listed] == ["00003", "00007", "00010"]
    assert listed[0] == {
        "image_id": "00003",
        "path": str(spoiled / "00003.png"),
        "reason": "is empty (0 bytes); fetch the file again",
    }
    assert [failure.reason for failure in result.failures] == [one["reason"] for one in listed]


def test_repaired_pictures_are_tried_again_and_the_list_goes(tmp_path: Path, small: Extractor, spoiled: Path) -> None:
    out = tmp_path / "a.lmdb"
    run(list_images(spoiled).files, small, out)
    write_pictures(spoiled, 12)
    result = run(list_images(spoiled).files, small, out)
    assert (result.extracted, result.stored, result.failures) == (3, 12, ())
    assert not failures_path(out).exists()


def test_failures_survive_a_crash_before_their_chunk_is_noted(
    tmp_path: Path, small: Extractor, spoiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "add", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            run(list_images(spoiled).files, small, tmp_path / "a.lmdb")
    result = run(list_images(spoiled).files, small, tmp_path / "a.lmdb")
    assert [failure.image_id for failure in result.failures] == ["00003", "00007", "00010"]


class Spoiling:
    """An extractor that gives what is not finite, or not storable, for some pictures."""

    def __init__(self, inner: Extractor, bad: dict[str, float]) -> None:
        self.inner, self.bad, self.provenance, self.prepare = inner, bad, inner.provenance, inner.prepare

    def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
        found = []
        for regions in self.inner.extract(images):
            factor = self.bad.get(regions.image_id, 1.0)
            features = regions.features * np.float32(factor) + np.float32(factor - 1)
            found.append(dataclasses.replace(regions, features=features))
        return found


def test_features_that_cannot_be_stored_are_listed_too(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    spoiling = Spoiling(small, {"00001": float("nan"), "00004": 1e30})
    result = run(pictures[:9], spoiling, tmp_path / "a.lmdb", batch_size=4)
    reasons = {failure.image_id: failure.reason for failure in result.failures}
    assert reasons.keys() == {"00001", "00004"}
    assert reasons["00001"].startswith("row 0: features is not finite")
    assert "does not fit into float16" in reasons["00004"]
    assert result.stored == 7


def test_a_full_device_is_a_sentence(tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]) -> None:
    class Full(Spoiling):
        def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    match = "too little memory for 2 pictures at once; use a smaller --batch-size"
    with pytest.raises(VltkError, match=match):
        run(pictures, Full(small, {}), tmp_path / "a.lmdb", batch_size=2)


def test_a_picture_thinner_than_the_network_sees_is_listed(tmp_path: Path, small: Extractor) -> None:
    folder = write_pictures(tmp_path / "thin", 3, sizes=((64, 48), (900, 2)))
    result = run(list_images(folder).files, small, tmp_path / "a.lmdb", batch_size=2)
    assert result.stored == 2
    assert [failure.reason for failure in result.failures] == [
        "is too thin: 900 x 2 pixels leave the network 96 x 1; leave it out"
    ]


def test_an_error_of_the_network_is_not_blamed_on_pictures(
    tmp_path: Path, small: Extractor, pictures: tuple[ImageFile, ...]
) -> None:
    class Broken(Spoiling):
        def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
            raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side assert"):
        run(pictures, Broken(small, {}), tmp_path / "a.lmdb")


def test_a_picture_without_any_proposal_has_no_regions(tmp_path: Path) -> None:
    proposal = dataclasses.replace(PRESET.proposal, min_side=1000.0)
    strict = DetectedRegions(network(), dataclasses.replace(PRESET, proposal=proposal), weights_hash="")
    folder = write_pictures(tmp_path / "pictures", 2)
    assert run(list_images(folder).files, strict, tmp_path / "a.lmdb").failures == ()
    for regions in FeatureStore.open(tmp_path / "a.lmdb"):
        assert regions.features.shape == (0, 32)
        assert regions.boxes.shape == (0, 4)


def test_every_kind_of_picture_is_stored_or_listed(tmp_path: Path, small: Extractor) -> None:
    folder = write_pictures(tmp_path / "kinds", 1)
    photo = Image.open(folder / "00000.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("L").save(folder / "grey.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("P").save(folder / "palette.png", transparency=0)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) << 8).save(folder / "deep.png")
    photo.save(folder / "moving.gif", save_all=True, append_images=[Image.new("RGB", photo.size)])
    photo.resize((1, 1)).save(folder / "tiny.png")
    photo.save(folder / "wrong.jpg", format="PNG")
    whole = (folder / "turned.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "again").symlink_to(folder)
    (folder / "huge.png").write_bytes(bomb(20_000, 20_000))
    result = run(list_images(folder).files, small, tmp_path / "a.lmdb", num_workers=2)
    store = FeatureStore.open(tmp_path / "a.lmdb")
    assert store.ids() == sorted(["00000", "turned", "grey", "cmyk", "palette", "deep", "moving", "tiny", "wrong"])
    assert store.get("turned").size == (48, 64)
    assert np.array_equal(store.get("wrong").features, store.get("00000").features)
    reasons = {failure.image_id: failure.reason.split(";")[0] for failure in result.failures}
    assert reasons.pop("cut").startswith("is cut short")
    assert reasons == {
        "empty": "is empty (0 bytes)",
        "loop": "is a loop of symbolic links",
        "huge": "claims 20000 x 20000 pixels, more than the limit of 100,000,000",
    }


def test_a_name_that_is_no_text_is_listed(tmp_path: Path, small: Extractor) -> None:
    folder = write_pictures(tmp_path / "pictures", 2)
    (folder / "00000.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    result = run(list_images(folder).files, small, tmp_path / "a.lmdb")
    assert (result.stored, len(result.failures)) == (1, 1)
    assert "is not valid Unicode; rename it" in result.failures[0].reason
    assert failures_path(tmp_path / "a.lmdb").read_text("utf-8").isascii()


# -- batches -------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(shapes=st.lists(st.integers(1, 4), max_size=40), batch_size=st.integers(1, 5))
def test_batches_hold_equal_shapes_and_every_picture_once(shapes: list[int], batch_size: int) -> None:
    images = [
        PreparedImage(image_id=str(i), size=(1, 1), input=torch.zeros(3, shape, 1)) for i, shape in enumerate(shapes)
    ]
    waiting, found = 0, []
    taken = 0

    def feed() -> object:
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    for batch in batches(feed(), batch_size, on_failure=pytest.fail):
        assert 1 <= len(batch) <= batch_size
        assert len({image.input.shape for image in batch}) == 1
        found.extend(image.image_id for image in batch)
        waiting = max(waiting, taken - len(found))
    assert sorted(found, key=int) == [image.image_id for image in images]
    assert waiting <= 4 * batch_size


def test_failures_go_their_own_way() -> None:
    failure, seen = ImageFailure("a", Path("a.jpg"), "is empty"), []
    assert list(batches([failure], 2, on_failure=seen.append)) == []
    assert seen == [failure]
