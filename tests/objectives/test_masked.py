"""Masking is a pure function of the generator and hides what the published rule hides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.test_uniter import TINY, batch
from tests.small_pairs import TOKENIZER
from vltk.config.training import ObjectivesConfig
from vltk.errors import DataError, UsageError
from vltk.language.tokenization import load_tokenizer
from vltk.objectives.masked import IGNORED, MLM, MRC, MRCKL, MRFR
from vltk.objectives.matching import ITM
from vltk.objectives.pretraining import build_objectives
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch

MASKING = MLM(mask_id=49, special_ids=(1, 2), vocabulary=(3, 48))


def wide_batch(rows: int = 400) -> Batch:
    return batch(text=(12,) * rows, regions=(8,) * rows)


def test_about_15_percent_of_words_are_hidden_80_10_10() -> None:
    whole = wide_batch()
    hidden = MASKING.corrupt(whole, torch.Generator().manual_seed(0))
    chosen = hidden.targets["words"] != IGNORED
    assert abs(float(chosen.float().mean()) - 0.15) < 0.03
    shares = [
        float(part[chosen].float().mean()) for part in (hidden.input_ids == 49, hidden.input_ids == whole.input_ids)
    ]
    assert abs(shares[0] - 0.83) < 0.05  # texts in which chance chose none add masks to the 80 %
    assert abs(shares[1] - 0.10) < 0.04
    assert torch.equal(hidden.targets["words"][chosen], whole.input_ids[chosen])
    assert torch.equal(hidden.input_ids[~chosen], whole.input_ids[~chosen])


def test_special_pieces_and_padding_are_never_hidden_and_every_text_hides_one() -> None:
    whole = batch(text=(9, 2, 5) * 30, regions=(1,) * 90)
    whole.input_ids[:, 0] = 1
    chosen = MASKING.corrupt(whole, torch.Generator().manual_seed(3)).targets["words"] != IGNORED
    assert not chosen[:, 0].any()
    assert not (chosen & ~whole.text_mask).any()
    assert chosen.any(dim=1).all()


def test_every_picture_hides_at_least_one_real_region() -> None:
    whole = batch(text=(2,) * 60, regions=(1, 5, 3) * 20)
    hidden = MRFR().corrupt(whole, torch.Generator().manual_seed(0))
    assert hidden.masked_regions is not None
    assert hidden.masked_regions.any(dim=1).all()
    assert not (hidden.masked_regions & ~whole.region_mask).any()
    assert not hidden.regions[hidden.masked_regions].any()
    assert torch.equal(hidden.targets["features"], whole.regions[hidden.masked_regions])


@pytest.mark.parametrize("objective", [MASKING, MRFR(), MRC(), MRCKL()])
def test_the_same_generator_gives_the_same_batch_and_leaves_the_input_alone(objective: MLM | MRFR) -> None:
    whole = batch()
    whole.targets["class_probs"] = torch.rand(2, 4, 5).softmax(-1)
    before = whole.input_ids.clone(), whole.regions.clone()
    first, second = (objective.corrupt(whole, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.input_ids, second.input_ids)
    assert torch.equal(first.regions, second.regions)
    assert torch.equal(whole.input_ids, before[0])
    assert torch.equal(whole.regions, before[1])
    torch.manual_seed(0)
    losses = objective.forward(TINY.build_for_pretraining(), first)
    assert losses.values.numel() == losses.count > 0
    assert bool(losses.mean().isfinite())


def test_focus_words_are_hidden_at_their_own_rate() -> None:
    whole = wide_batch(800)
    focused = MLM(
        mask_id=49, special_ids=(1, 2), vocabulary=(3, 48), probability=0.05, focus_ids=(7, 9), focus_probability=0.4
    )
    hidden = focused.corrupt(whole, torch.Generator().manual_seed(0))
    chosen = hidden.targets["words"] != IGNORED
    focus = torch.isin(whole.input_ids, torch.tensor([7, 9]))
    special = torch.isin(whole.input_ids, torch.tensor([1, 2]))
    assert abs(float(chosen[focus].float().mean()) - 0.4) < 0.06
    assert float(chosen[~focus & ~special].float().mean()) < 0.13  # texts in which chance chose none add their first
    assert not chosen[special].any()


def described(vocab: Path) -> TokenizerDescription:
    return load_tokenizer(vocab).description()


def test_focus_words_are_found_in_the_vocabulary_of_the_examples(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "star", "a"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "other.txt").write_text("\n".join([*pieces, "blue"]) + "\n")
    (tmp_path / "focus.txt").write_text("red\nstar\n")
    (tmp_path / "unknown.txt").write_text("red\ngreen\n")

    def found(**changes: Path) -> tuple[int, ...]:
        settings = ObjectivesConfig(
            **{"focus_words": tmp_path / "focus.txt", "vocab": tmp_path / "vocab.txt"} | changes
        )
        return MLM.build(settings, described(tmp_path / "vocab.txt")).focus_ids

    assert found() == (6, 7)
    with pytest.raises(UsageError, match=r"other\.txt: is not the vocabulary of the examples"):
        found(vocab=tmp_path / "other.txt")
    with pytest.raises(UsageError, match=r"unknown\.txt: 'green' is no word piece of"):
        found(focus_words=tmp_path / "unknown.txt")
    with pytest.raises(UsageError, match="--focus-words: is given without --vocab"):
        MLM.build(ObjectivesConfig(focus_words=tmp_path / "focus.txt"), described(tmp_path / "vocab.txt"))


def padded(hidden: Batch, words: int = 3, regions: int = 2) -> Batch:
    """Return a corrupted batch with more padding on both sides."""
    right = torch.nn.functional.pad
    probs = hidden.targets.get("class_probs")
    assert probs is None or probs.dim() == 2, "what is hidden is cut out already"
    targets = dict(hidden.targets)
    if "words" in targets:
        targets["words"] = right(targets["words"], (0, words), value=IGNORED)
    masked = None if hidden.masked_regions is None else right(hidden.masked_regions, (0, regions))
    return replace(
        hidden,
        input_ids=right(hidden.input_ids, (0, words)),
        text_mask=right(hidden.text_mask, (0, words)),
        regions=right(hidden.regions, (0, 0, 0, regions), value=7.0),
        locations=right(hidden.locations, (0, 0, 0, regions), value=7.0),
        region_mask=right(hidden.region_mask, (0, regions)),
        masked_regions=masked,
        targets=targets,
    )


@pytest.mark.parametrize("objective", [MASKING, MRFR(), MRC(), MRCKL()])
def test_padding_changes_no_loss(objective: MLM | MRFR | MRC | MRCKL) -> None:
    whole = batch()
    whole.targets["class_probs"] = torch.rand(2, 4, 5).softmax(-1)
    hidden = objective.corrupt(whole, torch.Generator().manual_seed(5))
    if isinstance(objective, MLM):
        del hidden.targets["class_probs"]
    torch.manual_seed(0)
    model = TINY.build_for_pretraining().eval()
    ours, expected = objective.forward(model, padded(hidden)), objective.forward(model, hidden)
    assert ours.count == expected.count
    torch.testing.assert_close(ours.values, expected.values)


def test_joint_masking_hides_both_sides_and_predicts_its_own() -> None:
    settings = ObjectivesConfig(masking="joint", word_probability=0.3, region_probability=0.3)
    built = build_objectives(["mlm", "mrfr", "itm"], settings, TOKENIZER)
    assert isinstance(built["itm"], ITM)
    whole = batch(text=(12,) * 40, regions=(8,) * 40)
    torch.manual_seed(0)
    model = TINY.build_for_pretraining().eval()
    for name, alone in (("mlm", 1), ("mrfr", TINY.region_dim)):
        hidden = built[name].corrupt(whole, torch.Generator().manual_seed(1))
        assert hidden.masked_regions is not None
        words, regions = hidden.targets["words"] != IGNORED, hidden.masked_regions
        assert float(words.float().mean()) == pytest.approx(0.3, abs=0.06)
        assert float(regions.float().mean()) == pytest.approx(0.3, abs=0.06)
        losses = built[name].forward(model, hidden)
        assert losses.count == int((words if name == "mlm" else regions).sum()) * alone


@pytest.mark.parametrize("background_first", [True, False])
def test_the_first_class_is_the_background_only_where_the_store_says_so(background_first: bool) -> None:
    whole = batch()
    whole.targets["class_probs"] = torch.tensor([0.6, 0.1, 0.3, 0.0, 0.0]).expand(2, 4, 5)
    mrc = build_objectives(["mrc"], ObjectivesConfig(), TOKENIZER, background_first=background_first)["mrc"]
    hidden = mrc.corrupt(whole, torch.Generator().manual_seed(5))
    torch.manual_seed(0)
    model = TINY.build_for_pretraining().eval()
    logits = model.region_logits(model.encoder(hidden).regions[hidden.masked_regions])
    label = 2 if background_first else 0
    torch.testing.assert_close(mrc.forward(model, hidden).values, -logits.log_softmax(dim=-1)[:, label])


@pytest.mark.parametrize("objective", [MASKING, MRC(), MRCKL()])
def test_each_guess_knows_its_pair(objective: MLM | MRC | MRCKL) -> None:
    whole = batch()
    whole.targets["class_probs"] = torch.rand(2, 4, 5).softmax(-1)
    hidden = objective.corrupt(whole, torch.Generator().manual_seed(5))
    losses = objective.forward(TINY.build_for_pretraining().eval(), hidden)
    asked = hidden.targets["words"] != IGNORED if isinstance(objective, MLM) else hidden.masked_regions
    assert losses.rows is not None
    assert torch.bincount(losses.rows, minlength=2).tolist() == asked.sum(dim=1).tolist()


def test_region_classes_must_be_there() -> None:
    for objective in (MRC(), MRCKL()):
        with pytest.raises(DataError, match=f"pair 0: {type(objective).__name__} needs class distributions"):
            objective.corrupt(batch(), torch.Generator())


def test_an_objective_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="--objective: no objective 'mrckk'; did you mean mrckl"):
        build_objectives(["mlm", "mrckk"], ObjectivesConfig(), TOKENIZER)
    unmasked = replace(TOKENIZER, special_ids={"[CLS]": 1, "[SEP]": 2})
    with pytest.raises(DataError, match=r"tokenizer words: has no \[MASK\]; use a BERT vocabulary"):
        build_objectives(["mlm"], ObjectivesConfig(), unmasked)
