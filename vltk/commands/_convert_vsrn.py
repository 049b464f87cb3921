"""Convert the weights of a VSRN."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.commands._convert_dual import convert_dual
from vltk.config import WriteConfig, argument

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class ConvertVSRNConfig:
    """Convert a VSRN (or VSE++) between its authors' checkpoints and vltk's.

    Reads the authors' model_best.pth.tar with its pair of state dicts and its options, pickled by Python 2 or 3, a run
    of vltk, and one of vltk's files. Nothing in them is executed. The size and the data set are seen from the shapes. A
    published vocabulary gets the mask that vltk's stores add to it, and loses it again on the way back; the branch that
    generates captions, which the authors do not save, stays behind. A VSE++ of given features is a VSRN without
    reasoning, and becomes one.

    Examples:
        $ vltk convert vsrn flickr_model_best.pth.tar vsrn-flickr30k.safetensors
        $ vltk convert vsrn runs/vsrn vsrn-mine.pth
    """

    source: Path = argument()
    """A checkpoint file, or a folder with one."""
    out: Path = argument()
    """The file to write: NAME.safetensors for vltk, NAME.pth for the authors' code."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run_vsrn(config: ConvertVSRNConfig, terminal: Terminal) -> dict[str, object]:
    """Write the converted weights."""
    from vltk.models._vsrn_checkpoints import read_vsrn, save_vsrn

    return convert_dual(config.out, config.write, read=lambda: read_vsrn(config.source), save=save_vsrn)
