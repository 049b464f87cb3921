"""A page of what ``vltk probe`` found: figures, trees over sentences and pictures, pictures that were retrieved."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vltk.errors import DataError
from vltk.reporting.plain_page import Thumbnails, plain_page
from vltk.reporting.tree_figure import picture_tree, sentence_trees
from vltk.stores.features import FeatureReader
from vltk.stores.whole_files import write_whole

_STYLE = """
h2 { margin: 1.6em 0 .5em; font-size: 1.25em; } h3 { font-size: 1em; margin: 1em 0 .3em; }
table { border-collapse: collapse; } th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } figure { margin: .6em 0 1.2em; overflow-x: auto; }
figcaption, small { color: #666; font-size: .85em; } .found { display: flex; gap: 6px; overflow-x: auto; }
.found div { flex: none; width: 92px; font-size: .75em; overflow-wrap: anywhere; }
.found img, .none { width: 92px; height: 92px; object-fit: cover; display: block; background: #eef; }
"""


def probe_page(folder: Path, *, features: FeatureReader, pictures: Mapping[str, Path], shown: int = 12) -> str:
    """Return the page; it needs no other file and runs nothing.

    Args:
        folder: what ``vltk probe`` wrote.
        features: the regions' boxes.
        pictures: files by image id; a picture without one is drawn as a plain ground.
        shown: how many sentences, pictures and queries.

    Raises:
        DataError: no finished probing, or damaged files.
    """
    results = _read(folder / "results.json")
    lines = [json.loads(line) for line in _lines(folder / "sentences.jsonl")]
    small = Thumbnails(pictures).get
    try:
        parts = [_figures(results), _layers(results), _sentences(lines[:: max(1, len(lines) // max(shown, 1))][:shown])]
        parts.append(_pictures(lines, features, small, shown))
        if (folder / "retrieval.jsonl").is_file():
            parts.append(_retrieved(folder / "retrieval.jsonl", small, shown))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"is damaged ({error!r:.80})", where=folder, remedy="probe again with --overwrite") from error
    return plain_page(f"Probing {results['model']}", parts, style=_STYLE)


def write_probe_page(
    path: Path, folder: Path, *, features: FeatureReader, pictures: Mapping[str, Path], shown: int = 12
) -> None:
    """Write :func:`probe_page` into a file, whole or not at all."""
    write_whole(path, [probe_page(folder, features=features, pictures=pictures, shown=shown)])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="run vltk probe to its end") from error
    if not isinstance(found, dict) or found.get("task") != "probe":
        raise DataError("is no receipt of vltk probe", where=path, remedy="name the folder of a probing")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="run vltk probe to its end") from error


def _figures(results: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td>{html.escape(row['metric'])}</td><td>{row['value']:.3f}</td>"
        f"<td>{_interval(row['interval_95'])}</td><td>{row['n']}</td></tr>"
        for row in results["metrics"]
    ]
    head = "<tr><th>figure</th><th>value</th><th>95 % interval</th><th>n</th></tr>"
    return f"<h2>Figures</h2><table>{head}{''.join(rows)}</table>"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if not bounds else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _layers(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["layers"]:
        layer = "" if row["layer"] is None else "embeddings" if row["layer"] == 0 else row["layer"]
        chosen = " (chosen)" if row["system"] == "encoder" and row["layer"] == results["layer"] else ""
        spearman = "" if row["spearman"] is None else f"{row['spearman']:.3f}"
        rows.append(
            f"<tr><td>{html.escape(row['system'])} {layer}{chosen}</td><td>{row['uuas']:.3f}</td>"
            f"<td>{_interval(row['uuas_interval_95'])}</td><td>{spearman}</td></tr>"
        )
    head = "<tr><th>layer</th><th>UUAS</th><th>95 % interval</th><th>Spearman</th></tr>"
    return f"<h2>Layers and controls</h2><table>{head}{''.join(rows)}</table>"


def _sentences(lines: Sequence[Mapping[str, Any]]) -> str:
    drawn = []
    for line in lines:
        gold = [(word, head - 1) for word, head in enumerate(line["heads"]) if head]
        figure = sentence_trees(line["words"], gold, line.get("predicted", []))
        told = f"{line['right']} of {line['edges']} edges" if "right" in line else "not predicted"
        drawn.append(f"<figure>{figure}<figcaption>{html.escape(line['id'])}: {told}</figcaption></figure>")
    legend = "<p><small>Above in black the gold tree, below in red the predicted one; dashed what is wrong.</small></p>"
    return f"<h2>Trees of sentences</h2>{legend}{''.join(drawn)}"


def _pictures(lines: Sequence[Mapping[str, Any]], features: FeatureReader, small: Any, shown: int) -> str:
    drawn: dict[str, str] = {}
    for line in lines:
        image_id = line["image"]
        if len(drawn) == shown:
            break
        if image_id in drawn or "region_edges" not in line or image_id not in features:
            continue
        regions = features.get(image_id)
        if regions.boxes is None:
            continue
        figure = picture_tree(regions.boxes.tolist(), line["region_edges"], size=regions.size, picture=small(image_id))
        told = f"{html.escape(image_id)}, beside: {html.escape(' '.join(line['words']))}"
        drawn[image_id] = f"<figure>{figure}<figcaption>{told}</figcaption></figure>"
    return f"<h2>Spanning trees of pictures</h2>{''.join(drawn.values())}" if drawn else ""


def _retrieved(path: Path, small: Any, shown: int) -> str:
    parts = []
    for text in _lines(path)[:shown]:
        line = json.loads(text)
        rows = [f"<h3>{html.escape(line['query'])}</h3>", _row([line["query"]], small)]
        for name, found in line["found"].items():
            gains = ", ".join(f"{html.escape(measure)} {value:.2f}" for measure, value in found["gains"].items())
            rows.append(f"<small>{html.escape(name)} ({gains})</small>{_row(found['images'], small)}")
        parts.append("".join(rows))
    return f"<h2>Image retrieval</h2>{''.join(parts)}"


def _row(image_ids: Sequence[str], small: Any) -> str:
    cells = []
    for image_id in image_ids:
        name, address = html.escape(image_id), small(image_id)
        shown = '<span class="none"></span>' if address is None else f'<img src="{address}" alt="{name}">'
        cells.append(f"<div>{shown}{name}</div>")
    return f'<div class="found">{"".join(cells)}</div>'
