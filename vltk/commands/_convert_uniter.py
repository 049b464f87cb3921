"""Convert the weights of a UNITER."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vltk.config import WriteConfig, argument
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

_SUFFIXES = (".safetensors", ".pt")


@dataclass(frozen=True, kw_only=True)
class ConvertUniterConfig:
    """Convert a UNITER between its authors' layout and vltk's, or a BERT to start one from.

    Reads a published .pt (old gamma and beta names too), a fine-tuned one with its head and longer tables, a run of
    vltk, one of vltk's files, and a BERT of transformers (a folder or file, with or without the bert. prefix). Nothing
    in them is executed. The size is seen from the shapes; only the attention heads may have to be told.

    Examples:
        $ vltk convert uniter uniter-base.pt uniter-base.safetensors
        $ vltk convert uniter runs/uniter uniter-mine.pt
        $ vltk convert uniter bert-base-cased/ start.safetensors
        $ vltk convert uniter runs/uniter uniter-mine.safetensors --half
    """

    source: Path = argument()
    """A checkpoint file, or a folder with one."""
    out: Path = argument()
    """The file to write: NAME.safetensors for vltk, NAME.pt for the authors' code."""
    heads: int | None = None
    """Number of attention heads, where nothing tells it; one for every 64 dimensions otherwise."""
    half: bool = False
    """Store the weights as float16, half the bytes; what starts from them computes in float32 all the same."""
    write: WriteConfig = field(default_factory=WriteConfig)


def run_uniter(config: ConvertUniterConfig, terminal: Terminal) -> dict[str, object]:
    """Write the converted weights."""
    from vltk.models._checkpoints import about_weights, read_checkpoint, save_checkpoint_file
    from vltk.models.uniter import UNITERForPretraining
    from vltk.run_folder import file_sha256

    if config.out.suffix not in _SUFFIXES:
        remedy = "name it NAME.safetensors or NAME.pt"
        raise UsageError(f"{config.out.name} ends in none of {', '.join(_SUFFIXES)}", where="OUT", remedy=remedy)
    if config.out.exists() and not (config.write.overwrite or config.write.dry_run):
        raise UsageError("exists", where=config.out, remedy="add --overwrite or name another file")
    found = read_checkpoint(UNITERForPretraining, config.source, heads=config.heads)
    summary: dict[str, object] = {
        "source": str(found.path),
        "layout": found.layout,
        "sha256": file_sha256(found.path),
        "parameters": sum(tensor.numel() for tensor in found.weights.values()),
        "size": about_weights(found.config)["config"],
        "missing": list(found.missing),
        "other_weights": sorted(found.others),
        "out": str(config.out),
    }
    if found.missing:
        terminal.say(f"{found.path} has no {', '.join(found.missing)}; --init begins these parts anew")
    if config.half:
        found = replace(found, weights={name: tensor.half() for name, tensor in found.weights.items()})
    if not config.write.dry_run:
        summary["out_layout"] = save_checkpoint_file(found, config.out)
    return summary
