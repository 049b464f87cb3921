"""A page of search results: for each query the pictures that were found, as thumbnails inside the one file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vltk.reporting.plain_page import Thumbnails, plain_page
from vltk.stores.whole_files import write_whole

_STYLE = """
h2 { margin: 1.6em 0 .5em; font-size: 1.15em; }
ol { list-style: none; padding: 0; display: grid; gap: 12px; }
ol { grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); }
li { background: #f4f5f7; border-radius: 6px; overflow: hidden; }
img { width: 100%; height: 150px; object-fit: cover; display: block; }
.none { height: 150px; display: flex; align-items: center; justify-content: center; color: #888; }
p { margin: 0; padding: 6px 9px; overflow-wrap: anywhere; } small { color: #666; }
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one query found.

    Attributes:
        query: the text, or the id of the picture.
        image_ids: of the pictures, the best first.
        scores: theirs.
    """

    query: str
    image_ids: Sequence[str]
    scores: Sequence[float]


def search_page(results: Sequence[Found], *, title: str, pictures: Mapping[str, Path]) -> str:
    """Return the page; it needs no other file and runs nothing.

    Args:
        results: of each query.
        title: what was searched with.
        pictures: files by image id; a picture without one is shown as its id.

    Example:
        >>> page = search_page([Found(query="a <dog>", image_ids=["7"], scores=[0.5])], title="run", pictures={})
        >>> "a &lt;dog&gt;" in page, "0.500" in page
        (True, True)
    """
    small = Thumbnails(pictures)
    parts = []
    for found in results:
        items = []
        for rank, (image_id, score) in enumerate(zip(found.image_ids, found.scores, strict=True), 1):
            name, address = html.escape(image_id), small.get(image_id)
            shown = '<div class="none">no picture</div>' if address is None else f'<img src="{address}" alt="{name}">'
            items.append(f"<li>{shown}<p>{rank}. {name} <small>{score:.3f}</small></p></li>")
        parts.append(f"<h2>{html.escape(found.query)}</h2><ol>{''.join(items)}</ol>")
    return plain_page(title, parts, style=_STYLE)


def write_search_page(path: Path, results: Sequence[Found], *, title: str, pictures: Mapping[str, Path]) -> None:
    """Write :func:`search_page` into a file, whole or not at all."""
    write_whole(path, [search_page(results, title=title, pictures=pictures)])
