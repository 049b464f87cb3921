"""The steps that ``vltk demo`` is made of: each is one command, with what differs from its fellows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vltk.commands._demo_sizes import Sizes
from vltk.commands._walkthrough import FINDINGS, Step

POOL, ISD, TWO_STAGES = "eval/pool", "isd", "eval/two-stages"
"""Where below a run what was measured of it stands."""
SHIPPED = "uniter-tiny"


def shipped_uniter() -> Path:
    """Return the file of the UNITER that comes with vltk."""
    from vltk.models._checkpoints import weights_file

    return weights_file(Path(SHIPPED))


def shipped_detector() -> Path:
    """Return the file of the detector that comes with vltk."""
    from vltk.detection.region_extractors import DEMO_WEIGHTS

    return DEMO_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Where a demo is made, how large, of which world, and by which commands.

    Attributes:
        out: folder of everything.
        sizes: how much of everything.
        seed: of the world and of all that is random.
    """

    out: Path
    sizes: Sizes
    seed: int

    # -- places -----------------------------------------------------------------------------------------------------

    @property
    def world(self) -> Path:
        """The drawn world."""
        return self.out / "world"

    @property
    def pool(self) -> Path:
        """What is searched: scenes that no run saw, in families whose members differ in one edit."""
        return self.world / "pools" / "hard"

    @property
    def vocabulary(self) -> str:
        """The tokenizer of everything."""
        return str(self.world / "vocab.txt")

    def store(self, name: str) -> Path:
        """Return the folder of a store."""
        return self.out / f"{name}.lmdb"

    def run(self, name: str) -> Path:
        """Return the folder of a run; what is measured on it lies below it."""
        return self.out / "runs" / name

    # -- data -------------------------------------------------------------------------------------------------------

    def draw(self) -> Step:
        """Draw the world."""
        options = {"out": self.world, "images": self.sizes.images, "seed": self.seed}
        return Step(name="scenes", command="scenes", options=options, made=self.world, resumes=False)

    def extract(self, name: str, pictures: Path, **more: Any) -> Step:
        """Describe pictures."""
        options = {"images": pictures, "out": self.store(name), "detector": "demo", "batch_size": 8, **more}
        return Step(
            name=name, command="extract-features", options=options, made=self.store(name), starts_from=shipped_detector
        )

    def prepare(self, name: str, features: str, **source: Any) -> Step:
        """Make an example store of annotations."""
        options = {"task": "flickr30k", "tokenizer": self.vocabulary, "out": self.store(name), **source}
        options["features"] = (self.store(features),)
        return Step(name=name, command="prepare", options=options, made=self.store(name))

    def say_otherwise(self, name: str, examples: str) -> Step:
        """Give captions paraphrases and trees."""
        options = {
            "examples": self.store(examples),
            "out": self.store(name),
            "tokenizer": self.vocabulary,
            "grammar": True,
            "per_pivot": 2,
            "seed": self.seed,
        }
        return Step(name=f"augment-{examples}", command="augment", options=options, made=self.store(name))

    def views(self, name: str) -> Step:
        """Describe pictures as they look otherwise."""
        options = {
            "images": self.world / "images",
            "features": self.store("features"),
            "out": self.store(name),
            "detector": "demo",
            "view": ("flip",),
            "batch_size": 8,
        }
        return Step(name=name, command="augment", options=options, made=self.store(name), starts_from=shipped_detector)

    # -- training ---------------------------------------------------------------------------------------------------

    def pretrain(self, name: str, recipe: str, steps: int, **more: Any) -> Step:
        """Pre-train a joint encoder."""
        options = {
            "recipe": recipe,
            "steps": steps,
            "warmup": steps // 5,
            "examples": (self.store("said-otherwise"),),
            "features": (self.store("features"),),
            "out": self.run(name),
            "seed": self.seed,
            **more,
        }
        shipped = shipped_uniter if more.get("init") == Path(SHIPPED) else None
        return Step(name=name, command="pretrain", options=options, made=self.run(name), starts_from=shipped)

    def uniter(self, name: str, steps: int, **more: Any) -> Step:
        """Pre-train UNITER, and see which masked words it guesses."""
        seen = {
            "validation_examples": (self.store("val"),),
            "validation_limit": 500,
            "focus_words": self.world / "attribute_words.txt",
            "vocab": self.world / "vocab.txt",
        }
        return self.pretrain(name, "uniter-tiny", steps, **seen, **more)

    def finetune(self, name: str, recipe: str, steps: int, **more: Any) -> Step:
        """Fine-tune an encoder on retrieval."""
        options = {
            "recipe": recipe,
            "steps": steps,
            "validate_every": steps,
            "examples": (self.store("train"),),
            "features": (self.store("features"),),
            "out": self.run(name),
            "seed": self.seed,
            **more,
        }
        return Step(name=name, command="finetune", options=options, made=self.run(name))

    # -- measuring --------------------------------------------------------------------------------------------------

    def evaluate(self, run: str, measured: str = POOL, **more: Any) -> Step:
        """Rank the pool."""
        made = self.run(run) / measured
        options = {
            "run": self.run(run),
            "examples": (self.store("pool"),),
            "features": (self.store("pool-features"),),
            "out": made,
            **more,
        }
        return Step(name=f"eval-{run}-{made.name}", command="eval", options=options, made=made)

    def compare(self, name: str, first: Path, second: Path) -> Step:
        """Compare two measurements item by item."""
        return Step(name=f"compare-{name}", command="compare", options={"results": (first, second)})

    def isd(self, run: str) -> Step:
        """Measure how alike words and regions relate."""
        made = self.run(run) / ISD
        options = {
            "run": str(self.run(run)),
            "examples": self.store("entities"),
            "features": self.store("boxes"),
            "out": made,
            "limit": self.sizes.captions,
            "shuffles": self.sizes.shuffles,
            "other_features": "allow",
        }
        return Step(name=f"isd-{run}", command="isd", options=options, made=made)

    def probe(self, run: str, **more: Any) -> Step:
        """Look for dependency trees in the states of words, and search pictures by their regions."""
        made = self.run(run) / "probe"
        options = {
            "run": str(self.run(run)),
            "examples": self.store("said-otherwise"),
            "test_examples": self.store("unseen"),
            "features": self.store("features"),
            "out": made,
            "limit": self.sizes.sentences,
            "epochs": self.sizes.epochs,
            "folds": 2,
            "matrices": 20,
            "seed": self.seed,
            **more,
        }
        return Step(name=f"probe-{run}", command="probe", options=options, made=made)

    def verify(self, store: Path) -> Step:
        """Read every record of a store again."""
        return Step(name=f"verify-{store.stem}", command="store verify", options={"path": store}, always=True)

    def report(self, *runs: str) -> Step:
        """Write the page."""
        options = {
            "run": tuple(map(self.run, runs)),
            "title": "vltk demo",
            "pictures": self.world,
            "findings": self.out / FINDINGS,
            "figures": self.out / "figures",
            "figure_format": "svg",
            "out": (made := self.out / "report.html"),
        }
        return Step(name="report", command="report", options=options, made=made, resumes=False)
