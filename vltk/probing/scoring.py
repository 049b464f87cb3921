"""From probes of every layer and their controls to figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vltk.metrics.tree_figures import spearman_interval, uuas_gain, uuas_interval
from vltk.metrics.trees import TreeScore, linear_chain, mean_spearman, score_tree, uuas
from vltk.probing.corpus import Corpus, Sentence
from vltk.types import Measurement

ENCODER, UNTRAINED, CHAIN, OWN = "encoder", "untrained encoder", "linear chain", "own probe"
EMBEDDING = "word and position"
"""What the states before the first layer know."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerScore:
    """What one probe found.

    Attributes:
        system: whose states it reads.
        layer: which ones, 0 for the embeddings; None for a system without layers.
        scores: of the test sentences, in the order of the corpus.
        parts: UUAS on each part of the training sentences of a probe that did not learn from it; layers are chosen by
            it. Empty where nothing is chosen.
        epochs: passes over the training sentences; None where nothing was trained.
    """

    system: str
    layer: int | None
    scores: Sequence[TreeScore]
    parts: Sequence[float] = ()
    epochs: int | None = None

    @property
    def validation(self) -> float | None:
        """Mean UUAS of the parts."""
        return float(np.mean(self.parts)) if self.parts else None


def score(sentence: Sentence, distances: NDArray[np.floating]) -> TreeScore:
    """Compare predicted distances with the tree of a sentence; punctuation takes no part."""
    return score_tree(sentence.parse.heads, distances, sentence.parse.relations)


def chain_scores(corpus: Corpus) -> LayerScore:
    """Return what the linear chain finds in the test sentences."""
    chosen = [corpus.sentences[row] for row in corpus.rows("test")]
    return LayerScore(
        system=CHAIN, layer=None, scores=[score(one, linear_chain(len(one.parse.words))) for one in chosen]
    )


def best_layer(found: Sequence[LayerScore], system: str) -> LayerScore | None:
    """Return the first layer of a system that is as good as its best one, by the sentences that probes did not know.

    As good is what one standard error over the parts does not part from the best (Hastie, Tibshirani and Friedman,
    "The Elements of Statistical Learning", section 7.10): a later layer must be worth being later. Embeddings are no
    layer, they are a control. None for a system that was not probed.

    Example:
        >>> told = [[0.9], [0.80, 0.82], [0.82, 0.84], [0.86, 0.82], [0.7, 0.7]]
        >>> made = [LayerScore(system="encoder", layer=n, scores=[], parts=parts) for n, parts in enumerate(told)]
        >>> best_layer(made, "encoder").layer
        2
    """
    layers = [one for one in found if one.system == system and one.layer and one.parts]
    if not layers:
        return None
    best = max(layers, key=lambda one: one.validation or 0.0)
    least = float(np.mean(best.parts))
    if len(best.parts) > 1:
        least -= float(np.std(best.parts, ddof=1)) / len(best.parts) ** 0.5
    return next(one for one in layers if float(np.mean(one.parts)) >= least)


def controls(found: Sequence[LayerScore]) -> dict[str, LayerScore]:
    """Return what an encoder must beat before its layers say anything of trees, by name."""
    embedding = next((one for one in found if one.system == ENCODER and one.layer == 0), None)
    chain = next((one for one in found if one.system == CHAIN), None)
    given = {CHAIN: chain, UNTRAINED: best_layer(found, UNTRAINED), EMBEDDING: embedding}
    return {name: one for name, one in given.items() if one is not None}


def layer_rows(found: Sequence[LayerScore], images: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """Return a row for each system and layer.

    Args:
        found: what was scored.
        images: the image of each test sentence.
        seed: of the bootstrap.
    """
    rows = []
    for one in found:
        spearman = mean_spearman(one.scores)
        rows.append(
            {
                "system": one.system,
                "layer": one.layer,
                "uuas": uuas(one.scores),
                "uuas_interval_95": list(uuas_interval(one.scores, images, seed=seed)),
                "spearman": spearman,
                "spearman_interval_95": None
                if spearman is None
                else list(spearman_interval(one.scores, images, seed=seed) or ()),
                "validation_uuas": one.validation,
                "validation_parts": list(one.parts),
                "epochs": one.epochs,
            }
        )
    return rows


def measurements(found: Sequence[LayerScore], images: Sequence[str], *, seed: int) -> list[Measurement]:
    """Return the figures of the best layer and of an own probe, and by how much each beats each control.

    Args:
        found: what was scored.
        images: the image of each test sentence.
        seed: of the bootstrap.
    """
    best = best_layer(found, ENCODER)
    chosen = {"": best, f" of the {OWN}": next((one for one in found if one.system == OWN), None)}
    made: list[Measurement] = []
    for suffix, one in chosen.items():
        if one is None:
            continue
        made.append(_uuas(f"UUAS{suffix}", one.scores, images, seed=seed))
        spearman = mean_spearman(one.scores)
        if spearman is not None:
            made.append(
                Measurement(
                    metric=f"distance Spearman{suffix}",
                    value=spearman,
                    n=sum(score.spearman is not None for score in one.scores),
                    unit="correlation",
                    interval_95=spearman_interval(one.scores, images, seed=seed),
                )
            )
    for suffix, one in chosen.items():
        if one is not None:
            made += gains(one, controls(found), images, of=suffix, seed=seed)
    return made


def _uuas(name: str, scores: Sequence[TreeScore], images: Sequence[str], *, seed: int) -> Measurement:
    return Measurement(
        metric=name,
        value=uuas(scores),
        n=sum(one.edges for one in scores),
        interval_95=uuas_interval(scores, images, seed=seed),
    )


def gains(
    best: LayerScore, others: Mapping[str, LayerScore], images: Sequence[str], *, of: str = "", seed: int
) -> list[Measurement]:
    """Return by how much a system beats each control on the same sentences; ``of`` names it where it is not a layer."""
    made = []
    for name, control in others.items():
        gain, interval = uuas_gain(best.scores, control.scores, images, seed=seed)
        edges = sum(one.edges for one in best.scores)
        made.append(Measurement(metric=f"UUAS{of} over {name}", value=gain, n=edges, interval_95=interval))
    return made
