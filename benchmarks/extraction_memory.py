"""Is the memory of an extraction flat in the number of pictures?

    python benchmarks/extraction_memory.py

Each count runs in a process of its own: a small detector of the published architecture, two decoding threads, batches
of eight, part stores, merge, verification. Printed is how far the resident set grows above what it is before the
first picture: anonymous memory, and all of it with the pages of the stores that the operating system can drop.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (1000, 4000)
FLAT = 1.25


def resident() -> dict[str, float]:
    """Return megabytes of this process by kind."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "VmRSS"))}
    return {name: int(value) / 1e3 for name, value in values.items()}


class Watch(threading.Thread):
    """Keeps the largest values that it saw."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = resident()

    def run(self) -> None:
        while True:
            self.peak = {name: max(value, self.peak[name]) for name, value in resident().items()}
            time.sleep(0.005)


def measure(folder: Path, count: int) -> None:
    import torch

    from tests.detection.small_detector import extractor, write_pictures
    from vltk.detection.extraction import Extraction
    from vltk.detection.images import list_images
    from vltk.detection.loading import Loading

    torch.set_num_threads(1)
    files = list_images(write_pictures(folder / "pictures", count, sizes=((320, 240), (240, 320)))).files
    small = extractor()
    warm = [small.prepare(picture) for picture in _pictures(8)]
    small.extract(warm)
    before, watch, started = resident(), Watch(), time.perf_counter()
    watch.start()
    options = {"metadata": small.provenance.metadata(), "batch_size": 8, "chunk_size": 64}
    with Extraction(files, small, folder / "a.lmdb", loading=Loading(num_workers=2), **options) as extraction:
        extraction.extract()
        stored = extraction.finish().stored
    peak = {name: watch.peak[name] - before[name] for name in before}
    print(json.dumps({"stored": stored, "seconds": time.perf_counter() - started, **peak}))


def _pictures(count: int):
    import numpy as np

    from vltk.detection.extractor import Picture

    return [Picture(image_id=str(i), pixels=np.zeros((240, 320, 3), np.uint8)) for i in range(count)]


def main() -> int:
    found = {}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, folder, str(count)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[count] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{count:5} pictures: +{found[count]['RssAnon']:.1f} MB anonymous, +{found[count]['VmRSS']:.1f} MB in all, "
            f"{found[count]['seconds']:.1f} s"
        )
    few, *more = (found[count]["RssAnon"] for count in COUNTS)
    ratios = ", ".join(f"{many / few:.2f} times for {count}" for many, count in zip(more, COUNTS[1:], strict=True))
    print(f"anonymous memory against {COUNTS[0]} pictures: {ratios} (flat: <= {FLAT})")
    return int(max(more) / few > FLAT)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.path.insert(0, str(ROOT))
        measure(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        raise SystemExit(main())
