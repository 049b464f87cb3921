"""Translate real captions in length-bucketed batches against one sentence at a time, with equal outputs.

    python benchmarks/translation.py --captions multi30k/task1/raw/val.en.gz --count 500 --repetitions 3

Both ways use the same model, search (beam 5) and code; only the batches differ. Without --weights the model has
random weights, a vocabulary of the captions' own words, and translations as long as their captions. Every caption has
to get the same translations both ways.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from vltk.language._transformer import TransformerConfig, TranslationTransformer
from vltk.language.translation import Bucketing, Search, Translator, load_translator


def read_captions(path: Path, count: int) -> list[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line.strip() for line in content.decode().splitlines()[:count]]


def write_random_weights(folder: Path, captions: list[str], *, hidden: int, layers: int) -> Path:
    """Write a WMT'19 directory of random weights: every frequent word is a piece, the others are spelled."""
    count = Counter(word for text in captions for word in text.split())
    merges, pieces = [], {letter for word in count for letter in word}
    for word in (word for word, _ in count.most_common(2000)):
        left = word[0]
        for place, letter in enumerate(word[1:], 2):
            end = "</w>" if place == len(word) else ""
            merges.append(f"{left} {letter}{end} 1\n")
            left += letter
        pieces.add(word)
    listed = sorted(pieces | {f"{piece}@@" for piece in pieces})
    folder.mkdir(parents=True)
    (folder / "bpecodes").write_text("".join(dict.fromkeys(merges)), encoding="utf-8")
    for language in ("en", "de"):
        (folder / f"dict.{language}.txt").write_text("".join(f"{piece} 1\n" for piece in listed), encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"encoder_layers": layers, "decoder_layers": layers}
    heads = {"encoder_heads": max(1, hidden // 32), "decoder_heads": max(1, hidden // 32)}
    inner = {"encoder_intermediate": 4 * hidden, "decoder_intermediate": 4 * hidden}
    vocabulary = {"source_vocabulary": len(listed) + 4, "target_vocabulary": len(listed) + 4, "share_embeddings": True}
    model = TranslationTransformer(TransformerConfig(hidden=hidden, **vocabulary, **sizes, **heads, **inner))
    torch.nn.init.normal_(model.encoder.embed_tokens.weight, std=hidden**-0.5)
    arguments = argparse.Namespace(
        encoder_embed_dim=hidden,
        **sizes,
        encoder_attention_heads=max(1, hidden // 32),
        decoder_attention_heads=max(1, hidden // 32),
        encoder_ffn_embed_dim=4 * hidden,
        decoder_ffn_embed_dim=4 * hidden,
        share_all_embeddings=True,
        share_decoder_input_output_embed=True,
    )
    torch.save({"args": arguments, "model": model.state_dict()}, folder / "model.pt")
    return folder


def timed(translator: Translator, texts: list[str], settings: Search, bucketing: Bucketing) -> tuple[float, list[str]]:
    # One thread works, so its own seconds are the ones that others on the machine do not lengthen.
    start = time.process_time()
    found = translator.translate(texts, settings=settings, bucketing=bucketing)
    return time.process_time() - start, [one[0].text if one else "" for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="a caption a line, gzipped or not")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=None, help="WMT'19 directory; random weights without it")
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--hidden", type=int, default=128, help="size of the random model")
    parser.add_argument("--layers", type=int, default=2, help="layers of the random model, on each side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    captions = read_captions(options.captions, options.count)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or write_random_weights(
            Path(folder) / "en-de", captions, hidden=options.hidden, layers=options.layers
        )
        translator = load_translator(weights, options.source, options.target)
    settings = Search() if options.weights else Search(max_length_a=1.0, max_length_b=1)
    ways = {"one sentence at a time": Bucketing(sentences=1), "length-bucketed batches": Bucketing()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, list[str]] = {}
    timed(translator, captions[:8], settings, Bucketing())
    for _ in range(options.repetitions):
        for name, bucketing in ways.items():
            taken, outputs[name] = timed(translator, captions, settings, bucketing)
            seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:24} {len(captions) / value:8.1f} sentences a CPU second ({value:.2f} s for {len(captions)})")
    first, second = outputs.values()
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(f"same translation: {same} of {len(captions)}; {len(set(second))} different ones")
    slow, fast = medians.values()
    print(f"batches are {slow / fast:.1f} times as fast (wanted: 5)")


if __name__ == "__main__":
    main()
