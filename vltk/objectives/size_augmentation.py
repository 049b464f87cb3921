"""Size augmentation: regions and words of a training batch are dropped at random (VSE-infinity, section 3.3).

Grids are dropped by the image encoder, behind its network. The rates are the authors'; of the words, half of those
that are chosen are masked and a tenth replaced, so that 8 % are really dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vltk.config.dual import DualConfig
from vltk.errors import DataError, UsageError
from vltk.language.tokenization import load_tokenizer
from vltk.models._dual import compacted
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch

RATE = 0.2
"""Share of regions, and of words, that are chosen."""
MASKED, REPLACED = 0.5, 0.6
"""Of the chosen words, the first half is masked, up to the second bound replaced, the others dropped."""


def kept_regions(draws: Tensor, mask: Tensor, *, rate: float = RATE) -> Tensor:
    """Return which regions stay: [B, R] bool. A picture that would lose all keeps the one with the highest draw.

    Args:
        draws: [B, R] uniform.
        mask: [B, R] bool, true on regions.
        rate: share that is dropped.
    """
    keep = mask & (draws > rate)
    highest = draws.masked_fill(~mask, -1)
    only = mask & (highest == highest.amax(dim=1, keepdim=True))
    return keep | (only & ~keep.any(dim=1, keepdim=True))


def take_regions(batch: Batch, keep: Tensor) -> Batch:
    """Return the batch with the [B, R] regions to ``keep`` alone, in their order, at the left end."""
    places, mask = compacted(keep)
    gap = ~mask.unsqueeze(-1)

    def moved(values: Tensor) -> Tensor:
        return values.gather(1, places.unsqueeze(-1).expand(-1, -1, values.shape[2])).masked_fill(gap, 0)

    return replace(batch, regions=moved(batch.regions), locations=moved(batch.locations), region_mask=mask)


def augmented_words(
    batch: Batch, draws: Tensor, replacements: Tensor, *, words: Tensor, mask_id: int, framed: bool
) -> Batch:
    """Return the batch with words masked, replaced and dropped.

    Args:
        batch: its texts are framed by a start and a separator.
        draws: [B, T] uniform; all pieces of word w of a text share the draw at place w.
        replacements: [B, T] int64 ids, one for each piece.
        words: [B, T] int64, which word each piece belongs to, counted from 0.
        mask_id: id of the mask.
        framed: whether the frame is left alone (BERT) or treated as words (the published BiGRU).
    """
    ids, real = batch.input_ids, batch.text_mask
    chosen = draws.gather(1, words.clamp(min=0)) / RATE
    if framed:
        last = torch.arange(ids.shape[1], device=ids.device) == real.sum(dim=1, keepdim=True) - 1
        first = torch.zeros_like(last)
        first[:, 0] = True
        chosen = chosen.masked_fill(first | last, 1.0)
    ids = torch.where(chosen < MASKED, mask_id, ids)
    ids = torch.where((chosen >= MASKED) & (chosen < REPLACED), replacements, ids)
    keep = real & ((chosen < REPLACED) | (chosen >= 1))
    # A text that lost every word keeps its last piece; the published code fails on it.
    last_one = torch.arange(ids.shape[1], device=ids.device) == real.sum(dim=1, keepdim=True) - 1
    keep = keep | (last_one & ~keep.any(dim=1, keepdim=True))
    places, mask = compacted(keep)
    return replace(batch, input_ids=ids.gather(1, places).masked_fill(~mask, 0), text_mask=mask, text_types=None)


@dataclass(frozen=True, kw_only=True)
class SizeAugmentation:
    """Drops regions and words of a batch.

    Args:
        mask_id: id of the mask token.
        vocabulary: number of ids, all of which can replace a word, as published.
        continues: for each id whether it continues the word before it ("##ing"); None where every id is a word.
        framed: whether the start and the separator are safe (BERT) or words like others (BiGRU).
        regions: whether regions are dropped.
        words: whether words are.
    """

    mask_id: int
    vocabulary: int
    continues: Tensor | None = None
    framed: bool = True
    regions: bool = True
    words: bool = True

    @classmethod
    def for_texts(cls, settings: DualConfig, tokenizer: TokenizerDescription | None) -> Self:
        """Make it for the texts of a store.

        A vocabulary of whole words (VSE-infinity's, VSRN's) treats the frame of a text as words, as published.

        Raises:
            DataError: words are to be dropped, and the tokenizer has no mask token.
            UsageError: ``--word-pieces`` is not the vocabulary of the examples.
        """
        if not settings.drop_words:
            return cls(mask_id=0, vocabulary=1, regions=settings.drop_regions, words=False)
        if tokenizer is None or "[MASK]" not in tokenizer.special_ids:
            name = "of the examples" if tokenizer is None else tokenizer.name
            raise DataError("has no [MASK]", where=f"tokenizer {name}", remedy="add --no-drop-words")
        return cls(
            mask_id=tokenizer.special_ids["[MASK]"],
            vocabulary=tokenizer.vocab_size,
            continues=None if settings.word_pieces is None else _continues(settings.word_pieces, tokenizer),
            framed="<mask>" not in tokenizer.special_ids,
            regions=settings.drop_regions,
        )

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with regions and words dropped; the given batch stays as it is."""
        device = batch.input_ids.device
        if self.regions and batch.regions.shape[1]:
            draws = torch.rand(batch.region_mask.shape, generator=generator).to(device)
            batch = take_regions(batch, kept_regions(draws, batch.region_mask))
        if self.words and batch.input_ids.shape[1]:
            shape = batch.input_ids.shape
            draws = torch.rand(shape, generator=generator).to(device)
            replacements = torch.randint(self.vocabulary, shape, generator=generator).to(device)
            words = self.word_places(batch.input_ids)
            batch = augmented_words(batch, draws, replacements, words=words, mask_id=self.mask_id, framed=self.framed)
        return batch

    def word_places(self, ids: Tensor) -> Tensor:
        """Return for [B, T] ids which word each belongs to, counted from 0."""
        if self.continues is None:
            return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return (~self.continues.to(ids.device)[ids]).long().cumsum(dim=1) - 1


def _continues(path: Path, tokenizer: TokenizerDescription) -> Tensor:
    known = load_tokenizer(path)
    if known.description().vocab_sha256 != tokenizer.vocab_sha256:
        raise UsageError("is not the vocabulary of the examples", where=path, remedy="name theirs")
    return continuations(known.vocabulary)


def continuations(vocabulary: Sequence[str], *, mark: str = "##") -> Tensor:
    """Return for each piece of a vocabulary whether it continues the word before it.

    Example:
        >>> continuations(["dog", "##s"]).tolist()
        [False, True]
    """
    return torch.tensor([piece.startswith(mark) for piece in vocabulary])
