"""The file of what was measured, one line an example, written batch by batch and gone on with after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from vltk.errors import StoppedEarlyError
from vltk.isd.encoder import LoadedEncoder
from vltk.isd.measurement import Line, Procedure, measure
from vltk.isd.survey import Survey
from vltk.stores.whole_files import write_whole
from vltk.types import Progress

EXAMPLES = "examples.jsonl"


def measure_all(
    path: Path,
    loaded: LoadedEncoder,
    found: Survey,
    how: Procedure,
    *,
    max_tokens: int,
    progress: Progress = lambda items: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Line]:
    """Measure every item, and keep the lines in a file as they come.

    What the file holds already is not measured again; what comes out is the same either way, for what is encoded
    together does not depend on what is there.

    Args:
        path: the file; it belongs to the same encoder, data and procedure.
        loaded: the encoder, on its device.
        found: what is measured.
        how: how.
        max_tokens: longest pair times number of pairs of a batch stays within this.
        progress: told how many items are done.
        stop: asked after each batch whether to end.

    Returns:
        The lines in the order of the examples.

    Raises:
        StoppedEarlyError: it was asked to stop; the same call goes on.
        DataError: a damaged record, or an attention score that is no number.
    """
    batches = found.batches(max_tokens)
    known = _known(path)
    done = [places for places in batches if all(found.items[place].id in known for place in places)]
    kept = {found.items[place].id: known[found.items[place].id] for places in done for place in places}
    write_whole(path, [json.dumps(line) + "\n" for line in kept.values()])
    progress(len(kept))
    with path.open("a", encoding="utf-8") as file:
        for places in batches:
            if found.items[places[0]].id in kept:
                continue
            lines = measure(loaded, found, how, places)
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            kept |= {line["id"]: line for line in lines}
            progress(len(lines))
            if stop() and len(kept) < len(found.items):
                remedy = "the same command goes on"
                raise StoppedEarlyError(f"stopped after {len(kept)} captions", where=path, remedy=remedy)
    return [kept[item.id] for item in found.items]


def _known(path: Path) -> dict[str, Line]:
    """Return the whole lines of a file; a line that a kill cut short is passed over."""
    if not path.is_file():
        return {}
    found: dict[str, Line] = {}
    for text in path.read_text("utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
            found[line["id"]] = line
        except (ValueError, KeyError, TypeError):
            continue
    return found
