"""The cost of an extraction is measured on pictures spread over all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detection.small_detector import extractor, write_pictures
from vltk.detection.estimate import estimate
from vltk.detection.images import list_images, read_size
from vltk.detection.loading import Loading
from vltk.errors import DataError


def test_sizes_regions_and_bytes_are_those_of_the_pictures(tmp_path: Path) -> None:
    files = list_images(write_pictures(tmp_path, 9)).files
    small = extractor()
    cost = estimate(files, small, loading=Loading())
    assert (cost.smallest, cost.typical, cost.largest) == ((48, 64), (64, 48), (70, 50))
    assert cost.timed == 5
    assert 0 < cost.decoding < cost.seconds
    assert 4 <= cost.regions <= 6
    # 32 fp16 features, 7 fp16 class probabilities, 4 coordinates, score, class, attribute and its score.
    assert cost.record_bytes == pytest.approx(cost.regions * (32 * 2 + 7 * 2 + 16 + 4 + 8 + 8 + 4))
    wide = estimate(files, small, loading=Loading(), dtype="float32")
    assert wide.record_bytes - cost.record_bytes == pytest.approx(cost.regions * 64)


def test_pictures_that_cannot_be_used_are_passed_over(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 5)
    (folder / "00000.png").write_bytes(b"")
    assert estimate(list_images(folder).files, extractor(), loading=Loading()).timed == 4
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the pictures tried can be used; the last is empty \(0 bytes\)"):
        estimate(list_images(folder).files, extractor(), loading=Loading())


def test_a_size_is_read_upright_from_the_header(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_size(tmp_path / "a.jpg") == (30, 50)
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert read_size(tmp_path / "b.jpg") is None
