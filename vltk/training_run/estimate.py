"""What a run will cost, before it begins."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from vltk.types import Batch

_SAMPLE = 50  # steps whose sizes are looked at
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SECONDS = 15.0  # how long steps are timed at most


class MeasuredPlan(Protocol):
    """A :class:`~vltk.types.Plan` that knows how large its micro-batches are; an item has ``rows``, its pairs."""

    def steps(self, start: int = 0) -> Iterator[Sequence[Any]]:
        """Yield the micro-batches of each step."""
        ...

    def load(self, work: Any) -> Batch:
        """Read a micro-batch."""
        ...

    def tokens(self, work: Any) -> tuple[int, int]:
        """Return how many tokens and regions a micro-batch has, and how many places with its padding."""
        ...


def estimate_memory(config: Any, *, parameters: int, tokens: int, precision: str, recomputed: bool) -> dict[str, int]:
    """Return the bytes that training needs, estimated from the sizes.

    Weights, gradients and AdamW's two moments are fp32: 16 bytes a parameter. Of a layer's activations the backward
    pass needs 34 H bytes a token in 16 bits where no attention probabilities are kept (Korthikanti et al., 2022,
    section 4.1, without the term of the scores), and H of them where it computes them again.

    Args:
        config: size of the Transformer, with ``hidden``, ``layers`` and ``region_dim``.
        parameters: number of distinct weights.
        tokens: of the largest micro-batch, padding included.
        precision: of the forward pass.
        recomputed: keep only the inputs of the layers.
    """
    width = 2 if precision == "fp32" else 1
    layer = 34 * config.hidden * width
    kept = config.layers * 2 * width * config.hidden + layer if recomputed else config.layers * layer
    words = tokens * config.region_dim * 4
    return {"weights": 4 * parameters, "training": 16 * parameters, "activations": tokens * kept + words}


def estimate_cost(
    module: nn.Module,
    plan: MeasuredPlan,
    *,
    steps: int,
    micro_batches: int,
    processes: int,
    device: torch.device,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Time a few micro-batches, forward and backward, and return what the whole run would take.

    The weights are not changed. The update itself and the exchange between processes are not in the figure.

    Args:
        module: the model with its objectives.
        plan: what comes when.
        steps: of the run.
        micro_batches: of a step, over all processes.
        processes: that share the micro-batches of a step.
        device: where to compute.
        precision: fp32, bf16 or fp16 arithmetic.
    """
    sample = list(itertools.islice(plan.steps(), min(_SAMPLE, steps)))
    sizes = [[plan.tokens(work) for work in works] for works in sample]
    real = sum(size for works in sizes for size, _ in works) / len(sizes)
    padded = [place for works in sizes for _, place in works]
    pairs = sum(len(work.rows) for works in sample for work in works) / len(sample)
    module.to(device).train()
    seconds: list[float] = []
    began = time.perf_counter()
    for works in sample:
        before = time.perf_counter()
        batch = plan.load(works[0]).to(device)
        with torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32"):
            losses = module(works[0].objective, batch, torch.Generator().manual_seed(works[0].seed))
        losses.mean().backward()
        float(losses.values.detach().sum())  # waits for the device
        seconds.append(time.perf_counter() - before)
        if time.perf_counter() - began > _SECONDS:
            break
    module.zero_grad()
    # The first one pays for what is set up once.
    timed = seconds[1:] or seconds
    step = sum(timed) / len(timed) * micro_batches / processes
    return {
        "pairs_per_step": round(pairs),
        "tokens_per_step": round(real),
        "padding": round(1 - real * len(sizes) / sum(padded), 3),
        "largest_micro_batch": max(padded),
        "timed_micro_batches": len(timed),
        "seconds_per_step": round(step, 4),
        "hours": round(step * steps / 3600, 2),
    }
