"""Print a command block of the README by its name, so that CI runs exactly what a reader copies.

A block that CI runs carries its name in a comment on the line before its fence:
    <!-- runs: install -->
A block that cannot run without data that nobody may ship carries the reason instead:
    <!-- needs: Flickr30k -->
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
FENCE = re.compile(r"(?:<!-- (runs|needs): (.+?) -->\n)?```(?:bash|console|sh)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced shell block: how it is marked (runs, needs or nothing), its name or reason, its text."""

    mark: str
    name: str
    text: str


def blocks(readme: Path = README) -> list[Block]:
    """Return every fenced shell block of the README."""
    return [Block(mark or "", name or "", text) for mark, name, text in FENCE.findall(readme.read_text("utf-8"))]


def main(name: str) -> int:
    """Print the block of that name; exit 1 if there is none."""
    found = [block.text for block in blocks() if block.mark == "runs" and block.name == name]
    sys.stdout.write(found[0] if found else "")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
