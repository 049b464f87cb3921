"""Masked language and region modelling of UNITER (Chen et al., ECCV 2020, section 3.2).

Each objective hides one modality and leaves the other whole (conditional masking). ``corrupt`` makes the hidden
batch with its targets from a generator alone; ``forward`` scores it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from vltk.config.training import ObjectivesConfig
from vltk.errors import DataError, UsageError
from vltk.language.tokenization import load_tokenizer
from vltk.models.uniter import UNITERForPretraining
from vltk.stores.examples import TokenizerDescription
from vltk.types import Batch, Losses

IGNORED = -1
"""Label of a word piece that is not to be predicted."""


def cross_entropy(logits: Tensor, labels: Tensor, asked: Tensor | None = None) -> Losses:
    """Return the cross entropies of [M, C] logits, and whether the best class is the right one.

    Args:
        logits: of the classes.
        labels: [M] the right classes.
        asked: [B, N] bool, the M places of the batch that they are about, in their order.
    """
    values = F.cross_entropy(logits, labels, reduction="none")
    return Losses(values=values, count=values.numel(), correct=logits.argmax(dim=1) == labels, rows=_rows(asked))


def _rows(asked: Tensor | None) -> Tensor | None:
    """Return [M] the rows of the places that are asked about."""
    return None if asked is None else asked.nonzero()[:, 0]


@dataclass(frozen=True, kw_only=True)
class MLM:
    """Predict hidden word pieces from the other words and the picture (section 3.2, equation 1).

    Of the chosen pieces 80 % become the mask, 10 % a random piece, 10 % stay. A text in which none was chosen hides
    its first word piece. Special tokens are never chosen.

    Args:
        mask_id: id of the mask token.
        special_ids: ids that are never hidden (start, separator).
        vocabulary: half-open range that random pieces are drawn from.
        probability: share of word pieces to hide.
        focus_ids: pieces that are hidden with ``focus_probability`` instead.
        focus_probability: share of those.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocabulary: tuple[int, int]
    probability: float = 0.15
    focus_ids: tuple[int, ...] = ()
    focus_probability: float = 0.0

    @classmethod
    def build(cls, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> Self:
        """Make it for a tokenizer.

        Raises:
            DataError: the tokenizer has no mask token.
        """
        special = tokenizer.special_ids
        if "[MASK]" not in special:
            raise DataError("has no [MASK]", where=f"tokenizer {tokenizer.name}", remedy="use a BERT vocabulary")
        return cls(
            mask_id=special["[MASK]"],
            special_ids=tuple(special.values()),
            # Random pieces come after the special ones; the published range begins two unused pieces later, at "!".
            vocabulary=(max(special.values()) + 1, tokenizer.vocab_size),
            probability=settings.word_probability,
            focus_ids=focus_ids(settings, tokenizer) if settings.focus_words is not None else (),
            focus_probability=settings.focus_probability,
        )

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Hide word pieces; ``targets["words"]`` is [B, T] with -1 where nothing is asked."""
        ids = batch.input_ids
        special = torch.isin(ids, torch.tensor(self.special_ids, device=ids.device))
        allowed = batch.text_mask & ~special
        focus = torch.isin(ids, torch.tensor(self.focus_ids, dtype=ids.dtype, device=ids.device))
        wanted = torch.where(focus, self.focus_probability, self.probability).clamp(min=1e-9).cpu()
        draw = torch.rand(ids.shape, generator=generator)
        chosen = allowed & (draw < wanted).to(ids.device)
        first = F.one_hot(allowed.int().argmax(dim=1), ids.shape[1]).bool() & allowed
        none = ~chosen.any(dim=1, keepdim=True)
        chosen = torch.where(none, first, chosen)
        share = (draw / wanted).to(ids.device)
        random = torch.randint(*self.vocabulary, ids.shape, generator=generator).to(ids.device)
        hidden = torch.where(chosen & ((share < 0.8) | none), self.mask_id, ids)
        hidden = torch.where(chosen & ~none & (share >= 0.8) & (share < 0.9), random, hidden)
        return replace(batch, input_ids=hidden, targets=batch.targets | {"words": torch.where(chosen, ids, IGNORED)})

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return one cross entropy a hidden word piece, in row-major order."""
        labels = batch.targets["words"]
        asked = labels != IGNORED
        logits = model.word_logits(model.encoder(batch).text[asked])
        return cross_entropy(logits, labels[asked], asked)


def focus_ids(settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> tuple[int, ...]:
    """Return the word pieces that ``--focus-words`` names, by the vocabulary that ``--vocab`` gives.

    Raises:
        UsageError: the vocabulary is missing, or another than that of the examples; or a word is no piece of it.
    """
    if settings.focus_words is None or settings.vocab is None:
        raise UsageError("is given without --vocab", where="--focus-words", remedy="name the vocab.txt of the examples")
    known = load_tokenizer(settings.vocab)
    if known.description().vocab_sha256 != tokenizer.vocab_sha256:
        raise UsageError("is not the vocabulary of the examples", where=settings.vocab, remedy="name theirs")
    words = settings.focus_words.read_text("utf-8").split()
    unknown = next((word for word in words if word not in known.ids), None)
    if unknown is not None:
        problem = f"{unknown!r} is no word piece of {settings.vocab}"
        raise UsageError(problem, where=settings.focus_words, remedy="name words that the vocabulary keeps whole")
    return tuple(known.ids[word] for word in words)


def hide_regions(batch: Batch, generator: torch.Generator, *, probability: float = 0.15) -> Batch:
    """Hide 15 % of the regions of each picture, at least one; their features become zero plus the mask vector.

    Returns:
        The batch with ``masked_regions`` and ``targets["features"]``, the [M, D] features that were hidden.
    """
    draw = torch.rand(batch.region_mask.shape, generator=generator).to(batch.region_mask.device)
    draw = draw.masked_fill(~batch.region_mask, 2.0)
    at_least_one = F.one_hot(draw.argmin(dim=1), draw.shape[1]).bool()
    masked = ((draw < probability) | at_least_one) & batch.region_mask
    regions = batch.regions.masked_fill(masked.unsqueeze(-1), 0)
    targets = batch.targets | {"features": batch.regions[masked]}
    if "class_probs" in targets:  # [B, R, C] of all regions until now
        targets["class_probs"] = targets["class_probs"][masked]
    return replace(batch, regions=regions, masked_regions=masked, targets=targets)


@dataclass(frozen=True, kw_only=True)
class _MaskedRegions:
    """What the objectives on hidden regions share.

    Args:
        probability: share of regions to hide.
    """

    probability: float = 0.15

    @classmethod
    def build(cls, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> Self:
        """Make it as configured."""
        return cls(probability=settings.region_probability)

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Hide regions."""
        return hide_regions(batch, generator, probability=self.probability)

    def hidden_states(self, model: UNITERForPretraining, batch: Batch) -> Tensor:
        """Return the [M, H] states of the hidden regions."""
        states: Tensor = model.encoder(batch).regions
        return states[batch.masked_regions]


class MRFR(_MaskedRegions):
    """Regress the features of hidden regions (section 3.2, masked region feature regression).

    The published loss is the mean over regions and over the D dimensions, though the paper writes a sum over D.
    """

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return [M, D] squared errors."""
        predicted = model.region_features(self.hidden_states(model, batch)).float()
        values = (predicted - batch.targets["features"]).square()
        return Losses(values=values, count=values.numel())


class _ClassifiedRegions(_MaskedRegions):
    needs_classes: ClassVar[bool] = True

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Hide regions; needs ``targets["class_probs"]`` [B, R, C].

        Raises:
            DataError: the pictures have no class distributions.
        """
        if "class_probs" not in batch.targets:
            problem = f"{type(self).__name__} needs class distributions, the regions have none"
            raise DataError(problem, where=f"pair {batch.ids[0]}", remedy="extract them, or leave the objective out")
        return super().corrupt(batch, generator)


@dataclass(frozen=True, kw_only=True)
class MRC(_ClassifiedRegions):
    """Name the detector's class of hidden regions (section 3.2, masked region classification).

    The target is the best foreground class; the background is left out on the target's side only.

    Args:
        background_first: column 0 of the distributions is the background, as in UNITER's stores; see
            :meth:`~vltk.stores.features.FeatureMetadata.background_first`.
    """

    background_first: bool = True

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return [M] cross entropies."""
        logits = model.region_logits(self.hidden_states(model, batch))
        first = 1 if self.background_first else 0
        labels = batch.targets["class_probs"][:, first:].argmax(dim=1) + first
        return cross_entropy(logits, labels, batch.masked_regions)


class MRCKL(_ClassifiedRegions):
    """Match the detector's class distribution of hidden regions (section 3.2, MRC-kl).

    The published loss is the mean over regions and over the C classes, though the paper writes a sum over C.
    """

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return [M, C] terms of the Kullback-Leibler divergence."""
        logits = model.region_logits(self.hidden_states(model, batch))
        soft = batch.targets["class_probs"]
        values = F.kl_div(logits.log_softmax(dim=-1), soft, reduction="none")
        right = logits.argmax(dim=1) == soft.argmax(dim=1)
        return Losses(values=values, count=values.numel(), correct=right, rows=_rows(batch.masked_regions))


@dataclass(frozen=True, kw_only=True)
class MRM(_MaskedRegions):
    """Name the detector's class and attribute of hidden regions and regress their features (LXMERT, SSRP stage 1).

    A label counts as much as the detector trusts it; features are compared with a smooth L1 loss (Tan and Bansal,
    2019, section 3.1). The terms are added.

    Args:
        parts: what is predicted: class, attribute, feature.
    """

    parts: tuple[str, ...] = ("class", "attribute", "feature")

    @classmethod
    def build(cls, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> Self:
        """Make it as configured."""
        return cls(probability=settings.region_probability, parts=settings.region_parts)

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Hide regions; needs ``targets["class_ids"]`` and ``["attribute_ids"]`` [B, R] for these parts.

        Raises:
            DataError: the pictures have no such labels.
        """
        wanted = [part for part in self.parts if part != "feature"]
        missing = next((part for part in wanted if f"{part}_ids" not in batch.targets), None)
        if missing is not None:
            problem = f"MRM needs the {missing} of each region, the regions have none"
            remedy = "extract them, or leave it out of --region-parts"
            raise DataError(problem, where=f"pair {batch.ids[0]}", remedy=remedy)
        hidden = super().corrupt(batch, generator)
        names = [f"{part}_{kind}" for part in wanted for kind in ("ids", "scores") if f"{part}_{kind}" in batch.targets]
        masked = hidden.masked_regions
        return replace(hidden, targets=hidden.targets | {name: batch.targets[name][masked] for name in names})

    def forward(self, model: Any, batch: Batch) -> Losses:
        """Return [M] summed losses of the hidden regions."""
        states = self.hidden_states(model, batch)
        classes, attributes, features = model.region_predictions(states)
        values = states.new_zeros(len(states), dtype=torch.float32)
        correct = None
        for part, logits in (("class", classes), ("attribute", attributes)):
            if part in self.parts:
                found = cross_entropy(logits.float(), self._labels(batch, part, logits.shape[1]))
                values = values + found.values * batch.targets.get(f"{part}_scores", 1.0)
                correct = found.correct if correct is None else correct
        if "feature" in self.parts:
            missed = F.smooth_l1_loss(features.float(), batch.targets["features"].float(), reduction="none")
            values = values + missed.mean(dim=1)
        return Losses(values=values, count=values.numel(), correct=correct, rows=_rows(batch.masked_regions))

    def _labels(self, batch: Batch, part: str, known: int) -> Tensor:
        labels = batch.targets[f"{part}_ids"]
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < known:
            flag = "--region-classes" if part == "class" else "--attribute-classes"
            problem = f"a region has the {part} {int(labels.max())}, the model knows {known}"
            raise DataError(problem, where=f"pair {batch.ids[0]}, ...", remedy=f"give {flag}")
        return labels


@dataclass(frozen=True, kw_only=True)
class JointlyMasked:
    """An objective whose other modality is hidden too: the joint masking that conditional masking replaced (table 2).

    Args:
        objective: what is predicted.
        other: hides the other modality; its own prediction is not asked for.
    """

    objective: MLM | _MaskedRegions
    other: MLM | _MaskedRegions

    def corrupt(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Hide both."""
        return self.objective.corrupt(self.other.corrupt(batch, generator), generator)

    def forward(self, model: UNITERForPretraining, batch: Batch) -> Losses:
        """Return the losses of the objective."""
        losses: Losses = self.objective.forward(model, batch)  # type: ignore[union-attr]
        return losses


def jointly_masked(objective: object, settings: ObjectivesConfig, tokenizer: TokenizerDescription) -> object:
    """Return an objective that hides one modality as one that hides both; any other as it is."""
    if isinstance(objective, MLM):
        return JointlyMasked(objective=objective, other=MRFR.build(settings, tokenizer))
    if isinstance(objective, _MaskedRegions):
        return JointlyMasked(objective=objective, other=MLM.build(settings, tokenizer))
    return objective
