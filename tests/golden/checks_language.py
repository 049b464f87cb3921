"""Translation against fairseq, token by token and score by score; parsing against Stanza and its treebank."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tests.golden.case import Case
from vltk.datasets.conllu import read_sentences
from vltk.language.parsing import StanzaParser
from vltk.language.translation import Search, load_ensemble, load_translator
from vltk.metrics.trees import attachment


def translation(case: Case) -> None:
    folder = case.folder / case.name
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    source, target = expected["pair"]
    legacy = case.entry["legacy_checkpoint"]
    for name, output in expected["outputs"].items():
        for first in ("model1.pt", legacy):
            checkpoints = tuple(first if path == "model1.pt" else path for path in output["checkpoints"])
            if name.endswith(":forced"):
                coding, ensemble = load_ensemble(folder, source, target, checkpoints=checkpoints)
                pieces = [coding.target_dictionary.encode(item["target_bpe"]) for item in output["items"]]
                scores = ensemble.score([coding.encode(item["source"]) for item in output["items"]], pieces)
                for item, own, ids in zip(output["items"], scores, pieces, strict=True):
                    assert list(ids) == item["tgt_tokens"]
                    np.testing.assert_allclose(own, item["token_logprobs"], atol=1e-5)
                continue
            settings = Search(
                beam=output["beam"],
                n_best=output["beam"],
                length_penalty=output.get("lenpen", 1.0),
                max_length_a=output.get("max_len_a", 0),
                max_length_b=output.get("max_len_b", 200),
            )
            translator = load_translator(folder, source, target, checkpoints=checkpoints)
            texts = [item["source"] for item in output["items"]]
            for item, own in zip(output["items"], translator.translate(texts, settings=settings), strict=True):
                for ours, theirs in zip(own, item["hypotheses"], strict=True):
                    assert (list(ours.tokens), ours.text) == (theirs["tokens"], theirs["text"])
                    assert abs(ours.score - theirs["score"]) < 1e-5
                    np.testing.assert_allclose(ours.token_scores, theirs["positional_scores"], atol=1e-5)


def ensemble_of_two(case: Case) -> None:
    translation(case)
    # Without names, every model*.pt of the directory takes part, but not a checkpoint of another name.
    folder = case.folder / case.name
    whole = load_translator(folder, "en", "de")
    named = load_translator(folder, "en", "de", checkpoints=("model1.pt", "model2.pt"))
    texts = ["A man is riding a horse."]
    (ours,), (theirs,) = whole.translate(texts), named.translate(texts)
    assert [replace(one, score=0.0) for one in ours] == [replace(one, score=0.0) for one in theirs]


def raw_sentences(case: Case) -> None:
    content = case.entry["content"]
    texts = [item["input"] for item in content]
    compare(StanzaParser(case.folder), texts, [item["sentences"][0] for item in content])


def given_words(case: Case) -> None:
    content = case.entry["content"]
    texts = [" ".join(words) for words in content["input"]]
    compare(StanzaParser(case.folder, pretokenised=True), texts, content["output"])


def compare(parser: StanzaParser, texts: list[str], expected: Sequence[dict[str, list[str]]]) -> None:
    together = parser.parse(texts)
    for text, ours, theirs in zip(texts, together, expected, strict=True):
        assert [list(part) for part in (ours.words, ours.heads, ours.relations)] == [
            theirs["words"],
            theirs["heads"],
            theirs["deprels"],
        ], text
    assert [parser.parse([text])[0] for text in texts[:5]] == together[:5]


def treebank(case: Case) -> None:
    content = case.entry["content"]
    gold = [sentence.parse for sentence in read_sentences(case.folder / content["file"])]
    assert (len(gold), sum(len(parse.words) for parse in gold)) == (content["sentences"], content["words"])
    found = StanzaParser(case.folder, pretokenised=True).parse([" ".join(parse.words) for parse in gold])
    assert [list(parse.heads) for parse in found] == content["predicted_heads"]
    assert [list(parse.relations) for parse in found] == content["predicted_deprels"]
    score = attachment(
        [(parse.heads, parse.relations) for parse in gold], [(parse.heads, parse.relations) for parse in found]
    )
    assert (score.unlabelled, score.labelled) == (content["UAS"], content["LAS_full_label"])


CHECKS: dict[str, Callable[[Case], None]] = {
    "fairseq/en-de": ensemble_of_two,
    "fairseq/de-en": translation,
    "fairseq/*-ru": translation,
    "fairseq/ru-*": translation,
    "stanza/raw_text": raw_sentences,
    "stanza/pretokenized": given_words,
    "stanza/dev": treebank,
}
