"""Checkpoints of VSE-infinity: the authors' layout in and out, with every old habit, and what is refused."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.models.test_vse import BERT, BIGRU, batch, build
from vltk.cli import main
from vltk.errors import DataError, UsageError
from vltk.models._vse_checkpoints import read_vse, start_from
from vltk.models.vse import VSE


def published(model: VSE, path: Path, *, prefix: str = "module.", old: bool = False, **others: Any) -> Path:
    """Write what the authors' train.py saves; ``old`` is the container of torch before 1.6, as Python 2 wrote it."""
    official = model.published_state()
    unused = {f"img_enc.mlp.bns.1.{name}": torch.randn(model.config.hidden) for name in ("weight", "bias")}
    pair = [
        {prefix + name[8:]: tensor for name, tensor in (official | unused).items() if name.startswith(side)}
        for side in ("img_enc.", "txt_enc.")
    ]
    options = argparse.Namespace(no_imgnorm=False, embed_size=8, data_name="f30k_precomp", margin=0.2)
    content = {"epoch": 7, "model": pair, "best_rsum": np.float64(488.5), "opt": options, "Eiters": 1000} | others
    torch.save(content, path, _use_new_zipfile_serialization=not old, pickle_protocol=2)
    return path


@pytest.mark.parametrize("config", [BIGRU, BERT], ids=["bigru", "bert"])
@pytest.mark.parametrize(("prefix", "old"), [("module.", False), ("", True)])
def test_the_authors_checkpoint_gives_the_same_embeddings(config: Any, prefix: str, old: bool, tmp_path: Path) -> None:
    model, one = build(config), batch()
    found = read_vse(published(model, tmp_path / "best.pth", prefix=prefix, old=old), heads=2)
    assert (found.layout, found.file.epoch, found.file.best) == ("published", 7, 488.5)
    assert found.options["data_name"] == "f30k_precomp"
    assert replace(found.model.config, dropout=config.dropout) == config
    with torch.no_grad():
        assert torch.equal(found.model.embed_images(one), model.embed_images(one))
        assert torch.equal(found.model.embed_texts(one), model.embed_texts(one))


@pytest.mark.parametrize("config", [BIGRU, BERT], ids=["bigru", "bert"])
def test_out_and_in_again_loses_nothing(config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(config)
    source = published(model, tmp_path / "best.pth")
    own, back = tmp_path / "own.safetensors", tmp_path / "back.pth"
    assert main(["convert", "vse", str(source), str(own), "--heads", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["layout"], summary["out_layout"], summary["size"]["text"]) == ("published", "vltk", config.text)
    assert main(["convert", "vse", str(own), str(back), "--json"]) == 0
    returned = torch.load(back, weights_only=False)
    assert vars(returned["opt"])["data_name"] == "f30k_precomp"
    expected_prefix = "module." if config.text == "bert" else ""
    for side, name in zip(returned["model"], ("img_enc.", "txt_enc."), strict=True):
        ours = {key.removeprefix(expected_prefix): tensor for key, tensor in side.items()}
        unused = {key for key in ours if key.startswith("mlp.bns.1.")}
        official = {key[8:]: tensor for key, tensor in model.published_state().items() if key.startswith(name)}
        assert ours.keys() - unused == official.keys()
        assert all(torch.equal(ours[key], official[key]) for key in official)
    assert torch.equal(
        read_vse(back, heads=2).model.state_dict()["text.project.weight"]
        if config.text == "bert"
        else read_vse(back).model.state_dict()["text.word.weight"],
        model.state_dict()["text.project.weight" if config.text == "bert" else "text.word.weight"],
    )


class Hostile:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("/tmp/vltk-was-here"), "x"))


def test_numbers_that_python_2_pickled_as_text_are_read(tmp_path: Path) -> None:
    """Python 2 wrote the bytes of a numpy number as a byte string, and texts too."""
    path = published(build(BIGRU), tmp_path / "best.pth", old=True)
    content, raw = path.read_bytes(), np.float64(488.5).tobytes()
    put, latin = rb"(?:q.|r.{4})", rb"(?:X.{4}latin1(?:q.|r.{4})|h.|j.{4})"
    called = rb"c_codecs\nencode\n" + put + rb"X.{4}" + re.escape(raw.decode("latin1").encode()) + put + latin
    modern = re.search(called + rb"\x86" + put + b"R" + put, content, re.DOTALL)
    content = content.replace(modern[0], b"U" + bytes([len(raw)]) + raw)
    text = b"f30k_precomp"
    content = content.replace(b"X" + struct.pack("<I", len(text)) + text, b"U" + bytes([len(text)]) + text)
    path.write_bytes(content)
    found = read_vse(path)
    assert (found.file.best, found.options["data_name"]) == (488.5, "f30k_precomp")


def test_a_hostile_option_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path = published(build(BIGRU), tmp_path / "best.pth", opt=Hostile())
    with pytest.raises(DataError, match=r"cannot be read .* vltk runs no code of a file"):
        read_vse(path)
    assert not Path("/tmp/vltk-was-here").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"model": [{"a": torch.ones(1)}]}, "no pair of an image and a text encoder"),
        ({"model": [{"fc.weight": "text"}, {}]}, "fc.weight is a str, no tensor"),
        ({"model": [{"other": torch.ones(1)}, {}]}, "no VSE-infinity of regions or grids"),
        ({"model": [{"fc.weight": torch.ones(4, 3)}, {}]}, "neither a BERT nor a GRU"),
        ([1, 2], "no pair of an image and a text encoder"),
    ],
)
def test_other_files_are_refused(content: Any, problem: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DataError, match=problem):
        read_vse(tmp_path / "x.pth")


def test_a_damaged_or_missing_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"model": 1})[:5])
    with pytest.raises(DataError, match="cannot be read"):
        read_vse(tmp_path / "x.pth")
    with pytest.raises(DataError, match="is not there"):
        read_vse(tmp_path / "nowhere.pth")


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = build(BIGRU)
    state = {name: tensor for name, tensor in model.published_state().items() if "gru.bias_hh_l0_reverse" not in name}
    state["img_enc.surplus"] = torch.ones(1)
    pair = [{k[8:]: v for k, v in state.items() if k.startswith(side)} for side in ("img_enc.", "txt_enc.")]
    torch.save({"model": pair}, tmp_path / "x.pth")
    with pytest.raises(
        DataError, match=r"missing \(img_enc.gpool.gru.bias_hh_l0_reverse.* left over \(img_enc.surplus"
    ):
        read_vse(tmp_path / "x.pth")


def test_a_run_or_a_bert_begins_a_model(tmp_path: Path) -> None:
    model = build(BIGRU)
    path = published(model, tmp_path / "best.pth")
    started, fresh = start_from(replace(BIGRU, hidden=999), path)
    assert (started.config.hidden, fresh) == (8, [])
    with pytest.raises(DataError, match="vocabulary 30 instead of 31"):
        start_from(replace(BIGRU, vocabulary=31), path)
    size = BertConfig(vocab_size=30, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    bert = BertModel(size)
    bert.save_pretrained(tmp_path / "bert")
    begun, fresh = start_from(BERT, tmp_path / "bert")
    assert fresh == ["all but BERT freshly initialised"]
    assert begun.config.bert_hidden == 12
    assert torch.equal(begun.text.bert.embeddings.word_embeddings.weight, bert.embeddings.word_embeddings.weight)
    with pytest.raises(UsageError, match="reads texts with a GRU"):
        start_from(BIGRU, tmp_path / "bert")
    with pytest.raises(DataError, match="has a vocabulary of 30, the examples one of 40"):
        start_from(replace(BERT, vocabulary=40), tmp_path / "bert")


def test_bottom_up_attentions_network_begins_a_grid(tmp_path: Path) -> None:
    config = replace(BIGRU, image="grid", backbone_depth=50)
    start = "img_enc.backbone."
    official = {
        key.removeprefix(start): value
        for key, value in build(config).published_state().items()
        if key.startswith(start)
    }
    parts = {
        part: {key.removeprefix(f"{part}."): value for key, value in official.items() if key.startswith(part)}
        for part in ("base", "top")
    }
    torch.save(parts, tmp_path / "original_updown_backbone.pth")
    torch.manual_seed(1)
    begun, fresh = start_from(config, tmp_path / "original_updown_backbone.pth")
    assert fresh == ["all but the network of the grid freshly initialised"]
    held = begun.published_state()
    assert all(torch.equal(held[start + key], value) for key, value in official.items())
    with pytest.raises(UsageError, match="and the model has none"):
        start_from(BIGRU, tmp_path / "original_updown_backbone.pth")


def test_the_grid_of_a_checkpoint_tells_its_depth(tmp_path: Path) -> None:
    config = replace(BIGRU, image="grid", backbone_depth=50)
    model = build(config)
    pair = [{f"module.{k[8:]}": v for k, v in model.published_state().items() if k.startswith(side)}
            for side in ("img_enc.", "txt_enc.")]  # fmt: skip
    # The authors' model holds its network twice.
    pair[0] |= {"module.backbone.resnet.fc.weight": torch.ones(1)}
    options = argparse.Namespace(backbone_source="imagenet_res50")
    torch.save({"model": pair, "opt": options}, tmp_path / "grid.pth")
    found = read_vse(tmp_path / "grid.pth").model
    assert (found.config.image, found.config.backbone, found.config.backbone_depth) == ("grid", "imagenet", 50)
    assert all(torch.equal(held, other) for held, other in
               zip(found.state_dict().values(), model.state_dict().values(), strict=True))  # fmt: skip


def test_refusals_come_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "vse", "nowhere.pth", str(tmp_path / "x.bin")]) == 2
    assert "ends in none of .safetensors, .pth, .tar" in capsys.readouterr().err
    (tmp_path / "x.pth").write_text("precious")
    assert main(["convert", "vse", "nowhere.pth", str(tmp_path / "x.pth")]) == 2
    assert (tmp_path / "x.pth").read_text() == "precious"
