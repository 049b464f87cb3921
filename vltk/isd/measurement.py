"""ISDa and the losses without annotation of every example, for all layers and heads at once (IAIS, sections 2, 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.errors import DataError
from vltk.isd.encoder import LoadedEncoder
from vltk.isd.objects import Objects
from vltk.isd.survey import Item, Survey
from vltk.metrics.isd import Reading, distance, isda, relations, shuffled
from vltk.mixture.layouts import special_tokens
from vltk.objectives.relations import IAIS, Alignment, Form, words_of
from vltk.types import Batch

SURROGATES: tuple[Alignment, ...] = ("singular", "distributed")
Line = dict[str, Any]
"""What was measured of one example, as a line of ``examples.jsonl``: ``id``, ``image`` and the losses without
annotation (``singular``, ``distributed``) of the chosen layer; with annotation also the ``objects`` that were compared,
their ``isda`` in that layer, in all ``layers``, in each of their ``heads``, and with the picture's objects
``shuffled``."""


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """What is measured, and how.

    Attributes:
        layer: whose figures stand for the model, from 0, or from the end with -1.
        reading: of what the definition leaves open.
        special_tokens: whether words also attend to [CLS] and [SEP], which belong to no object.
        form: of the losses without annotation.
        shuffles: how often the objects of the pictures are mixed up.
        seed: of the mixing.
    """

    layer: int = -1
    reading: Reading = field(default_factory=Reading)
    special_tokens: Literal["excluded", "included"] = "excluded"
    form: Form = "official"
    shuffles: int = 200
    seed: int = 0


def measure(loaded: LoadedEncoder, found: Survey, how: Procedure, places: Sequence[int]) -> list[Line]:
    """Return what is measured of some items, which are encoded together.

    Args:
        loaded: the encoder, on its device.
        found: what is measured.
        how: how.
        places: which items.

    Raises:
        DataError: a damaged record, or an attention score that is no number, with its example.
    """
    device = next(loaded.module.parameters()).device
    layers = range(loaded.depth)
    batch = found.batch(places).to(device)
    with torch.inference_mode():
        scores = loaded.encoder(batch, attention_scores=layers).attention_scores
        surrogates = _surrogates(scores[how.layer % loaded.depth], batch, found, how)
    stacked = torch.stack([scores[layer] for layer in layers], dim=1).float().cpu().numpy()
    return [
        _line(found.items[place], stacked[row], batch, row, {name: one[row] for name, one in surrogates.items()}, how)
        for row, place in enumerate(places)
    ]


def _surrogates(scores: Tensor, batch: Batch, found: Survey, how: Procedure) -> dict[str, list[float]]:
    words = words_of(batch, special_tokens(found.examples))
    return {
        name: IAIS(alignment=name, form=how.form).losses(scores, words, batch.region_mask).tolist()
        for name in SURROGATES
    }


def _line(
    item: Item, scores: NDArray[np.float32], batch: Batch, row: int, surrogates: Mapping[str, float], how: Procedure
) -> Line:
    """Compare the objects of one example; ``scores`` are [layers, heads, T + R, T + R]."""
    if not all(map(math.isfinite, surrogates.values())):
        raise _broken(item)
    line: Line = {"id": item.id, "image": item.image_id, **surrogates}
    if item.objects is None:
        return line
    text, picture, words = _blocks(scores, batch, row, item.objects, how)
    regions, reading = item.objects.regions, how.reading
    if not (np.isfinite(text).all() and np.isfinite(picture).all()):
        raise _broken(item)
    values = isda(text, picture, words, regions, reading=reading)
    each = replace(reading, heads="each")
    heads = distance(relations(text, words, each), relations(picture, regions, each), rows=reading.rows)
    layer = how.layer % len(values)
    pair = (relations(text[layer], words, reading), relations(picture[layer], regions, reading))
    orders = permutations(item.image_id, item.objects.entities, count=how.shuffles, seed=how.seed)
    mixed = shuffled(*pair, orders, rows=reading.rows)
    line |= {"objects": list(item.objects.entities), "isda": float(values[layer]), "layers": values.tolist()}
    return line | {"heads": heads.tolist(), "shuffled": [float(f"{value:.6g}") for value in mixed]}


def _broken(item: Item) -> DataError:
    remedy = "the weights are broken, or its features are"
    return DataError("an attention score is no finite number", where=f"example {item.id}", remedy=remedy)


def _blocks(
    scores: NDArray[np.float32], batch: Batch, row: int, objects: Objects, how: Procedure
) -> tuple[NDArray[np.float32], NDArray[np.float32], Sequence[Sequence[int]]]:
    """Return the scores among word pieces, those among regions, and the objects' word pieces in the first."""
    width = batch.input_ids.shape[1]
    length, count = int(batch.text_mask[row].sum()), int(batch.region_mask[row].sum())
    # [CLS] stands before the words, [SEP] behind them.
    first, last = (0, length) if how.special_tokens == "included" else (1, length - 1)
    text = scores[:, :, first:last, first:last]
    picture = scores[:, :, width : width + count, width : width + count]
    words = [[place + 1 - first for place in places] for places in objects.words]
    return text, picture, words


def permutations(image_id: str, entities: Sequence[str], *, count: int, seed: int) -> NDArray[np.int64]:
    """Return [K, N] orders of a caption's objects, each as likely as any other.

    The captions of a picture share its regions, so that they are mixed up together: every order comes from one shuffle
    of the picture's objects. It depends on the picture, the objects and the seed alone.
    """
    keys = [np.random.default_rng([seed, *f"{image_id}/{entity}".encode()]).random(count) for entity in entities]
    return np.argsort(np.stack(keys, axis=1), axis=1)
