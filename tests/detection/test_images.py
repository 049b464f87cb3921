"""Pictures as the world has them: turned, grey, deep, broken, hostile; each is decoded or refused with a sentence."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vltk.detection.images import decode, list_images
from vltk.errors import DataError, UsageError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def gradient(height: int = 12, width: int = 20) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 12, y * 20, (x + y) * 7], axis=-1).astype(np.uint8)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


# -- listing ---------------------------------------------------------------------------------------------------


def test_pictures_are_listed_by_sorted_id_and_the_rest_is_named(tmp_path: Path) -> None:
    for name in ("b.JPG", "a10.png", "a9.jpeg", "notes.txt", ".hidden.jpg", "._a9.jpeg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "0.webp").write_bytes(b"x")
    listing = list_images(tmp_path)
    assert [file.image_id for file in listing.files] == ["0", "a10", "a9", "b"]
    assert [path.name for path in listing.ignored] == ["notes.txt"]


def test_ids_may_be_paths(tmp_path: Path) -> None:
    for name in ("clip1", "clip2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.v2.jpg").write_bytes(b"x")
    listing = list_images(tmp_path, ids="path")
    assert [file.image_id for file in listing.files] == ["clip1/0001.v2", "clip2/0001.v2"]
    with pytest.raises(DataError, match=r"two files have the id '0001.v2': .*clip1.* and .*clip2.*--image-ids path"):
        list_images(tmp_path)


def test_two_files_with_one_id_are_both_named(tmp_path: Path) -> None:
    for name in ("dog.jpg", "dog.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"id 'dog': .*dog\.jpg and .*dog\.png; rename or remove one of them$"):
        list_images(tmp_path)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"x")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "up").symlink_to(tmp_path)
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    listing = list_images(tmp_path)
    assert [file.image_id for file in listing.files] == ["one", "self"]
    assert [path.name for path in listing.ignored] == ["up"]
    with pytest.raises(DataError, match=r"self\.jpg: is a loop of symbolic links"):
        decode(tmp_path / "self.jpg")


@pytest.mark.parametrize(("name", "problem"), [("absent", "does not exist"), ("file.jpg", "is a file, not a folder")])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=f"{name}: {problem}; name the folder"):
        list_images(tmp_path / name)


# -- pictures that are decoded -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_formats_give_their_pixels_whatever_the_suffix(tmp_path: Path, format_: str) -> None:
    pixels = gradient()
    path = saved(tmp_path / "wrong.jpg", Image.fromarray(pixels), format=format_, lossless=True)
    assert np.array_equal(decode(path), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = gradient()
    # What a camera stores when it is held so that the viewer has to apply this orientation (EXIF 2.3, tag 0x112).
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    assert np.array_equal(decode(saved(tmp_path / "a.png", stored, exif=exif)), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
def test_damaged_exif_is_passed_over(tmp_path: Path) -> None:
    pixels = gradient()
    path = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert np.array_equal(decode(path), pixels)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    decoded = decode(saved(tmp_path / "a.png", Image.fromarray(grey)))
    assert np.array_equal(decoded, np.repeat(grey[..., None], 3, axis=-1))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    decoded = decode(saved(tmp_path / "a.png", Image.fromarray(np.eye(3) > 0)))
    assert np.array_equal(decoded, np.repeat((np.eye(3) * 255).astype(np.uint8)[..., None], 3, axis=-1))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    decoded = decode(saved(tmp_path / "a.jpg", picture, quality=100))
    assert np.abs(decoded.astype(int) - RED).max() <= 3


def test_palette_colours_are_kept_or_laid_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putdata([0, 1])
    path = saved(tmp_path / "a.png", picture, transparency=bytes([0, 255]))
    assert decode(path).tolist() == [[list(RED), list(GREEN)]]
    assert decode(path, transparency="white").tolist() == [[list(WHITE), list(GREEN)]]


def test_alpha_is_dropped_or_laid_on_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(np.array([[[*BLUE, 0], [*BLUE, 255]]], np.uint8)))
    assert decode(path).tolist() == [[list(BLUE), list(BLUE)]]
    assert decode(path, transparency="white").tolist() == [[list(WHITE), list(BLUE)]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_upper_byte(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    decoded = decode(saved(tmp_path / f"a.{suffix}", Image.fromarray(values)))
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (decoded == decoded[..., :1]).all()


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    decoded = decode(saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert (decoded == RED).all()


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert decode(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), GREEN))).tolist() == [[list(GREEN)]]


def test_the_limit_of_another_user_of_pillow_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    path = saved(tmp_path / "a.png", Image.fromarray(gradient()))
    assert decode(path).shape == (12, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 16


# -- pictures that are refused -------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose data is nearly absent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(bomb(20_000, 20_000))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("a bomb was decoded"))
    with pytest.raises(DataError, match=r"a\.png: claims 20000 x 20000 pixels, more than the limit of 100,000,000"):
        decode(tmp_path / "a.png")


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(gradient()))
    assert decode(path, max_pixels=240).shape == (12, 20, 3)
    with pytest.raises(DataError, match=r"claims 20 x 12 pixels, more than the limit of 239; .*--max-pixels"):
        decode(path, max_pixels=239)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_a_truncated_picture_is_refused_with_one_sentence(tmp_path: Path, format_: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format=format_)
    (tmp_path / "a.jpg").write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * kept)])
    with pytest.raises(DataError, match=r"a\.jpg: (is cut short|cannot be decoded|is not a picture)") as caught:
        decode(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"no picture at all", r"is not a picture; it begins with b'no picture a'"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page, not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg: {problem}"):
        decode(tmp_path / "a.jpg")


def test_grey_beyond_sixteen_bits_and_floats_have_no_agreed_range(tmp_path: Path) -> None:
    deep = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0, 70_000]], np.int32)))
    with pytest.raises(DataError, match="grey values from 0 to 70000, beyond 16 bits; save it with 8 or 16 bits"):
        decode(deep)
    floats = saved(tmp_path / "b.tif", Image.fromarray(np.array([[0.0, 0.5]], np.float32)))
    with pytest.raises(DataError, match="floating-point pixels"):
        decode(floats)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2)))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    # The tests may run as a user whom permissions do not bind.
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.png: may not be read \(permission denied\)"):
        decode(path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="is not a regular file"):
        decode(tmp_path / "a.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: is missing; restore the file"):
        decode(tmp_path / "gone.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_any_bytes_are_decoded_or_refused_and_never_crash(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    decoded, refused = 0, []
    for format_ in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"):
        whole = io.BytesIO()
        Image.fromarray(gradient()).save(whole, format=format_)
        for _ in range(60):
            content = bytearray(whole.getvalue())
            for place in random.integers(0, len(content), 6):
                content[place] = random.integers(0, 256)
            (tmp_path / "a.jpg").write_bytes(content)
            try:
                decoded += decode(tmp_path / "a.jpg", max_pixels=100_000).ndim == 3
            except DataError as error:
                refused.append(str(error))
    assert decoded > 50
    assert decoded + len(refused) == 8 * 60
    assert [sentence for sentence in refused if "\n" in sentence or "a.jpg: " not in sentence] == []
