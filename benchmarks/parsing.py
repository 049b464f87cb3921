"""Parse real captions in bulk against one call a sentence, with equal trees.

    python benchmarks/parsing.py --parser golden/stanza_tiny --captions multi30k/task1/raw/val.en.gz --count 500

Both ways use the same Stanza models in the same process; only the number of sentences in a call differs.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from pathlib import Path

import torch

from vltk.language.parsing import StanzaParser
from vltk.types import Parse


def read_captions(path: Path, count: int) -> list[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line.strip() for line in content.decode().splitlines()[:count]]


def one_by_one(parser: StanzaParser, texts: list[str]) -> list[Parse]:
    return [parser.parse([text])[0] for text in texts]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--parser", type=Path, required=True, help="folder of Stanza's models")
    options.add_argument("--captions", type=Path, required=True, help="a caption a line, gzipped or not")
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--repetitions", type=int, default=3)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    parser, captions = StanzaParser(chosen.parser), read_captions(chosen.captions, chosen.count)
    ways = {"one call a sentence": one_by_one, "in bulk": StanzaParser.parse}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    trees: dict[str, list[Parse]] = {}
    parser.parse(captions[:8])
    for _ in range(chosen.repetitions):
        for name, way in ways.items():
            # One thread works, so its own seconds are the ones that others on the machine do not lengthen.
            start = time.process_time()
            trees[name] = way(parser, captions)
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:20} {len(captions) / value:8.1f} sentences a CPU second ({value:.2f} s for {len(captions)})")
    first, second = trees.values()
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(f"same tree: {same} of {len(captions)}, {sum(len(tree.words) for tree in second)} words")
    slow, fast = medians.values()
    print(f"bulk is {slow / fast:.1f} times as fast (wanted: 3)")


if __name__ == "__main__":
    main()
