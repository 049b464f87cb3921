"""The layouts of captions, which retrieval, captioning and pre-training are read from."""

from __future__ import annotations

from vltk.datasets import (
    coco,
    conceptual_captions,
    flickr8k,
    flickr30k_entities,
    hgr,
    karpathy,
    msrvtt,
    phraseloceval,
)
from vltk.tasks._source import Layout

KARPATHY = Layout(
    file="karpathy",
    needs=("split",),
    takes=("tokens",),
    read=lambda source: karpathy.read_examples(source.karpathy, split=source.split, tokens=source.tokens),
)
KARPATHY_COCO = Layout(
    file="karpathy",
    needs=("split",),
    takes=("tokens", "restval"),
    read=lambda source: karpathy.read_examples(
        source.karpathy, split=source.split, tokens=source.tokens, restval=source.restval
    ),
)
COCO = Layout(file="coco", read=lambda source: coco.read_examples(source.coco))
CAPTION_LISTS = Layout(file="caption_lists", read=lambda source: karpathy.read_caption_lists(source.caption_lists))
ENTITIES = Layout(
    file="entities",
    takes=("images", "unrelated"),
    read=lambda source: flickr30k_entities.read_examples(
        source.entities, images=source.images, unrelated=source.unrelated
    ),
)
PHRASES = Layout(
    file="phrases",
    needs=("phrase_captions",),
    read=lambda source: phraseloceval.read_captions(source.phrases, source.phrase_captions),
)
FLICKR8K = Layout(
    file="flickr8k",
    takes=("images",),
    read=lambda source: flickr8k.read_examples(source.flickr8k, images=source.images),
)
CONCEPTUAL_CAPTIONS = Layout(
    file="conceptual",
    takes=("image_id",),
    read=lambda source: conceptual_captions.read_examples(source.conceptual, image_id=source.image_id),
)
MSRVTT = Layout(file="msrvtt", read=lambda source: msrvtt.read_examples(source.msrvtt))
VIDEO_DATA_INFO = Layout(
    file="video_data_info",
    needs=("split",),
    read=lambda source: msrvtt.read_video_data(source.video_data_info, split=source.split),
)
HGR = Layout(
    file="ref_captions",
    needs=("names",),
    read=lambda source: hgr.read_examples(source.ref_captions, names=source.names),
)
