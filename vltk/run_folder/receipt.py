"""What a number needs beside it: versions, hashes, memory, and how sure it is."""

from __future__ import annotations

import hashlib
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import vltk

_CHUNK = 1 << 20


def versions() -> dict[str, str]:
    """Return the versions of vltk, Python and the libraries that can change a number, and the state of the code."""
    code = Path(vltk.__file__).parent
    git = subprocess.run(
        ["git", "-C", str(code), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {"vltk": vltk.__version__, "python": platform.python_version(), "torch": torch.__version__}
    return found | ({"git": git.stdout.strip()} if git.returncode == 0 else {})


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def peak_memory() -> dict[str, int]:
    """Return the most bytes that this process held so far, in main memory and on its GPU."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    return found | ({"gpu_memory": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {})


def circumstances(inputs: Mapping[str, str], *, seconds: float) -> dict[str, Any]:
    """Return what every receipt says of how its figures came about.

    Args:
        inputs: a hash for each thing that was read.
        seconds: how long it took.
    """
    return {
        "inputs": dict(inputs),
        "versions": versions(),
        "seconds": round(seconds, 3),
        "peak": peak_memory(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
