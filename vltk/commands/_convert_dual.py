"""What converting the weights of dual encoders has in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vltk.config import WriteConfig
from vltk.errors import UsageError

if TYPE_CHECKING:
    from vltk.models._dual_checkpoints import DualCheckpoint

_SUFFIXES = (".safetensors", ".pth", ".tar")


def convert_dual(
    out: Path,
    write: WriteConfig,
    *,
    read: Callable[[], DualCheckpoint[Any]],
    save: Callable[[Any, Path], str],
) -> dict[str, object]:
    """Read a dual encoder, write it in the other layout, and return what was converted.

    Args:
        out: the file to write.
        write: whether it may replace one, and whether it is written at all.
        read: gives the weights.
        save: writes them and returns their layout.

    Raises:
        UsageError: the file's name or an older file does not allow it.
    """
    from dataclasses import asdict

    from vltk.run_folder import file_sha256

    if out.suffix not in _SUFFIXES:
        remedy = "name it NAME.safetensors or NAME.pth"
        raise UsageError(f"{out.name} ends in none of {', '.join(_SUFFIXES)}", where="OUT", remedy=remedy)
    if out.exists() and not (write.overwrite or write.dry_run):
        raise UsageError("exists", where=out, remedy="add --overwrite or name another file")
    found = read()
    summary: dict[str, object] = {
        "source": str(found.file.path),
        "layout": found.layout,
        "sha256": file_sha256(found.file.path),
        "parameters": sum(weight.numel() for weight in found.model.parameters()),
        "size": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(found.model.config).items()},
        "epoch": found.file.epoch,
        "best_rsum": found.file.best,
        "out": str(out),
    }
    if not write.dry_run:
        summary["out_layout"] = save(found, out)
    return summary
