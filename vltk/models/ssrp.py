"""SSRP: relations among words and among regions, probed from one encoder (Gu et al., NeurIPS 2020)."""

from __future__ import annotations

from vltk.models._ssrp import SSRP, SSRPConfig, SSRPForPretraining

__all__ = ["SSRP", "Config", "SSRPConfig", "SSRPForPretraining"]

Config = SSRPConfig
"""What ``--model ssrp`` brings to a command line."""
