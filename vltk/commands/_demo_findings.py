"""What the stages of ``vltk demo`` came to: figures with intervals, and the papers' claims that they try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vltk.commands._walkthrough import Finding, Results

ISDA_CLAIM = "IAIS makes relations more consistent (IAIS, table 2)"
RECALL_CLAIM = "IAIS raises Meta-Sum (IAIS, table 1)"
TREE_CLAIM = "the states of words hold their dependency tree (the probe of SSRP, here on UNITER)"
POOLING_CLAIM = "GPO beats mean pooling (VSE-infinity, supplement, table 1)"


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
    """Say how many texts were said in other words."""
    told = results["augment"]
    proves = f"share of texts said in other words; {told['parsed']} trees, right by construction"
    yield Finding(figure="paraphrased", value=told["changed"], n=told["texts"], proves=proves)


def pretraining(results: Results) -> Iterator[Finding]:
    """Show masked words that were guessed from random weights and from the shipped ones."""
    names = {"pretrain-fresh": "from random weights", "pretrain": "from the weights that come with vltk"}
    for step, start in names.items():
        row = metric(results[step], "mlm accuracy")
        proves = f"masked words of unseen scenes that are guessed, {start}, {results[step]['steps']} updates"
        yield measured(f"masked words, {step}", row, proves)


def finetuning(results: Results) -> Iterator[Finding]:
    """Show the losses."""
    for step in ("finetune", "finetune-iais"):
        yield from _trained(step, results[step])


def dual_encoders(results: Results) -> Iterator[Finding]:
    """Show the losses."""
    for step in ("dual-gpo", "dual-mean"):
        yield from _trained(step, results[step])


def _trained(step: str, told: Mapping[str, Any]) -> Iterator[Finding]:
    proves = f"weights that were trained for {told['steps']} updates"
    yield Finding(figure=f"weights of {step}", value=told["parameters"], proves=proves)


def evaluation(results: Results) -> Iterator[Finding]:
    """Show Meta-Sum of every system, and what IAIS and GPO change."""
    for name in ("pretrain", "finetune", "finetune-iais", "dual-gpo", "dual-mean"):
        row = metric(results[f"eval-{name}-pool"], "rsum")
        yield measured(f"rsum, {name}", row, "sum of six recalls, of 600, among unseen scenes that differ in one edit")
    yield difference("rsum, IAIS", results["compare-eval-iais"], "rsum", "with IAIS minus without", RECALL_CLAIM)
    yield difference("rsum, GPO", results["compare-eval-gpo"], "rsum", "GPO minus the mean", POOLING_CLAIM)


def reranking(results: Results) -> Iterator[Finding]:
    """Show what two stages cost and lose."""
    cost = results["eval-finetune-two-stages"]["cost"]
    share = cost["pairs"] / cost["pairs_of_all"]
    proves = f"of {cost['pairs_of_all']} pairs are scored jointly when a dual encoder proposes"
    yield Finding(figure="re-ranked pairs", value=share, n=cost["pairs_of_all"], proves=proves)
    yield difference("rsum, two stages", results["compare-eval-stages"], "rsum", "two stages minus all pairs", "")


def consistency(results: Results) -> Iterator[Finding]:
    """Show ISDa without and with IAIS, beside chance."""
    for name in ("finetune", "finetune-iais"):
        told = results[f"isd-{name}"]
        expected = told["chance"]["mean"]
        proves = f"distance of the relations of words and regions; objects mixed up give {expected:.3g}"
        yield measured(f"ISDa, {name}", metric(told, "ISDa"), proves)
    told = results["compare-isd-iais"]
    yield difference("ISDa, IAIS", told, "isda", "with IAIS minus without", ISDA_CLAIM, lower_is_better=True)


def trees(results: Results) -> Iterator[Finding]:
    """Show how much of the trees a probe finds, and by how much it beats the control that comes closest."""
    told = results["probe"]
    layer = f"in layer {told['layer']}, on sentences whose template no probe saw"
    yield measured("UUAS", metric(told, "UUAS"), f"share of the edges of dependency trees that are found {layer}")
    gains = [row for row in told["metrics"] if row["metric"].startswith("UUAS over ")]
    least = min(gains, key=lambda row: float(row["value"]))
    low, high = least["interval_95"]
    control = least["metric"].removeprefix("UUAS over ")
    yield Finding(
        figure="UUAS, beyond controls",
        value=least["value"],
        interval=(low, high),
        n=least["n"],
        proves=f"the encoder minus the control that comes closest: {control}",
        claim=TREE_CLAIM,
        outcome=outcome(low, high),
    )


def verification(results: Results) -> Iterator[Finding]:
    """Count the records that were read again."""
    told = [result for name, result in results.items() if name.startswith("verify-")]
    good, total = (sum(one[key] for one in told) for key in ("good", "records"))
    yield Finding(figure="sound records", value=good, proves=f"of {total} in {len(told)} stores")


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
    return Finding(figure=figure, value=row["value"], interval=low_high, n=row.get("n"), proves=proves)


def difference(
    figure: str, result: Mapping[str, Any], name: str, what: str, claim: str, *, lower_is_better: bool = False
) -> Finding:
    """Return a difference that ``vltk compare`` found as a finding, and whether a claim came out.

    Args:
        figure: how the difference is called.
        result: of the comparison.
        name: of the metric.
        what: which minus which.
        claim: that the second system is better; "" for none.
        lower_is_better: which way better is.
    """
    row = metric(result, name, "differences")
    low, high = row["interval_95"]
    said = outcome(low, high, lower_is_better=lower_is_better) if claim else ""
    proves = f"{what}, paired over {row['clusters']} pictures, p = {row['p']:.2g}"
    return Finding(
        figure=figure,
        value=row["difference"],
        interval=(low, high),
        n=row["n"],
        proves=proves,
        claim=claim,
        outcome=said,
    )


def outcome(low: float, high: float, *, lower_is_better: bool = False) -> str:
    """Say whether a claim came out whose difference has this interval, on how many seeds.

    Example:
        >>> outcome(0.1, 0.3)
        'came out, 1 seed'
        >>> outcome(-0.1, 0.3)
        'not decided: the interval holds 0, 1 seed'
    """
    better, worse = (high < 0, low > 0) if lower_is_better else (low > 0, high < 0)
    said = "came out" if better else "the opposite came out" if worse else "not decided: the interval holds 0"
    return f"{said}, 1 seed"
