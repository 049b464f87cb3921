"""What a training run is told of relation consistency (IAIS)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vltk.config.declaration import option
from vltk.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class IAISConfig:
    """Inter-modal alignment on intra-modal self-attentions beside the loss of retrieval."""

    iais: Literal["off", "singular", "distributed"] = "off"
    """Align the relations among words with those among regions: item by item, or through all items (IAIS)."""
    iais_form: Literal["official", "paper"] = "official"
    """As the authors' code computes it, or as the paper's equations say; they differ."""
    iais_anchors: Literal["both", "L", "V"] = "both"
    """Which side is mirrored in the other: language, vision, or both."""
    iais_layer: int = option(-1, least=-math.inf)
    """Layer whose attention is aligned, from 0, or from the end with -1."""
    iais_annealing: Literal["exp", "log", "linear", "none"] = "exp"
    """How the weight rises over the run (paper: section 5.3)."""
    iais_gamma: float = 5.0
    """How steep exp and log rise."""
    iais_weight: float = 1.0
    """Weight at the end of the run."""

    def __post_init__(self) -> None:
        for name in ("iais_gamma", "iais_weight"):
            if not 0 < getattr(self, name) < float("inf"):
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is not positive", where=where, remedy="use a positive number")
