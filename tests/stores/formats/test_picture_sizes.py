"""Sizes of pictures out of JSON, COCO's layout, lines and folders of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vltk.errors import DataError
from vltk.stores.formats._sizes import Sizes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps({"7": [640, 480]})),
        ("a.json", json.dumps({"images": [{"file_name": "x/7.jpg", "width": 640, "height": 480}]})),
        ("a.txt", "7 640 480\n"),
        ("a.csv", "7,640,480\n"),
        ("a.tsv", "7\t640\t480\n"),
    ],
)
def test_every_layout_gives_the_size(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert Sizes(tmp_path / name)["7"] == (640, 480)


def test_a_folder_of_pictures_gives_the_size(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "train" / "7.png")
    (tmp_path / "8.png").write_bytes(b"no picture")
    sizes = Sizes(tmp_path)
    assert sizes["7"] == (64, 48)
    with pytest.raises(DataError, match="is no picture"):
        sizes["8"]
    with pytest.raises(DataError, match="has no size of picture 9; its name must be the id"):
        sizes["9"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", "[1]", "holds no picture sizes"),
        ("a.json", '{"7": [640]}', "holds no picture sizes"),
        ("a.json", '{"7": [640, 0]}', "height is '0'"),
        ("a.json", "{", "holds no picture sizes"),
        ("a.txt", "7 640\n", "line 1: is '7 640'"),
        ("a.txt", "7 wide 480\n", "line 1: width is 'wide'"),
    ],
)
def test_anything_else_is_one_sentence(name: str, content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        Sizes(tmp_path / name)
