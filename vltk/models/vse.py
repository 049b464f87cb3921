"""VSE-infinity: pictures and texts embedded apart, each pooled with GPO (Chen et al., CVPR 2021); VSE++ beside it."""

from __future__ import annotations

from dataclasses import dataclass

from vltk.models._vse import VSE, VSEConfig

__all__ = ["VSE", "Config", "VSEConfig"]


@dataclass(frozen=True, kw_only=True)
class Config(VSEConfig):
    """What ``--model vse`` brings to a command line."""
