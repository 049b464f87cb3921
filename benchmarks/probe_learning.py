"""What structural probes find in encoders of the drawn world on templates that nobody saw, beside three controls.

    python benchmarks/probe_learning.py --folder probes
    python benchmarks/probe_learning.py --folder probes --run share=RUN --run visual=RUN --run cross=RUN

Draws scenes that no run was trained on, describes them with the shipped detector, and says them in the training
templates (to train and validate probes) and in the held-out ones (to test them); the trees are right by construction.
Each seed draws other captions, another untrained encoder and other probes. A row is the mean over the seeds, with the
least and the largest. The gains of the last lines are of the layer that held-out training templates chose. Retrieval is
judged by what the scenes hold: objects (colour and shape) and relations (shape, relation, shape). The same command goes
on where it was stopped; what was probed already is not probed again, and other weights are probed anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np

from vltk.cli import main as vltk
from vltk.datasets.scenes import Caption, Scene, captions, draw, scene
from vltk.detection.extractor import Picture
from vltk.detection.presets import find_preset
from vltk.detection.region_extractors import DEMO_WEIGHTS, DetectedRegions
from vltk.detection.weights import load_detector
from vltk.language.parsing import with_pieces
from vltk.language.tokenization import load_tokenizer
from vltk.metrics.significance import over_seeds
from vltk.models._checkpoints import SHIPPED, weights_file
from vltk.probing.corpus import Corpus, read_corpus
from vltk.probing.loading import load_probed
from vltk.probing.retrieval import embed_pictures, retrieval_measurements, retrieve
from vltk.run_folder import file_sha256
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.whole_files import new_path
from vltk.types import Example, Measurement

VOCABULARY = Path(__file__).resolve().parents[1] / "vltk" / "datasets" / "scene_vocabulary.txt"
WORLD = 515_151
TRAIN, TEST = 3, 2  # captions of a scene
CONTROLS = ("linear chain", "untrained encoder", "word and position")


def name_of(drawn: Scene) -> str:
    return f"{drawn.seed}-{drawn.index}"


def write_features(path: Path, scenes: Sequence[Scene]) -> None:
    if path.exists():
        return
    loaded = load_detector(DEMO_WEIGHTS)
    extractor = DetectedRegions(loaded.model.for_inference(), find_preset("demo"), weights_hash=loaded.sha256)
    metadata = FeatureMetadata(detector="demo", weights_hash=loaded.sha256)
    with new_path(path, overwrite=False) as fresh, FeatureStore.create(fresh, metadata) as writer:
        for start in range(0, len(scenes), 32):
            pictures = [Picture(image_id=name_of(one), pixels=draw(one)) for one in scenes[start : start + 32]]
            for regions in extractor.extract([extractor.prepare(picture) for picture in pictures]):
                writer.put(regions)


def write_examples(path: Path, scenes: Sequence[Scene], count: int, *, seed: int, held_out: bool) -> None:
    if path.exists():
        return
    tokenizer = load_tokenizer(VOCABULARY)
    metadata = ExampleMetadata(task="captions", tokenizer=tokenizer.description())
    with new_path(path, overwrite=False) as fresh, ExampleStore.create(fresh, metadata) as writer:
        for drawn in scenes:
            for number, told in enumerate(captions(drawn, count, seed=f"probe {seed}", held_out=held_out)):
                writer.put(example(f"{name_of(drawn)}#{number}", name_of(drawn), told, tokenizer))


def example(name: str, image: str, told: Caption, tokenizer: object) -> Example:
    tokens = tokenizer.tokens(told.text)  # type: ignore[attr-defined]
    parse = with_pieces(told.sentence.parse, told.text, tokens, tokenizer)  # type: ignore[arg-type]
    return Example(id=name, image_ids=(image,), texts=(told.text,), tokens=(tokens,), parses=(parse,))


def probed(run: str, folder: Path, label: str, seed: int, epochs: int = 40) -> dict:
    """Probe a run with one seed's captions through the command line; return its receipt."""
    # Other weights begin anew, beside what those before them came to.
    out = folder / f"{label}-{file_sha256(weights_file(Path(run)))[:8]}-{seed}"
    words = ["probe", run, "--examples", folder / f"train-{seed}.lmdb", "--test-examples", folder / f"test-{seed}.lmdb"]
    words += ["--features", folder / "features.lmdb", "--out", out, "--seed", seed, "--queries", 0, "--device", "cpu"]
    words += ["--epochs", epochs]
    with redirect_stdout(StringIO()):
        code = vltk([*map(str, words), "--quiet", "--other-features", "allow"])
    if code:
        raise SystemExit(f"probing {run} ended with {code}")
    return json.loads((out / "results.json").read_text())


def show_layers(label: str, receipts: Sequence[dict]) -> None:
    rows = defaultdict(list)
    for receipt in receipts:
        for row in receipt["layers"]:
            rows[row["system"], row["layer"]].append((row["uuas"], row["spearman"]))
    print(f"\n{label}: UUAS and Spearman, mean over {len(receipts)} seeds (least to largest UUAS)")
    for (system, layer), values in rows.items():
        found, spearman = np.array([v for v, _ in values]), np.mean([v for _, v in values])
        shown = "" if layer is None else " embeddings" if layer == 0 else f" layer {layer}"
        print(f"  {system + shown:<30} {found.mean():.3f} ({found.min():.3f} to {found.max():.3f})  {spearman:.3f}")


def show_gains(label: str, receipts: Sequence[dict]) -> None:
    chosen = [receipt["layer"] for receipt in receipts]
    print(f"{label}: chosen layers {chosen}; points that they gain, by seed, and the mean's 95 % interval (t)")
    for control in CONTROLS:
        rows = [next(r for r in receipt["metrics"] if r["metric"] == f"UUAS over {control}") for receipt in receipts]
        gains = [100 * row["value"] for row in rows]
        whole = over_seeds(gains)
        bounds = "" if whole.interval_95 is None else f" ({whole.interval_95[0]:.1f} to {whole.interval_95[1]:.1f})"
        each = ", ".join(
            f"{gain:+.1f} ({100 * row['interval_95'][0]:.1f} to {100 * row['interval_95'][1]:.1f})"
            for gain, row in zip(gains, rows, strict=True)
        )
        verdict = "each seed gains 3 or more" if min(gains) >= 3 else "NOT 3 on each seed"
        print(f"  over {control:<18} {whole.mean:+.1f}{bounds}; {each}; {verdict}")


def show_layer_gains(label: str, receipts: Sequence[dict]) -> None:
    """Show what every layer gains on the test sentences; of the untrained encoder the best layer is taken."""
    print(
        f"{label}: points that each layer gains on the test sentences, mean over seeds (least), not chosen beforehand"
    )
    tables = [{(row["system"], row["layer"]): 100 * row["uuas"] for row in receipt["layers"]} for receipt in receipts]
    untrained = [max(value for (system, _), value in one.items() if system == CONTROLS[1]) for one in tables]
    others = {
        CONTROLS[0]: [one[CONTROLS[0], None] for one in tables],
        CONTROLS[1] + " (best layer)": untrained,
        CONTROLS[2]: [one["encoder", 0] for one in tables],
    }
    for layer in sorted(layer for system, layer in tables[0] if system == "encoder" and layer):
        gains = {
            name: [one["encoder", layer] - control for one, control in zip(tables, controls, strict=True)]
            for name, controls in others.items()
        }
        told = ", ".join(f"over {name} {np.mean(values):+.1f} ({min(values):+.1f})" for name, values in gains.items())
        print(f"  layer {layer}: {told}")


def facts(drawn: Scene) -> tuple[list[str], list[str]]:
    """What a scene holds: its objects, and the relations between them."""
    objects = [f"{one.colour} {one.shape}" for one in drawn.objects]
    relations = [
        f"{drawn.objects[a].shape} {name} {drawn.objects[b].shape}"
        for name, pairs in drawn.related.items()
        for a, b in pairs
    ]
    return objects, relations


def retrieved(runs: Sequence[str], corpus: Corpus, scenes: Sequence[Scene], queries: int) -> list[Measurement]:
    """Return the figures of retrieval; what several runs gain with a query is averaged before intervals are drawn."""
    objects, relations = zip(*map(facts, scenes), strict=True)
    terms = {"objects": objects, "relations": relations}
    chosen = sorted(np.random.default_rng(0).permutation(len(scenes))[:queries].tolist())
    by_run = []
    for run in runs:
        vectors = embed_pictures(load_probed(run), corpus, [name_of(one) for one in scenes])
        found, chance = retrieve(vectors, terms, chosen, 10)
        by_run.append(found)
    mean = [
        replace(ways[0], gains={term: np.mean([way.gains[term] for way in ways], axis=0) for term in terms})
        for ways in zip(*by_run, strict=True)
    ]
    return retrieval_measurements(mean, chance, top=10, seed=0)


def show_retrieval(label: str, figures: Sequence[Measurement], queries: int, scenes: int) -> None:
    print(f"\n{label}: image retrieval, {queries} queries among {scenes} scenes, 95 % interval")
    for one in figures:
        low, high = one.interval_95 or (float("nan"), float("nan"))
        print(f"  {one.metric:<44} {one.value:+.3f} ({low:+.3f} to {high:+.3f})")


def prepare(folder: Path, count: int, seeds: Sequence[int]) -> tuple[list[Scene], Corpus]:
    """Draw scenes and make the stores of each seed; return them, and a corpus that knows their pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [scene(WORLD, index) for index in range(count)]
    split = count * 5 // 7
    write_features(folder / "features.lmdb", scenes)
    for seed in seeds:
        write_examples(folder / f"train-{seed}.lmdb", scenes[:split], TRAIN, seed=seed, held_out=False)
        write_examples(folder / f"test-{seed}.lmdb", scenes[split:], TEST, seed=seed, held_out=True)
    train = ExampleStore.open(folder / f"train-{seeds[0]}.lmdb")
    return scenes, read_corpus(train, FeatureStore.open(folder / "features.lmdb"))


def show(label: str, receipts: Sequence[dict]) -> None:
    """Print what probes found in every layer, the controls, and the gains."""
    print(f"\n{label}: {receipts[0]['sentences']} sentences, {receipts[0]['templates']} templates, first seed")
    show_layers(label, receipts)
    show_gains(label, receipts)
    show_layer_gains(label, receipts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for stores and probings")
    parser.add_argument("--run", action="append", default=[], help="NAME=RUN; the shipped UNITER where none is given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=700, help="that are drawn; five sevenths train probes")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    begin = time.process_time()
    scenes, corpus = prepare(options.folder, options.scenes, range(options.seeds))
    named = [given for given in options.run if not all(given.partition("="))]
    if named:
        raise SystemExit(f"--run {named[0]} is not NAME=RUN")
    for given in options.run or [f"uniter-tiny={SHIPPED / 'uniter-tiny.safetensors'}"]:
        label, _, run = given.partition("=")
        receipts = [probed(run, options.folder, label, seed) for seed in range(options.seeds)]
        show(label, receipts)
        figures = retrieved([run], corpus, scenes, options.queries)
        show_retrieval(label, figures, options.queries, len(scenes))
    print(f"\n{(time.process_time() - begin) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
