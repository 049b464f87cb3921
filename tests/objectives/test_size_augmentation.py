"""Size augmentation: its rates, and what it leaves in place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.test_vse import batch
from vltk.batching import SpecialTokens
from vltk.config.dual import DualConfig
from vltk.errors import UsageError
from vltk.language.tokenization import SPECIAL_TOKENS, write_vocabulary
from vltk.models._grids import grid_drop, kept_grids
from vltk.objectives.size_augmentation import SizeAugmentation, augmented_words, continuations, kept_regions
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch


def texts(count: int, words: int) -> Batch:
    """Frames of 2 ... 3 around distinct words 10, 11, ..."""
    ids = torch.tensor([SpecialTokens(start=2, separator=3).frame(range(10, 10 + words))] * count)
    none = torch.zeros(count, 0, 1)
    return Batch(ids=("x",) * count, input_ids=ids, text_mask=torch.ones_like(ids, dtype=torch.bool), regions=none,
                 locations=torch.zeros(count, 0, 7), region_mask=torch.zeros(count, 0, dtype=torch.bool))  # fmt: skip


def test_the_published_shares_of_words() -> None:
    count, words = 2000, 10
    one = SizeAugmentation(mask_id=4, vocabulary=10_000).corrupt(texts(count, words), torch.Generator().manual_seed(0))
    masked = int((one.input_ids == 4).sum()) / (count * words)
    dropped = 1 - int(one.text_mask.sum() - 2 * count) / (count * words)
    kept = int(((one.input_ids >= 10) & (one.input_ids < 20) & one.text_mask).sum()) / (count * words)
    assert masked == pytest.approx(0.10, abs=0.01)
    assert dropped == pytest.approx(0.08, abs=0.01)
    assert 1 - kept - masked - dropped == pytest.approx(0.02, abs=0.005)


def test_the_frame_is_safe_or_a_word_like_others() -> None:
    many = texts(500, 4)
    framed = SizeAugmentation(mask_id=4, vocabulary=99).corrupt(many, torch.Generator().manual_seed(0))
    last = framed.text_mask.sum(dim=1) - 1
    assert bool((framed.input_ids[:, 0] == 2).all())
    assert bool((framed.input_ids.gather(1, last.unsqueeze(1)) == 3).all())
    bare = SizeAugmentation(mask_id=4, vocabulary=99, framed=False).corrupt(many, torch.Generator().manual_seed(0))
    assert 0.7 < float((bare.input_ids[:, 0] == 2).float().mean()) < 0.9


def test_pieces_of_a_word_share_its_fate() -> None:
    continues = torch.zeros(40, dtype=torch.bool)
    continues[10::2] = True  # 10, 12, ... continue the word before them
    one = texts(300, 9)
    one = replace(one, input_ids=one.input_ids.clamp(max=18))
    augmentation = SizeAugmentation(mask_id=4, vocabulary=40, continues=continues)
    words = augmentation.word_places(one.input_ids)
    assert words[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    found = augmentation.corrupt(one, torch.Generator().manual_seed(3))
    for row, real in zip(found.input_ids.tolist(), found.text_mask, strict=True):
        kept = row[: int(real.sum())]
        assert all((piece in kept) == (piece + 1 in kept) for piece in (11, 13, 15)) or 4 in kept or kept != row


def test_nothing_is_lost_whole() -> None:
    one = batch()
    dropped = augmented_words(one, torch.full(one.input_ids.shape, 0.15), one.input_ids, mask_id=4, framed=False,
                              words=torch.arange(6).expand(4, 6))  # fmt: skip
    assert dropped.text_mask.sum(dim=1).tolist() == [1, 1, 1, 1]
    keep = kept_regions(torch.full(one.region_mask.shape, 0.1) + torch.arange(5) / 100, one.region_mask)
    assert keep.sum(dim=1).tolist() == [1, 1, 1, 1]
    assert bool((keep <= one.region_mask).all())


def test_a_fifth_of_the_regions_goes_and_the_rest_keeps_its_order() -> None:
    count, regions = 400, 36
    numbered = torch.arange(1.0, regions + 1).view(1, -1, 1).expand(count, -1, 2)
    one = replace(texts(count, 1), regions=numbered, locations=numbered[:, :, :1].expand(-1, -1, 7),
                  region_mask=torch.ones(count, regions, dtype=torch.bool))  # fmt: skip
    found = SizeAugmentation(mask_id=4, vocabulary=9, words=False).corrupt(one, torch.Generator().manual_seed(0))
    assert float(found.region_mask.float().sum() / (count * regions)) == pytest.approx(0.8, abs=0.01)
    assert torch.equal(found.regions[:, :, 0], found.locations[:, :, 0])
    for row, real in zip(found.regions[:, :, 0], found.region_mask, strict=True):
        assert bool((row[real].diff() > 0).all())
        assert not bool(row[~real].any())
    assert torch.equal(found.input_ids, one.input_ids)


def test_the_published_shares_of_grids() -> None:
    keep = kept_grids(*grid_drop(256, 2000, torch.Generator().manual_seed(0)))
    share = keep.float().mean(dim=1)
    assert float((share == 1).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((1 - share[share < 1]).mean()) == pytest.approx(0.12, abs=0.01)


def test_the_vocabulary_of_the_pieces_must_be_that_of_the_examples(tmp_path: object) -> None:
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, [*SPECIAL_TOKENS, "dog", "##s"])
    other = TokenizerDescription(name="v", vocab_size=7, vocab_sha256="0", special_ids={"[MASK]": 4})
    with pytest.raises(UsageError, match="is not the vocabulary of the examples"):
        SizeAugmentation.for_texts(DualConfig(word_pieces=path), other)
    assert continuations(["##s", "s"]).tolist() == [True, False]
