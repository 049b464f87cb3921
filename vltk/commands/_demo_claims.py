"""The papers' claims that ``vltk demo`` tries: who says so where, and which two of its runs are compared."""

from __future__ import annotations

from dataclasses import dataclass

from vltk.commands._demo_steps import ISD, POOL

RUNS = {
    "pretrain-fresh": "UNITER from random weights",
    "pretrain": "the shipped UNITER, continued",
    "pretrain-joint": "the shipped UNITER, continued, both sides of a pair hidden at once",
    "pretrain-aligned": "the shipped UNITER, continued, with word-region alignment",
    "ssrp": "SSRP, first stage",
    "ssrp-probed": "SSRP, second stage",
    "finetune": "UNITER on retrieval",
    "finetune-iais": "UNITER on retrieval, with IAIS",
    "dual-gpo": "a dual encoder that pools by GPO",
    "dual-mean": "a dual encoder that pools by the mean",
    "dual-hardest": "GPO, the hardest negatives from the first update",
    "vsrn-mean": "VSRN without reasoning, the mean of regions",
    "vsrn-relations": "VSRN with a relation layer, the mean of regions",
}
"""What each run is."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That the second of two runs is better, which a paper says.

    Attributes:
        name: of the comparison, unique.
        says: what the paper claims.
        source: the paper, and where in it.
        runs: the one that should be worse, and the one that should be better.
        what: the difference in words.
        figure: what it is called.
        measured: where below both runs the measurement stands.
        metric: what is compared.
        unit: of it, as receipts name it.
        lower_is_better: which way better is.
    """

    name: str
    says: str
    source: str
    runs: tuple[str, str]
    what: str
    figure: str
    measured: str = POOL
    metric: str = "rsum"
    unit: str = "percent"
    lower_is_better: bool = False

    @property
    def text(self) -> str:
        """What it says, and who says so."""
        return f"{self.says} ({self.source})"


CLAIMS = (
    Claim(
        name="masking",
        says="hiding one side of a pair at a time teaches more than hiding both",
        source="UNITER, table 2 and section A.3",
        runs=("pretrain-joint", "pretrain"),
        what="conditional minus joint masking, both from the shipped weights",
        figure="rsum, masking",
    ),
    Claim(
        name="alignment",
        says="word-region alignment raises recall",
        source="UNITER, tables 2 and 8",
        runs=("pretrain", "pretrain-aligned"),
        what="with it minus without, both from the shipped weights",
        figure="rsum, alignment",
    ),
    Claim(
        name="IAIS",
        says="IAIS raises Meta-Sum",
        source="IAIS, table 1",
        runs=("finetune", "finetune-iais"),
        what="with IAIS minus without",
        figure="rsum, IAIS",
    ),
    Claim(
        name="GPO",
        says="GPO beats mean pooling",
        source="VSE-infinity, supplement, table 1",
        runs=("dual-mean", "dual-gpo"),
        what="GPO minus the mean",
        figure="rsum, GPO",
    ),
    Claim(
        name="warm-up",
        says="the hardest negatives learn more after an epoch of all negatives",
        source="VSE-infinity, supplement, section 1.1",
        runs=("dual-hardest", "dual-gpo"),
        what="with that epoch minus without",
        figure="rsum, warm-up",
    ),
    Claim(
        name="reasoning",
        says="reasoning over the relations of regions beats their mean",
        source="VSRN, table 4, RRR",
        runs=("vsrn-mean", "vsrn-relations"),
        what="one relation layer minus none, both pooled by the mean",
        figure="rsum, relation layer",
    ),
    Claim(
        name="consistency",
        says="IAIS makes relations more consistent",
        source="IAIS, table 2",
        runs=("finetune", "finetune-iais"),
        what="with IAIS minus without",
        figure="ISDa, IAIS",
        measured=ISD,
        metric="isda",
        unit="nats",
        lower_is_better=True,
    ),
)
"""Claims about two runs; each is measured on the same items, so that the difference is paired."""

TREES = "the states of words hold their dependency tree (SSRP's probe, supplement, figure 5, here on UNITER)"
OWN_PROBE = "SSRP's own probes find dependency trees (SSRP, supplement, figure 5)"
RELATED = "regions with their relations find more alike pictures than regions alone (SSRP, supplement, section 0.2.5)"
"""Claims about one run, which a probe tries beside its controls."""


def claims_about(measured: str) -> list[Claim]:
    """Return the claims that a measurement tries.

    Example:
        >>> [claim.name for claim in claims_about("isd")]
        ['consistency']
    """
    return [claim for claim in CLAIMS if claim.measured == measured]


def runs_of(claims: list[Claim]) -> list[str]:
    """Return the runs that claims are about, each once.

    Example:
        >>> runs_of(claims_about("isd"))
        ['finetune', 'finetune-iais']
    """
    return list(dict.fromkeys(run for claim in claims for run in claim.runs))
