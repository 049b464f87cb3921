"""How well each objective does on pairs that are not trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vltk.batching import TokenBuckets
from vltk.metrics.significance import share_interval
from vltk.mixture import Mixture, PairSource, Share, Work, seed_of

_UNITS = {"mrfr loss": "squared error", "mrm loss": "loss", "probing loss": "loss"}
"""What is no cross entropy or divergence."""


class Validation:
    """Measures every objective on held-out pairs, always the same ones with the same words and regions hidden.

    Args:
        sources: held-out sets.
        objectives: names of what is measured.
        mismatch: of each objective, the share of mismatched pairs.
        buckets: how pairs become batches.
        limit: pairs of each set that are measured.
        paired: names of the objectives whose batches hold augmented views as well.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        objectives: Sequence[str],
        *,
        mismatch: Mapping[str, float],
        buckets: TokenBuckets,
        limit: int = 2000,
        paired: Collection[str] = (),
    ) -> None:
        self.objectives, self.limit = tuple(objectives), limit
        self.mixture = Mixture(sources, (), buckets=buckets, micro_batches=1, seed=0, mismatch=mismatch, paired=paired)
        self.starts = np.cumsum([0, *(len(source.image_ids) for source in sources)])
        self.guesses: dict[str, NDArray[np.float64]] = {}

    def __call__(self, processes: Any, module: nn.Module) -> tuple[float, dict[str, float]]:
        """Return the mean accuracy of the objectives that guess, and every figure by its name.

        Args:
            processes: of :func:`~vltk.trainer.join_processes`; each measures its share.
            module: called with an objective's name, a batch and a generator.

        Returns:
            The quality, minus the summed losses where no objective guesses; losses (of mrfr the mean squared error
            of a feature's dimension) and accuracies.
        """
        figures: dict[str, float] = {}
        for name in self.objectives:
            sums = torch.zeros(2, dtype=torch.float64, device=processes.device)
            guesses = torch.zeros(int(self.starts[-1]), 2, dtype=torch.float64, device=processes.device)
            for work in self.works(name)[processes.process_index :: processes.num_processes]:
                batch = self.mixture.load(work).to(processes.device)
                losses = module(name, batch, torch.Generator().manual_seed(work.seed))
                sums += torch.tensor([float(losses.values.sum()), losses.count], device=sums.device)
                if losses.correct is not None:
                    images = torch.from_numpy(self._images(work)).to(sums.device)
                    images = images if losses.rows is None else images[losses.rows]
                    guesses.index_add_(0, images, torch.stack([losses.correct, losses.correct | True], 1).double())
            total, count = processes.reduce(sums, "sum").tolist()
            figures[f"{name} loss"] = total / max(count, 1)
            found = processes.reduce(guesses, "sum").cpu().numpy()
            if found[:, 1].any():
                figures[f"{name} accuracy"] = float(found[:, 0].sum() / found[:, 1].sum())
                self.guesses[f"{name} accuracy"] = found[found[:, 1] > 0]
        accuracies = [value for name, value in figures.items() if name.endswith("accuracy")]
        return (sum(accuracies) / len(accuracies) if accuracies else -sum(figures.values())), figures

    def rows(self, figures: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the figures as rows of the receipt, accuracies with their number and an interval over images."""
        found = []
        for name, value in figures.items():
            row: dict[str, Any] = {"metric": name, "value": value, "higher_is_better": name.endswith("accuracy")}
            guesses = self.guesses.get(name)
            if guesses is None:
                row |= {"unit": _UNITS.get(name, "nats")}
            else:
                interval = share_interval(guesses[:, 0], guesses[:, 1])
                row |= {"unit": "fraction", "n": int(guesses[:, 1].sum()), "interval_95": interval}
            found.append(row)
        return found

    def _images(self, work: Work) -> NDArray[np.int64]:
        """Return [B] the image that each pair of a micro-batch belongs to, counted through all sets."""
        images: NDArray[np.int64] = self.mixture.sources[work.source].image_of[work.rows] + self.starts[work.source]
        return images

    def works(self, objective: str) -> list[Work]:
        """Return the micro-batches of an objective: the first pairs of one pass over each set."""
        found = []
        for place, source in enumerate(self.mixture.sources):
            seen, limit = 0, min(self.limit, len(source))
            for number, work in enumerate(self.mixture.epoch(Share(source=place, objective=objective, weight=1), 0)):
                kept = slice(0, limit - seen)
                seed = seed_of("validation", objective, place, number)
                found.append(replace(work, rows=work.rows[kept], images=work.images[kept], seed=seed))
                seen += len(found[-1].rows)
                if seen >= limit:
                    break
        return found
