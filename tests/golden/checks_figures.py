"""Recalls, accuracies, overlaps and caption scores against the published programs that count them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.golden.case import Case
from vltk.metrics.accuracy import soft_scores, vcr_hits
from vltk.metrics.captioning import DocumentFrequency, bleu, cider_d, rouge_l
from vltk.metrics.crisscrossed_captions import cxc_figures
from vltk.metrics.grounding import published_iou
from vltk.metrics.protocol import RetrievalProtocol
from vltk.metrics.published_retrieval import uniter_figures
from vltk.metrics.retrieval import RetrievalResult, evaluate_retrieval

ORDER = ("r1", "r5", "r10", "median_rank", "mean_rank")


def close(case: Case, ours: Any, official: Any) -> None:
    limits = case.entry.get("tolerance", {"rtol": 1e-12, "atol": 1e-12})
    # A tolerance of nothing means the same figures, not the same order of additions.
    np.testing.assert_allclose(ours, official, rtol=max(limits["rtol"], 1e-12), atol=limits["atol"])


def evaluated(scores: np.ndarray, image_of: np.ndarray, folds: int = 1) -> RetrievalResult:
    names = [[str(number) for number in range(size)] for size in scores.shape]
    protocol = RetrievalProtocol(name="golden", folds=folds)
    return evaluate_retrieval(scores, image_of, image_ids=names[0], caption_ids=names[1], protocol=protocol)


def check_uniter_recall(case: Case) -> None:
    values = case.tensors()
    result = evaluated(values["in.scores"].T, values["in.gt_img_of_txt"])
    published = uniter_figures(result.i2t, result.t2i)
    for ours, official in ((result.figures, "out.correct"), (published, "out.official")):
        rows = [ours[f"{way}_r{k}"] / 100 for way in ("i2t", "t2i") for k in (1, 5, 10)]
        close(case, rows, values[official])


def check_directions(case: Case, figures: dict[str, float], expected: dict[str, Any]) -> None:
    for way in ("i2t", "t2i"):
        close(case, [figures[f"{way}_{name}"] for name in ORDER], expected[way])


def check_vsrn(case: Case) -> None:
    values, expected = case.tensors(), case.entry["expected"]
    captions = case.entry["config"]["captions_per_image"]
    folds = case.entry["config"]["folds"]
    first = values["in.images"][::captions] @ values["in.captions"].T
    both = (first + values["in.images2"][::captions] @ values["in.captions2"].T) / 2
    image_of = np.arange(first.shape[1]) // captions
    for scores, prefix in ((first, ""), (both, "ensemble_")):
        whole, cut = evaluated(scores, image_of), evaluated(scores, image_of, folds)
        check_directions(case, whole.figures, expected[f"{prefix}full"])
        check_directions(case, cut.figures, expected[f"{prefix}folds_mean"])
        for ours, official in zip(cut.folds, expected[f"{prefix}folds"], strict=True):
            check_directions(case, ours, official)
        if not prefix:
            assert (whole.i2t - 1).tolist() == values["out.i2t_ranks"].tolist()
            assert (whole.t2i - 1).tolist() == values["out.t2i_ranks"].tolist()


def check_vse(case: Case) -> None:
    values, expected = case.tensors(), case.entry["expected"]
    matrices = {"a": values["in.sims_a"], "b": values["in.sims_b"]}
    matrices["ensemble"] = (matrices["a"] + matrices["b"]) / 2
    image_of = np.arange(matrices["a"].shape[1]) // 5
    for name, scores in matrices.items():
        check_directions(case, evaluated(scores, image_of).figures, expected[name])
    whole, cut = evaluated(matrices["a"], image_of), evaluated(matrices["ensemble"], image_of, 5)
    assert (whole.i2t - 1).tolist() == values["out.i2t_ranks_a"].tolist()
    assert (whole.t2i - 1).tolist() == values["out.t2i_ranks_a"].tolist()
    assert matrices["a"].argmax(axis=1).tolist() == values["out.i2t_top1_a"].tolist()
    check_directions(case, cut.figures, expected["ensemble_fold5"]["mean"])
    for ours, official in zip(cut.folds, expected["ensemble_fold5"]["folds"], strict=True):
        check_directions(case, ours, official)
    one = matrices["a"][:, ::5]
    check_directions(case, evaluated(one, np.arange(len(one))).figures, expected["one_to_one"])
    total = evaluated(matrices["ensemble"], image_of).figures["rsum"]
    assert f"rsum: {total:.1f}" == expected["ensemble_log_full"][0]
    assert f"rsum: {cut.figures['rsum']:.1f}" in expected["ensemble_log_fold5"]


def check_large(case: Case) -> None:
    images, captions = case.entry["config"]["images"], case.entry["config"]["captions"]
    owner = np.arange(captions) // (captions // images)
    for name, expected in case.entry["expected"].items():
        if "seed" not in expected:
            continue
        scores = np.random.default_rng(expected["seed"]).standard_normal((images, captions))
        scores[owner, np.arange(captions)] += expected["signal"]
        corner = [scores[0, 0], scores[0, 1], scores[-1, -1]]
        assert corner == expected["corner"], "numpy draws another matrix than the case was made with"
        result = evaluated(scores, owner)
        check_directions(case, result.figures, expected)
        for way, ranks in (("i2t", result.i2t), ("t2i", result.t2i)):
            assert (ranks - 1).sum() == expected[f"{way}_rank_sum"]
            assert (ranks[:20] - 1).tolist() == expected[f"{way}_first20_ranks"]
        folds = case.entry["expected"].get(f"{name}_fold5_mean")
        if folds:
            check_directions(case, evaluated(scores, owner, 5).figures, folds)


def check_crisscrossed(case: Case) -> None:
    values, config = case.tensors(), case.entry["config"]
    ratings = {
        kind: {query: [(str(item), rating) for item, rating in rated] for query, rated in queries.items()}
        for kind, queries in config["annotations"].items()
    }
    figures = cxc_figures(
        values["in.images"],
        values["in.captions"],
        image_ids=config["image_ids"],
        caption_ids=config["caption_ids"],
        image_of=np.arange(len(config["caption_ids"])) // 5,
        ratings=ratings,
        own="zero",
    )
    for kind, official in case.entry["expected"].items():
        close(case, [figures[f"{kind}_r{k}"] for k in (1, 5, 10)], official)


def check_vqa_score(case: Case) -> None:
    values = case.tensors()
    scores = soft_scores(values["in.logits"], values["in.targets"])
    best = values["in.logits"].argmax(axis=1)[:, None] == np.arange(values["in.logits"].shape[1])
    close(case, np.where(best, scores[:, None], 0), values["out.score_matrix"])
    close(case, scores.sum(), values["out.score_sum"])


def check_vcr_accuracy(case: Case) -> None:
    values = case.tensors()
    answers, rationales = (values[f"in.{name}_targets"][:, 0] for name in ("qa", "qar"))
    answer, rationale = vcr_hits(values["in.scores20"], answers, rationales)
    counts = [int(hits.sum()) for hits in (answer, rationale, answer & rationale)]
    assert counts == values["out.counts_qa_qar_joint"].tolist()


def check_iou(case: Case) -> None:
    values = case.tensors()
    first, second = (
        np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]) for box in (values["in.box1_xywh"], values["in.box2_xywh"])
    )
    close(case, published_iou(first, second), values["out.iou"])


def check_captions(case: Case) -> None:
    expected = case.entry["expected"]
    candidates, references = expected["candidates"], expected["references"]
    together, each = bleu(candidates, references)
    close(case, together, expected["bleu_corpus"])
    close(case, each, expected["bleu_per_image"])
    close(case, bleu(candidates[:1], references[:1])[1][:, 0], expected["bleu_single_image_0"])
    rouge = rouge_l(candidates, references)
    close(case, rouge, expected["rouge_l_per_image"])
    close(case, rouge.mean(), expected["rouge_l"])
    for name, frequency in (
        ("cider", None),
        ("cider_d_corpus", None),
        ("cider_d_external", DocumentFrequency.of(expected["external_df_corpus"])),
    ):
        scores = cider_d(candidates, references, frequency=frequency)
        close(case, scores, expected[f"{name}_per_image"])
        close(case, scores.mean(), expected[name])
    close(case, DocumentFrequency.of(expected["external_df_corpus"]).log_count, expected["external_df_log_ref_len"])


CHECKS: dict[str, Callable[[Case], None]] = {
    "uniter/itr_recall*": check_uniter_recall,
    "uniter/vqa_score*": check_vqa_score,
    "uniter/vcr_accuracy*": check_vcr_accuracy,
    "uniter/re_iou*": check_iou,
    "vse/vsrn_retrieval_eval*": check_vsrn,
    "vse/vse_retrieval_eval*": check_vse,
    "vse/retrieval_large_seeded*": check_large,
    "vse/vse_cxc_eval*": check_crisscrossed,
    "vse/caption_metrics*": check_captions,
}
