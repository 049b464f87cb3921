"""VSRN: reasoning over regions by relations, then by a memory, and captions generated beside (Li et al., ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from vltk.models._vsrn import VSRN, VSRNConfig

__all__ = ["VSRN", "Config", "VSRNConfig"]


@dataclass(frozen=True, kw_only=True)
class Config(VSRNConfig):
    """What ``--model vsrn`` brings to a command line."""
