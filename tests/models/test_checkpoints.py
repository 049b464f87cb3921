"""Weights from a run, from the authors, from a BERT, and back; nothing in them is executed or believed unseen."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertModel

from tests.models.test_uniter import TINY, batch
from vltk.cli import main
from vltk.errors import DataError
from vltk.models._checkpoints import about_weights, initialise_from, read_checkpoint
from vltk.models.uniter import UNITERForPretraining
from vltk.run_folder import read_about, write_checkpoint

SIZE = TINY  # 2 heads of 8 dimensions, which no shape tells


def model(seed: int = 0, **changes: int) -> UNITERForPretraining:
    torch.manual_seed(seed)
    return replace(SIZE, **changes).build_for_pretraining()


def convert(source: Path, out: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["convert", "uniter", str(source), str(out), "--json", *more]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_published_to_vltk_and_back_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = model().published_state()
    old = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for k, t in published.items()}
    torch.save(old, tmp_path / "uniter.pt")
    summary = convert(tmp_path / "uniter.pt", tmp_path / "ours.safetensors", "--heads", "2", capsys=capsys)
    assert (summary["layout"], summary["out_layout"], summary["missing"]) == ("uniter", "vltk", [])
    assert summary["parameters"] == sum(p.numel() for p in model().parameters())
    assert read_about(tmp_path / "ours.safetensors")["config"]["heads"] == 2
    summary = convert(tmp_path / "ours.safetensors", tmp_path / "again.pt", capsys=capsys)
    assert (summary["layout"], summary["out_layout"]) == ("vltk", "uniter")
    assert equal(torch.load(tmp_path / "again.pt", weights_only=True), published)


def test_what_no_weight_tells_is_carried_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = replace(SIZE, initial_deviation=0.2, dropout=0.3)
    weights = {f"model.{name}": tensor for name, tensor in size.build_for_pretraining().state_dict().items()}
    write_checkpoint(tmp_path / "run" / "last", weights, {}, about=about_weights(size))
    summary = convert(tmp_path / "run", tmp_path / "ours.safetensors", capsys=capsys)
    assert summary["size"] == read_about(tmp_path / "ours.safetensors")["config"] == asdict(size)


def test_a_fine_tuned_head_and_longer_tables_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official = model(types=4, vocabulary=50 + 81).published_state()
    kept = {name: tensor for name, tensor in official.items() if name.startswith("uniter.")}
    kept["vcr_output.3.weight"] = torch.randn(2, 32)
    torch.save(kept, tmp_path / "vcr.pt")
    summary = convert(tmp_path / "vcr.pt", tmp_path / "vcr.safetensors", "--heads", "2", capsys=capsys)
    assert (summary["size"]["types"], summary["size"]["vocabulary"]) == (4, 131)
    assert summary["other_weights"] == ["vcr_output.3.weight"]
    assert summary["missing"] == ["masked words", "feature regression", "region classification", "matching"]
    convert(tmp_path / "vcr.safetensors", tmp_path / "again.pt", capsys=capsys)
    assert equal(torch.load(tmp_path / "again.pt", weights_only=True), kept)


def test_half_the_bytes_start_a_model_of_whole_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(model().published_state(), tmp_path / "uniter.pt")
    convert(tmp_path / "uniter.pt", tmp_path / "half.safetensors", "--heads", "2", "--half", capsys=capsys)
    kept = load_file(tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    started = model(seed=1)
    initialise_from(started, tmp_path / "half.safetensors")
    assert equal(started.state_dict(), {key: tensor.half().float() for key, tensor in model().state_dict().items()})


def test_larger_random_weights_are_larger_and_no_other_size(tmp_path: Path) -> None:
    wide = replace(SIZE, initial_deviation=0.2).build_for_pretraining()
    assert wide.matching.weight.std() > 5 * model().matching.weight.std()
    assert wide.encoder.layers[0].expand.weight.detach().std().item() == pytest.approx(0.2, rel=0.15)
    save_file({name: tensor.contiguous() for name, tensor in wide.state_dict().items()}, tmp_path / "wide.safetensors")
    assert initialise_from(model(), tmp_path / "wide.safetensors") == []


@pytest.mark.parametrize("form", ["folder", "bare model", "old bin"])
def test_a_model_starts_from_a_bert(tmp_path: Path, form: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=50, max_position_embeddings=12, **sizes)
    torch.manual_seed(3)
    bert = (BertModel if form == "bare model" else BertForPreTraining)(config).eval()
    path = tmp_path / "bert"
    if form == "old bin":
        path = tmp_path / "pytorch_model.bin"
        torch.save({k.replace("LayerNorm.weight", "LayerNorm.gamma"): t for k, t in bert.state_dict().items()}, path)
    else:
        bert.save_pretrained(path)
    ours = model(seed=1)
    fresh = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    notes = initialise_from(ours, path)
    heads = ["masked words"] if form == "bare model" else []
    parts = ["regions", *heads, "feature regression", "region classification", "matching"]
    assert notes == [f"{part} freshly initialised" for part in parts]
    kept = [name for name in fresh if "region_embedding" in name or name.startswith("matching")]
    assert all(torch.equal(ours.state_dict()[name], fresh[name]) for name in kept)
    text = batch(text=(5, 3), regions=(1, 1))
    alone = replace(
        text, regions=text.regions[:, :0], locations=text.locations[:, :0], region_mask=text.region_mask[:, :0]
    )
    expected = (bert if form == "bare model" else bert.bert)(text.input_ids, attention_mask=text.text_mask.long())
    states = ours.eval().encoder(alone).text
    torch.testing.assert_close(states[0], expected.last_hidden_state[0], rtol=1e-4, atol=1e-5)


def test_a_run_and_its_files_say_their_own_size(tmp_path: Path) -> None:
    made = model(heads=4)
    weights = {f"model.{name}": tensor for name, tensor in made.state_dict().items()}
    write_checkpoint(tmp_path / "run" / "last", weights, {}, about=about_weights(made.encoder.config))
    for place in ("run", "run/last", "run/last/model.safetensors"):
        found = read_checkpoint(UNITERForPretraining, tmp_path / place)
        assert found.config == made.encoder.config
        assert equal(found.weights, made.state_dict())


def test_tables_grow_as_the_authors_grew_them(tmp_path: Path) -> None:
    torch.save(model().published_state(), tmp_path / "uniter.pt")
    small = model().state_dict()
    table, words = "encoder.text_embedding.segment.weight", "encoder.text_embedding.word.weight"
    nlvr2, vcr = model(seed=5, types=3), model(seed=5, types=4, vocabulary=53)
    assert initialise_from(nlvr2, tmp_path / "uniter.pt") == ["types extended from 2 to 3"]
    assert torch.equal(nlvr2.state_dict()[table], small[table][[0, 1, 1]])
    notes = initialise_from(vcr, tmp_path / "uniter.pt")
    assert notes == ["types extended from 2 to 4", "vocabulary extended from 50 to 53"]
    assert torch.equal(vcr.state_dict()[table], small[table][[0, 1, 0, 0]])
    assert torch.equal(vcr.state_dict()[words][:50], small[words])
    assert 0 < float(vcr.state_dict()[words][50:].std()) < 0.1
    assert torch.equal(vcr.state_dict()["word_bias"][:50], small["word_bias"])


def test_another_size_is_named_in_one_sentence(tmp_path: Path) -> None:
    torch.save(model().published_state(), tmp_path / "uniter.pt")
    other = model(hidden=8, layers=1, intermediate=16)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    sentence = r"is of another size: hidden 16 instead of 8, intermediate 32 instead of 16, layers 2 instead of 1; use"
    with pytest.raises(DataError, match=sentence):
        initialise_from(other, tmp_path / "uniter.pt")
    assert equal(other.state_dict(), before)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def broken(name: str) -> object:
    state: dict[str, Any] = dict(model().published_state())
    if name == "evil":
        return {"uniter.pooler.dense.bias": _Evil()}
    if name == "list":
        return [torch.zeros(1)]
    if name == "resnet":
        return {"conv1.weight": torch.zeros(1)}
    if name == "layers":
        return {k.replace("layer.1.", "layer.999999999."): t for k, t in state.items()}
    if name == "part":
        del state["uniter.pooler.dense.bias"]
    if name == "half":
        del state["itm_output.bias"]
    if name == "shape":
        state["uniter.encoder.layer.1.output.dense.weight"] = torch.zeros(3, 3)
    if name == "query":
        state["uniter.encoder.layer.0.attention.self.key.weight"] = torch.zeros(3)
    return state


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("evil", r"cannot be read \(UnpicklingError: .*\); use a whole file of tensors; vltk runs no code of a file"),
        ("list", "holds a list with more than tensors"),
        ("resnet", r"is no UNITER and no BERT \(it holds conv1\.weight, \.\.\.\)"),
        ("layers", r"has the layers \[0, 999999999\]; layers are numbered from 0"),
        ("part", r"encoder\.pooler\.bias is missing; use a whole checkpoint"),
        ("half", r"matching\.bias is missing; use a whole checkpoint"),
        ("shape", r"encoder\.layers\.1\.contract\.weight is \[3, 3\] instead of \[16, 32\]"),
        ("query", r"self\.query\.weight and its siblings have shapes \[16, 16\], \[3\], \[16, 16\]"),
    ],
)
def test_a_file_that_is_no_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(broken(name), tmp_path / "broken.pt")
    with pytest.raises(DataError, match=sentence):
        read_checkpoint(UNITERForPretraining, tmp_path / "broken.pt", heads=2)
    assert not (tmp_path / "executed").exists()


def test_checkpoints_of_dual_encoders_are_pointed_to_their_converter(tmp_path: Path) -> None:
    torch.save(
        {"model": [{"fc.weight": torch.zeros(2, 2)}], "opt": argparse.Namespace(embed_size=2)}, tmp_path / "m.pth"
    )
    with pytest.raises(DataError, match=r"m\.pth: holds the options of its training .* vltk convert vse or vsrn$"):
        read_checkpoint(UNITERForPretraining, tmp_path / "m.pth")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "a.safetensors", Path("/proc/none/a.safetensors")):
        assert main(["convert", "uniter", "uniter-tiny", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"vltk: error: {out}: cannot be written (")
        assert error.count("\n") == 1
    convert(Path("uniter-tiny"), tmp_path / "new" / "a.safetensors", capsys=capsys)


def test_what_cannot_be_converted_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # As the official format has it: tied weights twice, which safetensors writes only where they do not share memory.
    save_file({name: tensor.clone() for name, tensor in model().published_state().items()}, tmp_path / "a.safetensors")
    source, out = str(tmp_path / "a.safetensors"), tmp_path / "out.safetensors"
    for words, code, sentence in (
        ([source, str(out)], 3, "a hidden size of 16 does not tell the number of attention heads; give --heads"),
        ([source, str(tmp_path / "out.onnx"), "--heads", "2"], 2, "out.onnx ends in none of .safetensors, .pt"),
        ([str(tmp_path / "gone.pt"), str(out)], 3, "gone.pt: is not there"),
        ([str(tmp_path), str(out)], 3, "holds none of model.safetensors, pytorch_model.bin"),
        ([source, str(out), "--heads", "3"], 2, "3 heads do not divide a hidden size of 16"),
    ):
        assert main(["convert", "uniter", *words]) == code
        assert sentence in capsys.readouterr().err
    assert main(["convert", "uniter", source, str(out), "--heads", "2", "--dry-run"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    out.write_bytes(b"mine")
    assert main(["convert", "uniter", source, str(out), "--heads", "2"]) == 2
    assert out.read_bytes() == b"mine"
    assert main(["convert", "uniter", source, str(out), "--heads", "2", "--overwrite"]) == 0
    assert "encoder.pooler.bias" in load_file(out)
