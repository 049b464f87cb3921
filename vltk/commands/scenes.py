"""Draw the built-in world: pictures with annotations in the published file formats."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.config import WriteConfig
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.datasets.scenes import WorldSummary
    from vltk.types import Progress


@dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """Draw the built-in world and write it in the published file formats.

    Small pictures of coloured shapes, two to six of them, with exact boxes, captions whose phrases are linked
    to the boxes and whose parses are right by construction, questions, statements and referring expressions.
    The files are those of COCO, Karpathy's split, Flickr30k Entities, CoNLL-U, VQA v2, GQA, NLVR2, SNLI-VE, VCR
    and RefCOCO, so every command that reads real data reads these. The folder's README.md says what is in it, and
    for each task what chance and a perfect reader reach; contact_sheet.png shows the first pictures.

    The same seed draws the same world, and a longer world begins with the shorter one.

    Examples:
        $ vltk scenes --out world --images 100 --seed 1
        $ vltk scenes --out large --images 10000 --size 256
        $ vltk scenes --out hard --images 3000 --families 800
    """

    out: Path
    """Folder to write; it must be empty or absent."""
    images: int = 1000
    """How many scenes to draw; of ten in a row eight train, one validates, one tests."""
    seed: int = 0
    """Which world to draw."""
    size: int = 128
    """Side of the pictures in pixels."""
    families: int = 0
    """Add so many training scenes, each with two other attributes and one exchange of places, as pairs that are hard
    to tell apart (OUT/families)."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: ScenesConfig, terminal: Terminal) -> dict[str, object]:
    """Write the world and return what is in it."""
    if config.write.dry_run:
        plan = {"images": config.images, "size": config.size, "seed": config.seed, "cost": _cost(config)}
        plan |= {"families": config.families} if config.families else {}
        return {"would write": str(config.out), **plan}
    terminal.say(f"drawing {config.images} scenes of seed {config.seed} with all annotations ({_cost(config)})")
    with terminal.progress(config.images, "drawing") as advance:
        summary = _write(config, advance).as_json()
    terminal.say(f"{config.out / 'README.md'} says what is in this world")
    return summary | {"tasks": [_row(task) for task in summary["tasks"]]}


def _row(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task with one column a split."""
    items = task.pop("items")
    return {"task": task.pop("task"), "measure": task.pop("measure"), **items, **task}


def _cost(config: ScenesConfig) -> str:
    # Measured: the pictures of 128 pixels and the annotations of 1,000 scenes take about these.
    megabytes = config.images * (0.012 * (config.size / 128) ** 2 + 0.07)
    return f"about {max(1, round(megabytes))} MB"


def _write(config: ScenesConfig, advance: Progress) -> WorldSummary:
    from vltk.datasets.scenes import write_world

    settings = {
        "images": config.images, "seed": config.seed, "size": config.size, "families": config.families
    }  # fmt: skip
    occupied = config.out.is_dir() and any(config.out.iterdir())
    if not (occupied and config.write.overwrite):
        return write_world(config.out, **settings, progress=advance)
    if not (config.out / "world.json").is_file():
        problem = "--overwrite replaces a drawn world, and this folder holds something else"
        raise UsageError(problem, where=config.out, remedy="name another folder")
    # The old world stays until the new one is whole.
    with tempfile.TemporaryDirectory(prefix=f".{config.out.name}.", dir=config.out.parent) as folder:
        fresh = Path(folder) / config.out.name
        summary = write_world(fresh, **settings, progress=advance)
        shutil.rmtree(config.out)
        fresh.rename(config.out)
    return replace(summary, path=config.out)
