"""Translation: the model, the search and the batches, beyond what golden vectors show."""

from __future__ import annotations

import argparse
import itertools
import math

import pytest
import torch

from tests.language.small_translation import TEXTS, published, small_config
from vltk.errors import DataError, UsageError
from vltk.language._fairseq_directory import upgraded
from vltk.language._search import Search, search
from vltk.language._subwords import BytePairs, Dictionary, without_joints
from vltk.language._transformer import EOS, TransformerConfig, TranslationTransformer
from vltk.language._translator import Bucketing, Ensemble
from vltk.language.translation import load_ensemble, load_translator


@pytest.fixture(scope="module")
def translator(folder):
    return load_translator(folder, "en", "de")


# -- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoding_word_by_word_gives_the_probabilities_of_the_whole(norm_first):
    torch.manual_seed(0)
    config = TransformerConfig(
        **{**vars(small_config(30)), "encoder_norm_first": norm_first, "decoder_norm_first": norm_first}
    )
    model = TranslationTransformer(config).eval()
    sources, targets = [[5, 6, 7, 2], [8, 2]], [[9, 10, 11, 2], [12, 13, 14, 2]]
    with torch.inference_mode():
        whole = model(sources, targets)
        state = model.start(sources)
        for step in range(4):
            last = torch.tensor([[EOS if step == 0 else row[step - 1]] for row in targets])
            torch.testing.assert_close(model.step(state, last)[:, 0], whole[:, step], atol=1e-5, rtol=0)


def test_padding_changes_nothing(folder):
    _, ensemble = load_ensemble(folder, "en", "de")
    together = ensemble.score([[5, 2], [5, 6, 7, 8, 9, 2]], [[9, 2], [10, 11, 2]])
    alone = ensemble.score([[5, 2]], [[9, 2]])
    torch.testing.assert_close(torch.tensor(together[0]), torch.tensor(alone[0]), atol=1e-5, rtol=0)


def test_an_ensemble_takes_the_mean_of_the_probabilities(folder):
    _, both = load_ensemble(folder, "en", "de")
    each = [Ensemble([model]).score([[5, 6, 2]], [[7, 8, 2]])[0] for model in both.models]
    expected = [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(*each, strict=True)]
    assert both.score([[5, 6, 2]], [[7, 8, 2]])[0] == pytest.approx(expected, abs=1e-5)


def test_older_names_are_brought_up_to_date():
    torch.manual_seed(0)
    model = TranslationTransformer(small_config(24))
    new = published(model)
    old = {}
    for name, tensor in new.items():
        name = name.replace("decoder.output_projection.weight", "decoder.embed_out")
        side = name.split(".")[0]
        norms = {"self_attn": 0, "encoder_attn": 1, "final": 2} if side == "decoder" else {"self_attn": 0, "final": 1}
        for kind, number in norms.items():
            name = name.replace(f"{kind}_layer_norm", f"layer_norms.{number}")
        old[name] = tensor
    for layer, attention in itertools.product(("encoder.layers.0", "decoder.layers.1"), ("self_attn", "encoder_attn")):
        if f"{layer}.{attention}.q_proj.bias" in old:
            for kind in ("weight", "bias"):
                parts = [old.pop(f"{layer}.{attention}.{letter}_proj.{kind}") for letter in "qkv"]
                old[f"{layer}.{attention}.in_proj_{kind}"] = torch.cat(parts)
    old["encoder.version"] = torch.tensor([3.0])
    found = upgraded(old)
    assert found.keys() == new.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in new.items())


# -- search ----------------------------------------------------------------------------------------------------------


class Table:
    """A decoder that is a table: the next piece depends on the last one only."""

    first = end = EOS
    unknown, forbidden, forced, positions = 3, (1,), (), 50
    device = torch.device("cpu")

    def __init__(self, size=7, seed=0):
        self.scores = torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)

    def start(self, sources):
        return argparse.Namespace(reorder=lambda rows: None, keep=lambda sentences: None)

    def step(self, state, tokens):
        return self.scores[tokens]


def test_a_beam_as_wide_as_all_continuations_finds_what_looking_at_all_of_them_finds():
    table = Table(size=40)
    settings = Search(beam=38, n_best=2, max_length_b=2, length_penalty=0.7)
    (found,) = search(table, [[5, 2]], ["x"], settings)
    pieces = [token for token in range(40) if token not in (1, 2)]
    every = {}
    for tokens in [(*words, 2) for length in (1, 2) for words in itertools.product(pieces, repeat=length)]:
        total = sum(float(table.scores[a, b]) for a, b in itertools.pairwise((2, *tokens)))
        every[tokens] = total / len(tokens) ** 0.7
    best = sorted(every.items(), key=lambda item: -item[1])[:2]
    assert [one.tokens for one in found[:2]] == [tokens for tokens, _ in best]
    assert [one.score for one in found[:2]] == pytest.approx([score for _, score in best], abs=1e-5)
    with pytest.raises(UsageError, match="a beam of 40 for 40 pieces; narrow the beam"):
        search(table, [[5, 2]], ["x"], Search(beam=40))


def test_batches_and_their_order_change_no_translation(translator):
    settings = Search(beam=3, n_best=3, max_length_b=20)
    together = translator.translate(TEXTS, settings=settings)
    backwards = translator.translate(TEXTS[::-1], settings=settings, bucketing=Bucketing(sentences=2))[::-1]
    alone = [translator.translate([text], settings=settings)[0] for text in TEXTS]
    tokens = [[one.tokens for one in hypotheses] for hypotheses in together]
    assert tokens == [[one.tokens for one in hypotheses] for hypotheses in backwards]
    assert tokens == [[one.tokens for one in hypotheses] for hypotheses in alone]


def test_the_length_limit_grows_with_the_source(translator):
    settings = Search(beam=2, max_length_a=1.0, max_length_b=1)
    for text, (best,) in zip(TEXTS, translator.translate(TEXTS, settings=settings), strict=True):
        assert len(best.tokens) <= len(translator.coding.encode(text)) + 1 + 1  # b, and the end of the translation


def test_sampling_depends_on_the_id_and_the_seed_alone(translator):
    settings = Search(sampling=True, n_best=2, max_length_b=12, seed=3)
    names = [f"s{number}" for number in range(len(TEXTS))]
    first = translator.translate(TEXTS, ids=names, settings=settings)
    again = translator.translate(TEXTS[::-1], ids=names[::-1], settings=settings, bucketing=Bucketing(sentences=2))
    assert [[one.tokens for one in row] for row in first] == [[one.tokens for one in row] for row in again[::-1]]
    other = translator.translate(TEXTS, ids=names, settings=Search(sampling=True, n_best=2, max_length_b=12, seed=4))
    assert [[one.tokens for one in row] for row in first] != [[one.tokens for one in row] for row in other]
    renamed = translator.translate(TEXTS, ids=names[::-1], settings=settings)
    assert [[one.tokens for one in row] for row in first] != [[one.tokens for one in row] for row in renamed]


def test_samples_are_as_frequent_as_the_model_says():
    table = Table()
    count = 4000
    settings = Search(sampling=True, n_best=1, max_length_b=1, seed=0)
    found = search(table, [[2]] * count, [str(n) for n in range(count)], settings)
    allowed = table.scores[EOS].exp()
    allowed[[1, 2]] = 0
    drawn = torch.bincount(torch.tensor([one.tokens[0] for (one,) in found]), minlength=7) / count
    torch.testing.assert_close(drawn, allowed / allowed.sum(), atol=0.03, rtol=0)


def test_sampling_among_the_likeliest_draws_nothing_else():
    table = Table()
    scores = table.scores[EOS].clone()
    scores[[1, 2]] = -math.inf
    likeliest = set(scores.topk(2).indices.tolist())
    ids = [str(n) for n in range(200)]
    for settings in (
        Search(sampling=True, top_k=2),
        Search(sampling=True, top_p=float(scores.softmax(0).max()) + 0.01),
    ):
        first = {one.tokens[0] for (one,) in search(table, [[2]] * 200, ids, settings)}
        assert first == likeliest
    cold = {one.tokens for (one,) in search(table, [[2]] * 50, ids[:50], Search(sampling=True, temperature=0.001))}
    assert len(cold) == 1


def test_a_forced_beginning_is_emitted_and_scored():
    table = Table()
    table.forced = (6,)
    (found,) = search(table, [[5, 2]], ["x"], Search(beam=2, max_length_b=5))
    assert found[0].tokens[0] == 6
    assert found[0].token_scores[0] == pytest.approx(float(table.scores[EOS, 6]), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"beam": 0}, "got beam 0"),
        ({"beam": 2, "n_best": 3}, "a beam of 2 has no 3 translations; widen the beam"),
        ({"temperature": 0.0}, "got temperature 0.0"),
    ],
)
def test_a_search_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(UsageError, match=sentence):
        Search(**values)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_never_holds_more_pieces_than_allowed():
    lengths = [3, 90, 4, 4, 60, 5, 300, 2, 5]
    plan = Bucketing(tokens=20, sentences=3, longest=100)
    batches = list(plan.batches(lengths))
    assert sorted(row for batch in batches for row in batch) == [0, 1, 2, 3, 4, 5, 7, 8]  # 300 is too long
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= 20
        assert len(batch) <= 3


def test_one_very_long_sentence_is_left_alone_and_the_rest_is_translated(translator, monkeypatch):
    seen = []
    original = TranslationTransformer.start
    monkeypatch.setattr(
        TranslationTransformer, "start", lambda self, rows: seen.append(max(map(len, rows))) or original(self, rows)
    )
    found = translator.translate(["dog " * 50_000, *TEXTS], settings=Search(beam=2, max_length_b=5))
    assert found[0] == []
    assert all(len(one) == 1 for one in found[1:])
    assert max(seen) < 20


def test_a_sentence_without_words_is_named(translator):
    with pytest.raises(DataError, match=r"^sentence b: has no words; leave it out, or write its text$"):
        translator.translate(["a dog .", " \t"], ids=["a", "b"])


# -- pieces ----------------------------------------------------------------------------------------------------------


def test_pieces_are_merged_in_the_order_of_the_file():
    pairs = BytePairs([("b", "c</w>"), ("a", "b"), ("ab", "c</w>")])
    assert pairs.apply("abc ab abab") == "a@@ bc a@@ b ab@@ a@@ b"
    assert without_joints(pairs.apply("abc ab abab")) == "abc ab abab"


def test_a_dictionary_reads_pieces_that_look_like_line_ends(tmp_path):
    (tmp_path / "dict.en.txt").write_text("a 5\n\u2028 4\nb 3 #fairseq:overwrite\n", encoding="utf-8")
    dictionary = Dictionary.read(tmp_path / "dict.en.txt")
    assert dictionary.pieces[4:] == ("a", "\u2028", "b")
    assert dictionary.encode("b zebra a") == (6, 3, 4, 2)
    assert dictionary.decode([6, 3, 4, 2]) == "b <unk> a"
