"""Pixels for networks of grids: published means and order, random views, and pictures that are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vltk.errors import DataError
from vltk.mixture.pictures import BGR_MEANS, Pictures, network_pixels, random_view


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def test_caffe_takes_blue_green_red_without_means() -> None:
    found = network_pixels(np.full((4, 6, 3), (10, 20, 30), np.uint8), form="caffe", side=8)
    expected = torch.tensor([30 - BGR_MEANS[0], 20 - BGR_MEANS[1], 10 - BGR_MEANS[2]])
    torch.testing.assert_close(found, expected[:, None, None].expand(3, 8, 8))


def test_imagenet_takes_normalised_rgb() -> None:
    found = network_pixels(np.full((4, 6, 3), (255, 0, 255), np.uint8), form="imagenet", side=4)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(found[:, 0, 0], torch.tensor(expected))


def test_a_square_of_the_asked_size_keeps_its_own_pixels() -> None:
    pixels = gradient(8, 8)
    found = network_pixels(pixels, form="caffe", side=8) + torch.tensor(BGR_MEANS)[:, None, None]
    torch.testing.assert_close(found.flip(0).permute(1, 2, 0), torch.from_numpy(pixels).float())


def test_views_keep_at_least_the_published_share_and_mirror_half() -> None:
    pixels, mirrored, shares = gradient(50, 100), 0, []
    for seed in range(300):
        view = random_view(pixels, np.random.default_rng(seed)).astype(int)
        shares.append(view.shape[1] / 100)
        assert abs(view.shape[0] / 50 - view.shape[1] / 100) < 0.03
        mirrored += bool(view[0, 0, 1] > view[0, -1, 1])
    assert 0.59 <= min(shares) < 0.65
    assert 0.95 < max(shares) <= 1
    assert 120 < mirrored < 180


def test_files_are_read_alike_and_anew_for_each_seed(tmp_path: Path) -> None:
    Image.fromarray(gradient(64, 48)).save(tmp_path / "a.png")
    Image.fromarray(gradient(30, 30)).save(tmp_path / "b.png")
    pictures = Pictures.of_folder(tmp_path, side=16)
    plain = pictures.load(["a", "b"])
    assert plain.shape == (2, 3, 16, 16)
    assert torch.equal(plain, pictures.load(["a", "b"]))
    views = [pictures.load(["a", "b"], seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    with pytest.raises(DataError, match=r"there is no picture 'c'.*its ids look like 'a'"):
        pictures.load(["a", "c"])
