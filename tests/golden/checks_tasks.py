"""The heads and losses of UNITER's downstream tasks against the authors' code, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from tests.golden.case import Case
from tests.golden.checks_uniter import batch_of, build, compare, compare_gradients, tensors, under
from vltk.models._checkpoints import _extended
from vltk.models._heads import (
    AnswerHead,
    ChoiceHead,
    Head,
    PairAttentionHead,
    PairHead,
    RegionHead,
    TripletHead,
    begin_head,
)
from vltk.models.uniter import UNITER
from vltk.objectives.classification import binary_cross_entropy, region_cross_entropy, region_ranking
from vltk.objectives.masked import cross_entropy
from vltk.types import Batch, Losses

HIDDEN = 32


class Model(nn.Module):
    """An encoder with a head, both under their published names."""

    def __init__(self, encoder: UNITER, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: Batch) -> Tensor:
        scores: Tensor = self.head(self.encoder(batch), batch)
        return scores

    def published_keys(self, key: str) -> list[str]:
        part, _, rest = key.partition(".")
        if part == "encoder":
            return [f"uniter.{name}" for name in self.encoder.published_keys(rest)]
        return self.head.published_keys(rest)


def check(
    case: Case, head: Head, loss: Callable[[Tensor, Batch, Tensor], Losses], *, scores: str, values: str = ""
) -> None:
    """Score and learn as published; ``scores`` and ``values`` name the official outputs."""
    found = tensors(case)
    state = under("sd.", found)
    encoder = build(case, under("uniter.", state), pretraining=False)
    model = Model(encoder, head).eval()
    assert begin_head(head, {k: v for k, v in state.items() if not k.startswith("uniter.")}) == "head of the checkpoint"
    batch = replace(batch_of(found), region_types=found.get("in.img_type_ids"))
    given = model(batch)
    official = found[f"out.{scores}"]
    compare(case, given[:, 1:] if scores == "rank_scores" else given, official)
    losses = loss(given, batch, found["in.targets"])
    compare(case, losses.mean(), found["out.loss"])
    if values:
        compare(case, losses.values, found[f"out.{values}"])
    losses.mean().backward()
    compare_gradients(case, model, under("grad.", found))


def check_answers(case: Case) -> None:
    answers = len(tensors(case)["sd.vqa_output.3.bias"])
    head = AnswerHead(hidden=HIDDEN, answers=answers)
    check(case, head, lambda s, _, t: binary_cross_entropy(s, t), scores="logits", values="loss_mat")


def check_choices(case: Case) -> None:
    """VCR; its segment table and vocabulary grow as published before it is trained."""
    found = tensors(case)
    check(case, ChoiceHead(hidden=HIDDEN), lambda s, _, t: cross_entropy(s, t.squeeze(1)), scores="rank_scores")
    check_extension(found, rows=4)
    words, key = found["in.word_emb_before_extension"], "encoder.text_embedding.word.weight"
    grown = _extended(key, words, found["sd.uniter.embeddings.word_embeddings.weight"])
    assert torch.equal(grown[: len(words)], words)


def check_extension(found: dict[str, Tensor], *, rows: int) -> None:
    given, official = found["in.type_emb_before_extension"], found["out.type_emb_after_extension"]
    fresh = torch.zeros(rows, given.shape[1])
    assert torch.equal(_extended("encoder.text_embedding.segment.weight", given, fresh), official)


def check_statements(case: Case, head: Head) -> None:
    check(case, head, lambda s, _, t: cross_entropy(s, t), scores="scores", values="loss_vec")
    check_extension(tensors(case), rows=3)


def check_regions(case: Case, *, layers: int) -> None:
    head = RegionHead(hidden=HIDDEN, layers=layers)
    check(case, head, lambda s, _, t: region_cross_entropy(s, t.squeeze(1)), scores="scores", values="loss_vec")


def check_ranking(case: Case) -> None:
    def loss(scores: Tensor, batch: Batch, target: Tensor) -> Losses:
        return region_ranking(scores, batch.region_mask, target.squeeze(1), margin=0.2, hard_share=1.0)

    check(case, RegionHead(hidden=HIDDEN, layers=2), loss, scores="scores", values="loss_vec")


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/vqa": check_answers,
    "uniter/ve": check_answers,
    "uniter/vcr": check_choices,
    "uniter/nlvr2_triplet": lambda c: check_statements(c, TripletHead(hidden=HIDDEN)),
    "uniter/nlvr2_paired": lambda c: check_statements(c, PairHead(hidden=HIDDEN)),
    "uniter/nlvr2_paired_attn": lambda c: check_statements(c, PairAttentionHead(hidden=HIDDEN, heads=4, dropout=0.1)),
    "uniter/re_cls_mlp1": lambda c: check_regions(c, layers=1),
    "uniter/re_cls_mlp2": lambda c: check_regions(c, layers=2),
    "uniter/re_rank_hard": check_ranking,
}
