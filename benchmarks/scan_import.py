"""Peak resident memory of importing a SCAN .npy of 2 GB into a feature store.

    python benchmarks/scan_import.py [--gigabytes 2] [--folder DIR]

Each figure comes from a fresh process that has torch loaded: the peak (VmHWM) after the import less the peak before
it. The plain way, for comparison, is that of the published loaders: numpy.load of the whole array.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REGIONS, FEATURE_SIZE = 36, 2048
TARGET_MB = 500


def peak_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def make_split(folder: Path, gigabytes: float) -> int:
    """Write a split of pictures that differ, and their captions."""
    row_bytes = REGIONS * FEATURE_SIZE * 4
    rows = -(-int(gigabytes * 2**30) // row_bytes)
    block = np.random.default_rng(0).random((64, REGIONS, FEATURE_SIZE), np.float32)
    with (folder / "train_ims.npy").open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, REGIONS, FEATURE_SIZE)}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, rows, len(block)):
            block[:, 0, 0] = np.arange(start, start + len(block))
            stream.write(block[: rows - start].tobytes())
    (folder / "train_caps.txt").write_text("".join(f"caption {number}\n" for number in range(5 * rows)))
    return rows


def import_split(folder: Path) -> None:
    import torch  # noqa: F401 - part of the baseline

    from vltk.stores.features import FeatureStore
    from vltk.stores.formats import scan_npy
    from vltk.stores.transfer import feature_metadata, import_features

    before = peak_mb()
    options = scan_npy.ReadOptions()
    metadata = feature_metadata("scan_npy", folder, options)
    import_features(scan_npy.read(folder, options), folder / "out.lmdb", metadata)
    print(f"{peak_mb() - before:.0f} {before:.0f}")
    store = FeatureStore.open(folder / "out.lmdb")
    first = np.load(folder / "train_ims.npy", mmap_mode="r")[-1]
    np.testing.assert_array_equal(store.get(f"train_{len(store) - 1}").features, first.astype(np.float16))


def load_whole(folder: Path) -> None:
    import torch  # noqa: F401 - part of the baseline

    before = peak_mb()
    array = np.load(folder / "train_ims.npy")
    print(f"{peak_mb() - before:.0f} {before:.0f}")
    del array


def measure(part: str, folder: Path) -> tuple[float, float, float]:
    start = time.perf_counter()
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    above, before = done.stdout.split()
    return float(above), float(before), time.perf_counter() - start


PARTS = {"import": import_split, "whole": load_whole}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; a temporary folder by default")
    parser.add_argument("--part", choices=PARTS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part](options.folder)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        rows = make_split(folder, options.gigabytes)
        size = (folder / "train_ims.npy").stat().st_size / 1e9
        print(f"{rows} pictures of {REGIONS} x {FEATURE_SIZE} float32, {size:.2f} GB")
        whole = measure("whole", folder)
        ours = measure("import", folder)
        print(f"numpy.load of the whole array: {whole[0]:.0f} MB above the {whole[1]:.0f} MB of Python with torch")
        print(f"vltk store import:             {ours[0]:.0f} MB above the {ours[1]:.0f} MB of Python with torch")
        print(f"ratio {whole[0] / max(ours[0], 1):.1f}, target under {TARGET_MB} MB, {rows / ours[2]:.0f} pictures/s")
        return 0 if ours[0] < TARGET_MB else 1


if __name__ == "__main__":
    sys.exit(main())
