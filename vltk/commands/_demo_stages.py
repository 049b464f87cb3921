"""The stages of ``vltk demo``: the whole line on a drawn world, what each proves, and by which steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vltk.commands import _demo_findings as found
from vltk.commands._demo_claims import claims_about, runs_of
from vltk.commands._demo_steps import ISD, POOL, SHIPPED, TWO_STAGES, Demo
from vltk.commands._walkthrough import Stage, Step


def stages(demo: Demo) -> list[Stage]:
    """Return the whole line."""
    line = [*_data(demo), *_training(demo), *_measuring(demo)]
    stores = [step.made for stage in line for step in stage.steps if step.made and step.made.suffix == ".lmdb"]
    return [*line, *_ending(demo, stores)]


def _data(demo: Demo) -> Iterator[Stage]:
    pictures, entities = demo.world / "images", demo.world / "flickr30k_entities"
    scenes, pool = demo.world / "dataset_scenes.json", demo.pool / "dataset_hard.json"
    table, features, back = demo.out / "regions.tsv", demo.store("features"), demo.store("imported")
    away = {"store": features, "format": "lxmert_tsv", "out": table}
    home = {"source": table, "format": "lxmert_tsv", "out": back}
    yield Stage(
        name="scenes",
        proves="a world in the published file formats, whose every box, parse and answer is known",
        steps=[demo.draw()],
        tell=found.scenes,
    )
    yield Stage(
        name="extract-features",
        proves="the detector that comes with vltk finds the objects, and describes boxes that it is given",
        steps=[
            demo.extract("features", pictures, preview=demo.out / "preview", preview_count=12),
            demo.extract("pool-features", demo.pool / "images"),
            demo.extract("boxes", pictures, boxes=(entities / "Annotations",)),
        ],
        tell=found.features,
    )
    yield Stage(
        name="formats",
        proves="features leave in LXMERT's layout and come back as they were",
        steps=[
            Step(name="export", command="store export", options=away, made=table, resumes=False),
            Step(name="import", command="store import", options=home, made=back),
            Step(name="round-trip", command="store compare", options={"first": features, "second": back}),
        ],
        tell=found.formats,
    )
    yield Stage(
        name="prepare",
        proves="annotation files are checked against the pictures, tokenised and stored",
        steps=[
            demo.prepare("train", "features", karpathy=scenes, split="train"),
            demo.prepare("val", "features", karpathy=scenes, split="val"),
            demo.prepare("pool", "pool-features", karpathy=pool, split="test"),
            demo.prepare("entities", "boxes", entities=entities, images=entities / "test.txt"),
        ],
        tell=found.examples,
    )
    yield Stage(
        name="augment",
        proves="captions get paraphrases and trees, here by the grammar that drew them; pictures get views",
        steps=[
            demo.say_otherwise("said-otherwise", "train"),
            demo.say_otherwise("unseen", "entities"),
            demo.views("views"),
        ],
        tell=found.augmentation,
    )


def _training(demo: Demo) -> Iterator[Stage]:
    sizes, start = demo.sizes, {"init": Path(SHIPPED), "learning_rate": 1e-4}
    joint, dual = ("uniter-tiny-retrieval", sizes.finetuning), ("vse-tiny", sizes.dual)
    learnt: dict[str, Any] = {"init": demo.run("pretrain"), "warmup": sizes.finetuning // 8}
    views = {"views": (demo.store("views"),)}
    # Without the captions that VSRN also learns to write, a run takes a fraction of the time.
    mean = {"memory": "mean", "generation": False, "pairs": 64}
    yield Stage(
        name="pretrain",
        proves="UNITER learns words from pictures; the weights that come with vltk have done so for 51,000 updates",
        steps=[
            demo.uniter("pretrain-fresh", sizes.pretraining),
            demo.uniter("pretrain", sizes.continuing, **start),
            demo.uniter("pretrain-joint", sizes.continuing, **start, masking="joint"),
            demo.uniter("pretrain-aligned", sizes.continuing, **start, wra_weight=0.1),
        ],
        tell=found.pretraining,
    )
    yield Stage(
        name="ssrp",
        proves="SSRP learns in two stages: an encoder, then on the frozen encoder probes for the relations in it",
        steps=[
            demo.pretrain("ssrp", "ssrp-visual-tiny", sizes.first_stage, **views),
            demo.pretrain("ssrp-probed", "ssrp-visual-tiny-probe", sizes.second_stage, **views, init=demo.run("ssrp")),
        ],
        tell=found.trained("ssrp", "ssrp-probed"),
    )
    yield Stage(
        name="finetune",
        proves="retrieval is learnt without IAIS and with it, from the same pairs in one order",
        steps=[
            demo.finetune("finetune", *joint, **learnt),
            demo.finetune("finetune-iais", *joint, **learnt, iais="singular"),
        ],
        tell=found.trained("finetune", "finetune-iais"),
    )
    yield Stage(
        name="dual encoder",
        proves="dual encoders embed each side alone: GPO learns how to pool, VSRN reasons over regions",
        steps=[
            demo.finetune("dual-gpo", *dual),
            demo.finetune("dual-mean", *dual, image_pooling="average", text_pooling="average"),
            demo.finetune("dual-hardest", *dual, mean_warmup=0),
            demo.finetune("vsrn-mean", "vsrn-tiny", sizes.reasoning, relation_layers=0, **mean),
            demo.finetune("vsrn-relations", "vsrn-tiny", sizes.reasoning, relation_layers=1, **mean),
        ],
        tell=found.trained("dual-gpo", "dual-mean", "dual-hardest", "vsrn-mean", "vsrn-relations"),
    )


def _measuring(demo: Demo) -> Iterator[Stage]:
    pool, two = demo.run("finetune") / POOL, demo.run("finetune") / TWO_STAGES
    queries = demo.sizes.queries
    proposed = {"rerank_from": demo.run("dual-gpo"), "candidates": demo.sizes.reranked}
    yield Stage(
        name="eval",
        proves="a search among unseen scenes that differ in one edit; what claims are about is compared item by item",
        steps=[
            *(demo.evaluate(run, **_task(run)) for run in runs_of(claims_about(POOL))),
            *_comparisons(demo, POOL),
        ],
        tell=found.evaluation,
    )
    yield Stage(
        name="retrieve and re-rank",
        proves="a dual encoder proposes, the joint encoder ranks: a fraction of the pairs",
        steps=[demo.evaluate("finetune", TWO_STAGES, **proposed), demo.compare("stages", pool, two)],
        tell=found.reranking,
    )
    yield Stage(
        name="isd",
        proves="how alike words and regions relate among themselves, beside what chance gives",
        steps=[*map(demo.isd, runs_of(claims_about(ISD))), *_comparisons(demo, ISD)],
        tell=found.consistency,
    )
    yield Stage(
        name="probe",
        proves="whether states hold trees and relations, beside controls that know nothing of them",
        steps=[
            demo.probe("finetune", queries=queries),
            demo.probe("ssrp-probed", queries=queries, untrained="leave-out"),
        ],
        tell=found.probing,
    )


def _task(run: str) -> dict[str, str]:
    """Return what a run ranks for that was not trained to."""
    return {"task": "flickr30k"} if run.startswith("pretrain") else {}


def _comparisons(demo: Demo, measured: str) -> Iterator[Step]:
    for claim in claims_about(measured):
        first, second = (demo.run(run) / measured for run in claim.runs)
        yield demo.compare(claim.name, first, second)


def _ending(demo: Demo, stores: Iterable[Path]) -> Iterator[Stage]:
    yield Stage(
        name="verify",
        proves="every record of every store is what was written",
        steps=[*map(demo.verify, stores)],
        tell=found.verification,
    )
    yield Stage(
        name="report",
        proves="one page shows it, without a server, a network or a script",
        steps=[demo.report("finetune", "finetune-iais", "dual-mean", "dual-gpo", "ssrp-probed")],
        tell=found.report,
    )
