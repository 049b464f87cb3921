"""The attention of an encoder on a few pairs of text and picture, read for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.detection.extractor import choose_device
from vltk.errors import DataError, OfflineError
from vltk.isd.encoder import LoadedEncoder
from vltk.isd.objects import annotated
from vltk.isd.survey import Item, Survey
from vltk.models._ssrp import SSRP
from vltk.models._ssrp_attention import SSRPWithScores
from vltk.probing.loading import load_probed
from vltk.stores.chained_examples import Examples
from vltk.stores.features import FeatureReader
from vltk.types import Example, RegionFeatures

_TOGETHER = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class PairAttention:
    """Who attends to whom in one pair.

    Attributes:
        example: the text.
        picture: the regions, each box once.
        scores: [layers, heads, T + R, T + R] before the softmax, without padding, text first; minus infinity where a
            layer has no such attention.
        layers: what each layer is called.
        apart: words among themselves, regions among themselves and each side's look at the other are normalised each
            alone, as in encoders of two streams.
    """

    example: Example
    picture: RegionFeatures
    scores: NDArray[np.float32]
    layers: tuple[str, ...] = ()
    apart: bool = False

    @property
    def length(self) -> int:
        """T: word pieces, [CLS] and [SEP] included."""
        return int(self.scores.shape[-1]) - len(self.picture)

    @property
    def words(self) -> list[str]:
        """The words of the text."""
        return self.example.texts[0].split()

    def pieces(self, word: int) -> list[int]:
        """Return the places of a word's pieces; [CLS] stands before them all."""
        return [1 + place for place, one in enumerate(self.example.tokens[0].words) if one == word]

    def meets(self, layer: int) -> bool:
        """Say whether words look at regions in a layer."""
        return bool(np.isfinite(self.scores[layer][:, : self.length, self.length :]).any())

    def probabilities(self) -> NDArray[np.float64]:
        """[layers, heads, T + R, T + R] each row sums to 1, or each of its two parts where they are apart."""
        values = np.asarray(self.scores, np.float64)
        if not self.apart:
            return _softmax(values)
        halves = [_softmax(part) for part in np.split(values, [self.length], axis=-1)]
        return np.concatenate(halves, axis=-1)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares of the last axis; none where all is minus infinity."""
    top = scores.max(axis=-1, keepdims=True)
    values = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = values.sum(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = values / np.where(total > 0, total, 1)
    return shares


def open_encoder(source: str) -> LoadedEncoder:
    """Open an encoder whose attention can be read: a UNITER, an SSRP, or an LXMERT or VisualBERT of transformers.

    Args:
        source: a run, a checkpoint, a weights file or a model of transformers that is there; nothing is downloaded.

    Raises:
        VltkError: it is none of these, not there or damaged.
    """
    try:
        loaded = load_probed(source, offline=True)
    except OfflineError as error:
        problem = "is not on this machine, and a report downloads nothing"
        raise OfflineError(problem, where=source, remedy="measure again here, or name a folder") from error
    if isinstance(loaded.module, SSRP):
        return replace(loaded, module=SSRPWithScores(loaded.module).eval())
    return loaded


def read_attention(
    loaded: LoadedEncoder,
    examples: Examples,
    features: FeatureReader,
    ids: Sequence[str],
    *,
    device: str = "cpu",
) -> list[PairAttention]:
    """Encode some examples with their pictures and keep all attention scores.

    Args:
        loaded: the encoder.
        examples: with word pieces.
        features: the pictures' regions.
        ids: of the examples.
        device: where to compute.

    Raises:
        DataError: features or words of another kind than the encoder's, or a damaged record.
    """
    chosen = [examples.get(name) for name in ids]
    found = [annotated(features.get(one.image_ids[0])).picture for one in chosen]
    items = tuple(
        Item(id=one.id, image_id=one.image_ids[0], objects=None, length=len(one.tokens[0].ids) + 2 + len(picture))
        for one, picture in zip(chosen, found, strict=True)
    )
    _check(loaded, examples, features, chosen, found)
    survey = Survey(examples=examples, features=features, items=items, left_out=Counter())  # type: ignore[arg-type]
    loaded.module.to(choose_device(device))
    names = getattr(loaded.module, "layer_names", None) or [f"layer {number}" for number in range(loaded.depth)]
    kind = {"layers": tuple(names), "apart": bool(getattr(loaded.module, "apart", False))}
    result = []
    for start in range(0, len(items), _TOGETHER):
        rows = range(start, min(start + _TOGETHER, len(items)))
        scores, starts = _encoded(loaded, survey, rows)
        for place, row in enumerate(rows):
            words, regions = len(chosen[row].tokens[0].ids) + 2, len(found[row])
            kept = np.r_[0:words, starts : starts + regions]
            own = scores[place][:, :, kept][:, :, :, kept]
            result.append(PairAttention(example=chosen[row], picture=found[row], scores=own, **kind))  # type: ignore[arg-type]
    return result


def _check(
    loaded: LoadedEncoder,
    examples: Examples,
    features: FeatureReader,
    chosen: Sequence[Example],
    found: Sequence[RegionFeatures],
) -> None:
    """Refuse word pieces and features that the encoder was not made for."""
    tokenizer = examples.metadata.tokenizer
    if tokenizer is None:
        raise DataError("names no tokenizer", where=examples.path, remedy="prepare with --tokenizer")
    loaded.check(
        features,
        tokenizer,
        region_dim=found[0].features.shape[1],
        longest=2 + max(len(one.tokens[0].ids) for one in chosen),
        where=str(examples.path),
        other_features=True,
    )


def _encoded(loaded: LoadedEncoder, survey: Survey, rows: Sequence[int]) -> tuple[NDArray[np.float32], int]:
    """Return [B, layers, heads, T + R, T + R] scores of some pairs, and where their regions begin."""
    device = next(loaded.module.parameters()).device
    batch = survey.batch(rows).to(device)
    with torch.inference_mode():
        scores = loaded.encoder(batch, attention_scores=range(loaded.depth)).attention_scores
    stacked = torch.stack([scores[layer] for layer in range(loaded.depth)], dim=1)
    return stacked.float().cpu().numpy(), batch.input_ids.shape[1]
