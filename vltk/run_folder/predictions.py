"""What a model says of every example, one JSON object a line: to be measured, averaged and submitted without it.

Any tool can write the file. Its first line may be a card; ``scores`` of each choice may be left out::

    {"format": "vltk-predictions-1", "provenance": {"weights": "..."}}
    {"id": "262148000", "answer": "down", "scores": [0.1, 0.7, 0.2]}
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vltk.errors import DataError, UsageError
from vltk.run_folder.json_lines import json_object
from vltk.stores.whole_files import write_whole
from vltk.types import Prediction

PREDICTIONS = "predictions.jsonl"
FORMAT = "vltk-predictions-1"
MOST_SCORES = 64
"""Scores of more choices are left out of the file unless they are asked for: VQA has 3,129 an example."""


def write_predictions(
    path: Path, predictions: Iterable[Prediction], provenance: Mapping[str, Any], *, all_scores: bool = False
) -> None:
    """Write the file whole or not at all.

    Args:
        path: the file.
        predictions: in the order of the lines.
        provenance: what made them, as JSON values.
        all_scores: keep the scores of more than :data:`MOST_SCORES` choices.
    """
    write_whole(path, _lines(predictions, provenance, all_scores=all_scores))


def read_predictions(path: Path) -> dict[str, Prediction]:
    """Read predictions by the id of their example.

    Raises:
        DataError: there is no such file, a line is not what it should be, or an id comes twice.
    """
    found: dict[str, Prediction] = {}
    for number, line in enumerate(_read_lines(path), 1):
        where = f"{path}, line {number}"
        told = _object(line, where)
        if number == 1 and "format" in told:
            _check_card(told, where)
            continue
        prediction = _prediction(told, where)
        if prediction.id in found:
            raise DataError(f"the id {prediction.id!r} comes twice", where=where, remedy="give each example one answer")
        found[prediction.id] = prediction
    if not found:
        raise DataError("holds no prediction", where=path, remedy="predict first")
    return found


class PredictionLog:
    """Predictions as they come, in a file that a kill leaves whole up to its last line.

    Args:
        path: the file; what is there is gone on with.
        provenance: what makes the predictions; a file that was begun with another is refused.
        all_scores: as :func:`write_predictions`.

    Raises:
        UsageError: the file was begun for something else.
        DataError: the file is not what this class wrote.
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any], *, all_scores: bool = False) -> None:
        self.path, self.all_scores = path, all_scores
        card = _card(provenance)
        self.ids: set[str] = set()
        if path.is_file() and path.read_bytes().find(b"\n") >= 0:
            self._go_on(card)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, [json.dumps(card) + "\n"])

    def _go_on(self, card: Mapping[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # a line that a kill cut short
            with self.path.open("r+b") as file:
                file.truncate(whole)
        lines = content[:whole].decode("utf-8", errors="replace").removesuffix("\n").split("\n")
        before = _object(lines[0], str(self.path))
        if before != card:
            names = sorted(_differing(before.get("provenance", {}), card["provenance"])) or ["the format"]
            problem = f"was begun for something else ({', '.join(names[:3])} differ)"
            raise UsageError(problem, where=self.path, remedy="name another file, or overwrite it")
        self.ids = {_object(line, str(self.path)).get("id") for line in lines[1:]}  # type: ignore[misc]

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Write some predictions; they are safe from a kill when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(_line(one, all_scores=self.all_scores) for one in predictions))
        self.ids |= {one.id for one in predictions}

    def predictions(self) -> dict[str, Prediction]:
        """Read what is there; of an example that was predicted again, the last."""
        lines = enumerate(_read_lines(self.path), 1)
        found = (_prediction(_object(line, str(self.path)), f"{self.path}, line {n}") for n, line in lines if n > 1)
        return {one.id: one for one in found}


def _card(provenance: Mapping[str, Any]) -> dict[str, Any]:
    # As JSON gives it back, so that a file that goes on compares equal.
    return {"format": FORMAT, "provenance": json.loads(json.dumps(dict(provenance), default=str))}


def _lines(predictions: Iterable[Prediction], provenance: Mapping[str, Any], *, all_scores: bool) -> Iterator[str]:
    yield json.dumps(_card(provenance)) + "\n"
    for one in predictions:
        yield _line(one, all_scores=all_scores)


def _line(prediction: Prediction, *, all_scores: bool) -> str:
    told: dict[str, Any] = {"id": prediction.id, "answer": prediction.answer}
    scores = prediction.scores
    if scores is not None and (all_scores or scores.size <= MOST_SCORES):
        # The shortest digits that give the fp32 number back.
        told["scores"] = [float(str(value)) for value in scores.astype(np.float32).ravel()]
    return json.dumps(told, ensure_ascii=False) + "\n"


def _prediction(told: Mapping[str, Any], where: str) -> Prediction:
    key, answer, scores = told.get("id"), told.get("answer"), told.get("scores")
    key = str(key) if isinstance(key, int) and not isinstance(key, bool) else key
    if not isinstance(key, str) or not key or not isinstance(answer, str):
        problem = f"has the id {told.get('id')!r:.40} and the answer {answer!r:.40}, expected two texts"
        raise DataError(problem, where=where, remedy='write {"id": "1", "answer": "yes"}')
    if scores is None:
        return Prediction(id=key, answer=answer)
    with contextlib.suppress(ValueError, TypeError):
        numbers = np.asarray(scores, np.float32)
        if numbers.ndim == 1 and np.isfinite(numbers).all():
            return Prediction(id=key, answer=answer, scores=numbers)
    problem = f"has the scores {scores!r:.40}, expected a list of numbers"
    raise DataError(problem, where=where, remedy="give one for each choice, or leave them out")


def _check_card(told: Mapping[str, Any], where: str) -> None:
    if told["format"] != FORMAT:
        problem = f"says the format {told['format']!r:.40}, expected {FORMAT!r}"
        raise DataError(problem, where=where, remedy="give a file of predictions")


def _differing(before: Any, now: Mapping[str, Any]) -> set[str]:
    before = before if isinstance(before, dict) else {}
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def _read_lines(path: Path) -> list[str]:
    try:
        # Only \n ends a line: answers may hold U+2028 and its like.
        return path.read_text("utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=path, remedy="predict first, or check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=path, remedy="expected one JSON object a line") from error


def _object(line: str, where: str) -> dict[str, Any]:
    return json_object(line, where, remedy='write {"id": ...}')
