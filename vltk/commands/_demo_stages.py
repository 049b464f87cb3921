"""The stages of ``vltk demo``: the whole line on a drawn world, as commands with their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.commands import _demo_findings as found
from vltk.commands._demo_sizes import Sizes
from vltk.commands._walkthrough import FINDINGS, Stage, Step


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Where a demo is made, how large, and of which world.

    Attributes:
        out: folder of everything.
        sizes: how much of everything.
        seed: of the world and of all that is random.
    """

    out: Path
    sizes: Sizes
    seed: int

    @property
    def world(self) -> Path:
        """The drawn world."""
        return self.out / "world"

    @property
    def pool(self) -> Path:
        """What is searched: scenes that no run saw, in families whose members differ in one edit."""
        return self.world / "pools" / "hard"

    def store(self, name: str) -> Path:
        """Return the folder of a store."""
        return self.out / f"{name}.lmdb"

    def run(self, name: str) -> Path:
        """Return the folder of a run; what is measured on it lies below it."""
        return self.out / "runs" / name

    def stages(self) -> list[Stage]:
        """Return the whole line."""
        return [
            self._scenes(),
            self._features(),
            self._formats(),
            self._examples(),
            self._augmentation(),
            self._pretraining(),
            self._finetuning(),
            self._dual_encoders(),
            self._evaluation(),
            self._reranking(),
            self._consistency(),
            self._trees(),
            self._verification(),
            self._report(),
        ]

    # -- data -------------------------------------------------------------------------------------------------------

    def _scenes(self) -> Stage:
        options = {"out": self.world, "images": self.sizes.images, "seed": self.seed}
        drawn = Step(name="scenes", command="scenes", options=options, made=self.world, resumes=False)
        proves = "a world in the published file formats, whose every box, parse and answer is known"
        return Stage(name="scenes", proves=proves, steps=[drawn], tell=found.scenes)

    def _features(self) -> Stage:
        pictures = self.world / "images"
        look = {"preview": self.out / "preview", "preview_count": 12}
        given = {"boxes": (self.world / "flickr30k_entities" / "Annotations",)}
        steps = [
            self._extract("features", pictures, look),
            self._extract("pool-features", self.pool / "images", {}),
            self._extract("boxes", pictures, given),
        ]
        proves = "the detector that comes with vltk finds the objects, and describes boxes that it is given"
        return Stage(name="extract-features", proves=proves, steps=steps, tell=found.features)

    def _extract(self, name: str, pictures: Path, more: Mapping[str, Any]) -> Step:
        made = self.store(name)
        options = {"images": pictures, "out": made, "detector": "demo", "batch_size": 8, **more}
        return Step(name=name, command="extract-features", options=options, made=made)

    def _formats(self) -> Stage:
        table, store, back = self.out / "regions.tsv", self.store("features"), self.store("imported")
        away = {"store": store, "format": "lxmert_tsv", "out": table}
        home = {"source": table, "format": "lxmert_tsv", "out": back}
        steps = [
            Step(name="export", command="store export", options=away, made=table, resumes=False),
            Step(name="import", command="store import", options=home, made=back),
            Step(name="round-trip", command="store compare", options={"first": store, "second": back}),
        ]
        proves = "features leave in LXMERT's layout and come back as they were"
        return Stage(name="formats", proves=proves, steps=steps, tell=found.formats)

    def _examples(self) -> Stage:
        scenes, pool = self.world / "dataset_scenes.json", self.pool / "dataset_hard.json"
        entities = self.world / "flickr30k_entities"
        sources = {
            "train": {"karpathy": scenes, "split": "train", "features": (self.store("features"),)},
            "val": {"karpathy": scenes, "split": "val", "features": (self.store("features"),)},
            "pool": {"karpathy": pool, "split": "test", "features": (self.store("pool-features"),)},
            "entities": {"entities": entities, "images": entities / "test.txt", "features": (self.store("boxes"),)},
        }
        steps = [
            Step(
                name=name,
                command="prepare",
                options={"task": "flickr30k", "tokenizer": str(self.world / "vocab.txt"), "out": self.store(name)}
                | source,
                made=self.store(name),
            )
            for name, source in sources.items()
        ]
        proves = "annotation files are checked against the pictures, tokenised and stored"
        return Stage(name="prepare", proves=proves, steps=steps, tell=found.examples)

    def _augmentation(self) -> Stage:
        made = self.store("said-otherwise")
        options = {
            "examples": self.store("train"),
            "out": made,
            "tokenizer": str(self.world / "vocab.txt"),
            "grammar": True,
            "per_pivot": 2,
            "seed": self.seed,
        }
        step = Step(name="augment", command="augment", options=options, made=made)
        proves = "captions get paraphrases and dependency trees, here by the grammar that drew them"
        return Stage(name="augment", proves=proves, steps=[step], tell=found.augmentation)

    # -- training ---------------------------------------------------------------------------------------------------

    def _pretraining(self) -> Stage:
        sizes = self.sizes
        steps = [
            self._pretrain("pretrain-fresh", sizes.pretraining, {"seed": self.seed}),
            self._pretrain("pretrain", sizes.continuing, {"init": Path("uniter-tiny"), "seed": self.seed}),
        ]
        proves = "UNITER learns words from pictures; the weights that come with vltk have done so for 51,000 updates"
        return Stage(name="pretrain", proves=proves, steps=steps, tell=found.pretraining)

    def _pretrain(self, name: str, steps: int, more: Mapping[str, Any]) -> Step:
        made = self.run(name)
        options = {
            "recipe": "uniter-tiny",
            "steps": steps,
            "warmup": steps // 5,
            "learning_rate": 4e-4 if "init" not in more else 1e-4,
            "examples": (self.store("said-otherwise"),),
            "features": (self.store("features"),),
            "validation_examples": (self.store("val"),),
            "validation_limit": 500,
            "focus_words": self.world / "attribute_words.txt",
            "vocab": self.world / "vocab.txt",
            "out": made,
            **more,
        }
        return Step(name=name, command="pretrain", options=options, made=made)

    def _finetuning(self) -> Stage:
        start = {"init": self.run("pretrain")}
        steps = [
            self._retrieval("finetune", {**start}),
            self._retrieval("finetune-iais", {**start, "iais": "singular"}),
        ]
        proves = "retrieval is learnt without IAIS and with it, from the same pairs in one order"
        return Stage(name="finetune", proves=proves, steps=steps, tell=found.finetuning)

    def _retrieval(self, name: str, more: Mapping[str, Any]) -> Step:
        made, steps = self.run(name), self.sizes.finetuning
        options = {
            "recipe": "uniter-tiny-retrieval",
            "steps": steps,
            "warmup": steps // 8,
            "validate_every": steps,
            "examples": (self.store("train"),),
            "features": (self.store("features"),),
            "out": made,
            "seed": self.seed,
            **more,
        }
        return Step(name=name, command="finetune", options=options, made=made)

    def _dual_encoders(self) -> Stage:
        steps = [
            self._dual("dual-gpo", {}),
            self._dual("dual-mean", {"image_pooling": "average", "text_pooling": "average"}),
        ]
        proves = "a dual encoder embeds each side alone; GPO learns how to pool, beside the mean"
        return Stage(name="dual encoder", proves=proves, steps=steps, tell=found.dual_encoders)

    def _dual(self, name: str, more: Mapping[str, Any]) -> Step:
        made = self.run(name)
        options = {
            "recipe": "vse-tiny",
            "steps": self.sizes.dual,
            "examples": (self.store("train"),),
            "features": (self.store("features"),),
            "out": made,
            "seed": self.seed,
            **more,
        }
        return Step(name=name, command="finetune", options=options, made=made)

    # -- measuring --------------------------------------------------------------------------------------------------

    def _evaluation(self) -> Stage:
        names = ("pretrain", "finetune", "finetune-iais", "dual-gpo", "dual-mean")
        pairs = {"iais": ("finetune", "finetune-iais"), "gpo": ("dual-mean", "dual-gpo")}
        steps = [self._eval(name, "pool", {"task": "flickr30k"} if name == "pretrain" else {}) for name in names]
        steps += [
            self._compared(f"eval-{name}", self.run(first) / "eval" / "pool", self.run(second) / "eval" / "pool")
            for name, (first, second) in pairs.items()
        ]
        proves = "figures carry intervals, and two systems are compared item by item"
        return Stage(name="eval", proves=proves, steps=steps, tell=found.evaluation)

    def _eval(self, run: str, name: str, more: Mapping[str, Any]) -> Step:
        made = self.run(run) / "eval" / name
        options = {
            "run": self.run(run),
            "examples": (self.store("pool"),),
            "features": (self.store("pool-features"),),
            "out": made,
            **more,
        }
        return Step(name=f"eval-{run}-{name}", command="eval", options=options, made=made)

    def _compared(self, name: str, first: Path, second: Path) -> Step:
        return Step(name=f"compare-{name}", command="compare", options={"results": (first, second)})

    def _reranking(self) -> Stage:
        more = {"rerank_from": self.run("dual-gpo"), "candidates": self.sizes.reranked}
        measured = self.run("finetune") / "eval"
        steps = [
            self._eval("finetune", "two-stages", more),
            self._compared("eval-stages", measured / "pool", measured / "two-stages"),
        ]
        proves = "a dual encoder proposes, the joint encoder ranks: a fraction of the pairs"
        return Stage(name="retrieve and re-rank", proves=proves, steps=steps, tell=found.reranking)

    def _consistency(self) -> Stage:
        steps = [*(self._isd(name) for name in ("finetune", "finetune-iais"))]
        steps.append(self._compared("isd-iais", self.run("finetune") / "isd", self.run("finetune-iais") / "isd"))
        proves = "how alike words and regions relate among themselves, beside what chance gives"
        return Stage(name="isd", proves=proves, steps=steps, tell=found.consistency)

    def _isd(self, name: str) -> Step:
        made = self.run(name) / "isd"
        options = {
            "run": str(self.run(name)),
            "examples": self.store("entities"),
            "features": self.store("boxes"),
            "out": made,
            "limit": self.sizes.captions,
            "shuffles": self.sizes.shuffles,
            "other_features": "allow",
        }
        return Step(name=f"isd-{name}", command="isd", options=options, made=made)

    def _trees(self) -> Stage:
        made = self.run("finetune") / "probe"
        options = {
            "run": str(self.run("finetune")),
            "examples": self.store("said-otherwise"),
            "features": self.store("features"),
            "out": made,
            "limit": self.sizes.sentences,
            "epochs": self.sizes.epochs,
            "queries": 20,
            "matrices": 20,
            "seed": self.seed,
        }
        step = Step(name="probe", command="probe", options=options, made=made)
        proves = "whether the states of words hold their tree, beside controls that know nothing of it"
        return Stage(name="probe", proves=proves, steps=[step], tell=found.trees)

    def _verification(self) -> Stage:
        steps = [
            Step(name=f"verify-{path.stem}", command="store verify", options={"path": path}, always=True)
            for path in self._stores()
        ]
        proves = "every record of every store is what was written"
        return Stage(name="verify", proves=proves, steps=steps, tell=found.verification)

    def _report(self) -> Stage:
        page = self.out / "report.html"
        options = {
            "run": tuple(self.run(name) for name in ("finetune", "finetune-iais", "dual-mean", "dual-gpo")),
            "title": "vltk demo",
            "pictures": self.world,
            "findings": self.out / FINDINGS,
            "figures": self.out / "figures",
            "figure_format": "svg",
            "out": page,
        }
        step = Step(name="report", command="report", options=options, made=page, resumes=False)
        proves = "one page shows it, without a server, a network or a script"
        return Stage(name="report", proves=proves, steps=[step], tell=found.report)

    def _stores(self) -> Iterator[Path]:
        names = ("features", "pool-features", "boxes", "imported", "train", "val", "pool", "entities", "said-otherwise")
        return map(self.store, names)
