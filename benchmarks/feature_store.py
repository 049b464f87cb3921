"""Read 36 x 2048 fp16 region features at random into torch tensors: vltk against the published procedures.

    python benchmarks/feature_store.py --records 2000 --reads 2000 --repetitions 7

Compared, on the same records in one run, alternating, everything in the page cache:

* ``vltk``: ``FeatureStore.get`` with its default settings (the features' checksum when a record is first read, the
  head's on every read), features and boxes as tensors without a copy; the first readings are part of the figure;
* ``always``: the same with ``check="always"``, the features' checksum on every read;
* ``uniter``: UNITER's image database: LMDB, lz4 frame, msgpack with numpy arrays, then fp32 tensors
  (data/data.py, ``DetectFeatLmdb``), as it runs with ``compress=False``;
* ``npz``: UNITER's ``compress=True``: a compressed npz in LMDB, then fp32 tensors.

The features are made up: half of them zero, as behind a ReLU, the others from an exponential distribution.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import lmdb
import lz4.frame
import msgpack
import numpy as np
import torch

from vltk.stores.features import FeatureMetadata, FeatureStore, as_tensor
from vltk.types import RegionFeatures

REGIONS, WIDTH, SIDE = 36, 2048, 640


def draw(number: int) -> RegionFeatures:
    generator = np.random.default_rng(number)
    features = generator.standard_exponential((REGIONS, WIDTH), np.float32)
    features *= generator.random((REGIONS, WIDTH), np.float32) < 0.5
    corners = np.sort(generator.uniform(0, SIDE, (REGIONS, 2, 2)).astype(np.float32), axis=1)
    return RegionFeatures(
        image_id=f"image{number:08d}",
        features=features.astype(np.float16),
        boxes=corners.reshape(REGIONS, 4),
        size=(SIDE, SIDE),
        scores=np.sort(generator.random(REGIONS, np.float32))[::-1].copy(),
    )


def pack_array(value: object) -> object:
    """What msgpack-numpy does to an array."""
    if isinstance(value, np.ndarray):
        return {b"nd": True, b"type": value.dtype.str, b"kind": b"", b"shape": value.shape, b"data": value.tobytes()}
    raise TypeError(type(value))


def unpack_array(value: dict[object, object]) -> object:
    if b"nd" in value:
        return np.frombuffer(value[b"data"], np.dtype(value[b"type"])).reshape(value[b"shape"])  # type: ignore[arg-type]
    return value


def uniter_fields(regions: RegionFeatures) -> dict[str, np.ndarray]:
    corners = regions.boxes / SIDE
    six = np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1).astype(np.float16)
    return {"features": regions.features, "norm_bb": six, "conf": regions.scores.astype(np.float16)}


def compressed_npz(fields: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **fields)
    return buffer.getvalue()


def write(folder: Path, count: int) -> None:
    lz4_env = lmdb.open(str(folder / "uniter"), map_size=1 << 36)
    npz_env = lmdb.open(str(folder / "npz"), map_size=1 << 36)
    metadata = FeatureMetadata(detector="drawn")
    with (
        FeatureStore.create(folder / "vltk", metadata) as writer,
        lz4_env.begin(write=True) as packed,
        npz_env.begin(write=True) as zipped,
    ):
        for number in range(count):
            regions = draw(number)
            key, fields = regions.image_id.encode(), uniter_fields(regions)
            writer.put(regions)
            packed.put(key, lz4.frame.compress(msgpack.dumps(fields, default=pack_array)))
            zipped.put(key, compressed_npz(fields))
    lz4_env.close()
    npz_env.close()


def reader_of_vltk(folder: Path, check: Literal["first", "always"]) -> Callable[[str], object]:
    store = FeatureStore.open(folder / "vltk", check=check)

    def read(image_id: str) -> object:
        regions = store.get(image_id)
        return as_tensor(regions.features), as_tensor(regions.boxes)

    return read


def reader_of_lmdb(folder: Path, decode: Callable[[bytes], dict[str, np.ndarray]]) -> Callable[[str], object]:
    # The transaction stays open and values come without a copy, as in DetectFeatLmdb.
    transaction = lmdb.open(str(folder), readonly=True, lock=False, readahead=False).begin(buffers=True)

    def read(image_id: str) -> object:
        fields = decode(transaction.get(image_id.encode()))
        six = torch.tensor(fields["norm_bb"]).float()
        return torch.tensor(fields["features"]).float(), torch.cat([six, six[:, 4:5] * six[:, 5:]], dim=-1)

    return read


def decode_uniter(value: bytes) -> dict[str, np.ndarray]:
    return msgpack.loads(lz4.frame.decompress(value), object_hook=unpack_array, strict_map_key=False)


def decode_npz(value: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(value), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def rate(read: Callable[[str], object], image_ids: Sequence[str]) -> float:
    start = time.perf_counter()
    for image_id in image_ids:
        read(image_id)
    return len(image_ids) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.records)
        readers = {
            "vltk": reader_of_vltk(folder, "first"),
            "always": reader_of_vltk(folder, "always"),
            "uniter": reader_of_lmdb(folder / "uniter", decode_uniter),
            "npz": reader_of_lmdb(folder / "npz", decode_npz),
        }
        image_ids = [draw(number).image_id for number in range(0, options.records, max(1, options.records // 10))]
        for read in readers.values():
            rate(read, image_ids)
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for repetition in range(options.repetitions):
            order = np.random.default_rng(repetition).integers(0, options.records, options.reads)
            chosen = [f"image{number:08d}" for number in order]
            for name, read in readers.items():
                # npz is so slow that a tenth of the reads says as much.
                rates[name].append(rate(read, chosen[: len(chosen) // 10] if name == "npz" else chosen))
        sizes = {path.name: (path / "data.mdb").stat().st_size for path in folder.iterdir()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    sizes["always"] = sizes["vltk"]
    for name, value in median.items():
        spread = f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}"
        print(f"{name:7} {value:9,.0f} records/s ({spread}), {sizes[name] / options.records / 1024:.0f} KiB a record")
    print(
        f"random reads of {REGIONS} x {WIDTH} fp16 features into torch tensors: "
        f"{median['vltk'] / median['uniter']:.1f} x msgpack + lz4 + fp32 (UNITER), "
        f"{median['vltk'] / median['npz']:.1f} x compressed npz "
        f"({median['always'] / median['uniter']:.1f} x and {median['always'] / median['npz']:.1f} x "
        "with every checksum on every read)"
    )


if __name__ == "__main__":
    main()
