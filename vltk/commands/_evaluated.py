"""One evaluation of ``vltk eval``: opened, planned, carried out, written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.commands._terminal import Terminal
from vltk.config import to_dict
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands.eval import EvalConfig
    from vltk.evaluation import AnswerEvaluation, Opened, RetrievalEvaluation
    from vltk.evaluator import Execution
    from vltk.evaluator.pool import Pool
    from vltk.run_folder import RunFolder
    from vltk.run_folder.outcomes import Outcomes
    from vltk.types import Measurement


@dataclass(frozen=True, kw_only=True)
class Session:
    """What ``vltk eval`` was asked for, with everything opened that it needs.

    Attributes:
        config: what was asked for.
        terminal: says it.
        opened: the task on its split; None where scores are measured without stores.
        execution: where and how.
        wait: returns when every process has called it.
        began: when, by the clock of ``time.monotonic``.
    """

    config: EvalConfig
    terminal: Terminal
    opened: Opened | None
    execution: Execution
    wait: Callable[[], None]
    began: float

    @classmethod
    def of(cls, config: EvalConfig, terminal: Terminal, stop: Callable[[], bool]) -> Session:
        """Open what the configuration names."""
        from vltk.evaluation import parse_thresholds
        from vltk.evaluator import Execution
        from vltk.trainer import join_processes

        parse_thresholds(config.fail_under)
        began = time.monotonic()
        if config.run is None:
            opened, execution, wait = _measured(config), Execution(), _nothing
            return cls(config=config, terminal=terminal, opened=opened, execution=execution, wait=wait, began=began)
        processes = join_processes(device=config.device.device, precision=config.device.precision)
        execution = Execution(
            device=processes.device,
            precision=config.device.precision,
            max_tokens=config.batch_tokens,
            memory=int(config.embedding_memory * 2**30),
            share=(processes.process_index, processes.num_processes),
            stop=stop,
        )
        return cls(
            config=config,
            terminal=terminal,
            opened=_opened(config),
            execution=execution,
            wait=processes.wait_for_everyone,
            began=began,
        )

    def plan(self) -> dict[str, Any]:
        """Return what the evaluation would take."""
        from vltk.evaluation import plan_of, said
        from vltk.tasks._task import RetrievalTask

        if self.opened is None or self.config.stored.predictions:
            return {"measures": [str(path) for path in self.config.stored.scores or self.config.stored.predictions]}
        if not isinstance(self.opened.task, RetrievalTask):
            return plan_of(self.opened)
        plan = self._retrieval(self.opened).plan()
        for line in said(plan):
            self.terminal.say(line)
        return plan

    def evaluate(self) -> dict[str, Any] | None:
        """Carry it out; return the receipt, None in helping processes."""
        from vltk.tasks._task import RetrievalTask

        if self.config.stored.scores:
            return self._stored_scores()
        if self.opened is None:
            raise TypeError("nothing is opened")
        if self.config.stored.predictions:
            return self._stored_predictions(self.opened)
        if isinstance(self.opened.task, RetrievalTask):
            return self._ranked(self.opened)
        return self._answered(self.opened)

    # -- retrieval --------------------------------------------------------------------------------------------------

    def _retrieval(self, opened: Opened) -> RetrievalEvaluation:
        from vltk.evaluation import RetrievalEvaluation, first_stage

        pool, how, bar = self._pool(opened), self.config.how, self.terminal.progress
        first = None
        if how.rerank_from is not None:
            first = first_stage(how.rerank_from, opened, pool, execution=self.execution, bar=bar)
        return RetrievalEvaluation(
            opened=opened, pool=pool, execution=self.execution, bar=bar, first=first, candidates=self.config.candidates
        )

    def _pool(self, opened: Opened) -> Pool:
        from vltk.evaluation import listed_images
        from vltk.evaluator.pool import pool_of_split
        from vltk.mixture import read_list

        protocol, file = self._protocol()
        images = None if file is None else listed_images(file, read_list)
        return pool_of_split(opened.split, protocol, images=images)

    def _protocol(self) -> tuple[Any, Path | None]:
        """Return the protocol, and the file of its images where one is named."""
        from vltk.metrics.protocol import RETRIEVAL_PROTOCOLS

        name = self.config.how.protocol
        if name in RETRIEVAL_PROTOCOLS:
            return RETRIEVAL_PROTOCOLS[name], None
        if not Path(name).is_file():
            known = ", ".join(RETRIEVAL_PROTOCOLS)
            raise UsageError(f"{name!r} is no protocol and no file", where="--protocol", remedy=f"known are {known}")
        return replace(RETRIEVAL_PROTOCOLS["split"], name=f"images of {Path(name).name}"), Path(name)

    def _ranked(self, opened: Opened) -> dict[str, Any] | None:
        from vltk.evaluation import said

        evaluation = self._retrieval(opened)
        plan = evaluation.plan()
        folder = self._begin(opened)
        for line in said(plan):
            self.terminal.say(line)
        scores = evaluation.score(folder.path, wait=self.wait)
        if scores is None:
            return None
        texts = None
        if self.config.how.metric_compat == "hgr":
            texts = [opened.split.examples.get(name).texts[0] for name in evaluation.pool.text_ids]
        return self._report(scores, evaluation.pool, opened.name, opened.inputs, folder, texts=texts, cost=plan)

    def _stored_scores(self) -> dict[str, Any]:
        from vltk.evaluation import listed_images
        from vltk.evaluator.pool import pool_of_scores
        from vltk.mixture import read_list
        from vltk.run_folder import file_sha256
        from vltk.stores.score_files import read_scores, score_files
        from vltk.stores.score_matrix import combine_scores

        stored = self.config.stored
        read = [read_scores(path) for path in stored.scores]
        matrix = combine_scores(read, weights=stored.weight or None, standardise=stored.standardise)
        matrix = read[0] if len(read) == 1 and not stored.standardise else matrix
        protocol, file = self._protocol()
        if file is not None:
            matrix = matrix.of_images(listed_images(file, read_list))
        pool = pool_of_scores(matrix, protocol)
        scores = matrix.take(pool.text_ids, pool.image_ids).scores
        task = self.config.task or str(read[0].provenance.get("task", "retrieval"))
        inputs = {f"scores {path}": file_sha256(score_files(path)[0]) for path in stored.scores}
        folder = None if self.config.out is None else self._folder(self.config.out, inputs)
        if folder is not None and len(read) > 1:
            from vltk.evaluation.retrieval import SCORES
            from vltk.stores.score_files import write_scores

            if not (folder.path / f"{SCORES}.json").exists():
                write_scores(folder.path / SCORES, matrix)
        return self._report(scores, pool, task, inputs, folder, provenance=dict(matrix.provenance))

    def _report(
        self,
        scores: Any,
        pool: Pool,
        task: str,
        inputs: Mapping[str, str],
        folder: RunFolder | None,
        *,
        texts: Sequence[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        from vltk.evaluator.recalls import measure_retrieval

        how = self.config.how
        compat = () if how.metric_compat == "none" else (how.metric_compat,)
        found = measure_retrieval(
            scores, pool, task=task, ties=how.ties, compat=compat, texts=texts, seed=self.config.seed
        )
        return self._written(found.measurements, found.outcomes, found.card, task, inputs, folder, **more)

    # -- answers ----------------------------------------------------------------------------------------------------

    def _answered(self, opened: Opened) -> dict[str, Any] | None:
        from vltk.evaluation import AnswerEvaluation

        evaluation = AnswerEvaluation(
            opened=opened,
            execution=self.execution,
            bar=self.terminal.progress,
            num_workers=self.config.device.num_workers,
            all_scores=self.config.keep_scores,
        )
        folder = self._begin(opened)
        predictions = evaluation.predict(folder.path, wait=self.wait)
        blind = evaluation.predict(folder.path, blind=True, wait=self.wait) if self.config.blind else None
        if predictions is None:
            return None
        return self._counted(opened, evaluation, predictions, blind, folder)

    def _stored_predictions(self, opened: Opened) -> dict[str, Any]:
        from vltk.evaluation import averaged_predictions
        from vltk.run_folder import file_sha256
        from vltk.run_folder.predictions import PREDICTIONS

        stored = self.config.stored
        predictions = averaged_predictions(stored.predictions, task=opened.name, weights=stored.weight or None)
        files = [path / PREDICTIONS if path.is_dir() else path for path in stored.predictions]
        inputs = {f"predictions {path}": file_sha256(path) for path in files} | opened.inputs
        folder = None if self.config.out is None else self._folder(self.config.out, inputs)
        return self._counted(replace(opened, inputs=inputs), None, predictions, None, folder)

    def _counted(
        self,
        opened: Opened,
        evaluation: AnswerEvaluation | None,
        predictions: Mapping[str, Any],
        blind: Mapping[str, Any] | None,
        folder: RunFolder | None,
    ) -> dict[str, Any]:
        from vltk.evaluation import measure_predictions

        task: Any = opened.task if evaluation is None else evaluation.task
        rules = task.protocol(opened.split)
        card = {"split": opened.split.name, "examples": len(opened.split), "limit": opened.split.limit} | rules
        found = measure_predictions(task, opened.split, predictions, protocol=rules)
        rows = list(found.measurements)
        if blind is not None:
            unseen = measure_predictions(task, opened.split, blind, protocol=rules)
            rows += [replace(one, metric=f"{one.metric} (blind)") for one in unseen.measurements]
        return self._written(rows, found.outcomes, card, opened.name, opened.inputs, folder)

    # -- what is written --------------------------------------------------------------------------------------------

    def _begin(self, opened: Opened) -> RunFolder:
        run = self.config.run
        if run is None:
            raise TypeError("no run is evaluated")
        folder = run if run.is_dir() else run.parent
        out = self.config.out or folder / "eval" / opened.split.name
        begun = self._folder(out, opened.inputs, begin=not self.execution.share[0])
        self.wait()
        return begun

    def _folder(self, out: Path, inputs: Mapping[str, str], *, begin: bool = True) -> RunFolder:
        from vltk.run_folder import RunFolder

        folder = RunFolder(out, self.config, inputs=inputs)
        if begin:
            folder.begin(resume="auto", overwrite=self.config.write.overwrite)
        return folder

    def _written(
        self,
        rows: Sequence[Measurement],
        outcomes: Outcomes,
        card: Mapping[str, Any],
        task: str,
        inputs: Mapping[str, str],
        folder: RunFolder | None,
        **more: Any,
    ) -> dict[str, Any]:
        from vltk.evaluation import below, parse_thresholds, receipt
        from vltk.run_folder import RESULTS
        from vltk.run_folder.outcomes import OUTCOMES, write_outcomes

        results = receipt(
            task=task,
            measurements=rows,
            protocol=card,
            config=to_dict(self.config),
            inputs=inputs,
            seconds=time.monotonic() - self.began,
            **({} if folder is None else {"out": str(folder.path)}),
            **more,
        )
        if folder is not None:
            write_outcomes(folder.path / OUTCOMES, outcomes)
            folder.write_json(RESULTS, results)
        missed = below(rows, parse_thresholds(self.config.fail_under))
        if missed is not None:
            self.terminal.fail_after(missed)
        return {name: value for name, value in results.items() if name != "config"}


def _opened(config: EvalConfig) -> Opened:
    from vltk.evaluation import open_evaluation

    if config.run is None:
        raise TypeError("no run is evaluated")
    return open_evaluation(
        config.run,
        _stores(config),
        task=config.task,
        options=config.options,
        checkpoint=config.checkpoint,
        other_features=config.regions.other_features == "allow",
        pictures=config.pictures,
    )


def _measured(config: EvalConfig) -> Opened | None:
    from vltk.evaluation import open_unmodelled

    if not config.stored.predictions or config.task is None:
        return None
    return open_unmodelled(_stores(config), task=config.task, options=config.options)


def _stores(config: EvalConfig) -> Any:
    from vltk.evaluation import Stores

    regions = config.regions
    return Stores(
        examples=config.examples,
        features=config.features,
        first_features=regions.first_features,
        min_score=regions.min_score,
        min_boxes=regions.min_boxes,
        max_boxes=regions.max_boxes,
        limit=config.limit,
    )


def _nothing() -> None:
    """Wait for no other process."""
