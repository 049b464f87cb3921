"""A pre-training run from stores to checkpoints: what ``vltk pretrain`` does, as functions."""

from vltk.pretraining.audit import shared_images
from vltk.pretraining.run import OBJECTIVES, PreparedRun, prepare_run, undecayed
from vltk.pretraining.sources import check_overlap, open_sources
from vltk.pretraining.validation import Validation

__all__ = [
    "OBJECTIVES",
    "PreparedRun",
    "Validation",
    "check_overlap",
    "open_sources",
    "prepare_run",
    "shared_images",
    "undecayed",
]
