"""Where and how something is evaluated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from vltk.types import Progress

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Enough for the matrix products of either; more only adds padding on a CPU.
_TOKENS = {"cpu": 2048, "cuda": 65536}


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how something is evaluated; nothing here changes a result but for rounding.

    Attributes:
        device: where to compute.
        precision: fp32, bf16 or fp16 arithmetic; scores are fp32.
        max_tokens: padded words and regions that are encoded together; 0 for what suits the device.
        memory: bytes that the pictures' embeddings may take; more pictures are treated in blocks, for each of which
            the texts are embedded again.
        share: (number of this process, number of processes) that divide the batches among them.
        progress: told how many pairs or examples are done.
        stop: asked after each batch whether to end; the same call goes on later.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    max_tokens: int = 0
    memory: int = 2 << 30
    share: tuple[int, int] = (0, 1)
    progress: Progress = lambda done: None
    stop: Callable[[], bool] = lambda: False

    @property
    def tokens(self) -> int:
        """Padded words and regions that are encoded together."""
        return self.max_tokens or _TOKENS.get(self.device.type, _TOKENS["cuda"])

    @contextlib.contextmanager
    def inference(self, *modules: Any) -> Iterator[None]:
        """Compute without gradients and dropout, as precisely as asked; modules are left as they were found."""
        training = [(module, module.training) for module in modules]
        for module in modules:
            module.to(self.device).eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"),
            ):
                yield
        finally:
            for module, was in training:
                module.train(was)
