"""The folder of a run: what it was asked for, its figures as it goes, its checkpoints, its receipt."""

from vltk.run_folder.checkpoint import (
    STATE,
    TRAINED_ON,
    WEIGHTS,
    WORD_MASK,
    find_checkpoint,
    read_about,
    read_state,
    read_weights,
    write_checkpoint,
)
from vltk.run_folder.folder import CONFIG, METRICS, RESULTS, RunFolder, flat
from vltk.run_folder.journal import Journal
from vltk.run_folder.receipt import circumstances, file_sha256, peak_memory, versions
from vltk.stores.whole_files import write_whole

__all__ = [
    "CONFIG",
    "METRICS",
    "RESULTS",
    "STATE",
    "TRAINED_ON",
    "WEIGHTS",
    "WORD_MASK",
    "Journal",
    "RunFolder",
    "circumstances",
    "file_sha256",
    "find_checkpoint",
    "flat",
    "peak_memory",
    "read_about",
    "read_state",
    "read_weights",
    "versions",
    "write_checkpoint",
    "write_whole",
]
