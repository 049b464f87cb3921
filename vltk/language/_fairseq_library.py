"""The installed fairseq as an engine: its models and its beam search, with our reading of text.

fairseq 0.12.2 is of 2022. On Python 3.11 its dataclasses do not build and torch loads its checkpoints as plain data;
what it takes to import and run it stands here, is undone at once, and touches nothing outside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vltk.errors import UsageError, VltkError
from vltk.language._search import SEARCH, Hypothesis, Search
from vltk.language._sentences import named
from vltk.language._translator import BUCKETING, Bucketing, MosesBytePairs
from vltk.types import Progress

INSTALL = (
    'pip install "pip<24.1" && pip install --no-deps fairseq==0.12.2 hydra-core==1.0.7 omegaconf==2.0.6 '
    "antlr4-python3-runtime==4.8 && pip install bitarray sacrebleu cffi"
)


class FairseqTranslator:
    """Translates a WMT'19 directory with the installed fairseq.

    Args:
        folder: the directory.
        source: language of what it takes.
        target: language of what it gives.
        coding: its pieces; fastBPE does not build on current Pythons, so fairseq is given ids.
        checkpoints: names of the checkpoints, more than one make an ensemble.
        description: which weights.
        device: where to compute.

    Raises:
        VltkError: fairseq is not installed.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        target: str,
        *,
        coding: MosesBytePairs,
        checkpoints: Sequence[str],
        description: dict[str, Any],
        device: torch.device | None = None,
    ) -> None:
        self.source, self.target, self.description = source, target, description
        self.coding = coding
        kind = _import_model()
        with _loading_whole_checkpoints():
            self._hub: Any = kind.from_pretrained(
                str(folder),
                checkpoint_file=":".join(checkpoints),
                data_name_or_path=str(folder.resolve()),
                source_lang=source,
                target_lang=target,
            )
        for model in self._hub.models:
            for layer in model.encoder.layers:
                # torch's fused layer, which fairseq calls directly, refuses fairseq's kind of mask since 2023.
                layer.can_use_fastpath = False
        self._hub.eval().to(device or torch.device("cpu"))

    def translate(
        self,
        texts: Sequence[str],
        *,
        ids: Sequence[str] = (),
        settings: Search = SEARCH,
        bucketing: Bucketing = BUCKETING,
        progress: Progress | None = None,
    ) -> list[list[Hypothesis]]:
        """Translate, see :class:`~vltk.language.translation.Translator`.

        Raises:
            UsageError: sampling, whose seeds per sentence fairseq does not have.
        """
        if settings.sampling:
            remedy = "leave out --engine fairseq"
            raise UsageError("fairseq cannot sample with a seed per sentence", where="--sampling", remedy=remedy)
        named(texts, ids)
        sources = [self.coding.encode(text) for text in texts]
        found: list[list[Hypothesis]] = [[] for _ in texts]
        for rows in bucketing.batches([len(row) for row in sources]):
            made = self._hub.generate(
                [torch.tensor(sources[row]) for row in rows],
                beam=settings.beam,
                lenpen=settings.length_penalty,
                max_len_a=settings.max_length_a,
                max_len_b=settings.max_length_b,
                min_len=settings.min_length,
                unkpen=settings.unknown_penalty,
            )
            for row, hypotheses in zip(rows, made, strict=True):
                found[row] = [self._hypothesis(one) for one in hypotheses[: settings.n_best]]
            if progress is not None:
                progress(len(rows))
        return found

    def _hypothesis(self, made: dict[str, Any]) -> Hypothesis:
        scores = tuple(made["positional_scores"].tolist())
        own = Hypothesis(tokens=tuple(made["tokens"].tolist()), score=float(made["score"]), token_scores=scores)
        return replace(own, text=self.coding.decode(own.tokens))


def _import_model() -> Any:
    try:
        with _building_old_dataclasses():
            from fairseq.models.transformer import TransformerModel
    except ImportError as error:
        remedy = f"{INSTALL}; or leave out --engine fairseq, which reads the same weights"
        raise VltkError("fairseq is not installed", where="--engine fairseq", remedy=remedy) from error
    return TransformerModel


@contextlib.contextmanager
def _building_old_dataclasses() -> Iterator[None]:
    """Let a dataclass have an instance of another one as default, as Python 3.10 did."""
    module: Any = dataclasses
    original = module._get_field

    def get_field(cls: Any, name: str, *rest: Any) -> Any:
        default = getattr(cls, name, None)
        default = default.default if isinstance(default, dataclasses.Field) else default
        if dataclasses.is_dataclass(default) and not isinstance(default, type) and type(default).__hash__ is None:
            kind: Any = type(default)
            kind.__hash__ = object.__hash__
        return original(cls, name, *rest)

    module._get_field = get_field
    try:
        yield
    finally:
        module._get_field = original


@contextlib.contextmanager
def _loading_whole_checkpoints() -> Iterator[None]:
    """Let fairseq's ``torch.load`` admit the argparse.Namespace of a checkpoint, and nothing that runs."""
    import argparse

    original = torch.load
    torch.load = functools.partial(original, weights_only=True)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            yield
    finally:
        torch.load = original
