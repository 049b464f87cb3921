"""Write the file that a task's test server takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.config import WriteConfig, argument, listed_in
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal
    from vltk.tasks._submission import Submission


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Write the file that a task's test server takes, and refuse one that the server would refuse.

    Predictions are the predictions.jsonl of vltk eval, its folder, or a file in the server's own form, which is then
    only checked and written anew. Every example of the split needs one answer and no other may have one; with --answers
    each must be of the vocabulary, with --server-split the split must have its published size.

    Examples:
        $ vltk submit runs/vqa/test2015 --task vqa --examples test2015.lmdb --server-split test2015 --out submission
        $ vltk submit predictions.jsonl --task nlvr2 --examples test1.lmdb --out test1.csv
        $ vltk submit vcr_test.csv --task vcr --examples test.lmdb --out checked.csv --dry-run
    """

    predictions: Path = argument()
    """predictions.jsonl, a folder with it, or a file in the server's form."""
    task: str = listed_in("vltk.tasks")
    """Which task."""
    examples: Path
    """Example store of the split."""
    out: Path
    """The file to write; a folder gets a file with the name that the server expects."""
    server_split: str | None = None
    """Name of the published split, such as test2015: its size is checked, and it stands in the file's name."""
    answers: Path | None = None
    """The answers that can be given (ans2label.json or label2ans.json)."""
    method: str = "vltk"
    """Name of the method in the file's name."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: SubmitConfig, terminal: Terminal) -> dict[str, object]:
    """Check the predictions, write the file and return what it is."""
    from vltk.datasets.answers import read_answers
    from vltk.evaluation.prediction_files import read_prediction_file, server_of
    from vltk.stores.examples import ExampleStore
    from vltk.stores.whole_files import new_path

    submission = server_of(config.task)
    predictions = read_prediction_file(config.predictions, task=config.task)
    wanted = ExampleStore.open(config.examples).ids()
    vocabulary = None if config.answers is None else frozenset(read_answers(config.answers))
    split = config.server_split
    submission.check(predictions, wanted, where=str(config.examples), split=split, answers=vocabulary)
    content = submission.text(predictions, wanted, where=str(config.predictions))
    path = _path(config, submission)
    if not config.write.dry_run:
        with new_path(path, overwrite=config.write.overwrite) as fresh:
            fresh.write_text(content, "utf-8")
    return {
        "file": str(path),
        "written": not config.write.dry_run,
        "server": submission.server,
        "predictions": len(wanted),
        "bytes": len(content.encode()),
        "answers_checked": config.answers is not None,
    }


def _path(config: SubmitConfig, submission: Submission) -> Path:
    """Return the file to write, which has the suffix that the server takes."""
    suffix = Path(submission.name).suffix
    if config.out.suffix == suffix:
        return config.out
    if config.out.suffix and not config.out.is_dir():
        problem = f"{config.out.name} does not end in {suffix}"
        raise UsageError(problem, where="--out", remedy=f"the server takes {suffix} files")
    return config.out / submission.name.format(split=config.server_split or config.examples.stem, method=config.method)
