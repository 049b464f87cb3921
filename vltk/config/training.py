"""What a training run is told: what it sees, what it hides, how it updates weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.config.declaration import option
from vltk.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How weights are updated."""

    steps: int = 200_000
    """Updates of the weights."""
    learning_rate: float = 5e-5
    """Highest learning rate."""
    warmup: int = 10_000
    """Updates until the highest rate."""
    schedule: Literal["linear", "step"] = "linear"
    """After the warm-up fall linearly to 0, or in steps to a tenth each (dual encoders)."""
    step_at: float = 0.6
    """Share of the updates after which a step schedule falls, each time: 0.6 falls once, 0.34 twice."""
    weight_decay: float = 0.01
    """Decoupled weight decay; none on biases and the Transformer's norms, as published."""
    clip: float = 5.0
    """Gradients are clipped to this norm; 0 clips nothing."""
    micro_batches: int = 1
    """Micro-batches of an update, divided among the processes: 8 GPUs that accumulate 6 are 48."""
    optimizer: Literal["published", "torch"] = "published"
    """AdamW as UNITER's authors ran it, or torch's."""
    normalisation: Literal["global", "published"] = "global"
    """Divide losses by the targets of the whole update, or sum the micro-batches' means (published)."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the model (torch.compile)."""
    log_every: int = option(50, incidental=True)
    """Updates between two lines of metrics.jsonl, which hold the means since the last."""
    tensorboard: bool = option(False, incidental=True)
    """Also write TensorBoard's files (extra: train)."""
    validate_every: int = option(0, incidental=True)
    """Updates between two validations; 0 validates at the end only."""
    save_every: int = option(1000, incidental=True)
    """Updates between two saves."""
    keep_every: int = option(0, incidental=True)
    """Updates between two checkpoints that stay, OUT/step-N, e.g. for vltk isd --curve; 0 keeps none."""

    def __post_init__(self) -> None:
        for name in ("steps", "warmup", "micro_batches", "log_every", "save_every"):
            if getattr(self, name) < (0 if name == "warmup" else 1):
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is too few", where=where, remedy="use a positive number")
        if self.keep_every < 0:
            raise UsageError(f"{self.keep_every} is too few", where="--keep-every", remedy="use 0 or more")
        if not self.step_at > 0:
            raise UsageError(f"{self.step_at} is no share", where="--step-at", remedy="use a number above 0")
        if self.warmup >= self.steps:
            problem = f"a warm-up of {self.warmup} updates in a run of {self.steps}"
            raise UsageError(problem, where="--warmup", remedy="use a shorter one")


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Which regions and texts are read, and in which batches."""

    first_features: tuple[Path, ...] = option((), incidental=True)
    """Feature stores whose regions come before those of --features, e.g. of VCR's annotated boxes."""
    min_score: float | None = None
    """Keep regions with a higher score (published: 0.2) within the next two bounds; without it all of a store."""
    min_boxes: int = 10
    """Keep at least so many with --min-score."""
    max_boxes: int = 100
    """Keep at most so many with --min-score."""
    max_text_length: int = 60
    """Pairs with more word pieces are left out."""
    batch_tokens: int = 10240
    """Longest pair times number of pairs of a micro-batch stays within this."""
    batching: Literal["full", "official"] = "full"
    """Fill batches to the budget, or as the published sampler did (two fifths of it)."""


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(ReadingConfig):
    """What is trained on, and in which batches. Where the stores lie may change; what they hold may not."""

    examples: tuple[Path, ...] = option(incidental=True)
    """Example stores of captions (vltk prepare); repeat for several sets, whose names are the stores'."""
    features: tuple[Path, ...] = option(incidental=True)
    """Feature stores of their pictures: one for all sets, or one for each."""
    validation_examples: tuple[Path, ...] = option((), incidental=True)
    """Example stores that are only measured; their pictures may not occur in training."""
    validation_features: tuple[Path, ...] = option((), incidental=True)
    """Feature stores of theirs; those of training where not given."""
    validation_limit: int = 2000
    """Pairs of each of them that are measured."""
    objective: tuple[str, ...] = ("mlm=2", "itm=2", "mrfr=1", "mrckl=1")
    """What is trained how often: NAME=WEIGHT for all sets or SET:NAME=WEIGHT for one; mlm, itm, mrfr, mrc, mrckl, and
    of SSRP mrm and, as its second stage, probing."""
    views: tuple[Path, ...] = option((), incidental=True)
    """Feature stores of augmented views of the pictures (vltk augment --images); probing needs them."""
    validation_views: tuple[Path, ...] = option((), incidental=True)
    """Feature stores of views of the pictures that are only measured."""
    augmented: float = 0.0
    """Share of pictures and of texts that are shown as one of their views or paraphrases, where they have some."""
    text_layout: Literal["caption", "vcr"] = "caption"
    """One text a picture, or VCR's question, right answer and right rationale (second stage; needs --types 4)."""
    exclude_images: tuple[Path, ...] = ()
    """Files of images that must not be seen, one id, file name or address a line."""
    exclude_examples: tuple[Path, ...] = ()
    """Example stores, e.g. of test splits, whose images must not be seen."""
    audit_examples: tuple[Path, ...] = option((), incidental=True)
    """Example stores of evaluation splits; images that are trained on are named."""

    def __post_init__(self) -> None:
        if not 0 <= self.augmented <= 1:
            raise UsageError(f"{self.augmented} is no share", where="--augmented", remedy="use 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SplitsConfig(ReadingConfig):
    """What is learnt from, and what is measured meanwhile. Where the stores lie may change; what they hold may not."""

    examples: tuple[Path, ...] = option(incidental=True)
    """Example stores to train on (vltk prepare --task T); repeat for several, e.g. VQA's train and val."""
    features: tuple[Path, ...] = option(incidental=True)
    """Feature stores of their pictures, all made with one detector and preset; repeat where they are divided."""
    validation_examples: tuple[Path, ...] = option((), incidental=True)
    """Example stores that decide which checkpoint is best."""
    validation_features: tuple[Path, ...] = option((), incidental=True)
    """Feature stores of its pictures; those of training where not given."""
    validation_limit: int | None = None
    """Measure only so many of its examples, the first ones (retrieval: see --validation-images)."""
    validation_images: int = 100
    """Images of the pool that retrieval is measured in while training, the first ones."""
    validation_captions: int = 5
    """Captions of each of these images."""


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig(TrainingConfig):
    """How weights are updated; what a task's authors ran stands in its recipes."""

    steps: int = 5000
    """Updates of the weights."""
    warmup: int = 500
    """Updates until the highest rate."""
    clip: float = 2.0
    """Gradients are clipped to this norm; 0 clips nothing."""
    head_rate: float = 1.0
    """Rate of the task's head in multiples of the encoder's (published lr_mul; VQA 10)."""


@dataclass(frozen=True, kw_only=True)
class ObjectivesConfig:
    """What the objectives hide."""

    word_probability: float = 0.15
    """Share of word pieces that mlm hides."""
    focus_words: Path | None = None
    """File of words that mlm hides more often, e.g. the attribute_words.txt of a drawn world; needs --vocab."""
    focus_probability: float = 0.3
    """Share of those words that mlm hides."""
    vocab: Path | None = None
    """The vocab.txt that the examples were prepared with, to find the words of --focus-words in."""
    region_probability: float = 0.15
    """Share of regions that mrfr, mrc, mrckl and mrm hide."""
    region_parts: tuple[str, ...] = ("class", "attribute", "feature")
    """What mrm predicts of them."""
    masking: Literal["conditional", "joint"] = "conditional"
    """Hide one side of a pair while the other is whole, or both at once (the paper's ablation)."""
    mismatch: float = 0.5
    """Share of mismatched pairs in itm."""
    wra_weight: float = 0.1
    """Weight of word-region alignment in itm (UNITER, equation 3)."""
    probe_weight: float = 1.0
    """Weight in probing of the distances in dependency trees (SSRP, L_S-probe)."""
    single_weight: float = 1.0
    """Weight in probing of the contrast with views of the same modality (SSRP, L_SCL)."""
    cross_weight: float = 1.0
    """Weight in probing of the contrast with the other modality (SSRP, L_XCL)."""
    temperature: float = 0.07
    """Temperature of both contrasts."""

    def __post_init__(self) -> None:
        for name in ("word_probability", "region_probability", "mismatch"):
            if not 0 <= getattr(self, name) <= 1:
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is no probability", where=where, remedy="use 0 to 1")
        for name in ("probe_weight", "single_weight", "cross_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                where = f"--{name.replace('_', '-')}"
                raise UsageError(f"{getattr(self, name)} is no weight", where=where, remedy="use 0 or more")
        if not 0 < self.temperature < math.inf:
            problem = f"{self.temperature} is not positive"
            raise UsageError(problem, where="--temperature", remedy="use e.g. 0.07")
        known = ("class", "attribute", "feature")
        odd = next((part for part in self.region_parts if part not in known), None)
        if odd is not None or not self.region_parts:
            problem = "nothing is left" if odd is None else f"there is no {odd!r}"
            raise UsageError(problem, where="--region-parts", remedy=f"name some of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class DetectorTrainingConfig:
    """How a detector is trained; the defaults train the small one of the drawn world."""

    iterations: int = 2000
    """Steps; a number of steps and not a time, so that the weights do not depend on the machine."""
    batch_size: int = 16
    """Pictures a step; all of one size."""
    learning_rate: float = 3e-3
    """Highest rate of AdamW, after the warm-up and before a cosine decay."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    warmup: int = 100
    """Steps until the highest rate."""
    final_rate: float = 0.02
    """Share of the highest rate at the last step."""
    gradient_norm: float = 5.0
    """Gradients are clipped to this norm."""
    flip: bool = True
    """Mirror half of the pictures."""
    proposals_before_nms: int = 128
    """Anchors a picture that enter the suppression."""
    proposals: int = 24
    """Proposals a picture; all of them are learnt from."""
    random_negatives: int = 48
    """Anchors without object a picture, drawn at random."""
    hard_negatives: int = 16
    """Anchors without object a picture, those with the highest score."""
    box_jitter: float = 0.07
    """Each annotated box is also learnt from after its corners moved by this share of its sides."""

    def rate(self, step: int) -> float:
        """Return the learning rate at ``step``, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.iterations - self.warmup)
        cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)
