"""Walk the line on a world that vltk draws itself: pictures, region features, example stores, all verified."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands import _store_formats, extract_features, prepare, scenes, store
from vltk.config import WriteConfig, arguments
from vltk.errors import UsageError, VltkError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

IMAGES, QUICK_IMAGES = 300, 60
_RECORD = "demo.json"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Make everything once: draw a world, detect its regions, move them between formats, prepare tasks, verify.

    It runs the commands that it names, on files in the published formats; at the end it shows what it made and what
    to try next. The regions are found by the small detector that comes with vltk. A second run skips what is finished.

    Examples:
        $ vltk demo
        $ vltk demo --out /tmp/demo --quick
    """

    out: Path = Path("vltk-demo")
    """Folder to write."""
    quick: bool = False
    """Draw 60 pictures, not 300."""
    seed: int = 0
    """Which world to draw."""
    write: WriteConfig = field(default_factory=WriteConfig)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is made.

    Attributes:
        command: the command that makes it.
        config: its configuration.
        run: makes it.
        made: the file or folder that is there once it is made.
        what: what that is, for people.
    """

    command: str
    config: Any
    run: Callable[[Any, Terminal], Mapping[str, Any] | None]
    made: Path
    what: str

    @property
    def line(self) -> str:
        """The command line that makes it."""
        return shlex.join(["vltk", *self.command.split(), *arguments(self.config)])

    def finished(self) -> bool:
        """Whether it is made already: stores know when they are complete, all else appears in one piece."""
        if self.made.suffix != ".lmdb" or not self.made.exists():
            return self.made.exists()
        from vltk.stores.maintenance import open_store

        try:
            open_store(self.made)
        except VltkError:
            return False
        return True


def run(config: DemoConfig, terminal: Terminal) -> dict[str, object]:
    """Make what is not there yet, verify the stores, and return what was made."""
    steps = list(_steps(config))
    if config.write.dry_run:
        return {"would write": str(config.out), "steps": [{"what": one.what, "command": one.line} for one in steps]}
    start = time.monotonic()
    _claim(config, steps)
    for step in steps:
        if step.finished():
            terminal.say(f"{step.what}: is there already")
        else:
            terminal.say(f"{step.what}: {step.line}")
            step.run(step.config, terminal)
    stores = [step.made for step in steps if step.made.suffix == ".lmdb"]
    verified = {path: store.run_verify(store.VerifyConfig(path=path), terminal) for path in stores}
    return {
        "out": str(config.out),
        "seconds": round(time.monotonic() - start, 1),
        "made": [_row(step, verified.get(step.made)) for step in steps],
        "next": [{"try": line, "to see": what} for line, what in _suggestions(config)],
    }


def _steps(config: DemoConfig) -> Iterator[Step]:
    from vltk.stores.formats.lxmert_tsv import ReadOptions, WriteOptions

    world, features, tsv = config.out / "world", config.out / "features.lmdb", config.out / "regions.tsv"
    images = QUICK_IMAGES if config.quick else IMAGES
    drawn = scenes.ScenesConfig(out=world, images=images, seed=config.seed)
    yield Step(command="scenes", config=drawn, run=scenes.run, made=world, what="pictures and annotations")
    detected = extract_features.ExtractFeaturesConfig(
        images=world / "images",
        out=features,
        detector=extract_features.DetectorConfig(detector="demo"),
        work=extract_features.WorkConfig(batch_size=8),
        preview=extract_features.PreviewConfig(preview=config.out / "preview", preview_count=12),
    )
    yield Step(
        command="extract-features", config=detected, run=extract_features.run, made=features, what="detected regions"
    )
    exported = _store_formats.ExportConfig(store=features, format="lxmert_tsv", out=tsv, options=WriteOptions())
    yield Step(
        command="store export", config=exported, run=_store_formats.run_export, made=tsv, what="regions as LXMERT's TSV"
    )
    again = config.out / "imported.lmdb"
    imported = _store_formats.ImportConfig(source=tsv, format="lxmert_tsv", out=again, options=ReadOptions())
    yield Step(
        command="store import", config=imported, run=_store_formats.run_import, made=again, what="the TSV as a store"
    )
    for name, (task, source) in _sources(world).items():
        made = config.out / f"{name}.lmdb"
        asked_for = prepare.PrepareConfig(
            task=task, source=source, out=made, tokenizer=str(world / "vocab.txt"), features=(features,)
        )
        yield Step(command="prepare", config=asked_for, run=prepare.run, made=made, what=f"examples of {name}")


def _sources(world: Path) -> dict[str, tuple[str, Any]]:
    """Return for each example store its task and its annotation files."""
    from vltk.tasks import flickr30k, vqa

    entities, questions = world / "flickr30k_entities", world / "vqa_v2"
    sources: dict[str, tuple[str, Any]] = {
        f"flickr30k-{split}": ("flickr30k", flickr30k.Source(entities=entities, images=entities / f"{split}.txt"))
        for split in ("train", "test")
    }
    asked = questions / "v2_OpenEnded_mscoco_train_questions.json"
    answered = questions / "v2_mscoco_train_annotations.json"
    return sources | {"vqa-train": ("vqa", vqa.Source(questions=asked, annotations=answered))}


def _claim(config: DemoConfig, steps: list[Step]) -> None:
    """Make the folder this demo's, or refuse one that holds something else."""
    record, wanted = config.out / _RECORD, {"quick": config.quick, "seed": config.seed}
    held = record.is_file()
    if not held and config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError("holds something else than a demo", where=config.out, remedy="name another folder")
    if held and config.write.overwrite:
        for step in steps:
            shutil.rmtree(step.made) if step.made.is_dir() else step.made.unlink(missing_ok=True)
    elif held and (found := json.loads(record.read_text("utf-8"))) != wanted:
        remedy = "name another folder, or replace it with --overwrite"
        raise UsageError(f"holds a demo of {_described(found)}", where=config.out, remedy=remedy)
    config.out.mkdir(parents=True, exist_ok=True)
    with _in_one_piece(record) as partial:
        partial.write_text(json.dumps(wanted) + "\n", "utf-8")


def _described(record: Mapping[str, Any]) -> str:
    return f"{QUICK_IMAGES if record.get('quick') else IMAGES} pictures with seed {record.get('seed')}"


@contextmanager
def _in_one_piece(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file takes its own name when it is whole, so a kill leaves no half of it."""
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    partial.replace(path)


def _row(step: Step, verified: Mapping[str, Any] | None) -> dict[str, object]:
    files = [step.made] if step.made.is_file() else [path for path in step.made.rglob("*") if path.is_file()]
    size = sum(path.stat().st_blocks * 512 for path in files)
    return {
        "made": step.what,
        "path": str(step.made),
        "files": len(files),
        "MB": round(size / 1e6, 3),
        "records": verified["records"] if verified else None,
        "verified": verified["ok"] if verified else None,
    }


def _suggestions(config: DemoConfig) -> Iterator[tuple[str, str]]:
    world = config.out / "world"
    yield f"open {world / 'README.md'}", "what the world holds, and what chance and a perfect reader reach"
    yield f"open {config.out / 'preview'}", "what the detector found"
    features, imported = config.out / "features.lmdb", config.out / "imported.lmdb"
    yield f"vltk store info {features}", "what a store says about itself"
    yield f"vltk store compare {features} {imported}", "whether two extractions are the same"
    yield "vltk prepare --task gqa --help", "the options of another task"
    yield "vltk scenes --out larger --images 1000 --seed 1", "another world"
    yield "vltk --help", "all commands"
