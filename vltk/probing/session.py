"""A probing from stores and an encoder to a receipt: every layer, the controls, relation matrices, retrieval."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from vltk.errors import UsageError
from vltk.isd.encoder import LoadedEncoder, tokenizer_of
from vltk.metrics.protocol import split_hash
from vltk.metrics.trees import TreeScore, uuas
from vltk.models._ssrp_layers import DistanceProbe
from vltk.probing.corpus import Corpus, gold_distances
from vltk.probing.files import (
    PROBES,
    RETRIEVAL,
    SENTENCES,
    Shown,
    relations_about,
    sentence_outcomes,
    write_probes,
    write_retrieval,
    write_sentences,
)
from vltk.probing.relations import RELATIONS, Matrix, encoded_relations, write_relations
from vltk.probing.retrieval import embed_pictures, retrieval_measurements, retrieve, words_and_pairs
from vltk.probing.scoring import (
    ENCODER,
    OWN,
    UNTRAINED,
    LayerScore,
    best_layer,
    chain_scores,
    layer_rows,
    measurements,
    score,
)
from vltk.probing.states import layer_states, read_words, untrained
from vltk.probing.structural import Fitting, Trees, fit, new_probe, predicted_distances
from vltk.run_folder import RESULTS, RunFolder, circumstances
from vltk.run_folder.outcomes import OUTCOMES, write_outcomes
from vltk.stores.examples import ExampleStore
from vltk.stores.whole_files import new_path
from vltk.types import Measurement, Progress

STATES = "states"
Bar = Callable[[int, str], AbstractContextManager[Progress]]
"""Shows how far something is: given a total and a label."""


@dataclass(frozen=True, kw_only=True)
class Searching:
    """How image retrieval is tried.

    Attributes:
        queries: pictures of the test sentences that are searched with; 0 leaves retrieval out.
        top: pictures that are found for each.
        seed: draws the queries.
    """

    queries: int = 100
    top: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries < 0 or self.top < 1:
            raise UsageError(
                f"got {self.queries} and {self.top}", where="--queries, --top", remedy="use positive numbers"
            )


@dataclass(frozen=True, kw_only=True)
class Session:
    """What is probed, how, and where.

    Attributes:
        corpus: the sentences and pictures.
        fitting: how probes learn.
        searching: how image retrieval is tried.
        controlled: probe an untrained encoder of the same size as well.
        matrices: relation matrices of so many test sentences are written.
        device: where to compute.
        max_tokens: longest pair times number of pairs of a batch stays within this.
        other_features: allow features of another detector than the model was trained on.
        bar: shows how far it is.
        stop: asked now and then whether to end.
    """

    corpus: Corpus
    fitting: Fitting = field(default_factory=Fitting)
    searching: Searching = field(default_factory=Searching)
    controlled: bool = True
    matrices: int = 1000
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_tokens: int = 4096
    other_features: bool = False
    bar: Bar
    stop: Callable[[], bool] = lambda: False

    def take(self, loaded: LoadedEncoder) -> LoadedEncoder:
        """Return an encoder where it computes, after a look at whether it fits the data.

        Raises:
            DataError: other word pieces, other features, or a text that is too long.
        """
        first = self.corpus.sentences[0].image_id
        longest = max(len(one.parse.pieces) + 2 for one in self.corpus.sentences)
        for store in self.corpus.stores:
            loaded.check(
                self.corpus.features,
                tokenizer_of(store),
                region_dim=self.corpus.features.get(first).features.shape[1],
                longest=longest,
                where=str(store.path),
                other_features=self.other_features,
            )
        loaded.module.to(self.device)
        return loaded

    def plan(self, loaded: LoadedEncoder) -> dict[str, Any]:
        """Return what a probing would do and how long encoding would take, from one batch; nothing is written."""
        batches = self.corpus.batches(range(len(self.corpus.sentences)), self.max_tokens)
        chosen = batches[len(batches) // 2]
        begin = time.monotonic()
        with torch.inference_mode():
            text, _ = layer_states(loaded.module, self.corpus.batch(chosen).to(self.device))
        seconds = (time.monotonic() - begin) / len(chosen)
        systems = 2 if self.controlled else 1
        table = int(self.corpus.starts[-1]) * len(text) * text[0].shape[-1] * 4
        return {
            **self.corpus.describe(),
            "model": loaded.name,
            "layers": len(text) - 1,
            "probes": systems * (1 + (len(text) - 1) * self.corpus.division.folds),
            "estimated_seconds_of_encoding": round(seconds * systems * len(self.corpus.sentences), 1),
            "bytes_of_states_on_disk": systems * table,
        }

    def probe(self, loaded: LoadedEncoder, folder: RunFolder) -> dict[str, Any]:
        """Probe an encoder; write and return the receipt. What an earlier call did is not done again."""
        begin = time.monotonic()
        loaded = self.take(loaded)
        states = folder.path / STATES
        states.mkdir(parents=True, exist_ok=True)
        systems = {ENCODER: loaded.module}
        if self.controlled:
            systems[UNTRAINED] = untrained(loaded.module, seed=self.fitting.seed).to(self.device)
        tables = {name: self._table(module, states, name) for name, module in systems.items()}
        found, probes = self._layers(tables, states)
        found.append(chain_scores(self.corpus))
        best = best_layer(found, ENCODER)
        predicted = {} if best is None else self._predicted(tables[ENCODER], probes[ENCODER, best.layer or 0], best)
        own, regions = self._relations(loaded)
        if own:
            rows = self.corpus.rows("test")
            found.append(LayerScore(system=OWN, layer=None, scores=[self._score(row, own[row]) for row in rows]))
        shown = Shown(
            corpus=self.corpus,
            result=next((one for one in found if one.system == OWN), best),
            words=own or predicted,
            regions=regions,
        )
        protocol = self.protocol()
        write_sentences(folder.path / SENTENCES, shown)
        write_outcomes(folder.path / OUTCOMES, sentence_outcomes(shown, protocol))
        about = relations_about(loaded, protocol)
        write_relations(folder.path / RELATIONS, shown.matrices(self.matrices), about)
        write_probes(folder.path / PROBES, probes)
        retrieved = self._search(loaded, folder.path)
        figures = [*measurements(found, self._images(), seed=self.fitting.seed), *retrieved]
        receipt = self._receipt(folder, loaded, found, figures, begin)
        shutil.rmtree(states, ignore_errors=True)
        return receipt

    # -- layers -----------------------------------------------------------------------------------------------------

    def _table(self, module: torch.nn.Module, states: Path, name: str) -> NDArray[np.float32]:
        with self.bar(len(self.corpus.sentences), f"read states ({name})") as progress:
            return read_words(
                module,
                self.corpus,
                states / f"{name.replace(' ', '-')}.npy",
                max_tokens=self.max_tokens,
                progress=progress,
                stop=self.stop,
            )

    def _layers(
        self, tables: dict[str, NDArray[np.float32]], states: Path
    ) -> tuple[list[LayerScore], dict[tuple[str, int], DistanceProbe]]:
        found, probes = [], {}
        jobs = [(name, layer) for name, table in tables.items() for layer in range(len(table))]
        gold = list(gold_distances(self.corpus.sentences))
        with self.bar(sum(self._chosen_by(layer) for _, layer in jobs), "probe layers") as progress:
            for name, layer in jobs:
                trees = Trees(states=tables[name][layer], starts=self.corpus.starts, gold=gold)
                fitted = []
                for part in range(self._chosen_by(layer)):
                    path = states / f"{name.replace(' ', '-')}-{layer}-{part}.safetensors"
                    fitted.append(self._fitted(trees, part, path))
                    progress(1)
                found.append(self._scored(trees, fitted, name, layer))
                probes[name, layer] = fitted[0][0]
        return found, probes

    def _chosen_by(self, layer: int) -> int:
        """Return how many probes a layer has: embeddings are never chosen, so that one of theirs is enough."""
        return self.corpus.division.folds if layer else 1

    def _fitted(self, trees: Trees, part: int, path: Path) -> tuple[DistanceProbe, int]:
        """Return a probe that has learnt from all parts but one, and its epochs.

        One that an earlier call kept is taken from its file.
        """
        if path.is_file():
            kept = load_file(path)
            probe = new_probe(trees.states.shape[1], self.fitting.rank)
            probe.map.weight.data.copy_(kept["weight"])
            return probe, int(kept["epochs"])
        parts = self.corpus.parts
        train = sorted(row for place, rows in enumerate(parts) if place != part for row in rows)
        fitted = fit(trees, train, parts[part], self.fitting, device=self.device, stop=self.stop)
        with new_path(path, overwrite=True) as fresh:
            weight = fitted.probe.map.weight.detach().contiguous()
            save_file({"weight": weight, "epochs": torch.tensor(fitted.epochs)}, fresh)
        return fitted.probe, fitted.epochs

    def _scored(self, trees: Trees, fitted: Sequence[tuple[DistanceProbe, int]], name: str, layer: int) -> LayerScore:
        """Return what the first probe finds in the test sentences, and what each finds in the part it does not know."""
        (probe, epochs), tests = fitted[0], self.corpus.rows("test")
        by_row = dict(self._scores(probe, trees, tests))
        parts = [
            uuas(score for _, score in self._scores(own, trees, rows))
            for (own, _), rows in zip(fitted, self.corpus.parts, strict=False)
        ]
        return LayerScore(system=name, layer=layer, scores=[by_row[row] for row in tests], parts=parts, epochs=epochs)

    def _scores(self, probe: DistanceProbe, trees: Trees, rows: Sequence[int]) -> Iterator[tuple[int, TreeScore]]:
        for row, matrix in predicted_distances(probe, trees, rows):
            yield row, self._score(row, matrix)

    def _score(self, row: int, matrix: Matrix) -> TreeScore:
        return score(self.corpus.sentences[row], matrix)

    def _predicted(self, table: NDArray[np.float32], probe: DistanceProbe, best: LayerScore) -> dict[int, Matrix]:
        gold = list(gold_distances(self.corpus.sentences))
        trees = Trees(states=table[best.layer or 0], starts=self.corpus.starts, gold=gold)
        return dict(predicted_distances(probe, trees, self.corpus.rows("test")))

    # -- relations and pictures -------------------------------------------------------------------------------------

    def _relations(self, loaded: LoadedEncoder) -> tuple[dict[int, Matrix], dict[int, Matrix]]:
        """Return by sentence what the encoder's own probes say of words (if it has any) and of regions."""
        rows = self.corpus.rows("test")
        rows = rows if loaded.own_probes else rows[: self.matrices]
        words, regions = {}, {}
        with self.bar(len(rows), "read relations") as progress:
            for row, text, picture in encoded_relations(
                loaded, self.corpus, rows, max_tokens=self.max_tokens, progress=progress, stop=self.stop
            ):
                if text is not None:
                    words[row] = text
                regions[row] = picture
        return words, regions

    def _search(self, loaded: LoadedEncoder, folder: Path) -> list[Measurement]:
        images = self.corpus.images("test")
        top = min(self.searching.top, len(images) - 1)
        if not self.searching.queries or top < 1:
            return []
        with self.bar(len(images), "embed pictures") as progress:
            vectors = embed_pictures(loaded, self.corpus, images, progress=progress, stop=self.stop)
        order = np.random.default_rng(self.searching.seed).permutation(len(images))
        queries = sorted(order[: self.searching.queries].tolist())
        said = self._said()
        words, pairs = zip(*(words_and_pairs(said[image]) for image in images), strict=True)
        found, chance = retrieve(vectors, {"words": words, "linked words": pairs}, queries, top)
        write_retrieval(folder / RETRIEVAL, images, queries, found)
        return retrieval_measurements(found, chance, top=top, seed=self.searching.seed)

    def _said(self) -> dict[str, list[Any]]:
        """Return the examples of each picture of the test sentences, those that are not tested on as well."""
        images = set(self.corpus.images("test"))
        said: dict[str, list[Any]] = {image: [] for image in images}
        stores: Sequence[ExampleStore] = self.corpus.stores
        for store in stores:
            for example in store:
                if example.image_ids[0] in images:
                    said[example.image_ids[0]].append(example)
        return said

    # -- the receipt ------------------------------------------------------------------------------------------------

    def _images(self) -> list[str]:
        return [self.corpus.sentences[row].image_id for row in self.corpus.rows("test")]

    def protocol(self) -> dict[str, Any]:
        """Return the rules that the figures depend on."""
        tested = [self.corpus.sentences[row] for row in self.corpus.rows("test")]
        heads = (" ".join(map(str, one.parse.heads)) for one in tested)
        return {
            "split": split_hash((one.id for one in tested), (one.image_id for one in tested), heads),
            "division": asdict(self.corpus.division),
            "test_sentences": "of a store of their own" if len(self.corpus.stores) > 1 else "a share of the examples",
            "layer": "the first within one standard error of the best, on parts that probes did not learn from",
            "probe": asdict(self.fitting),
            "punctuation": "takes no part in edges",
            "retrieval": asdict(self.searching),
        }

    def _receipt(
        self,
        folder: RunFolder,
        loaded: LoadedEncoder,
        found: Sequence[LayerScore],
        figures: Sequence[Measurement],
        begin: float,
    ) -> dict[str, Any]:
        best = best_layer(found, ENCODER)
        results = {
            "task": "probe",
            "model": loaded.name,
            "weights": loaded.weights,
            **self.corpus.describe(),
            "layer": None if best is None else best.layer,
            "metrics": [one.row() for one in figures],
            "layers": layer_rows(found, self._images(), seed=self.fitting.seed),
            "protocol": self.protocol(),
            "device": str(self.device),
            **circumstances(folder.inputs, seconds=time.monotonic() - begin),
        }
        folder.write_json(RESULTS, results)
        return results
