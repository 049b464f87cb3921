"""Translation: what golden vectors do not show, and every way that weights can be wrong."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import sys

import pytest
import torch

from tests.language.small_translation import WORDS, arguments, published, small_config, write_directory
from vltk.errors import DataError, OfflineError, UsageError, VltkError
from vltk.language._fairseq_directory import upgraded
from vltk.language._hub_translation import HubDecoder, _choose_languages
from vltk.language._search import Search, search
from vltk.language._subwords import BytePairs, Dictionary, without_joints
from vltk.language._transformer import EOS, TransformerConfig, TranslationTransformer
from vltk.language._translator import Bucketing, Ensemble
from vltk.language.paraphrase import Filter, Paraphraser
from vltk.language.translation import find_weights, languages_of, load_ensemble, load_translator, read_weights_options

TEXTS = [
    "the man runs .",
    "a big red dog is in the park .",
    "ball",
    "a woman rides a horse on the beach .",
    "the dog .",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_directory(tmp_path_factory.mktemp("wmt") / "en-de", models=2)


@pytest.fixture(scope="module")
def translator(folder):
    return load_translator(folder, "en", "de")


# -- the model ---------------------------------------------------------------------------------------------------------


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


# -- search ------------------------------------------------------------------------------------------------------------


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


# -- batches -----------------------------------------------------------------------------------------------------------


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


# -- pieces ------------------------------------------------------------------------------------------------------------


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


# -- bad weights -------------------------------------------------------------------------------------------------------


def test_a_dictionary_of_another_model_is_refused(tmp_path):
    folder = write_directory(tmp_path / "en-de")
    with (folder / "dict.en.txt").open("a") as stream:
        stream.write("zebra 1\n")
    with pytest.raises(
        DataError, match=r"model1\.pt: has 24 source pieces, its dictionary 25; give the dict\.xx\.txt files"
    ):
        load_translator(folder, "en", "de")


def test_a_missing_language_is_named(folder):
    with pytest.raises(DataError, match="en-de: has no dictionary of language 'fr'; known are de, en"):
        load_translator(folder, "en", "fr")


def test_a_folder_without_checkpoint_names_what_is_there(tmp_path):
    folder = write_directory(tmp_path / "en-de")
    (folder / "model1.pt").rename(folder / "other.pt")
    with pytest.raises(DataError, match=r"holds no model\*\.pt \(but other\.pt\)"):
        load_translator(folder, "en", "de")
    assert load_translator(folder, "en", "de", checkpoints=("other.pt",)).translate(["a dog ."])[0]
    with pytest.raises(DataError, match=r"holds no othr\.pt; did you mean other\.pt"):
        load_translator(folder, "en", "de", checkpoints=("othr.pt",))


def test_a_checkpoint_that_would_run_something_is_not_run(tmp_path):
    folder = write_directory(tmp_path / "en-de")

    class Hostile:
        def __reduce__(self):
            return (sys.exit, (7,))

    torch.save({"args": arguments(), "model": {}, "extra_state": Hostile()}, folder / "model1.pt")
    with pytest.raises(DataError, match=r"model1\.pt: is no checkpoint that can be read \(.*; download it again"):
        load_translator(folder, "en", "de")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"not a checkpoint", "is no checkpoint that can be read"),
        ({"weights": 1}, "holds no 'model' with weights"),
        ({"model": {"a": 1}}, "has weights that are no tensors"),
        ({"model": {}}, "does not say how large its Transformer is"),
        ({"model": {}, "args": arguments(encoder_learned_pos=True)}, "was trained with encoder_learned_pos"),
        ({"model": {}, "args": arguments()}, "has no embeddings of its encoder"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content, sentence):
    folder = write_directory(tmp_path / "en-de")
    if isinstance(content, bytes):
        (folder / "model1.pt").write_bytes(content)
    else:
        torch.save(content, folder / "model1.pt")
    with pytest.raises(DataError, match=sentence):
        load_translator(folder, "en", "de")


def test_weights_that_do_not_fit_their_own_settings_are_refused(tmp_path):
    folder = write_directory(tmp_path / "en-de")
    state = published(TranslationTransformer(small_config(len(WORDS) + 4)))
    state["decoder.layers.9.fc1.weight"] = state.pop("decoder.layers.1.fc1.weight")
    torch.save({"args": arguments(), "model": state}, folder / "model1.pt")
    with pytest.raises(DataError, match=r"lacks \['decoder.layers.1.fc1.weight'\] and has \['decoder.layers.9"):
        load_translator(folder, "en", "de")


def test_the_installed_fairseq_translates_alike_or_its_absence_is_one_sentence(folder):
    if importlib.util.find_spec("fairseq") is None:
        with pytest.raises(
            VltkError, match=r'fairseq is not installed; pip install "pip<24.1" && pip install --no-deps'
        ):
            load_translator(folder, "en", "de", engine="fairseq")
        return
    ours = load_translator(folder, "en", "de").translate(TEXTS, settings=Search(n_best=5, max_length_b=30))
    library = load_translator(folder, "en", "de", engine="fairseq")
    theirs = library.translate(TEXTS, settings=Search(n_best=5, max_length_b=30))
    assert [[one.tokens for one in row] for row in ours] == [[one.tokens for one in row] for row in theirs]
    assert [row[0].score for row in ours] == pytest.approx([row[0].score for row in theirs], abs=1e-4)
    with pytest.raises(UsageError, match="fairseq cannot sample with a seed per sentence"):
        library.translate(TEXTS, settings=Search(sampling=True))


def test_a_fairseq_engine_takes_only_its_own_directories(tmp_path):
    with pytest.raises(DataError, match=r"holds no dict\.\*\.txt; --engine fairseq takes"):
        load_translator(tmp_path, "en", "de", engine="fairseq")


# -- models of transformers --------------------------------------------------------------------------------------------


def seq2seq(kind):
    import transformers

    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))
    }
    shared = {"d_model": 16, "max_position_embeddings": 64, "init_std": 0.5, "forced_eos_token_id": None, **sizes}
    torch.manual_seed(0)
    if kind == "FSMT":
        config = transformers.FSMTConfig(langs=["en", "de"], src_vocab_size=40, tgt_vocab_size=40, **shared)
        return transformers.FSMTForConditionalGeneration(config).eval()
    ends = {"pad_token_id": 39, "eos_token_id": 0, "decoder_start_token_id": 39} if kind == "Marian" else {}
    config = getattr(transformers, f"{kind}Config")(vocab_size=40, **shared, **ends)
    name = {"Marian": "MarianMTModel", "M2M100": "M2M100ForConditionalGeneration"}[kind]
    return getattr(transformers, name)(config).eval()


@pytest.mark.parametrize("kind", ["FSMT", "Marian", "M2M100"])
def test_a_model_of_transformers_is_searched_with_the_scores_of_its_own_forward_pass(kind):
    model = seq2seq(kind)
    decoder = HubDecoder(model, target_id=7 if kind == "M2M100" else None)
    sources = [[5, 6, 7, 8, decoder.end], [9, 10, decoder.end], [11, 12, 13, 14, 15, 16, decoder.end]]
    greedy = search(decoder, sources, "abc", Search(beam=1, max_length_b=12))
    for source, (one,) in zip(sources, greedy, strict=True):
        ids = torch.tensor([source])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=1,
            do_sample=False,
            max_length=13,
            bad_words_ids=[[decoder.forbidden[0]]],
            forced_bos_token_id=decoder.forced[0] if decoder.forced else None,
        )
        assert list(one.tokens[:11]) == made[0, 1:12].tolist()
    found = search(decoder, sources, "abc", Search(beam=4, max_length_b=12))
    for source, hypotheses in zip(sources, found, strict=True):
        (alone,) = search(decoder, [source], "a", Search(beam=4, max_length_b=12))
        assert [one.tokens for one in alone] == [one.tokens for one in hypotheses]
        for one in hypotheses:
            before = torch.tensor([[decoder.first, *one.tokens[:-1]]])
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=before, use_cache=False).logits
            forced = logits.log_softmax(-1)[0].gather(1, torch.tensor(one.tokens)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(one.token_scores), forced, atol=1e-4, rtol=0)


def test_a_saved_fsmt_folder_translates_and_knows_its_direction(tmp_path):
    import json

    from transformers import FSMTTokenizer

    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *(f"{word}</w>" for word in WORDS)]
    for name in ("src", "tgt"):
        (tmp_path / f"vocab-{name}.json").write_text(json.dumps({piece: n for n, piece in enumerate(vocabulary)}))
    from tests.language.small_translation import merges

    (tmp_path / "merges.txt").write_text(merges(WORDS))
    tokenizer = FSMTTokenizer(
        langs=["en", "de"],
        src_vocab_file=str(tmp_path / "vocab-src.json"),
        tgt_vocab_file=str(tmp_path / "vocab-tgt.json"),
        merges_file=str(tmp_path / "merges.txt"),
        do_lower_case=False,
    )
    folder = tmp_path / "wmt19-en-de"
    tokenizer.save_pretrained(folder)
    seq2seq("FSMT").save_pretrained(folder)
    translator = load_translator(folder, "en", "de")
    (best,) = translator.translate(["the dog runs ."], settings=Search(beam=2, max_length_b=8))[0]
    assert len(best.tokens) <= 9
    with pytest.raises(DataError, match="wmt19-en-de: translates en-de, asked for is de-en"):
        load_translator(folder, "de", "en")


def test_a_tokenizer_of_many_languages_is_told_which():
    tokenizer = argparse.Namespace(
        src_lang="", all_special_tokens=["</s>", "eng_Latn", "deu_Latn"], convert_tokens_to_ids={"deu_Latn": 8}.get
    )
    assert _choose_languages(tokenizer, "eng_Latn", "deu_Latn", "nllb") == 8
    assert tokenizer.src_lang == "eng_Latn"
    with pytest.raises(UsageError, match=r"nllb: knows no language 'en' \(but .*; name languages as the model does"):
        _choose_languages(tokenizer, "en", "deu_Latn", "nllb")


def test_a_folder_that_is_no_model_and_a_hub_id_out_of_reach_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="is no seq2seq model with its tokenizer"):
        load_translator(tmp_path, "en", "de")
    with pytest.raises(DataError, match="there is no such folder"):
        load_translator(tmp_path / "none", "en", "de")
    with pytest.raises(OfflineError, match="'nobody/none' is not on this machine and cannot be downloaded"):
        load_translator("nobody/none", "en", "de", offline=True)


# -- chains ------------------------------------------------------------------------------------------------------------


def test_a_chain_goes_back_to_its_first_language():
    assert languages_of("en-de-en") == languages_of("en-de")
    assert languages_of("en-de-fr") == [("en", "de"), ("de", "fr"), ("fr", "en")]
    with pytest.raises(UsageError, match=r"--pivot: got 'en', expected languages such as en-de or en-de-fr"):
        languages_of("en")


def test_a_missing_direction_is_named():
    weights = read_weights_options(["facebook/wmt19-en-de", "en-ru=mine"])
    sentence = (
        "--pivot: en-de needs weights for de-en, and there are some for en-de, en-ru; add --translator de-en=FOLDER"
    )
    with pytest.raises(UsageError, match=sentence):
        find_weights(["en-de"], weights)


def test_weights_are_found_by_the_names_of_their_folders(tmp_path):
    for name in ("wmt19.en-de.joined-dict.ensemble", "opus-mt-de-en", "notes"):
        (tmp_path / name).mkdir()
    found = read_weights_options([str(tmp_path)])
    assert found == {
        ("de", "en"): str(tmp_path / "opus-mt-de-en"),
        ("en", "de"): str(tmp_path / "wmt19.en-de.joined-dict.ensemble"),
    }
    assert read_weights_options(["eng_Latn-deu_Latn=nllb"]) == {("eng_Latn", "deu_Latn"): "nllb"}
    with pytest.raises(UsageError, match=r"both .* and .* translate en-de"):
        read_weights_options([str(tmp_path), "en-de=other"])
    with pytest.raises(UsageError, match="notes tells no direction; write it as en-de=FOLDER"):
        read_weights_options([str(tmp_path / "notes")])


class Parrot:
    """A translator that adds a word, or says what it is told to."""

    def __init__(self, answers=None):
        self.answers, self.seen, self.description = answers or {}, [], {}

    def translate(self, texts, *, ids=(), settings=None, bucketing=None, progress=None):
        from vltk.language._search import Hypothesis

        self.seen += ids
        made = [self.answers.get(text, [f"{text} again"]) for text in texts]
        return [[Hypothesis(tokens=(2,), score=0.0, token_scores=(0.0,), text=one) for one in row] for row in made]


def test_paraphrases_are_those_that_differ_and_are_not_too_long():
    back = Parrot({"a b c again": ["A, b c!", "c b a", "b c a"], "x y again": ["x " * 9], "long again": []})
    translators = {("en", "de"): Parrot(), ("de", "en"): back}
    maker = Paraphraser(["en-de"], translators, per_pivot=2)
    assert maker.paraphrase(["a b c", "x y", "long"], ["1", "2", "3"]) == [("c b a", "b c a"), (), ()]
    assert maker.tally.left_out == {"identical": 1, "length": 1, "repeated": 0}
    assert (maker.tally.sentences, maker.tally.paraphrases, maker.tally.without, maker.tally.too_long) == (3, 2, 2, 1)
    assert back.seen == ["en-de/1/1", "en-de/1/2", "en-de/1/3"]


def test_what_two_pivots_both_say_is_kept_once():
    pairs = {("en", "de"): Parrot(), ("en", "ru"): Parrot()}
    backs = {(pivot, "en"): Parrot({"a b again": ["B a."]}) for pivot in ("de", "ru")}
    maker = Paraphraser(["en-de", "en-ru"], pairs | backs)
    assert maker.paraphrase(["a b"], ["1"]) == [("B a.",)]
    assert maker.tally.left_out["repeated"] == 1
    both = Paraphraser(["en-de", "en-ru"], pairs | backs, allowed=Filter(repeated=True))
    assert both.paraphrase(["a b"], ["1"]) == [("B a.", "B a.")]


def test_a_chain_without_translator_is_refused():
    with pytest.raises(UsageError, match="en-de needs a translator for de-en"):
        Paraphraser(["en-de"], {("en", "de"): Parrot()})
    with pytest.raises(UsageError, match=r"got length ratios 2\.0 to 1\.0"):
        Filter(shortest=2.0, longest=1.0)
