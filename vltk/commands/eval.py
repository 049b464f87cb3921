"""Evaluate a run on a split, or measure scores and predictions without a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vltk.commands._processes import alone_or_among
from vltk.commands._stopping import stoppable
from vltk.commands._terminal import Terminal
from vltk.config import DeviceConfig, WriteConfig, argument, chosen_by, listed_in, option
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._evaluated import Session


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """How retrieval is searched and counted."""

    protocol: str = "split"
    """flickr30k-1k, coco-1k (five folds), coco-5k, "split" for the whole split, or a file of image ids, one a line."""
    ties: Literal["against", "for"] = "against"
    """Whether a wrong answer with exactly the score of the right one ranks before it."""
    metric_compat: Literal["none", "uniter", "vsrn", "hgr"] = "none"
    """Show what the authors' code prints of the same scores beside the right figures; hgr: of videos, whose sentences
    may belong to several."""
    rerank_from: Path | None = None
    """Let a first stage propose candidates: a score matrix, or a run of a dual encoder."""


@dataclass(frozen=True, kw_only=True)
class StoredConfig:
    """Measure what was computed before, without a model."""

    scores: tuple[Path, ...] = ()
    """Score matrices (NAME.npy beside NAME.json); of several the weighted mean is measured."""
    predictions: tuple[Path, ...] = ()
    """Files of predictions, in vltk's form or in the test server's; of several the mean of their scores."""
    weight: tuple[float, ...] = option((), least=-math.inf)
    """Weight of each of them; equal ones if not given."""
    standardise: bool = False
    """Bring each score matrix to mean 0 and deviation 1 first: for models whose scores have different scales."""


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """Which regions are read; what is not given is as the run was trained."""

    first_features: tuple[Path, ...] = option((), incidental=True)
    """Feature stores whose regions come before those of --features."""
    min_score: float | None = None
    """Keep regions with a higher score."""
    min_boxes: int | None = None
    """Keep at least so many."""
    max_boxes: int | None = None
    """Keep at most so many."""
    other_features: Literal["refuse", "allow"] = "refuse"
    """What to do with features of another detector or preset than those that the run was trained on."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluate a run on a split: scores or predictions, the official figures with intervals, a receipt.

    RUN and stores are all it needs; task and model are the run's. A pre-trained run ranks without fine-tuning with
    --task. Retrieval embeds every text and every picture once and encodes pairs of similar length together; what it
    will take is said before it begins, and a killed evaluation goes on with the same command. OUT holds results.json,
    outcomes.jsonl for vltk compare, and scores or predictions that --scores and --predictions measure again, average
    and re-rank without a model.

    Examples:
        $ vltk eval runs/flickr30k --examples test.lmdb --features flickr30k.lmdb --protocol flickr30k-1k
        $ vltk eval runs/pretrained --task flickr30k --examples test.lmdb --features flickr30k.lmdb
        $ vltk eval runs/uniter --examples test.lmdb --features coco.lmdb --rerank-from runs/vse --candidates 50
        $ vltk eval --scores runs/a/eval/test/scores --scores runs/b/eval/test/scores --metric-compat uniter
        $ vltk eval --task vqa --predictions theirs.json --examples val.lmdb
    """

    run: Path | None = argument(None)
    """Folder of a run, or a file of weights; left out to measure --scores or --predictions."""
    examples: tuple[Path, ...] = option((), incidental=True)
    """Example stores of the split."""
    features: tuple[Path, ...] = option((), incidental=True)
    """Feature stores of their pictures."""
    pictures: Path | None = option(None, incidental=True)
    """Folder of the split's photographs, for a model that reads pixels; that of its training where not given."""
    out: Path | None = option(None, incidental=True)
    """Folder of the results; RUN/eval/NAME if not given, nothing is written without RUN."""
    task: str | None = listed_in("vltk.tasks", None)
    """Task to rank for without fine-tuning, or that --predictions are of."""
    options: Any = chosen_by("task", package="vltk.tasks", attribute="Config")
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which checkpoint of the run; auto takes the best where there is one."""
    candidates: int = 100
    """Pictures of each text and texts of each picture that --rerank-from proposes to be ranked anew."""
    how: ProtocolConfig = field(default_factory=ProtocolConfig)
    stored: StoredConfig = field(default_factory=StoredConfig)
    regions: RegionsConfig = field(default_factory=RegionsConfig)
    blind: bool = False
    """Measure the run on pictures of other examples as well: what texts alone give away."""
    keep_scores: bool = False
    """Keep the scores of any number of choices in predictions.jsonl, to average them with others."""
    fail_under: tuple[str, ...] = option((), incidental=True)
    """METRIC=VALUE: end with exit code 5 where a figure is worse."""
    limit: int | None = option(None, least=1)
    """Count only the first N examples."""
    batch_tokens: int = option(0, incidental=True)
    """Words and regions that are encoded together; 0 for what suits the device."""
    embedding_memory: float = option(2.0, incidental=True)
    """GiB that the embeddings of pictures may take; more are treated in blocks."""
    seed: int = 0
    """Seed of the bootstrap."""
    nproc: int = option(1, incidental=True, least=1)
    """Processes on this machine, one for each GPU, that divide the pairs or examples."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    write: WriteConfig = field(default_factory=WriteConfig)


def run(config: EvalConfig, terminal: Terminal) -> dict[str, object] | None:
    """Evaluate, and return the receipt; or the plan, with --dry-run."""
    _check(config)
    terminal = alone_or_among(config.nproc, terminal, begin=config.run is not None and not config.write.dry_run)
    with stoppable(terminal) as stop:
        session = _session(config, terminal, stop)
        return session.plan() if config.write.dry_run else session.evaluate()


def _session(config: EvalConfig, terminal: Terminal, stop: Any) -> Session:
    from vltk.commands._evaluated import Session

    return Session.of(config, terminal, stop)


def _check(config: EvalConfig) -> None:
    """Refuse options that contradict each other."""
    given = [config.run, config.stored.scores or None, config.stored.predictions or None]
    if sum(one is not None for one in given) != 1:
        problem = "nothing to evaluate" if not any(given) else "a run, --scores and --predictions are given together"
        raise UsageError(problem, remedy="give one of RUN, --scores and --predictions")
    if config.run is not None or config.stored.predictions:
        # Most figures of predictions need no picture; those that do say so.
        for name in ("examples",) if config.run is None else ("examples", "features"):
            if not getattr(config, name):
                raise UsageError("is missing", where=f"--{name}", remedy="name the stores of the split")
    if config.stored.predictions and config.task is None:
        raise UsageError("is missing", where="--task", remedy="say what the predictions are of")
    if config.run is None and config.how.rerank_from is not None:
        raise UsageError("needs a run that re-ranks", where="--rerank-from", remedy="name it, or leave this out")
    if config.stored.weight and config.run is not None:
        raise UsageError("weighs --scores or --predictions", where="--weight", remedy="leave it out")
    if config.stored.standardise and not config.stored.scores:
        raise UsageError("does nothing without --scores", where="--standardise", remedy="leave it out")
