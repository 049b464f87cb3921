"""What a pre-trained UNITER has learnt of the drawn world, on scenes that it never saw, beside exact bounds.

    python benchmarks/uniter_learning.py uniter-tiny --scenes 600
    python benchmarks/uniter_learning.py RUN/last --scenes 600

Masked colour, shape and relation words, with the right and with another scene's picture; matched against mismatched
pairs that the truth checker admits; a scene against its one-edit neighbour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vltk.batching import SpecialTokens, collate
from vltk.datasets.scenes import (
    RELATIONS,
    Caption,
    Dice,
    Scene,
    caption,
    draw,
    is_false,
    masked_word,
    minimal_pairs,
    scene,
)
from vltk.detection.extractor import Picture
from vltk.detection.presets import find_preset
from vltk.detection.region_extractors import DEMO_WEIGHTS, DetectedRegions
from vltk.detection.weights import load_detector
from vltk.language.tokenization import Tokenizer, load_tokenizer
from vltk.models._checkpoints import read_checkpoint
from vltk.models.uniter import UNITERForPretraining
from vltk.types import Batch, RegionFeatures

VOCABULARY = Path(__file__).resolve().parents[1] / "vltk" / "datasets" / "scene_vocabulary.txt"
SEED = 424_242


def load(path: Path, heads: int | None = None) -> UNITERForPretraining:
    found = read_checkpoint(UNITERForPretraining, path, heads=heads)
    model: UNITERForPretraining = found.config.build_for_pretraining().eval()
    model.load_state_dict(found.weights)
    return model


class World:
    """Unseen scenes with the regions that the shipped detector finds in them."""

    def __init__(self) -> None:
        loaded = load_detector(DEMO_WEIGHTS)
        self.extractor = DetectedRegions(loaded.model.for_inference(), find_preset("demo"), weights_hash=loaded.sha256)

    def regions(self, scenes: Sequence[Scene]) -> list[RegionFeatures]:
        found = []
        for start in range(0, len(scenes), 32):
            pictures = [Picture(image_id=f"{s.seed}-{s.index}", pixels=draw(s)) for s in scenes[start : start + 32]]
            found += self.extractor.extract([self.extractor.prepare(picture) for picture in pictures])
        return found


class Reader:
    """Batches of texts beside regions, as pre-training saw them."""

    def __init__(self, model: UNITERForPretraining, tokenizer: Tokenizer, min_score: float | None) -> None:
        self.model, self.tokenizer, self.min_score = model, tokenizer, min_score
        ids = tokenizer.special_ids
        self.special = SpecialTokens(start=ids["[CLS]"], separator=ids["[SEP]"], padding=ids["[PAD]"])

    def batches(self, texts: Sequence[str], regions: Sequence[RegionFeatures]) -> list[Batch]:
        kept = [r if self.min_score is None else r.take(np.flatnonzero(r.scores > self.min_score)) for r in regions]
        framed = [self.special.frame(self.tokenizer.tokens(text).ids) for text in texts]
        return [
            collate([str(i) for i in range(len(framed[s : s + 64]))], framed[s : s + 64], kept[s : s + 64])
            for s in range(0, len(framed), 64)
        ]

    @torch.inference_mode()
    def matching(self, texts: Sequence[str], regions: Sequence[RegionFeatures]) -> np.ndarray:
        scores = [
            self.model.matching_logits(self.model.encoder(batch).pooled).log_softmax(-1)
            for batch in self.batches(texts, regions)
        ]
        joined = torch.cat(scores)
        return (joined[:, 1] - joined[:, 0]).numpy()

    @torch.inference_mode()
    def guesses(
        self, texts: Sequence[str], words: Sequence[int], regions: Sequence[RegionFeatures], values: Sequence[str]
    ) -> list[str]:
        ids = torch.tensor([self.tokenizer.ids[value] for value in values])
        mask = self.tokenizer.special_ids["[MASK]"]
        found: list[str] = []
        for batch in self.batches(texts, regions):
            places = torch.tensor(words[len(found) : len(found) + len(batch.ids)]) + 1
            rows = torch.arange(len(batch.ids))
            hidden = batch.input_ids.clone()
            hidden[rows, places] = mask
            states = self.model.encoder(dataclasses.replace(batch, input_ids=hidden)).text[rows, places]
            found += [values[int(i)] for i in self.model.word_logits(states)[:, ids].argmax(1)]
        return found


def masked_words(
    reader: Reader,
    scenes: list[Scene],
    told: list[Caption],
    regions: list[RegionFeatures],
    attribute: str,
    values: list[str],
) -> dict[str, object]:
    items = [
        (row, slot[0], masked_word(said, drawn, slot[0]))
        for row, (drawn, said) in enumerate(zip(scenes, told, strict=True))
        for slot in said.sentence.slots
        if slot[2] == attribute
    ]
    texts = [told[row].text for row, _, _ in items]
    words = [word for _, word, _ in items]
    right = reader.guesses(texts, words, [regions[row] for row, _, _ in items], values)
    other = reader.guesses(texts, words, [regions[(row + 7) % len(regions)] for row, _, _ in items], values)
    groups: dict[str, list[bool]] = defaultdict(list)
    for (_, _, masked), guess in zip(items, right, strict=True):
        hit = guess == masked.value
        groups["all"].append(hit)
        if masked.own_suffices:
            groups["own attributes suffice"].append(hit)
        if masked.relation_needed:
            groups["relation needed"].append(hit)
    bound = float(np.mean([masked.bound for _, _, masked in items]))
    return {
        "items": len(items),
        "accuracy": float(np.mean(groups["all"])),
        "bound": bound,
        "share of bound": float(np.mean(groups["all"])) / bound,
        **{name: float(np.mean(hits)) for name, hits in groups.items() if name != "all"},
        "another scene's picture": float(np.mean([g == m.value for (_, _, m), g in zip(items, other, strict=True)])),
        "chance": 1 / len(values),
    }


def masked_relations(reader: Reader, told: Sequence[Caption], regions: Sequence[RegionFeatures]) -> dict[str, object]:
    values = [relation.split()[0] for relation in RELATIONS]
    items = [
        (row, place, word)
        for row, said in enumerate(told)
        for place, word in enumerate(said.text.split())
        if word in values
    ]
    texts, places = [told[row].text for row, _, _ in items], [place for _, place, _ in items]
    found = {}
    for name, shift in (("accuracy", 0), ("another scene's picture", 7)):
        shown = [regions[(row + shift) % len(regions)] for row, _, _ in items]
        guesses = reader.guesses(texts, places, shown, values)
        found[name] = float(np.mean([guess == word for guess, (_, _, word) in zip(guesses, items, strict=True)]))
    return {"items": len(items), **found, "chance": 1 / len(values)}


def measure(model: UNITERForPretraining, count: int, min_score: float | None) -> dict[str, object]:
    world, tokenizer = World(), load_tokenizer(VOCABULARY)
    reader = Reader(model, tokenizer, min_score)
    scenes = [scene(SEED, index) for index in range(count)]
    told = [caption(drawn, Dice("learning", SEED, drawn.index)) for drawn in scenes]
    regions = world.regions(scenes)
    result: dict[str, object] = {}
    for attribute in ("colour", "shape"):
        values = sorted({o.attribute(attribute) for drawn in scenes for o in drawn.objects})
        result[f"masked {attribute}"] = masked_words(reader, scenes, told, regions, attribute, values)
    result["masked relation"] = masked_relations(reader, told, regions)
    texts = [said.text for said in told]
    true = reader.matching(texts, regions)
    wrong = [
        (row, other)
        for row in range(count)
        for other in [(row + 11) % count]
        if is_false(told[row].meaning, scenes[other])
    ]
    false = reader.matching([texts[row] for row, _ in wrong], [regions[other] for _, other in wrong])
    result["matching"] = {
        "pairs": len(true) + len(false),
        "accuracy": float((np.mean(true > 0) + np.mean(false < 0)) / 2),
        "chance": 0.5,
    }
    pairs = minimal_pairs(count // 2, seed=SEED)
    first, second = world.regions([p.first for p in pairs]), world.regions([p.second.scene for p in pairs])
    margins = []
    for own, other, said in (
        (first, second, [p.first_caption.text for p in pairs]),
        (second, first, [p.second_caption.text for p in pairs]),
    ):
        margins += (reader.matching(said, own) - reader.matching(said, other)).tolist()
    kinds = [p.second.edit for p in pairs] * 2
    result["one-edit neighbour"] = {
        "pairs": len(margins),
        "accuracy": float(np.mean(np.array(margins) > 0)),
        "chance": 0.5,
        **{
            kind: float(np.mean([m > 0 for m, k in zip(margins, kinds, strict=True) if k == kind]))
            for kind in sorted(set(kinds))
        },
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--heads", type=int, default=None)
    parser.add_argument("--min-score", type=float, default=None)
    options = parser.parse_args()
    print(json.dumps(measure(load(options.checkpoint, options.heads), options.scenes, options.min_score), indent=2))


if __name__ == "__main__":
    main()
