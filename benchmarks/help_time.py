"""Time of ``vltk --help`` from start to exit, beside the bare interpreter and one that imports torch.

python benchmarks/help_time.py --repeat 9
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import typer, rich": ["-c", "import typer, rich.console, rich.table, rich.panel"],
    "vltk --help": ["-m", "vltk.cli", "--help"],
    "vltk store --help": ["-m", "vltk.cli", "store", "--help"],
    "import torch": ["-c", "import torch"],
}
TARGET = 0.3


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="rounds; each runs every command once")
    rounds = max(5, parser.parse_args().repeat)
    measured: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():  # once for the file cache
        seconds(arguments)
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            measured[name].append(seconds(arguments))
    medians = {name: statistics.median(times) for name, times in measured.items()}
    for name, median in medians.items():
        low, high = min(measured[name]), max(measured[name])
        print(f"{name:20} median {median:.3f} s of {rounds} (from {low:.3f} to {high:.3f})")
    help_time = medians["vltk --help"]
    print(f"vltk --help: {help_time:.3f} s, target {TARGET} s: {'met' if help_time < TARGET else 'MISSED'}")
    print(f"ratio to import torch alone: {help_time / medians['import torch']:.2f}")


if __name__ == "__main__":
    main()
