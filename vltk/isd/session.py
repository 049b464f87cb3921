"""A measurement from stores and a model to a receipt, for one model or for every checkpoint of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vltk.isd.curve import Point, curve
from vltk.isd.encoder import LoadedEncoder, tokenizer_of
from vltk.isd.measurement import Line, Procedure, measure
from vltk.isd.objects import Chains
from vltk.isd.report import NAMES, chance, layers, measurements, surrogate_correlation
from vltk.isd.rows import EXAMPLES, measure_all
from vltk.isd.survey import Survey, describe
from vltk.metrics.protocol import split_hash
from vltk.models._layers import layer_place
from vltk.run_folder import RESULTS, RunFolder, circumstances
from vltk.run_folder.outcomes import OUTCOMES, Outcomes, Series, write_outcomes
from vltk.types import Progress

Bar = Callable[[int, str], AbstractContextManager[Progress]]
"""Shows how far something is: given a total and a label."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What is measured, how, and where.

    Attributes:
        found: examples and features.
        how: the procedure.
        chains: how objects were found, for the record.
        device: where to compute.
        max_tokens: longest pair times number of pairs of a batch stays within this.
        other_features: allow features of another detector than the model was trained on.
        bar: shows how far it is.
        stop: asked after each batch whether to end.
    """

    found: Survey
    how: Procedure
    chains: Chains = "merged"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_tokens: int = 4096
    other_features: bool = False
    bar: Bar
    stop: Callable[[], bool] = lambda: False

    def take(self, loaded: LoadedEncoder) -> LoadedEncoder:
        """Return an encoder where it computes, after a look at whether it fits the data.

        Raises:
            DataError: other word pieces, other features, or a text that is too long.
            UsageError: a layer that it does not have.
        """
        tokenizer = tokenizer_of(self.found.examples)
        layer_place(self.how.layer, loaded.depth)
        first = self.found.items[0]
        pieces = (len(self.found.examples.get(item.id).tokens[0].ids) + 2 for item in self.found.items)
        loaded.check(
            self.found.features,
            tokenizer,
            region_dim=self.found.features.get(first.image_id).features.shape[1],
            longest=max(pieces),
            where=str(self.found.examples.path),
            other_features=self.other_features,
        )
        loaded.module.to(self.device)
        return loaded

    def plan(self, loaded: LoadedEncoder) -> dict[str, Any]:
        """Return what a measurement would do and how long it would take, from one batch; nothing is written."""
        batches = self.found.batches(self.max_tokens)
        begin = time.monotonic()
        measure(loaded, self.found, self.how, batches[len(batches) // 2])
        seconds = (time.monotonic() - begin) / len(batches[len(batches) // 2])
        return {
            **describe(self.found),
            "model": loaded.name,
            "layers": loaded.depth,
            "batches": len(batches),
            "estimated_seconds": round(seconds * len(self.found.items), 1),
        }

    def lines(self, loaded: LoadedEncoder, folder: Path, label: str = "isd") -> list[Line]:
        """Measure a model and keep its lines in a folder; what is there already is taken from it."""
        folder.mkdir(parents=True, exist_ok=True)
        with self.bar(len(self.found.items), label) as progress:
            return measure_all(
                folder / EXAMPLES,
                loaded,
                self.found,
                self.how,
                max_tokens=self.max_tokens,
                progress=progress,
                stop=self.stop,
            )

    def measure_one(self, loaded: LoadedEncoder, folder: RunFolder) -> dict[str, Any]:
        """Measure a model; write and return its receipt."""
        begin = time.monotonic()
        lines = self.lines(self.take(loaded), folder.path)
        write_outcomes(folder.path / OUTCOMES, self._outcomes(lines))
        figures = {
            "metrics": [one.row() for one in measurements(lines, seed=self.how.seed)],
            "chance": chance(lines),
            "layers": layers(lines, seed=self.how.seed),
            "correlation": surrogate_correlation(lines),
        }
        return self._receipt(folder, loaded, figures, begin)

    def measure_curve(
        self, name: str | None, points: Sequence[Point], load: Callable[[Path], LoadedEncoder], folder: RunFolder
    ) -> dict[str, Any]:
        """Measure every checkpoint of a run; write and return the receipt.

        Args:
            name: what the quality of the checkpoints is called.
            points: the checkpoints.
            load: reads one.
            folder: where the receipt and the lines of each go.
        """
        begin = time.monotonic()
        figures = []
        for point in points:
            loaded = self.take(load(point.path))
            lines = self.lines(loaded, folder.path / f"step-{point.step}", label=f"step {point.step}")
            figures.append({one.metric: one.value for one in measurements(lines, seed=self.how.seed)})
        told = {"metrics": [one.row() for one in measurements(lines, seed=self.how.seed)]}
        return self._receipt(folder, loaded, told | curve(name, points, figures), begin)

    def _receipt(
        self, folder: RunFolder, loaded: LoadedEncoder, figures: dict[str, Any], begin: float
    ) -> dict[str, Any]:
        results = {
            "model": loaded.name,
            "weights": loaded.weights,
            **describe(self.found),
            **figures,
            "protocol": self.protocol(),
            "device": str(self.device),
            **circumstances(folder.inputs, seconds=time.monotonic() - begin),
        }
        folder.write_json(RESULTS, results)
        return results

    def protocol(self) -> dict[str, Any]:
        """Return the rules that the figures depend on."""
        return {
            "split": split_hash((item.id for item in self.found.items), (item.image_id for item in self.found.items)),
            "layer": self.how.layer,
            "reading": asdict(self.how.reading),
            "chains": self.chains,
            "special_tokens": self.how.special_tokens,
            "surrogates": self.how.form,
        }

    def _outcomes(self, lines: Sequence[Line]) -> Outcomes:
        ids = tuple(str(line["id"]) for line in lines)
        images = tuple(str(line["image"]) for line in lines)
        protocol = self.protocol()
        series = {
            name: Series(kind="score", ids=ids, values=np.array([line[name] for line in lines]), clusters=images)
            for name in NAMES
            if name in lines[0]
        }
        return Outcomes(task="isd", split=protocol.pop("split"), protocol=protocol, series=series)
