"""Video-text retrieval on MSR-VTT, and on other sets of videos in HGR's layout (TGIF, VATEX, Youtube2Text)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vltk.tasks import _captions
from vltk.tasks._retrieval import RetrievalConfig
from vltk.tasks._source import read_one
from vltk.types import Example

LAYOUTS = (_captions.HGR, _captions.MSRVTT, _captions.VIDEO_DATA_INFO)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Sentences of videos; one of three layouts is given. Image ids are the videos' names: video9771."""

    ref_captions: Path | None = None
    """HGR's annotation/RET/ref_captions.json, {video: [sentences]}; needs --names."""
    names: Path | None = None
    """The videos of a split of --ref-captions: public_split/{split}_names.npy, or a text file with one a line."""
    msrvtt: Path | None = None
    """The 1K-A test list: a table of key, vid_key, video_id, sentence."""
    video_data_info: Path | None = None
    """MSR-VTT's own train_val_videodatainfo.json or test_videodatainfo.json; needs --split."""
    split: Literal["train", "validate", "test"] | None = None
    """Which split of --video-data-info, which needs it."""

    def examples(self) -> Iterator[Example]:
        """Yield one example for each sentence."""
        return read_one(self, LAYOUTS)


@dataclass(frozen=True, kw_only=True)
class Config(RetrievalConfig):
    """Video-text retrieval: the regions of a store are the frames of videos (vltk store import --format hgr_frames)."""
