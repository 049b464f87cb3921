"""What the stages of ``vltk demo`` came to: figures with intervals, and the papers' claims that they try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from vltk.commands._demo_claims import OWN_PROBE, RELATED, RUNS, TREES, Claim, claims_about, runs_of
from vltk.commands._demo_steps import ISD, POOL
from vltk.commands._walkthrough import Finding, Results, Tell

SEEDS = 1
"""Runs of each system that a claim is about."""


def scenes(results: Results) -> Iterator[Finding]:
    """Count the pictures."""
    drawn = results["scenes"]["images"]
    proves = f"pictures with all annotations ({', '.join(f'{count} {split}' for split, count in drawn.items())})"
    yield Finding(figure="scenes", value=sum(drawn.values()), proves=proves)


def features(results: Results) -> Iterator[Finding]:
    """Count what was described."""
    told = [results[name] for name in ("features", "pool-features", "boxes")]
    failures = sum(one["failures"] for one in told)
    done = sum(one["pictures"] for one in told)
    yield Finding(figure="pictures described", value=done, proves=f"{failures} of them could not be used")


def formats(results: Results) -> Iterator[Finding]:
    """Compare the features with what came back."""
    told = results["round-trip"]
    proves = f"of {told['images']['compared']} pictures, whose regions came back bit for bit"
    yield Finding(figure="unchanged pictures", value=told["identical_images"], proves=proves)


def examples(results: Results) -> Iterator[Finding]:
    """Count the examples of each split."""
    for name in ("train", "val", "pool", "entities"):
        told = results[name]
        proves = f"captions of {told['images']} pictures"
        yield Finding(figure=f"examples of {name}", value=told["examples"], proves=proves)


def augmentation(results: Results) -> Iterator[Finding]:
    """Say how many texts were said in other words, and how many views were described."""
    told = results["augment-train"]
    proves = f"share of texts said in other words; {told['parsed']:,} trees, right by construction"
    yield Finding(figure="paraphrased", value=told["changed"], n=told["texts"], proves=proves, unit="fraction")
    proves = "pictures described as they look in a mirror"
    yield Finding(figure="views", value=results["views"]["stored"], proves=proves)


def pretraining(results: Results) -> Iterator[Finding]:
    """Show masked words that were guessed from random weights and from the shipped ones."""
    for run in ("pretrain-fresh", "pretrain"):
        row = metric(results[run], "mlm accuracy")
        proves = f"masked words of unseen scenes that are guessed: {RUNS[run]}, {results[run]['steps']} updates"
        yield measured(f"masked words, {run}", row, proves)


def trained(*runs: str) -> Tell:
    """Return what counts the weights of runs."""

    def tell(results: Results) -> Iterator[Finding]:
        for run in runs:
            told = results[run]
            proves = f"{RUNS[run]}, {told['steps']} updates"
            yield Finding(figure=f"weights of {run}", value=told["parameters"], proves=proves)

    return tell


def evaluation(results: Results) -> Iterator[Finding]:
    """Show Meta-Sum of every system, and whether what papers claim of it came out."""
    for run in runs_of(claims_about(POOL)):
        row = metric(results[f"eval-{run}-pool"], "rsum")
        yield measured(f"rsum, {run}", row, f"sum of six recalls of the pool: {RUNS[run]}")
    yield from tried(results, POOL)


def reranking(results: Results) -> Iterator[Finding]:
    """Show what two stages cost and lose."""
    cost = results["eval-finetune-two-stages"]["cost"]
    share = cost["pairs"] / cost["pairs_of_all"]
    proves = f"of {cost['pairs_of_all']:,} pairs are scored jointly when a dual encoder proposes"
    yield Finding(figure="re-ranked pairs", value=share, n=cost["pairs_of_all"], proves=proves, unit="fraction")
    row = metric(results["compare-stages"], "rsum", "differences")
    yield difference("rsum, two stages", row, "two stages minus all pairs", unit="percent")


def consistency(results: Results) -> Iterator[Finding]:
    """Show ISDa without and with IAIS, beside chance."""
    for name in ("finetune", "finetune-iais"):
        told = results[f"isd-{name}"]
        expected = told["chance"]["mean"]
        proves = f"distance of the relations of words and regions; objects mixed up give {expected:.3g}"
        yield measured(f"ISDa, {name}", metric(told, "ISDa"), proves)
    yield from tried(results, ISD)


def probing(results: Results) -> Iterator[Finding]:
    """Show how much of the trees probes find, and whether relations of regions help to find pictures."""
    told, own = results["probe-finetune"], results["probe-ssrp-probed"]
    what = "edges of trees that are found in sentences whose template no probe saw"
    yield measured("UUAS, finetune", metric(told, "UUAS"), f"{what}, in layer {told['layer']}")
    yield beyond_controls("UUAS beyond controls, finetune", told, "UUAS over ", TREES)
    first, second = (results[run]["steps"] for run in ("ssrp", "ssrp-probed"))
    learnt = f"by SSRP's own probe, after {first} and {second} updates of its stages"
    yield measured("UUAS, ssrp-probed", metric(own, "UUAS of the own probe"), f"{what}, {learnt}")
    yield beyond_controls("UUAS beyond controls, ssrp-probed", own, "UUAS of the own probe over ", OWN_PROBE)
    row = metric(own, "Obj. + Rel. over Obj. of linked words")
    proves = "nDCG@10 by the linked words of captions, Obj. + Rel. minus Obj."
    yield gain("nDCG, relations", row, proves, RELATED)


def verification(results: Results) -> Iterator[Finding]:
    """Count the records that were read again."""
    told = [result for name, result in results.items() if name.startswith("verify-")]
    good, total = (sum(one[key] for one in told) for key in ("good", "records"))
    yield Finding(figure="sound records", value=good, proves=f"of {total:,} in {len(told)} stores")


def report(results: Results) -> Iterator[Finding]:
    """Say what the page holds."""
    told = results["report"]
    proves = f"parts of one page that needs no other file; {told['figures']} figures are files as well"
    yield Finding(figure="report", value=len(told["sections"]), proves=proves)


# -- rows of receipts -----------------------------------------------------------------------------------------------


def metric(result: Mapping[str, Any], name: str, rows: str = "metrics") -> Mapping[str, Any]:
    """Return a row of a receipt by the name of its metric."""
    listed: Iterable[Mapping[str, Any]] = result[rows]
    return next(row for row in listed if row["metric"] == name)


def measured(figure: str, row: Mapping[str, Any], proves: str) -> Finding:
    """Return a figure of a receipt as a finding."""
    interval = row.get("interval_95")
    low_high = (interval[0], interval[1]) if interval else None
    unit = row.get("unit") or ""
    return Finding(figure=figure, value=row["value"], interval=low_high, n=row.get("n"), proves=proves, unit=unit)


def gain(figure: str, row: Mapping[str, Any], proves: str, claim: str) -> Finding:
    """Return a figure of a receipt that tells by how much something is better, and whether it is, as a claim says."""
    found = measured(figure, row, proves)
    low, high = row["interval_95"]
    return replace(found, claim=claim, outcome=outcome(low, high))


def beyond_controls(figure: str, result: Mapping[str, Any], prefix: str, claim: str) -> Finding:
    """Return by how much a probe beats the control that comes closest."""
    gains = [row for row in result["metrics"] if row["metric"].startswith(prefix)]
    least = min(gains, key=lambda row: float(row["value"]))
    return gain(figure, least, f"minus the control that comes closest: {least['metric'].removeprefix(prefix)}", claim)


def tried(results: Results, where: str) -> Iterator[Finding]:
    """Return whether the claims came out that a measurement tries."""
    for claim in claims_about(where):
        row = metric(results[f"compare-{claim.name}"], claim.metric, "differences")
        found = difference(claim.figure, row, claim.what, unit=claim.unit)
        yield replace(found, claim=claim.text, outcome=came_out(claim, row))


def difference(figure: str, row: Mapping[str, Any], what: str, *, unit: str) -> Finding:
    """Return a difference that ``vltk compare`` found as a finding.

    Args:
        figure: how the difference is called.
        row: of the comparison.
        what: which minus which.
        unit: of the metric.
    """
    low, high = row["interval_95"]
    proves = f"{what}, paired over {row['clusters']} pictures, p = {row['p']:.2g}"
    return Finding(figure=figure, value=row["difference"], interval=(low, high), n=row["n"], proves=proves, unit=unit)


def came_out(claim: Claim, row: Mapping[str, Any]) -> str:
    """Say whether a claim came out in a row of a comparison."""
    low, high = row["interval_95"]
    return outcome(-high, -low) if claim.lower_is_better else outcome(low, high)


def outcome(low: float, high: float) -> str:
    """Say whether a claim came out whose gain has this interval, and on how many seeds.

    Example:
        >>> outcome(0.1, 0.3)
        'came out, 1 seed'
        >>> outcome(-0.1, 0.3)
        'not decided at this size, 1 seed'
    """
    said = "came out" if low > 0 else "did not come out at this size" if high < 0 else "not decided at this size"
    return f"{said}, {SEEDS} seed"
