"""Presets: pre-processing, anchors, box arithmetic, proposals and selection of one published extraction, together.

Mixing them gives features that look right and are not. A preset is a frozen value with a hash; a feature store keeps
the hash and refuses another one. For research, change a part with :func:`dataclasses.replace`: the hash changes too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from vltk.detection.preprocessing import (
    CaffePreprocessing,
    Detectron2Preprocessing,
    HuggingFacePreprocessing,
    Preprocessing,
)
from vltk.detection.proposals import ProposalRule
from vltk.detection.selection import ClasswiseRule, MaxClassRule, SelectionRule, UNITERRule
from vltk.errors import UsageError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that is fixed around a detector's weights.

    Attributes:
        name: what it is called; not part of the hash.
        preprocessing: how a picture becomes network pixels.
        proposal: which anchors become proposals.
        selection: which proposals become regions.
        attribute_none: whether "none" takes its share of the attribute probabilities before it is left out.

    Example:
        >>> other = dataclasses.replace(PRESETS["butd-36"], proposal=ProposalRule(after_nms=100))
        >>> other.preset_hash() == PRESETS["butd-36"].preset_hash()
        False
    """

    name: str
    preprocessing: Preprocessing
    proposal: ProposalRule
    selection: SelectionRule
    attribute_none: bool

    def describe(self) -> dict[str, Any]:
        """Return every setting but the name as plain values, each part with the name of its class."""
        parts = {name: getattr(self, name) for name in ("preprocessing", "proposal", "selection")}
        described = {name: {"rule": type(part).__name__, **dataclasses.asdict(part)} for name, part in parts.items()}
        return {**described, "attribute_none": self.attribute_none}

    def preset_hash(self) -> str:
        """Return the SHA-256 of :meth:`describe`; equal hashes mean equal settings."""
        text = json.dumps(self.describe(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


_CAFFE_PROPOSAL = ProposalRule(
    min_side=16.0, min_side_scales=True, filter_first=True, plus_one=True, scale_clamp=None, anchors="caffe"
)
_CAFFE = Preset(
    name="",
    preprocessing=CaffePreprocessing(),
    proposal=_CAFFE_PROPOSAL,
    selection=ClasswiseRule(plus_one=True, scale_clamp=None),
    attribute_none=True,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # Anderson et al. 2018, generate_tsv.py with 36 boxes: LXMERT's files.
        dataclasses.replace(_CAFFE, name="butd-36"),
        # The same with 10 to 100 boxes: the other published BUTD files.
        dataclasses.replace(
            _CAFFE,
            name="butd-10-100",
            selection=ClasswiseRule(min_boxes=10, max_boxes=100, plus_one=True, scale_clamp=None),
        ),
        # UNITER's databases: 10 to 100, best first.
        dataclasses.replace(_CAFFE, name="uniter", selection=UNITERRule(plus_one=True, scale_clamp=None)),
        # The detectron2 port's notebook and volta.
        Preset(
            name="d2-maxnms",
            preprocessing=Detectron2Preprocessing(),
            proposal=ProposalRule(),
            selection=MaxClassRule(),
            attribute_none=False,
        ),
        # The port in Hugging Face's LXMERT example, and the copies of it.
        Preset(
            name="hf-frcnn",
            preprocessing=HuggingFacePreprocessing(),
            proposal=ProposalRule(),
            selection=MaxClassRule(),
            attribute_none=False,
        ),
        # The small detector of the drawn world, whose pictures have 128 pixels a side. Objects may lie inside
        # others, so suppression does not ask for the class: one object is one region, and little else is kept.
        Preset(
            name="demo",
            preprocessing=HuggingFacePreprocessing(
                min_side=128, max_side=128, mean=(127.5, 127.5, 127.5), std=(64.0, 64.0, 64.0), channels="RGB"
            ),
            proposal=ProposalRule(before_nms=128, after_nms=32),
            selection=MaxClassRule(min_boxes=1, max_boxes=12, nms_thresholds=(0.5,), min_score=0.2),
            attribute_none=False,
        ),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}", remedy=did_you_mean(name, PRESETS))
    return PRESETS[name]
