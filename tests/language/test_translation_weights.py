"""Weights of a translation: fairseq's directories, models of transformers, and every way that they can be wrong."""

from __future__ import annotations

import argparse
import importlib.util
import sys

import pytest
import torch

from tests.language.small_translation import TEXTS, WORDS, arguments, published, small_config, write_directory
from vltk.errors import DataError, OfflineError, UsageError, VltkError
from vltk.language._hub_translation import HubDecoder, _choose_languages
from vltk.language._search import Search, search
from vltk.language._transformer import TranslationTransformer
from vltk.language.translation import load_translator

# -- bad weights -----------------------------------------------------------------------------------------------------


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


# -- models of transformers ------------------------------------------------------------------------------------------


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


def write_marian(folder):
    """A Marian folder of random weights with a SentencePiece model of three sentences, as opus-mt models come."""
    import io
    import json

    import sentencepiece
    from transformers import MarianTokenizer

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5), model_writer=made, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    pieces = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    pieces = ["</s>", "<unk>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>"))][:39]
    vocabulary = [*pieces, *(f"unused{number}" for number in range(39 - len(pieces))), "<pad>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(made.getvalue())
    files = {"source_spm": folder / "source.spm", "target_spm": folder / "target.spm", "vocab": folder / "vocab.json"}
    tokenizer = MarianTokenizer(**{name: str(path) for name, path in files.items()}, source_lang="en", target_lang="de")
    tokenizer.save_pretrained(folder)
    seq2seq("Marian").save_pretrained(folder)
    return tokenizer


def test_a_marian_folder_translates_or_its_missing_package_is_one_sentence(tmp_path):
    folder = tmp_path / "opus-mt-en-de"
    if importlib.util.find_spec("sentencepiece") is None:
        folder.mkdir()
        seq2seq("Marian").save_pretrained(folder)
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
        with pytest.raises(VltkError, match=r'its tokenizer needs another package .*; pip install "vltk-toolkit'):
            load_translator(folder, "en", "de")
        return
    tokenizer = write_marian(folder)
    translator = load_translator(folder, "en", "de")
    assert list(translator.coding.encode(TEXTS[0])) == tokenizer(TEXTS[0]).input_ids
    found = translator.translate(TEXTS, settings=Search(beam=2, max_length_b=8))
    assert [row[0].text for row in found] == [
        tokenizer.decode(list(row[0].tokens), skip_special_tokens=True) for row in found
    ]


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
