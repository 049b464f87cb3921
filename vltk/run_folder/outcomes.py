"""What an evaluation says of every single item, so that two of them can be compared in pairs.

An evaluation writes ``outcomes.jsonl`` beside its ``results.json``. The first line is the card, each other line one
item of one series, in plain JSON that any tool can write::

    {"format": "vltk-outcomes-1", "task": "flickr30k", "split": "sha256 of the split", "protocol": {"ties": "against"},
     "series": {"t2i": "rank", "i2t": "rank"}}
    {"series": "t2i", "id": "caption 17", "cluster": "1007129816", "value": 3}

A series of kind ``rank`` holds the 1-based rank of the right answer (retrieval, both ways), of kind ``score`` what the
item counts for in the mean: 1 or 0 where it is right or wrong (NLVR2, RefCOCO, VCR's three series), VQA's soft score.
Items of one cluster (the captions or questions of one image) depend on each other and are drawn together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError, did_you_mean
from vltk.run_folder.folder import RESULTS
from vltk.run_folder.json_lines import json_object
from vltk.stores.whole_files import write_whole

OUTCOMES = "outcomes.jsonl"
FORMAT = "vltk-outcomes-1"
Kind = Literal["rank", "score"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One value an item: the ranks of a direction of retrieval, or the scores of a classification.

    Attributes:
        kind: "rank" (1 is best; recalls are made of it) or "score" (its mean is the metric).
        ids: N ids of the items, each once.
        values: [N] float64.
        clusters: N names of what must be drawn together when an interval is estimated: the image of each item. Empty
            where the items are independent; each is then its own cluster.

    Raises:
        DataError: another number of values than ids, an id twice, a value that is not finite, a rank below 1.
    """

    kind: Kind
    ids: tuple[str, ...]
    values: NDArray[np.float64]
    clusters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ids),) or len(self.clusters) not in (0, len(self.ids)):
            problem = f"{self.values.shape} values and {len(self.clusters)} clusters for {len(self.ids)} ids"
            raise DataError(problem, remedy="give one of each for every item")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(one for one in self.ids if one in seen or seen.add(one))  # type: ignore[func-returns-value]
            raise DataError(f"item {twice!r} occurs twice", remedy="every item counts once")
        good = np.isfinite(self.values)
        if self.kind == "rank":
            good &= (self.values >= 1) & (self.values == np.floor(self.values))
        if not good.all():
            row = int(np.argmin(good))
            expected = "a whole number from 1" if self.kind == "rank" else "a finite number"
            problem = f"item {self.ids[row]!r} has the {self.kind} {self.values[row]}, expected {expected}"
            raise DataError(problem, remedy="evaluate again")

    def cluster_numbers(self) -> NDArray[np.int64]:
        """Return [N] the number of each item's cluster, from 0 in the order of first sight."""
        if not self.clusters:
            return np.arange(len(self.ids))
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in self.clusters], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """Everything that an evaluation says item by item, under the card of its protocol.

    Attributes:
        task: name of the task.
        split: :func:`vltk.metrics.protocol.split_hash` of what was evaluated; only equal splits are compared.
        protocol: the rules that a figure depends on (hit rule, tie policy, folds, boxes, label rule).
        series: the values by name: ``t2i`` and ``i2t`` for retrieval, ``accuracy`` for a classification, ``qa``,
            ``qar`` and ``joint`` for VCR.
    """

    task: str
    split: str
    series: Mapping[str, Series]
    protocol: Mapping[str, Any] = field(default_factory=dict)


def write_outcomes(path: Path, outcomes: Outcomes) -> None:
    """Write the file whole or not at all."""
    write_whole(path, _lines(outcomes))


def _lines(outcomes: Outcomes) -> Iterator[str]:
    kinds = {name: series.kind for name, series in outcomes.series.items()}
    card = {"format": FORMAT, "task": outcomes.task, "split": outcomes.split, "protocol": dict(outcomes.protocol)}
    yield json.dumps(card | {"series": kinds}) + "\n"
    for name, series in outcomes.series.items():
        values = (series.values.astype(np.int64) if series.kind == "rank" else series.values).tolist()
        for row, (item, value) in enumerate(zip(series.ids, values, strict=True)):
            cluster = {"cluster": series.clusters[row]} if series.clusters else {}
            yield json.dumps({"series": name, "id": item, **cluster, "value": value}) + "\n"


def read_outcomes(path: Path) -> Outcomes:
    """Read ``outcomes.jsonl``; also from the ``results.json`` beside it, or the folder of both.

    Raises:
        DataError: there is no such file, a line of it is not what it should be, or a series is empty.
    """
    path = outcomes_path(path)
    try:
        # Only \n ends a line: ids may hold U+2028 and its like.
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        remedy = "give the results.json or the folder of an evaluation that wrote outcomes.jsonl"
        raise DataError("there is no such file", where=path, remedy=remedy) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="check the path") from error
    card = _card(lines[0], f"{path}, line 1")
    series = _read_series(path, lines[1:], card["series"])
    return Outcomes(task=card["task"], split=card["split"], protocol=card.get("protocol", {}), series=series)


def outcomes_path(path: Path) -> Path:
    """Return the file of outcomes that belongs to a ``results.json`` or to the folder of an evaluation."""
    if path.is_dir() or path.name == RESULTS:
        return (path if path.is_dir() else path.parent) / OUTCOMES
    return path


def _card(line: str, where: str) -> dict[str, Any]:
    card = _object(line, where)
    if card.get("format") != FORMAT:
        problem = f"says the format {card.get('format')!r:.40}, expected {FORMAT!r}"
        raise DataError(problem, where=where, remedy="give the outcomes.jsonl of an evaluation")
    kinds, known = card.get("series"), get_args(Kind)
    if not isinstance(kinds, dict) or not kinds or not all(kind in known for kind in kinds.values()):
        problem = f"has the series {kinds!r:.60}, expected names with one of {', '.join(known)}"
        raise DataError(problem, where=where, remedy="evaluate again")
    texts = all(isinstance(card.get(key), str) for key in ("task", "split"))
    if not texts or not isinstance(card.get("protocol", {}), dict):
        raise DataError("lacks its task, split or protocol", where=where, remedy="evaluate again")
    return card


def _read_series(path: Path, lines: Sequence[str], kinds: Mapping[str, Kind]) -> dict[str, Series]:
    rows: dict[str, tuple[list[str], list[float], list[str]]] = {name: ([], [], []) for name in kinds}
    for number, line in enumerate(lines, 2):
        where = f"{path}, line {number}"
        item = _object(line, where)
        name, key, value, cluster = (item.get(part) for part in ("series", "id", "value", "cluster"))
        if not isinstance(name, str) or name not in rows:
            raise DataError(f"is of the series {name!r:.40}", where=where, remedy=did_you_mean(str(name), rows))
        if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"has the id {key!r:.40} and the value {value!r:.40}, expected a text and a number"
            raise DataError(problem, where=where, remedy="evaluate again")
        ids, values, clusters = rows[name]
        ids.append(key)
        values.append(value)
        if cluster is not None:
            clusters.append(str(cluster))
    return {name: _series(path, name, kinds[name], *columns) for name, columns in rows.items()}


def _series(path: Path, name: str, kind: Kind, ids: list[str], values: list[float], clusters: list[str]) -> Series:
    where = f"{path}, series {name}"
    if not ids:
        raise DataError("has no item", where=where, remedy="evaluate again")
    try:
        return Series(kind=kind, ids=tuple(ids), values=np.array(values, np.float64), clusters=tuple(clusters))
    except DataError as error:
        raise DataError(error.problem, where=where, remedy=error.remedy) from error


def _object(line: str, where: str) -> dict[str, Any]:
    return json_object(line, where, remedy="evaluate again")
