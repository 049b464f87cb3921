"""Inter-modal Alignment on Intra-modal Self-attentions: IAIS (Ren et al., ACL 2021, section 3).

The relations of a word to the other words, and of a region to the other regions, are read from the attention scores of
a joint encoder. One side is the anchor; its mirror is built from the other side through the attention between the two;
the loss is the distance between anchor and mirror. Any encoder that gives ``attention_scores`` will do.

Two forms differ in more than a factor. ``official`` is what the authors ran: probabilities are averaged over the heads
first, the most attended item is found in those averages, the mirror of the singular alignment goes through a second
softmax, the distance is divided by the rows of the anchor, and only one anchor is used at a time, L while negatives are
pictures and V while they are texts. ``paper`` is equations 8 and 10 to 13: raw scores, one softmax, a sum over rows,
both anchors of every matched pair; as the paper does not speak of heads, the distances of the heads are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vltk.batching import SpecialTokens
from vltk.config.relations import IAISConfig
from vltk.errors import UsageError
from vltk.types import Batch

Alignment = Literal["singular", "distributed"]
Anchor = Literal["L", "V"]
Form = Literal["official", "paper"]
Half = Literal["text", "image"]

# What the published code adds to scores that take no part; its exponential is 0, and unlike infinity it has a gradient.
EXCLUDED = -1e4
# Added inside the logarithm of the published distributed loss, on the logarithm's side only.
PUBLISHED_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class IAIS:
    """The relation loss of matched pairs (section 3).

    Args:
        alignment: "singular" takes the most attended item of the other side (equation 10), "distributed" all of them
            by their attention (equation 12).
        form: "official" or "paper", see the module.
        anchors: which sides are mirrored.
        layer: whose attention scores it is given; for who asks the encoder for them.
        annealing: how the weight rises (section 5.3).
        gamma: steepness of exp and log.
        scale: weight at the end.
    """

    alignment: Alignment = "singular"
    form: Form = "official"
    anchors: tuple[Anchor, ...] = ("L", "V")
    layer: int = -1
    annealing: Literal["exp", "log", "linear", "none"] = "exp"
    gamma: float = 5.0
    scale: float = 1.0

    def anchors_of(self, half: Half | None = None) -> tuple[Anchor, ...]:
        """Return the anchors that are used while negatives are drawn for one side.

        Args:
            half: "text" where one text meets many pictures, "image" where one picture meets many texts, None for
                all anchors. The published code takes L in the first and V in the second, the paper both in each.
        """
        if half is None or self.form == "paper":
            return self.anchors
        return tuple(anchor for anchor in self.anchors if anchor == ("L" if half == "text" else "V"))

    def weight(self, step: int, total: int) -> float:
        """Return the weight of the loss after ``step`` of ``total`` updates (equation 16).

        Example:
            >>> [round(IAIS().weight(step, 10), 4) for step in (0, 5, 10)]
            [0.0067, 0.0821, 1.0]
        """
        return self.scale * annealed(step / total, schedule=self.annealing, gamma=self.gamma)

    def losses(
        self, scores: Tensor, text_mask: Tensor, region_mask: Tensor, *, anchors: tuple[Anchor, ...] | None = None
    ) -> Tensor:
        """Return the losses of matched pairs, their anchors added (equations 11 and 13).

        Args:
            scores: [B, heads, T + R, T + R] of :class:`~vltk.types.EncoderOutput`, before the softmax.
            text_mask: [B, T] bool, true on words; special tokens take no part (:func:`words_of`).
            region_mask: [B, R] bool.
            anchors: of :meth:`anchors_of`; all where not given.

        Returns:
            [B], zero for a pair without words or regions.

        Raises:
            UsageError: the scores are not of these texts and regions.
        """
        attention = Relations(scores, text_mask, region_mask, averaged=self.form == "official")
        losses = scores.new_zeros(len(scores), dtype=torch.float32)
        for anchor in self.anchors if anchors is None else anchors:
            losses = losses + relation_loss(attention, anchor, self.alignment, self.form)
        return losses


def build_iais(settings: IAISConfig) -> IAIS | None:
    """Make it as configured, or nothing where it is off."""
    if settings.iais == "off":
        return None
    return IAIS(
        alignment=settings.iais,
        form=settings.iais_form,
        anchors=("L", "V") if settings.iais_anchors == "both" else (settings.iais_anchors,),
        layer=settings.iais_layer,
        annealing=settings.iais_annealing,
        gamma=settings.iais_gamma,
        scale=settings.iais_weight,
    )


def annealed(share: float, *, schedule: str, gamma: float = 5.0) -> float:
    """Return the weight when a share of the run is done (section 5.3).

    Raises:
        UsageError: there is no such schedule.

    Example:
        >>> [round(annealed(0.5, schedule=name), 3) for name in ("linear", "exp", "log", "none")]
        [0.5, 0.082, 0.918, 1.0]
    """
    weights = {
        "linear": share,
        "exp": math.exp((share - 1) * gamma),
        "log": 1 - math.exp(-share * gamma),
        "none": 1.0,
    }
    if schedule not in weights:
        raise UsageError(f"no annealing {schedule!r}", remedy=f"use one of {', '.join(weights)}")
    return weights[schedule]


def words_of(batch: Batch, special: SpecialTokens) -> Tensor:
    """Return [B, T] bool, true on word pieces that are no special tokens."""
    framed = (batch.input_ids == special.start) | (batch.input_ids == special.separator)
    return batch.text_mask & ~framed


class Relations:
    """The four blocks of attention scores, each a distribution within its block, computed when it is needed.

    Args:
        scores: [B, heads, T + R, T + R] before the softmax.
        text_mask: [B, T] bool.
        region_mask: [B, R] bool.
        averaged: average the probabilities over the heads; the blocks then have one head.

    Raises:
        UsageError: the scores are not of these texts and regions.
    """

    def __init__(self, scores: Tensor, text_mask: Tensor, region_mask: Tensor, *, averaged: bool) -> None:
        length = text_mask.shape[1] + region_mask.shape[1]
        if scores.dim() != 4 or scores.shape[0] != len(text_mask) or scores.shape[2:] != (length, length):
            wanted = f"[{len(text_mask)}, heads, {length}, {length}]"
            remedy = "take the scores of the batch whose masks are given"
            raise UsageError(f"attention scores {list(scores.shape)} instead of {wanted}", remedy=remedy)
        if not (text_mask.shape[1] and region_mask.shape[1]):
            raise UsageError("relations of a batch without words or regions", remedy="give pairs of both")
        self._scores, self._averaged, self._split = scores, averaged, text_mask.shape[1]
        self.mask = {"L": text_mask, "V": region_mask}
        self._known: dict[str, Tensor] = {}

    def raw(self, block: str) -> Tensor:
        """Return the [B, heads, rows, columns] scores of a block, e.g. "LV" from words to regions."""
        place = {"L": slice(None, self._split), "V": slice(self._split, None)}
        valid = self.mask[block[0]][:, None, :, None] & self.mask[block[1]][:, None, None, :]
        return self._scores[:, :, place[block[0]], place[block[1]]].float().masked_fill(~valid, EXCLUDED)

    def log(self, block: str) -> Tensor:
        """Return the logarithm of the probabilities of a block."""
        if block not in self._known:
            logs = self.raw(block).log_softmax(dim=-1)
            if self._averaged:
                logs = logs.logsumexp(dim=1, keepdim=True) - math.log(logs.shape[1])
            self._known[block] = logs
        return self._known[block]


def relation_loss(relations: Relations, anchor: Anchor, alignment: Alignment, form: Form) -> Tensor:
    """Return the [B] distances between the relations of one side and their mirror in the other (algorithm 2).

    Args:
        relations: the blocks; with averaged heads for the official form.
        anchor: the side that is mirrored.
        alignment: how the other side is found.
        form: "official" or "paper".
    """
    other = "V" if anchor == "L" else "L"
    logs, mask = relations.log(anchor + anchor), relations.mask[anchor]
    if alignment == "singular":
        most = relations.log if form == "official" else relations.raw
        found = most(anchor + other).argmax(dim=-1)
        taken = relations.log(other + other).exp() if form == "official" else relations.raw(other + other)
        mirror = _picked(taken, found).masked_fill(~mask[:, None, None, :], EXCLUDED).log_softmax(dim=-1)
        distance = mirror.exp() * (mirror - logs) + logs.exp() * (logs - mirror)
    else:
        eps = PUBLISHED_EPS if form == "official" else 0.0
        probabilities = relations.log(anchor + other).exp() @ relations.log(other + anchor).exp()
        distance = _distributed(probabilities, logs, eps)
    valid = mask[:, None, :, None] & mask[:, None, None, :]
    total = distance.masked_fill(~valid, 0).sum(dim=(2, 3)).mean(dim=1)
    return total / mask.sum(dim=1).clamp(min=1) if form == "official" else total


def _picked(values: Tensor, found: Tensor) -> Tensor:
    """Return values[found[i], found[j]] of [B, heads, M, M] values for [B, heads, N] places."""
    rows = values.gather(2, found.unsqueeze(3).expand(-1, -1, -1, values.shape[3]))
    return rows.gather(3, found.unsqueeze(2).expand(-1, -1, found.shape[2], -1))


def _distributed(mirror: Tensor, logs: Tensor, eps: float) -> Tensor:
    least = torch.finfo(mirror.dtype).tiny
    anchor, known = logs.exp(), mirror.clamp(min=least).log()
    if not eps:
        return mirror * (known - logs) + anchor * (logs - known)
    return mirror * (known - (anchor + eps).log()) + anchor * (logs - (mirror + eps).log())
