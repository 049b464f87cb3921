"""Image retrieval by contextualised regions alone and together with their relations (SSRP supplement, 0.2.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.errors import StoppedEarlyError
from vltk.evaluator.search import nearest
from vltk.isd.encoder import LoadedEncoder
from vltk.metrics.captioning import plain_words
from vltk.metrics.significance import mean_interval
from vltk.metrics.similar_pictures import caption_similarity, chance_gain, discounted_gain
from vltk.probing.corpus import Corpus
from vltk.probing.relations import region_distances
from vltk.types import Example, Measurement, Progress

OBJECTS, RELATED = "Obj.", "Obj. + Rel."
Terms = Sequence[Sequence[str]]
_BATCH = 64


def picture_vectors(regions: Tensor, distances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a picture is searched by: "Obj." and "Obj. + Rel." (0.2.5).

    ``Obj.`` is the mean of the regions; with relations each region is weighted by its mean squared distance to all:
    1/N sum_i (1/N sum_k v_i d(v_i, v_k)^2).

    Args:
        regions: [B, R, H] contextualised states.
        distances: [B, R, R] squared distances.
        mask: [B, R] bool, true on regions.

    Returns:
        [B, H] each, of unit length, so that inner products are cosines.
    """
    weights = mask.to(regions.dtype)
    count = weights.sum(dim=1, keepdim=True).clamp(min=1)
    objects = (regions * weights.unsqueeze(2)).sum(dim=1) / count
    apart = (distances * weights.unsqueeze(1)).sum(dim=2) / count
    related = (regions * (apart * weights).unsqueeze(2)).sum(dim=1) / count
    unit = torch.nn.functional.normalize
    return unit(objects, dim=1), unit(related, dim=1)


def embed_pictures(
    loaded: LoadedEncoder,
    corpus: Corpus,
    image_ids: Sequence[str],
    *,
    progress: Progress = lambda items: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, NDArray[np.float32]]:
    """Return [I, H] vectors of pictures, each beside an empty sentence, for both ways of searching.

    Args:
        loaded: the encoder, on its device.
        corpus: where pictures come from.
        image_ids: I of them.
        progress: told how many are done.
        stop: asked after each batch whether to end.

    Raises:
        StoppedEarlyError: it was asked to stop.
    """
    device = next(loaded.module.parameters()).device
    parts: dict[str, list[NDArray[np.float32]]] = {OBJECTS: [], RELATED: []}
    for start in range(0, len(image_ids), _BATCH):
        chosen = image_ids[start : start + _BATCH]
        batch = corpus.pictures(chosen).to(device)
        with torch.inference_mode():
            output = loaded.module(batch)
            distances = region_distances(loaded, output, batch)
            found = picture_vectors(output.regions.float(), distances.float(), batch.region_mask)
        for name, vectors in zip(parts, found, strict=True):
            parts[name].append(vectors.cpu().numpy())
        progress(len(chosen))
        if stop():
            raise StoppedEarlyError("stopped while pictures were embedded", remedy="the same command goes on")
    return {name: np.concatenate(vectors) for name, vectors in parts.items()}


def similar(vectors: NDArray[np.float32], queries: Sequence[int], top: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return [Q, k] places and cosines of the pictures nearest to some of them, themselves left out."""
    places, scores = nearest(vectors[list(queries)], vectors, top + 1)
    kept = places != np.array(queries)[:, None]
    # A picture with many equals may not be among them; then the last one goes.
    kept[kept.all(axis=1), -1] = False
    shape = (len(queries), places.shape[1] - 1)
    return places[kept].reshape(shape), scores[kept].reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieved:
    """What one way of searching found.

    Attributes:
        name: the way.
        places: [Q, k] pictures.
        scores: [Q, k] cosines.
        gains: by measure the [Q] discounted gains.
    """

    name: str
    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    gains: dict[str, NDArray[np.float64]]


def words_and_pairs(examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """Return the words that all captions of a picture say, and the pairs of words that their trees join.

    Example:
        >>> from vltk.types import Parse
        >>> parse = Parse(words=("Red", "ring"), heads=(2, 0), relations=("amod", "root"))
        >>> words_and_pairs([Example(id="7", image_ids=("1",), texts=("Red ring.",), parses=(parse,))])
        (['red', 'ring'], ['red ring'])
    """
    words = [word for example in examples for word in plain_words(example.texts[0]).split()]
    pairs = [
        f"{parse.words[word]} {parse.words[head - 1]}".lower()
        for example in examples
        for parse in example.parses[:1]
        for word, head in enumerate(parse.heads)
        if head
    ]
    return words, pairs


def retrieve(
    vectors: dict[str, NDArray[np.float32]], terms: dict[str, Terms], queries: Sequence[int], top: int
) -> tuple[list[Retrieved], dict[str, NDArray[np.float64]]]:
    """Search with some pictures for others, and say how much the captions of what is found have in common with theirs.

    Args:
        vectors: [I, H] by way of searching.
        terms: by measure what is said of each of I pictures.
        queries: Q of the pictures.
        top: how many are found for each.

    Returns:
        What each way found, and by measure the [Q] gains of random order.
    """
    worth = {name: caption_similarity(said, queries) for name, said in terms.items()}
    for gains in worth.values():
        gains[np.arange(len(queries)), list(queries)] = -np.inf
    made = []
    for name, table in vectors.items():
        places, scores = similar(table, queries, top)
        gained = {measure: discounted_gain(gains, places) for measure, gains in worth.items()}
        made.append(Retrieved(name=name, places=places, scores=scores, gains=gained))
    return made, {measure: chance_gain(gains, top) for measure, gains in worth.items()}


def retrieval_measurements(
    found: Sequence[Retrieved], chance: dict[str, NDArray[np.float64]], *, top: int, seed: int
) -> list[Measurement]:
    """Return nDCG of each way with its interval, what relations add on the same queries, and what chance gives."""
    made = []
    first, second = found
    for measure, lucky in chance.items():
        rows = {one.name: one.gains[measure] for one in found}
        rows["random order"] = lucky
        for name, values in rows.items():
            interval = mean_interval(values, seed=seed)
            made.append(_figure(f"{name} nDCG@{top} of {measure}", values, interval))
        change = second.gains[measure] - first.gains[measure]
        # mean_interval takes values from 0 up.
        low, high = mean_interval((1 + change) / 2, seed=seed)
        made.append(_figure(f"{RELATED} over {OBJECTS} of {measure}", change, (2 * low - 1, 2 * high - 1)))
    return made


def _figure(name: str, values: NDArray[np.float64], interval: tuple[float, float]) -> Measurement:
    return Measurement(metric=name, value=float(values.mean()), n=len(values), interval_95=interval)
