"""The types that carry meaning between the rooms of vltk: frozen, and checked when they are made.

Shape legend, used by every docstring of the package:
    B batch, T tokens, R regions, D feature, H hidden, E embedding, C classes.
Boxes are float32 pixels ``x1, y1, x2, y2`` of the unresized picture, origin at the upper left corner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from vltk.errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# A box may stick out by this share of the picture's side: coordinates stored as fp16 and the
# inclusive "x + w" of older annotations both land there without being wrong.
BOX_SLACK = 1e-3

# What str() of a caption gives that was read as bytes; code of Python 2 that runs in Python 3 writes such files.
_PRINTED_BYTES = re.compile(r"b(?:'.*'|\".*\")", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegionFeatures:
    """The regions of one picture as a detector (or an annotator) described them.

    Attributes:
        image_id: the id of the picture, the key in a feature store.
        features: [R, D] float16 or float32.
        boxes: [R, 4] float32 pixels, or None where the source never stored any (SCAN precomp).
        size: (width, height) of the picture in pixels. (1, 1) says that the source knew only
            normalised boxes; they are then kept as they are.
        scores: [R] float32 confidence of the best class, or None.
        class_ids: [R] int64 class of each region, background excluded, or None.
        class_probs: [R, C] class distribution, or None.
        attribute_ids: [R] int64, or None.
        attribute_scores: [R] float32, or None.
        region_ids: R names of annotations, phrases or chains that the boxes were given for, or None.
        normalised_boxes: [R, 6] x1, y1, x2, y2, w, h as a foreign source stored them, or None; wins
            over ``boxes`` in :meth:`location`, because UNITER's fp16 w is not x2 - x1.

    Raises:
        DataError: a shape, a type, a value that is not finite, or a box outside the picture, with its row.

    Example:
        >>> regions = RegionFeatures(image_id="7", features=np.ones((1, 4), np.float16),
        ...     boxes=np.array([[0, 0, 50, 20]], np.float32), size=(100, 40), scores=np.ones(1, np.float32))
        >>> regions.location().tolist()
        [[0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.25]]
    """

    image_id: str
    features: NDArray[Any]
    boxes: NDArray[np.float32] | None
    size: tuple[int, int]
    scores: NDArray[np.float32] | None = None
    class_ids: NDArray[np.int64] | None = None
    class_probs: NDArray[Any] | None = None
    attribute_ids: NDArray[np.int64] | None = None
    attribute_scores: NDArray[np.float32] | None = None
    region_ids: tuple[str, ...] | None = None
    normalised_boxes: NDArray[np.float32] | None = None

    # name -> trailing dimensions; None in a place means "any size".
    ARRAYS: ClassVar[dict[str, tuple[int | None, ...]]] = {
        "features": (None,),
        "boxes": (4,),
        "scores": (),
        "class_ids": (),
        "class_probs": (None,),
        "attribute_ids": (),
        "attribute_scores": (),
        "normalised_boxes": (6,),
    }

    def __post_init__(self) -> None:
        self._check_arrays()
        self._check_boxes()

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def trusted(cls, **values: Any) -> Self:
        """Make an instance from values that were checked before they were stored, without checking again."""
        self = object.__new__(cls)
        for name in cls.__slots__:
            object.__setattr__(self, name, values.get(name))
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are present, by name, in the order of the declaration."""
        return {name: array for name in self.ARRAYS if (array := getattr(self, name)) is not None}

    def location(self) -> NDArray[np.float32]:
        """Return [R, 7] normalised x1, y1, x2, y2, w, h, w * h (UNITER, section 3.1).

        Raises:
            DataError: the source stored no boxes.
        """
        six = self.normalised_boxes
        if six is None:
            if self.boxes is None:
                raise DataError("has no boxes", where=f"image {self.image_id}", remedy="extract it again with boxes")
            corners = self.boxes / np.array([*self.size, *self.size], np.float32)
            six = np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1)
        return np.concatenate([six, six[:, 4:5] * six[:, 5:6]], axis=1, dtype=np.float32)

    def equals(self, other: RegionFeatures) -> bool:
        """Whether every field is equal, arrays bit for bit and of one type."""
        mine, theirs = self.arrays(), other.arrays()
        return (
            (self.image_id, self.size, self.region_ids) == (other.image_id, other.size, other.region_ids)
            and mine.keys() == theirs.keys()
            and all(a.dtype == theirs[name].dtype and np.array_equal(a, theirs[name]) for name, a in mine.items())
        )

    def take(self, rows: NDArray[Any] | slice) -> RegionFeatures:
        """Return the given rows, in their order; a slice copies nothing."""
        values: dict[str, Any] = {name: array[rows] for name, array in self.arrays().items()}
        if self.region_ids is not None:
            values["region_ids"] = tuple(self.region_ids[int(i)] for i in np.arange(len(self))[rows])
        return RegionFeatures.trusted(image_id=self.image_id, size=self.size, **values)

    def _fail(self, problem: str) -> DataError:
        return DataError(problem, where=f"image {self.image_id}", remedy="fix the source and write it again")

    def _check_arrays(self) -> None:
        if not isinstance(self.image_id, str) or not self.image_id:
            raise DataError(f"image id {self.image_id!r} is not a non-empty text", remedy="give every image an id")
        if len(self.size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.size):
            raise self._fail(f"size {self.size!r} is not two positive integers (width, height)")
        for name, array in self.arrays().items():
            trailing = self.ARRAYS[name]
            if not isinstance(array, np.ndarray) or array.ndim != 1 + len(trailing):
                raise self._fail(
                    f"{name} has shape {getattr(array, 'shape', None)}, expected [R{', D' * len(trailing)}]"
                )
            if len(array) != len(self.features):
                raise self._fail(f"{len(array)} rows of {name} for {len(self.features)} rows of features")
            if trailing and trailing[0] is not None and array.shape[1] != trailing[0]:
                raise self._fail(f"{name} has {array.shape[1]} columns, expected {trailing[0]}")
            kind = "i" if name.endswith("_ids") else "f"
            if array.dtype.kind != kind:
                raise self._fail(f"{name} is {array.dtype}, expected {'integers' if kind == 'i' else 'floats'}")
            if kind == "f":
                self._check_rows(np.isfinite(array).all(axis=tuple(range(1, array.ndim))), f"{name} is not finite")
        if self.region_ids is not None and len(self.region_ids) != len(self.features):
            raise self._fail(f"{len(self.region_ids)} region ids for {len(self.features)} rows of features")

    def _check_boxes(self) -> None:
        boxes = self.boxes
        if boxes is None or not len(boxes):
            return
        self._check_rows((boxes[:, 2:] >= boxes[:, :2]).all(axis=1), "x2 < x1 or y2 < y1 in box", boxes)
        limit = np.array(self.size, np.float32)
        inside = (boxes[:, :2] >= -BOX_SLACK * limit).all(axis=1) & (boxes[:, 2:] <= (1 + BOX_SLACK) * limit).all(
            axis=1
        )
        self._check_rows(inside, f"outside the picture of {self.size[0]} x {self.size[1]} lies box", boxes)

    def _check_rows(self, good: Any, problem: str, show: NDArray[Any] | None = None) -> None:
        if not good.all():
            row = int(np.argmin(good))
            value = "" if show is None else f" {[round(float(v), 2) for v in show[row]]}"
            raise self._fail(f"row {row}: {problem}{value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A span of words that speaks of boxes (Flickr30k Entities, RefCOCO, the drawn world).

    Attributes:
        text: which text of the example.
        start: first word of the span, counted in whitespace-separated words.
        end: one past the last word.
        entity: id of the chain or annotation that the phrase refers to.
        kinds: types of the entity, e.g. ("people",).
        boxes: the boxes of the entity as (x1, y1, x2, y2) pixels; empty where nothing was annotated.
    """

    text: int
    start: int
    end: int
    entity: str
    kinds: tuple[str, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The word pieces of one text, without special tokens.

    Attributes:
        ids: T word-piece ids.
        words: for each piece the index of its whitespace-separated word.
    """

    ids: tuple[int, ...]
    words: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.words):
            raise DataError(f"{len(self.ids)} word pieces with {len(self.words)} word indices", remedy="tokenise again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parse:
    """The dependency tree of one text (CoNLL-U basic tree).

    Attributes:
        words: the syntactic words.
        heads: for each word the 1-based index of its head, 0 for the root.
        relations: for each word its dependency relation.
        pieces: for each word piece of the text the index of its syntactic word; empty where it is not tokenised.
    """

    words: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]
    pieces: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sentence = " ".join(self.words[:8])
        if any(not 0 <= word < len(self.words) for word in self.pieces):
            problem = f"a word piece in word {max(self.pieces)} of {len(self.words)}"
            raise DataError(problem, where=f"parse of {sentence!r}", remedy="count words from 0")
        if not len(self.words) == len(self.heads) == len(self.relations):
            problem = f"{len(self.words)} words, {len(self.heads)} heads, {len(self.relations)} relations"
            raise DataError(problem, where=f"parse of {sentence!r}", remedy="parse it again")
        roots = [i for i, head in enumerate(self.heads, 1) if head == 0]
        if self.words and len(roots) != 1:
            raise DataError(
                f"{len(roots)} roots (words {roots})", where=f"parse of {sentence!r}", remedy="a tree has one"
            )
        for start in range(1, len(self.words) + 1):
            self._check_path(start, sentence)

    def _check_path(self, start: int, sentence: str) -> None:
        word, steps = start, 0
        while word != 0:
            if not 0 <= word <= len(self.words):
                raise DataError(
                    f"head {word} of {len(self.words)} words", where=f"parse of {sentence!r}", remedy="fix it"
                )
            word, steps = self.heads[word - 1], steps + 1
            if steps > len(self.words):
                raise DataError(
                    f"a cycle through word {start}", where=f"parse of {sentence!r}", remedy="a tree has none"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersTarget:
    """What people answered to a question (VQA: ten answers; GQA: one).

    Attributes:
        answers: as annotated, repetitions kept.
        question_type: e.g. "what color is the", "" where unknown.
        answer_type: e.g. "yes/no", "" where unknown.
    """

    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTarget:
    """One label of a closed set (NLVR2 "True"/"False", SNLI-VE's three).

    Attributes:
        label: the gold label.
        votes: the labels of the annotators, where published.
    """

    label: str
    votes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceTarget:
    """The right ones of several texts (VCR): texts are the question, then answers, then rationales.

    Attributes:
        answer: index of the right answer among the answers.
        rationale: index of the right rationale among the rationales.
        objects: names of the objects that references in the texts point to.
    """

    answer: int
    rationale: int
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTarget:
    """The box that an expression refers to (RefCOCO).

    Attributes:
        box: (x1, y1, x2, y2) pixels.
        annotation_id: id of the annotated object.
        ref_id: id of the reference that the sentence belongs to.
    """

    box: tuple[float, float, float, float]
    annotation_id: str
    ref_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTarget:
    """Labels with the soft scores that a source has already computed (VQA and SNLI-VE in a UNITER txt_db).

    Attributes:
        labels: the labels, as text; the source's own numbers where it keeps no names.
        scores: for each label its score.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.scores):
            raise DataError(f"{len(self.labels)} labels with {len(self.scores)} scores", remedy="fix the source")


Target = AnswersTarget | LabelTarget | ChoiceTarget | BoxTarget | ScoredTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One item of a task as its annotation file tells it.

    Attributes:
        id: unique within its store.
        image_ids: one picture, or two (NLVR2).
        texts: a caption, a question, a statement; VCR: question, answers, rationales.
        target: what is to be predicted, or None (captions, test sets without labels).
        tokens: the word pieces of each text, once tokenised.
        parses: the dependency tree of each text, where known.
        paraphrases: for each text its paraphrases, where made.
        paraphrase_tokens: the word pieces of each paraphrase, once tokenised.
        paraphrase_parses: the dependency tree of each paraphrase, where known.
        phrases: spans with boxes, over all texts.
        group: examples with one group are judged together (NLVR2 consistency), "" where alone.

    Raises:
        DataError: no id, no text, a text that is printed bytes (b'...'), or a part that does not fit the texts.
    """

    id: str
    image_ids: tuple[str, ...]
    texts: tuple[str, ...]
    target: Target | None = None
    tokens: tuple[Tokens, ...] = ()
    parses: tuple[Parse, ...] = ()
    paraphrases: tuple[tuple[str, ...], ...] = ()
    paraphrase_tokens: tuple[tuple[Tokens, ...], ...] = ()
    paraphrase_parses: tuple[tuple[Parse, ...], ...] = ()
    phrases: tuple[Phrase, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError(f"an example of image {self.image_ids} has no id", remedy="give it one")
        self._require(bool(self.texts), "has no text")
        printed = next((text for text in self.texts if _PRINTED_BYTES.fullmatch(text)), None)
        if printed is not None:
            problem = f"has the text {printed[:40]!r}, which is how Python 3 prints bytes"
            raise DataError(problem, where=f"example {self.id}", remedy="decode the captions and write the file again")
        self._require(bool(self.image_ids) and all(self.image_ids), f"has image ids {self.image_ids!r}")
        for name in ("tokens", "parses", "paraphrases"):
            count = len(getattr(self, name))
            self._require(count in (0, len(self.texts)), f"has {count} {name} for {len(self.texts)} texts")
        self._check_paraphrases()
        for phrase in self.phrases:
            self._require(0 <= phrase.text < len(self.texts), f"has a phrase in text {phrase.text}")
            words = len(self.texts[phrase.text].split())
            fits = 0 <= phrase.start < phrase.end <= words
            self._require(fits, f"has a phrase over words {phrase.start}..{phrase.end} of {words}")

    def _check_paraphrases(self) -> None:
        counts = [len(own) for own in self.paraphrases]
        for name in ("paraphrase_tokens", "paraphrase_parses"):
            found = [len(own) for own in getattr(self, name)]
            self._require(not found or found == counts, f"has {found} {name} for {counts} paraphrases")

    def _require(self, good: bool, problem: str) -> None:
        if not good:
            raise DataError(problem, where=f"example {self.id}", remedy="fix the annotation")


Progress = Callable[[int], None]
"""Called with the number of items done since the last call; the library never prints."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Padded texts and regions of B pairs, as a joint or a dual encoder takes them.

    Padding stands at the right end. A text-only batch has R = 0, a region-only batch T = 0.

    Attributes:
        ids: B names of the pairs.
        input_ids: [B, T] int64 word pieces with special tokens.
        text_mask: [B, T] bool, true on word pieces.
        regions: [B, R, D] features.
        locations: [B, R, 7] of :meth:`RegionFeatures.location`.
        region_mask: [B, R] bool, true on regions.
        text_types: [B, T] int64 segment of each word piece, or None for 0 (VCR has more).
        region_types: [B, R] int64 segment of each region, or None for 1 (NLVR2 has 1 and 2).
        masked_regions: [B, R] bool, true where the region is hidden from the encoder, or None.
        images: [B, 3, H, W] pixels as the model's network takes them, or None (models of grids).
        targets: what the objective or the task compares with, by its own names.
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    text_mask: Tensor
    regions: Tensor
    locations: Tensor
    region_mask: Tensor
    text_types: Tensor | None = None
    region_types: Tensor | None = None
    masked_regions: Tensor | None = None
    images: Tensor | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on a device, fp16 of a store as fp32; what is so already is not copied."""
        moved = {name: _moved(getattr(self, name), device) for name in self.__slots__}
        return Batch(**moved | {"targets": {name: _moved(value, device) for name, value in self.targets.items()}})


def _moved(value: Any, device: torch.device | str) -> Any:
    if not hasattr(value, "to"):
        return value
    moved = value.to(device, non_blocking=True)
    # Widened only there: half the bytes go from a loading process to the device.
    return moved.float() if str(moved.dtype) == "torch.float16" else moved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncoderOutput:
    """What an encoder says of a batch; positions of padding hold zeros.

    Attributes:
        text: [B, T, H] states of the word pieces.
        regions: [B, R, H] states of the regions.
        pooled: [B, H] one vector a pair.
        attention_scores: layer -> [B, heads, T + R, T + R] scaled scores before the softmax, text first, minus
            infinity in the columns of padding; only of the layers that were asked for.
    """

    text: Tensor
    regions: Tensor
    pooled: Tensor
    attention_scores: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """The losses of one objective on one batch, not yet reduced.

    Attributes:
        values: one entry a target, any shape.
        count: what the published mean divides by on this batch; with several processes the trainer divides the
            sum over all of them by the sum of their counts.
        correct: [M] bool, whether the best guess was right, for objectives that guess.
        rows: [M] int64, the item of the batch that each guess is about; without it there is one guess for each.
    """

    values: Tensor
    count: int
    correct: Tensor | None = None
    rows: Tensor | None = None

    def mean(self) -> Tensor:
        """Return the published reduction on this batch alone, 0 where there is no target."""
        return self.values.sum() / max(self.count, 1)


class Plan(Protocol):
    """The order of a training run, the same in every process; an item has an ``objective`` and a ``seed``."""

    def steps(self, start: int = 0) -> Iterator[Sequence[Any]]:
        """Yield the micro-batches of each step, over all processes, from step ``start`` on."""
        ...

    def load(self, work: Any) -> Batch:
        """Read a micro-batch; called in data loading processes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure with what is needed to believe it.

    Attributes:
        metric: its name, e.g. "accuracy" or "text-to-image R@1".
        value: the figure.
        n: how many items it was counted over.
        unit: "fraction", "points", "nats"; a fraction lies in 0..1.
        higher_is_better: which way is progress.
        interval_95: its 95 % confidence interval, or None where there is none.

    Raises:
        DataError: a value that is no number, or an interval whose ends are exchanged.

    Example:
        >>> Measurement(metric="accuracy", value=0.5, n=100, interval_95=(0.404, 0.596)).row()["interval_95"]
        [0.404, 0.596]
    """

    metric: str
    value: float
    n: int
    unit: str = "fraction"
    higher_is_better: bool = True
    interval_95: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise DataError(f"{self.metric} is {self.value}", where="measurement", remedy="look at the predictions")
        if self.interval_95 is not None and not self.interval_95[0] <= self.interval_95[1]:
            problem = f"{self.metric} has the interval {self.interval_95}"
            raise DataError(problem, where="measurement", remedy="give its lower end first")

    def row(self) -> dict[str, Any]:
        """Return the figure as a row of ``results.json``."""
        interval = None if self.interval_95 is None else list(self.interval_95)
        return {
            "metric": self.metric,
            "value": self.value,
            "n": self.n,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "interval_95": interval,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one example.

    Attributes:
        id: of the example.
        answer: what it chooses, as the task's submission file writes it.
        scores: [C] score of each choice, for ensembles; None where they are not kept.
    """

    id: str
    answer: str
    scores: NDArray[np.float32] | None = None
