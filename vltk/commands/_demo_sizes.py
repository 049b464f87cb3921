"""How much ``vltk demo`` makes: the whole, and the quick one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything a demo makes.

    Attributes:
        images: scenes that are drawn.
        pretraining: updates from random weights.
        continuing: updates from the shipped weights.
        first_stage: updates of SSRP's encoder.
        second_stage: updates of its probes.
        finetuning: updates of each joint encoder.
        dual: updates of each dual encoder that pools.
        reasoning: updates of each dual encoder that reasons, and of its counterpart.
        reranked: candidates of the first stage that are ranked anew.
        captions: on which relation consistency is measured.
        shuffles: how often objects are mixed up to see what chance gives.
        sentences: that are looked for trees in.
        epochs: passes of a probe over them, at most.
        queries: pictures that others are searched with.
    """

    images: int
    pretraining: int
    continuing: int
    first_stage: int
    second_stage: int
    finetuning: int
    dual: int
    reasoning: int
    reranked: int
    captions: int
    shuffles: int
    sentences: int
    epochs: int
    queries: int


FULL = Sizes(
    images=800,
    pretraining=300,
    continuing=100,
    first_stage=200,
    second_stage=100,
    finetuning=200,
    dual=600,
    reasoning=250,
    reranked=10,
    captions=400,
    shuffles=100,
    sentences=1000,
    epochs=20,
    queries=80,
)
QUICK = Sizes(
    images=200,
    pretraining=60,
    continuing=20,
    first_stage=30,
    second_stage=15,
    finetuning=20,
    dual=100,
    reasoning=30,
    reranked=10,
    captions=100,
    shuffles=20,
    sentences=300,
    epochs=8,
    queries=20,
)
