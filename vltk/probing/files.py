"""What a probing leaves in its folder: trees a line a sentence, what was retrieved a line a query, the probes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from vltk.isd.encoder import LoadedEncoder
from vltk.metrics.trees import PUNCTUATION, TreeScore, minimum_spanning_tree
from vltk.models._ssrp_layers import DistanceProbe
from vltk.probing.corpus import Corpus, Sentence
from vltk.probing.relations import Matrix
from vltk.probing.retrieval import Retrieved
from vltk.probing.scoring import LayerScore
from vltk.run_folder.outcomes import Outcomes, Series
from vltk.stores.whole_files import new_path, write_whole

SENTENCES, RETRIEVAL, PROBES = "sentences.jsonl", "retrieval.jsonl", "probes.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What is told of each test sentence.

    Attributes:
        corpus: the sentences.
        result: the probe whose trees are shown, None where there is none.
        words: by sentence the distances of its words under it.
        regions: by sentence the distances of its picture's regions, where they were read.
    """

    corpus: Corpus
    result: LayerScore | None
    words: Mapping[int, Matrix] = field(default_factory=dict)
    regions: Mapping[int, Matrix] = field(default_factory=dict)

    def scored(self) -> Iterator[tuple[int, Sentence, TreeScore | None]]:
        """Yield the number, the sentence and its score, of each test sentence."""
        rows = self.corpus.rows("test")
        scores = [None] * len(rows) if self.result is None else self.result.scores
        for row, score in zip(rows, scores, strict=True):
            yield row, self.corpus.sentences[row], score

    def matrices(self, most: int) -> dict[str, tuple[Matrix, Matrix]]:
        """Return the distances of words and of regions of the first test sentences, by id."""
        rows = [row for row in self.corpus.rows("test")[:most] if row in self.words and row in self.regions]
        return {self.corpus.sentences[row].id: (self.words[row], self.regions[row]) for row in rows}


def write_sentences(path: Path, shown: Shown) -> None:
    """Write one line a test sentence: words and gold tree, predicted edges, and those of its picture's regions."""
    write_whole(path, (json.dumps(_line(shown, *told)) + "\n" for told in shown.scored()))


def _line(shown: Shown, row: int, one: Sentence, score: TreeScore | None) -> dict[str, Any]:
    parse = one.parse
    line: dict[str, Any] = {"id": one.id, "image": one.image_id, "words": list(parse.words)}
    line |= {"heads": list(parse.heads), "relations": list(parse.relations)}
    if score is not None and row in shown.words:
        keep = [relation.partition(":")[0] != PUNCTUATION for relation in parse.relations]
        line["predicted"] = minimum_spanning_tree(shown.words[row], keep).tolist()
        line |= {"right": score.right, "edges": score.edges, "spearman": score.spearman}
    if row in shown.regions:
        line["region_edges"] = minimum_spanning_tree(shown.regions[row]).tolist()
    return line


def sentence_outcomes(shown: Shown, protocol: Mapping[str, Any]) -> Outcomes:
    """Return the share of right edges of each sentence, so that two encoders can be compared in pairs.

    Args:
        shown: the sentences.
        protocol: what the figures depend on, with the hash of the split.
    """
    told = [(one, score) for _, one, score in shown.scored() if score is not None and score.edges]
    series = Series(
        kind="score",
        ids=tuple(one.id for one, _ in told),
        values=np.array([score.right / score.edges for _, score in told], np.float64),
        clusters=tuple(one.image_id for one, _ in told),
    )
    rules = {name: value for name, value in protocol.items() if name != "split"}
    return Outcomes(task="probe", split=protocol["split"], protocol=rules, series={"right edges of a sentence": series})


def relations_about(loaded: LoadedEncoder, protocol: Mapping[str, Any]) -> dict[str, str]:
    """Return what the file of relation matrices says of itself."""
    own = loaded.own_probes
    return {
        "text": "squared distances of words under the " + ("encoder's own probe" if own else "probe of the best layer"),
        "regions": "squared distances of regions "
        + ("under the encoder's own probe" if own else "as their states are"),
        "weights": loaded.weights,
        "split": str(protocol["split"]),
    }


def write_probes(path: Path, probes: Mapping[tuple[str, int], DistanceProbe]) -> None:
    """Write the [k, H] map of each system and layer as SYSTEM/LAYER."""
    tensors = {f"{name}/{layer}": probe.map.weight.detach().contiguous() for (name, layer), probe in probes.items()}
    with new_path(path, overwrite=True) as fresh:
        save_file(tensors, fresh)


def write_retrieval(path: Path, images: Sequence[str], queries: Sequence[int], found: Sequence[Retrieved]) -> None:
    """Write one line a query: what each way found, and how much of its captions that shares."""
    lines = []
    for number, query in enumerate(queries):
        ways = {
            one.name: {
                "images": [images[place] for place in one.places[number]],
                "cosines": [round(float(value), 6) for value in one.scores[number]],
                "gains": {measure: float(values[number]) for measure, values in one.gains.items()},
            }
            for one in found
        }
        lines.append(json.dumps({"query": images[query], "found": ways}) + "\n")
    write_whole(path, lines)
