"""Which pictures must not be seen, by whatever name a list knows them.

UNITER leaves out of its pre-training what the downstream tasks are tested on (section 4 and appendix A.1). The lists
that people hold name pictures by id, by file name or by address; the same picture of COCO has a different name in each
split, and one of Flickr30k appears in other sets under an address that contains its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from vltk.errors import DataError
from vltk.stores.examples import ExampleStore

_COCO = re.compile(r"(?:coco_)?(?:train|val|test|dev|trainval|unlabeled)\d{0,4}_(\d{6,})", re.IGNORECASE)
_FLICKR = re.compile(r"(\d{5,})_[0-9a-f]{8,12}(?:_[a-z0-9]{1,2})?")
_FLICKR_HOST = re.compile(r"(^|\.)(static)?flickr\.com$")
_PAGE = re.compile(r"/photos/[^/]+/(\d{5,})")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".npz", ".npy"}


def image_keys(name: str) -> frozenset[str]:
    """Return all the names that stand for one picture: of an id, a file name, a path or an address.

    Example:
        >>> sorted(image_keys("COCO_val2014_000000000042.jpg"))
        ['COCO_val2014_000000000042', 'COCO_val2014_000000000042.jpg', 'coco:42']
        >>> "flickr:1000092795" in image_keys("https://farm2.staticflickr.com/1/1000092795_0123456789_z.jpg")
        True
        >>> image_keys("000000042") & image_keys("42")
        frozenset()
    """
    address = urlsplit(name) if "://" in name else None
    path = PurePosixPath(name if address is None else address.path)
    stem = path.stem if path.suffix.lower() in _SUFFIXES else path.name
    keys = {name} if address else {name, path.name, stem}
    host = "" if address is None else (address.hostname or "")
    if found := _COCO.fullmatch(stem):
        keys.add(f"coco:{int(found[1])}")
    if address and (found := re.fullmatch(r"\d{12}", stem)) and host.endswith("cocodataset.org"):
        keys.add(f"coco:{int(found[0])}")
    if (found := _FLICKR.fullmatch(stem)) and (not address or _FLICKR_HOST.search(host)):
        keys.add(f"flickr:{found[1]}")
    if address and _FLICKR_HOST.search(host) and (found := _PAGE.search(address.path)):
        keys.add(f"flickr:{found[1]}")
    if not address and re.fullmatch(r"[1-9]\d{5,11}", stem):
        # A bare number of this length is how Flickr30k names its pictures.
        keys.add(f"flickr:{stem}")
    return frozenset(keys)


def read_list(path: Path) -> list[str]:
    """Return the lines of a list of pictures; empty lines and those that begin with # are passed over.

    Raises:
        DataError: it cannot be read as text.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="give a text file, one image a line") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


class Exclusion:
    """A set of pictures that knows each by all of its names.

    Args:
        names: ids, file names or addresses.

    Example:
        >>> excluded = Exclusion(["COCO_val2014_000000000042"])
        >>> "COCO_trainval2014_000000000042.jpg" in excluded, "COCO_val2014_000000000043" in excluded
        (True, False)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._keys = {key for name in names for key in image_keys(name)}

    def __contains__(self, name: object) -> bool:
        return bool(self._keys) and not self._keys.isdisjoint(image_keys(str(name)))

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def of(cls, lists: Sequence[Path] = (), stores: Sequence[Path] = ()) -> Exclusion:
        """Return the pictures that lists name and that example stores (of evaluation splits) are about."""
        return cls([*(name for path in lists for name in read_list(path)), *images_of(stores)])


def images_of(stores: Sequence[Path]) -> Iterator[str]:
    """Yield the picture ids of the examples of stores, each once a store."""
    for path in stores:
        yield from dict.fromkeys(image for example in ExampleStore.open(path) for image in example.image_ids)
