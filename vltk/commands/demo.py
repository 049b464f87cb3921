"""Walk the whole line on a world that vltk draws itself, from pictures to findings with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands import _demo_sizes
from vltk.commands._demo_stages import stages
from vltk.commands._demo_steps import Demo
from vltk.commands._walkthrough import Finding, Stage, Walk
from vltk.config import WriteConfig, option
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

_RECORD = "demo.json"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Walk the whole line: draw a world, describe it, prepare, augment, pre-train, fine-tune, evaluate, verify.

    Each stage runs the commands that it prints, says what it proves, and tells figures with 95 % intervals; where a
    paper claims something that can be tried in minutes, the stage says whether it came out. At the end all figures
    and claims stand in tables, and with what they say in OUT/findings.json and OUT/report.html. Pictures are drawn, the
    detector and the small UNITER come with vltk: nothing is downloaded.

    Stopped anywhere, the same command goes on and comes to the same figures; what stands is not made again, unless
    other weights have come with vltk since. It takes three to four minutes on two cores, with --quick about one;
    figures of --quick show that the line holds and little more.

    Examples:
        $ vltk demo
        $ vltk demo --quick --out /tmp/demo
        $ vltk demo --dry-run
        $ vltk demo --json --quiet > findings.json
    """

    out: Path = option(Path("vltk-demo"), incidental=True)
    """Folder to write."""
    quick: bool = False
    """Make everything smaller."""
    seed: int = 0
    """Seed of the world and of all that is random."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: DemoConfig, terminal: Terminal) -> dict[str, object]:
    """Make what is not there yet, and return what came out."""
    sizes = _demo_sizes.QUICK if config.quick else _demo_sizes.FULL
    line = stages(Demo(out=config.out, sizes=sizes, seed=config.seed))
    if config.write.dry_run:
        return {"would write": str(config.out), "steps": list(_planned(line))}
    walk = Walk(config.out, line)
    _claim(config, walk)
    walk.go(terminal)
    return {
        "out": str(config.out),
        "seconds": {name: round(seconds, 1) for name, seconds in walk.seconds.items()},
        "figures": [_figure(one) for one in walk.findings if not one.claim],
        "claims": [_claim_tried(one) for one in walk.findings if one.claim],
        "report": walk.results["report"]["page"],
        "next": [{"try": line, "to see": what} for line, what in _suggestions(config)],
    }


def _figure(found: Finding) -> dict[str, object]:
    return {"figure": found.figure, "value": found.value, "95 %": found.ends, "n": found.n}


def _claim_tried(found: Finding) -> dict[str, object]:
    return {"claim": found.claim, "outcome": found.outcome, "difference": found.value, "95 %": found.ends}


def _planned(stages: list[Stage]) -> Iterator[dict[str, str]]:
    for stage in stages:
        for step in stage.steps:
            yield {"stage": stage.name, "command": step.line}


def _claim(config: DemoConfig, walk: Walk) -> None:
    """Make the folder this demo's, or refuse one that holds something else."""
    from vltk.stores.whole_files import write_whole

    record, wanted = config.out / _RECORD, {"quick": config.quick, "seed": config.seed}
    held = record.is_file()
    if not held and config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError("holds something else than a demo", where=config.out, remedy="name another folder")
    if held and config.write.overwrite:
        walk.clear()
    elif held and (there := json.loads(record.read_text("utf-8"))) != wanted:
        remedy = "name another folder, or replace it with --overwrite"
        raise UsageError(f"holds {_described(there)}", where=config.out, remedy=remedy)
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(record, [json.dumps(wanted) + "\n"])


def _described(record: Mapping[str, Any]) -> str:
    return f"a {'quick' if record.get('quick') else 'full'} demo with seed {record.get('seed')}"


def _suggestions(config: DemoConfig) -> Iterator[tuple[str, str]]:
    out = config.out
    yield f"open {out / 'report.html'}", "all of it on one page, with pictures"
    yield f"open {out / 'world' / 'README.md'}", "what the world holds, and what chance and a perfect reader reach"
    yield f"open {out / 'preview'}", "what the detector found"
    yield f"vltk store info {out / 'features.lmdb'}", "what a store says about itself"
    told = f"--features {out / 'pool-features.lmdb'} --tokenizer {out / 'world' / 'vocab.txt'}"
    yield f"vltk search {out / 'runs' / 'dual-gpo'} {told} --text 'a red star above a ring'", "pictures for a sentence"
    yield "vltk prepare --task gqa --help", "the options of another task"
    yield "vltk ls", "tasks, models, formats, recipes"
