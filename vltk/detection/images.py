"""Finds the pictures of a folder and decodes them; what is wrong with one of them is a sentence, never a crash."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vltk.errors import DataError, UsageError

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo"}
    | {".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
# Pillow knows more formats; some of them start other programs (EPS starts Ghostscript) or are no photographs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")

Transparency = Literal["drop", "white"]

_LIMIT_LOCK = threading.Lock()
_ORIENTATION = 0x0112
_CAUSES = {
    errno.ENOENT: "is missing",
    errno.EACCES: "may not be read (permission denied)",
    errno.EPERM: "may not be read (permission denied)",
    errno.ELOOP: "is a loop of symbolic links",
    errno.EIO: "cannot be read from the disk (input/output error)",
}


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture that was found, and the id that it has in a feature store.

    Attributes:
        image_id: the file's name without its suffix, or its path below the folder without the suffix.
        path: the file.
    """

    image_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """A picture that could not be used.

    Attributes:
        image_id: its id.
        path: the file.
        reason: one sentence that says what is wrong with it.
    """

    image_id: str
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: the pictures, sorted by id.
        ignored: files with another suffix and folders that were seen before, in the order of their paths.
    """

    files: tuple[ImageFile, ...]
    ignored: tuple[Path, ...] = ()


def list_images(folder: Path, *, ids: Literal["stem", "path"] = "stem") -> Listing:
    """List the pictures of a folder and of the folders below it, sorted by id.

    A picture is a file with a suffix of :data:`SUFFIXES`; hidden files are passed over. Links to folders are
    followed, each folder once, so that a loop of links ends.

    Args:
        folder: where the pictures are.
        ids: "stem" takes the file's name without its suffix as the id, "path" the path below the folder.

    Raises:
        UsageError: the folder does not exist or is a file.
        DataError: two files have one id, or the folder cannot be read.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UsageError(problem, where=folder, remedy="name the folder that holds the pictures")
    found: dict[str, Path] = {}
    ignored: list[Path] = []
    for path, is_picture in _walk(folder, seen=set()):
        if not is_picture:
            ignored.append(path)
            continue
        image_id = path.stem if ids == "stem" else path.relative_to(folder).with_suffix("").as_posix()
        if image_id in found:
            other = found[image_id]
            apart = " or ask for --image-ids path" if ids == "stem" and other.parent != path.parent else ""
            problem = f"two files have the id {image_id!r}: {other} and {path}"
            raise DataError(problem, remedy=f"rename or remove one of them{apart}")
        found[image_id] = path
    return Listing(tuple(ImageFile(i, found[i]) for i in sorted(found)), tuple(sorted(ignored)))


def _walk(folder: Path, *, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, bool]]:
    """Yield every visible file with whether it is named like a picture, and every folder that was seen before."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(_cause(error), where=folder, remedy="make the folder readable") from None
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            yield path, path.suffix.lower() in SUFFIXES
        elif _identity(path) in seen:
            yield path, False
        else:
            yield from _walk(path, seen=seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def decode(path: Path, *, max_pixels: int = MAX_PIXELS, transparency: Transparency = "drop") -> NDArray[np.uint8]:
    """Decode a picture into [H, W, 3] RGB bytes, upright.

    The content decides about the format, not the suffix. EXIF orientation is applied, of an animation the first
    frame is taken, 16-bit values keep their upper byte, grey, palette and CMYK pictures become RGB.

    Args:
        path: the file.
        max_pixels: the largest width * height; what a header claims beyond it is refused before anything is decoded.
        transparency: "drop" keeps the stored colours and forgets how transparent they were, as the published
            extractors did; "white" lays the picture on white.

    Raises:
        DataError: the file cannot be read, is no picture, is damaged or is too large.
    """
    content = _read(path)
    try:
        with _open(content) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                problem = f"claims {width} x {height} pixels, more than the limit of {max_pixels:,}"
                raise DataError(problem, where=path, remedy="shrink it or raise --max-pixels")
            return np.asarray(_to_rgb(_upright(picture), transparency))
    except DataError as error:
        raise DataError(error.problem, where=path, remedy=error.remedy) from None
    except Exception as error:
        # The decoders of foreign formats fail in every way there is (struct.error, SyntaxError, zlib.error, ...); one
        # broken file must not end a run over a million.
        raise DataError(_decoding_problem(error), where=path, remedy="replace the file") from None


def read_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) as a picture's header claims, upright; None where it cannot be read."""
    try:
        with _open(_read(path)) as picture:
            turned = int(picture.getexif().get(_ORIENTATION, 1)) >= 5
            return (picture.height, picture.width) if turned else picture.size
    except Exception:  # as in decode(); extraction tells the reason
        return None


def _read(path: Path) -> bytes:
    try:
        # Opening a named pipe would wait for ever.
        content = path.read_bytes() if stat.S_ISREG(path.stat().st_mode) else None
    except OSError as error:
        raise DataError(_cause(error), where=path, remedy="restore the file or its permissions") from None
    if content is None:
        raise DataError("is not a regular file", where=path, remedy="remove it")
    if not content:
        raise DataError("is empty (0 bytes)", where=path, remedy="fetch the file again")
    return content


def _cause(error: OSError) -> str:
    return _CAUSES.get(error.errno or 0, f"cannot be read ({error.strerror or error})")


def _open(content: bytes) -> Image.Image:
    # Pillow's own limit is one global number that warns first; max_pixels is checked instead, by the caller.
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(content), formats=_formats())
        except UnidentifiedImageError:
            page = content[:256].lstrip().lower().startswith((b"<!doctype", b"<html"))
            problem = "is a web page, not a picture" if page else f"is not a picture; it begins with {content[:12]!r}"
            raise DataError(problem, remedy="fetch the file again") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # builds of Pillow differ in AVIF and JPEG 2000


def _decoding_problem(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, EOFError) or any(sign in text.lower() for sign in ("truncated", "unexpected end")):
        return f"is cut short ({text or 'the data ends too early'})"
    return f"cannot be decoded ({text or type(error).__name__})"


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        turned = 2 <= int(picture.getexif().get(_ORIENTATION, 1)) <= 8
    except Exception:  # damaged EXIF says nothing about the pixels
        return picture
    return ImageOps.exif_transpose(picture) if turned else picture


def _to_rgb(picture: Image.Image, transparency: Transparency) -> Image.Image:
    if picture.mode == "F":
        raise DataError("has floating-point pixels, whose range no format fixes", remedy="save it with 8 or 16 bits")
    if picture.mode == "I" or picture.mode.startswith("I;"):
        return _from_deep_grey(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if transparency == "white":
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        problem = f"has grey values from {values.min()} to {values.max()}, beyond 16 bits"
        raise DataError(problem, remedy="save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
