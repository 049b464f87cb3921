"""The attention of a joint encoder on a few pairs of text and picture, read for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vltk.detection.extractor import choose_device
from vltk.isd.encoder import LoadedEncoder
from vltk.isd.objects import annotated
from vltk.isd.survey import Item, Survey
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
        scores: [layers, heads, T + R, T + R] before the softmax, without padding, text first.
    """

    example: Example
    picture: RegionFeatures
    scores: NDArray[np.float32]

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

    def probabilities(self) -> NDArray[np.float64]:
        """[layers, heads, T + R, T + R] each row sums to 1."""
        values = np.asarray(self.scores, np.float64)
        values = np.exp(values - values.max(axis=-1, keepdims=True))
        shares: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
        return shares


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
    survey = Survey(examples=examples, features=features, items=items, left_out=Counter())  # type: ignore[arg-type]
    loaded.module.to(choose_device(device))
    result = []
    for start in range(0, len(items), _TOGETHER):
        rows = range(start, min(start + _TOGETHER, len(items)))
        scores, starts = _encoded(loaded, survey, rows)
        for place, row in enumerate(rows):
            words, regions = len(chosen[row].tokens[0].ids) + 2, len(found[row])
            kept = np.r_[0:words, starts : starts + regions]
            own = scores[place][:, :, kept][:, :, :, kept]
            result.append(PairAttention(example=chosen[row], picture=found[row], scores=own))
    return result


def _encoded(loaded: LoadedEncoder, survey: Survey, rows: Sequence[int]) -> tuple[NDArray[np.float32], int]:
    """Return [B, layers, heads, T + R, T + R] scores of some pairs, and where their regions begin."""
    device = next(loaded.module.parameters()).device
    batch = survey.batch(rows).to(device)
    with torch.inference_mode():
        scores = loaded.encoder(batch, attention_scores=range(loaded.depth)).attention_scores
    stacked = torch.stack([scores[layer] for layer in range(loaded.depth)], dim=1)
    return stacked.float().cpu().numpy(), batch.input_ids.shape[1]
