"""The files that test servers take: written from predictions, read back, refused for what a server refuses.

A task file says with ``SUBMISSION`` what its server wants; a task without one has no server.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vltk.datasets._record import Record, read_json, read_lines, unique
from vltk.errors import DataError, UsageError, did_you_mean
from vltk.run_folder.predictions import read_predictions
from vltk.tasks._prediction import check_ids
from vltk.types import Prediction

Lines = Callable[[Sequence[Prediction]], Iterator[str]]
Read = Callable[[Path], Iterator[Prediction]]
Fault = Callable[[Prediction], str | None]


def _no_fault(prediction: Prediction) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a test server wants.

    Attributes:
        server: where the file goes.
        name: what it is called; ``{split}`` and ``{method}`` are filled in.
        lines: writes predictions, in the order of the split.
        read: reads such a file back.
        fault: says what a server would not take in a prediction, None for nothing.
        sizes: how many answers the published splits have.
        most_bytes: the largest file that is taken, None for any.
    """

    server: str
    name: str
    lines: Lines
    read: Read
    fault: Fault = _no_fault
    sizes: Mapping[str, int] = field(default_factory=dict)
    most_bytes: int | None = None

    def check(
        self,
        predictions: Mapping[str, Prediction],
        wanted: Sequence[str],
        *,
        where: str,
        split: str | None = None,
        answers: Collection[str] | None = None,
    ) -> None:
        """Refuse what the server would refuse.

        Args:
            predictions: by example id.
            wanted: the ids of the split.
            where: what to call the split in errors.
            split: name of the published split that the file is for; its size must fit.
            answers: the answers that can be given, None for any.

        Raises:
            UsageError: no such published split.
            DataError: an id is missing or unknown, the split has another size, or an answer is none.
        """
        if split is not None and split not in self.sizes:
            raise UsageError(
                f"there is no split {split!r}", where="--server-split", remedy=did_you_mean(split, self.sizes)
            )
        if split is not None and len(wanted) != self.sizes[split]:
            problem = f"has {len(wanted):,} examples, {split} has {self.sizes[split]:,}"
            raise DataError(problem, where=where, remedy="prepare the whole split")
        check_ids(predictions, set(wanted), where)
        for name in wanted:
            fault = self.fault(predictions[name])
            if fault is None and answers is not None and predictions[name].answer not in answers:
                fault = f"has the answer {predictions[name].answer!r:.60}, which is none of the {len(answers):,}"
            if fault is not None:
                raise DataError(fault, where=f"prediction {name}", remedy="predict again")

    def text(self, predictions: Mapping[str, Prediction], wanted: Sequence[str], *, where: str) -> str:
        """Return the content of the file.

        Raises:
            DataError: it would be larger than the server takes.
        """
        content = "".join(self.lines([predictions[name] for name in wanted]))
        size = len(content.encode())
        if self.most_bytes is not None and size > self.most_bytes:
            problem = f"the file would have {size:,} bytes, the server takes {self.most_bytes:,}"
            raise DataError(problem, where=where, remedy="submit one split")
        return content


def read_any(path: Path, submission: Submission | None) -> dict[str, Prediction]:
    """Read predictions that vltk or another program wrote: ``.jsonl`` is vltk's own form, else it is the server's.

    Raises:
        DataError: it is neither, or an id comes twice.
    """
    if path.suffix == ".jsonl" or submission is None:
        return read_predictions(path)
    found = unique(submission.read(path), lambda one: one.id, path, "the id")
    predictions = {one.id: one for one in found}
    if not predictions:
        raise DataError("holds no prediction", where=path, remedy="predict first")
    return predictions


# -- forms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JSONList:
    """A list of objects with an id and an answer each.

    Attributes:
        id_key: the key of the id.
        answer_key: the key of the answer.
        whole_ids: ids are integers in the file.
        to_answer: makes the value in the file of an answer.
        from_answer: takes it back from the object.
    """

    id_key: str
    answer_key: str
    whole_ids: bool = False
    to_answer: Callable[[str], Any] = str
    from_answer: Callable[[Record, str], str] = Record.text

    def lines(self, predictions: Sequence[Prediction]) -> Iterator[str]:
        """Yield the lines of the list."""
        yield "["
        for place, one in enumerate(predictions):
            named = int(one.id) if self.whole_ids else one.id
            told = json.dumps({self.id_key: named, self.answer_key: self.to_answer(one.answer)})
            yield f"{',' if place else ''}\n{told}"
        yield "\n]\n"

    def read(self, path: Path) -> Iterator[Prediction]:
        """Yield the predictions of a file."""
        for record in Record.of({"list": read_json(path)}, path).records("list"):
            answer = self.from_answer(record, self.answer_key)
            yield Prediction(id=record.identifier(self.id_key), answer=answer)

    def fault(self, prediction: Prediction) -> str | None:
        """Say what is wrong with the id."""
        if self.whole_ids and not re.fullmatch(r"0|[1-9]\d*", prediction.id):
            return f"has the id {prediction.id!r:.40}, the server wants a whole number"
        return None


def read_csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield place and cells of each row that is not empty.

    Raises:
        DataError: the file is absent or no text.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield f"{path}, line {number}", next(csv.reader([line]))


def csv_line(cells: Iterable[object]) -> str:
    """Return a row of a CSV file.

    Example:
        >>> csv_line(["a,b", 1])
        '"a,b",1\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def choice_probabilities(scores: np.ndarray[Any, Any], choices: int) -> np.ndarray[Any, Any]:
    """Return the softmax of each ``choices`` consecutive scores.

    Example:
        >>> choice_probabilities(np.zeros(8), 4).tolist()
        [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    """
    blocks = scores.astype(np.float64).reshape(-1, choices)
    weights = np.exp(blocks - blocks.max(axis=1, keepdims=True))
    probabilities: np.ndarray[Any, Any] = (weights / weights.sum(axis=1, keepdims=True)).ravel()
    return probabilities
