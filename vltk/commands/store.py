"""Look at, check, join, mend, bring in and hand on stores.

Examples:
    $ vltk store info features.lmdb
    $ vltk store verify features.lmdb
    $ vltk store import train2014_obj36.tsv --format lxmert_tsv --out features.lmdb
    $ vltk store compare features.lmdb mine.lmdb
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.commands import _store_formats
from vltk.config import WriteConfig, argument
from vltk.errors import DataError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Show what a store says about itself: schema, counts, fields, how it was made, size.

    Nothing but the header is read. The size is given twice: as the file claims it, and as it takes up the disk.

    Examples:
        $ vltk store info features.lmdb
    """

    path: Path = argument()
    """Folder of the store."""


def run_info(config: InfoConfig, terminal: Terminal) -> dict[str, object]:
    """Return what the store says about itself."""
    from vltk.stores.maintenance import info

    return info(config.path)


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Check the whole of a store: pages, header, the checksums and rules of every record, index and counts.

    Exit code 3 says that something is damaged, and the result names it.

    Examples:
        $ vltk store verify features.lmdb
    """

    path: Path = argument()
    """Folder of the store."""
    max_problems: int = 100
    """How many problems are described; all are counted."""


def run_verify(config: VerifyConfig, terminal: Terminal) -> dict[str, object]:
    """Return what is wrong with the store."""
    from vltk.stores.maintenance import verify
    from vltk.stores.record_store import read_header

    with terminal.progress(read_header(config.path).count, "verify") as progress:
        found = verify(config.path, max_problems=config.max_problems, progress=progress)
    if not found.ok:
        problem = f"{found.problem_count} problems, {found.good} of {found.records} records are good"
        remedy = "save the good ones with vltk store repair"
        terminal.fail_after(DataError(problem, where=config.path, remedy=remedy))
    return {"path": str(config.path), "ok": found.ok, **asdict(found)}


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Join stores that were made alike into one.

    A record that several of them hold alike is kept once; one id with two contents is refused before anything is
    written. Run the same command again after a crash, and it goes on where it stopped.

    Examples:
        $ vltk store merge part0.lmdb part1.lmdb --out features.lmdb
    """

    parts: tuple[Path, ...] = argument()
    """Folders of the stores to join."""
    out: Path
    """Folder of the store to write."""
    common: WriteConfig = field(default_factory=WriteConfig)


def run_merge(config: MergeConfig, terminal: Terminal) -> dict[str, object]:
    """Write the merged store."""
    from vltk.stores.maintenance import merge
    from vltk.stores.record_store import read_header

    headers = [read_header(part) for part in config.parts]
    plan: dict[str, object] = {
        "parts": {str(part): header.count for part, header in zip(config.parts, headers, strict=True)},
        "out": str(config.out),
    }
    if config.common.dry_run:
        return plan
    with terminal.progress(sum(header.count for header in headers), "merge") as progress:
        store = merge(config.parts, config.out, overwrite=config.common.overwrite, progress=progress)
    return {**plan, "records": len(store), "content_hash": store.content_hash}


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Save every readable record of a damaged store into a new one, and list what was lost.

    The damaged store is only read. The command that wrote it, run again on the new store, fills in what was lost.

    Examples:
        $ vltk store repair damaged.lmdb --out features.lmdb
    """

    path: Path = argument()
    """Folder of the damaged store."""
    out: Path
    """Folder of the store to write."""
    common: WriteConfig = field(default_factory=WriteConfig)


def run_repair(config: RepairConfig, terminal: Terminal) -> dict[str, object]:
    """Write the repaired store."""
    from vltk.stores.maintenance import repair

    if config.common.dry_run:
        return {"path": str(config.path), "out": str(config.out)}
    with terminal.progress(None, "repair") as progress:
        saved = repair(config.path, config.out, overwrite=config.common.overwrite, progress=progress)
    return {"path": str(config.path), "out": str(config.out), **asdict(saved)}


COMMANDS = {
    "info": (InfoConfig, run_info),
    "verify": (VerifyConfig, run_verify),
    "merge": (MergeConfig, run_merge),
    "repair": (RepairConfig, run_repair),
    **_store_formats.COMMANDS,
}
