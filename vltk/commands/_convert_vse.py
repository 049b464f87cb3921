"""Convert the weights of a VSE-infinity."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.commands._convert_dual import convert_dual
from vltk.config import WriteConfig, argument

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class ConvertVSEConfig:
    """Convert a VSE-infinity (or its VSE++, with average pooling) between its authors' checkpoints and vltk's.

    Reads the authors' model_best.pth with its pair of state dicts, with or without the module. prefix of several GPUs,
    with options pickled by Python 2 or 3, a run of vltk, and one of vltk's files. Nothing in them is executed. The size
    is seen from the shapes; only BERT's attention heads may have to be told. The authors count the mask into a GRU's
    vocabulary, as vltk does. VSE++ as its own authors saved it goes through vltk convert vsrn.

    Examples:
        $ vltk convert vse f30k_butd_region_bert/model_best.pth vse-region-bert.safetensors
        $ vltk convert vse runs/vse vse-mine.pth
    """

    source: Path = argument()
    """A checkpoint file, or a folder with one."""
    out: Path = argument()
    """The file to write: NAME.safetensors for vltk, NAME.pth for the authors' code."""
    heads: int | None = None
    """Number of BERT's attention heads; one for every 64 dimensions otherwise."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run_vse(config: ConvertVSEConfig, terminal: Terminal) -> dict[str, object]:
    """Write the converted weights."""
    from vltk.models._vse_checkpoints import read_vse, save_vse

    return convert_dual(
        config.out, config.write, read=lambda: read_vse(config.source, heads=config.heads), save=save_vse
    )
