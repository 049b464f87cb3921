"""Checkpoints of VSRN: the authors' layout in and out, the mask of vltk's vocabularies, and what is refused."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_vse import batch
from tests.models.test_vsrn import SMALL, build
from vltk.cli import main
from vltk.errors import DataError
from vltk.models._dual_checkpoints import load_dual, write_own
from vltk.models._vse_checkpoints import read_vse
from vltk.models._vsrn_checkpoints import describe, read_vsrn, start_from
from vltk.models.vsrn import VSRN, VSRNConfig

COCO = replace(SMALL, relation_layers=4, generation=False)
FLICKR = replace(COCO, norm_before=False, batch_norm=True, gru_layers=2)


def published(model: VSRN, path: Path, *, prefix: str = "", old: bool = False, **others: Any) -> Path:
    """Write what the authors' train.py saves: no mask in the vocabulary, no caption branch."""
    official = model.published_state()
    official["txt_enc.embed.weight"] = official["txt_enc.embed.weight"][:-1]
    pair = [
        {prefix + name[8:]: tensor.clone() for name, tensor in official.items() if name.startswith(side)}
        for side in ("img_enc.", "txt_enc.")
    ]
    options = argparse.Namespace(no_imgnorm=False, use_abs=model.config.absolute, data_name="f30k_precomp")
    content = {"epoch": 11, "model": pair, "best_rsum": np.float64(391.5), "opt": options, "Eiters": 9} | others
    torch.save(content, path, _use_new_zipfile_serialization=not old, pickle_protocol=2)
    return path


@pytest.mark.parametrize("config", [COCO, FLICKR, replace(COCO, absolute=True)], ids=["coco", "flickr30k", "absolute"])
@pytest.mark.parametrize(("prefix", "old"), [("module.", False), ("", True)])
def test_the_authors_checkpoint_gives_the_same_embeddings(
    config: VSRNConfig, prefix: str, old: bool, tmp_path: Path
) -> None:
    model, one = build(config), batch()
    found = read_vsrn(published(model, tmp_path / "model_best.pth.tar", prefix=prefix, old=old))
    assert (found.layout, found.file.epoch, found.file.best) == ("published", 11, 391.5)
    branch = {name: getattr(config, name) for name in vars(config) if name.startswith("caption_")}
    assert replace(found.model.config, **branch) == config
    with torch.no_grad():
        assert torch.equal(found.model.embed_images(one), model.embed_images(one))
        assert torch.equal(found.model.embed_texts(one), model.embed_texts(one))


def test_out_and_in_again_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(FLICKR)
    source = published(model, tmp_path / "model_best.pth.tar")
    own, back = tmp_path / "own.safetensors", tmp_path / "back.pth.tar"
    assert main(["convert", "vsrn", str(source), str(own), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["layout"], summary["out_layout"], summary["size"]["batch_norm"]) == ("published", "vltk", True)
    assert summary["size"]["vocabulary"] == FLICKR.vocabulary
    assert load_dual(own).name == "vsrn"
    assert main(["convert", "vsrn", str(own), str(back), "--json"]) == 0
    first, second = (torch.load(path, weights_only=False) for path in (source, back))
    assert vars(second["opt"])["data_name"] == "f30k_precomp"
    assert second["epoch"] == 11 or second["epoch"] == 0
    for one, other in zip(first["model"], second["model"], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


PLAIN = replace(COCO, relation_layers=0, memory="mean", norm_before=False, norm_after=False)


def plain_embeddings(pair: list[dict[str, torch.Tensor]], vectors: torch.Tensor, ids: list[int]) -> list[torch.Tensor]:
    """VSE++ as its authors' model.py computes it: a linear map of one vector, and a GRU's state at the last word."""
    (image, text), norm = pair, lambda x: x / x.pow(2).sum(dim=1, keepdim=True).sqrt()
    state = torch.zeros(1, text["rnn.weight_hh_l0"].shape[1])
    for word in text["embed.weight"][ids]:
        fed = (text["rnn.weight_ih_l0"] @ word + text["rnn.bias_ih_l0"]).chunk(3)
        own = (text["rnn.weight_hh_l0"] @ state[0] + text["rnn.bias_hh_l0"]).chunk(3)
        reset, update = (fed[0] + own[0]).sigmoid(), (fed[1] + own[1]).sigmoid()
        state = ((1 - update) * (fed[2] + reset * own[2]).tanh() + update * state[0]).unsqueeze(0)
    return [norm(vectors @ image["fc.weight"].t() + image["fc.bias"]), norm(state)]


def test_vse_plus_plus_is_a_vsrn_without_reasoning(tmp_path: Path) -> None:
    source = published(build(PLAIN), tmp_path / "vsepp.pth.tar", prefix="module.", old=True)
    pair = [
        {name.removeprefix("module."): tensor for name, tensor in side.items()}
        for side in torch.load(source, weights_only=False)["model"]
    ]
    assert [set(side) for side in pair] == [
        {"fc.weight", "fc.bias"},
        {"embed.weight"} | {f"rnn.{kind}_{side}h_l0" for kind in ("weight", "bias") for side in "ih"},
    ]
    model, one = read_vsrn(source).model, batch()
    assert model.config.vocabulary == len(pair[1]["embed.weight"]) + 1  # the mask
    regions = one.regions[:, :1]
    alone = replace(one, regions=regions, locations=one.locations[:, :1], region_mask=one.region_mask[:, :1])
    expected = plain_embeddings(pair, regions[:, 0], one.input_ids[0][one.text_mask[0]].tolist())
    with torch.no_grad():
        torch.testing.assert_close(model.embed_images(alone), expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.embed_texts(one)[:1], expected[1], rtol=1e-5, atol=1e-6)
    own, back = tmp_path / "own.safetensors", tmp_path / "back.pth.tar"
    assert main(["convert", "vsrn", str(source), str(own)]) == 0
    assert main(["convert", "vsrn", str(own), str(back)]) == 0
    written = torch.load(back, weights_only=False)["model"]
    for one_side, other in zip(pair, written, strict=True):
        assert one_side.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one_side.items())


def test_vse_plus_plus_is_sent_to_the_right_command_and_order_embeddings_are_refused(tmp_path: Path) -> None:
    source = published(build(PLAIN), tmp_path / "vsepp.pth.tar")
    with pytest.raises(DataError, match=r"is a VSE\+\+ or a VSRN, .* use vltk convert vsrn"):
        read_vse(source)
    ordered = published(build(PLAIN), tmp_path / "order.pth.tar", opt=argparse.Namespace(measure="order"))
    with pytest.raises(DataError, match=r"order of their embeddings.* --measure cosine"):
        read_vsrn(ordered)


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    official = build(COCO).published_state()
    official.pop("img_enc.Rs_GCN_3.theta.bias")
    official["img_enc.surplus"] = torch.ones(1)
    pair = [{k[8:]: v for k, v in official.items() if k.startswith(side)} for side in ("img_enc.", "txt_enc.")]
    torch.save({"model": pair}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"missing \(img_enc.Rs_GCN_3.theta.bias.* left over \(img_enc.surplus"):
        read_vsrn(tmp_path / "x.pth")


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"model": [{"fc.weight": torch.ones(4, 3)}, {}]}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"is no VSRN \(it holds img_enc.fc.weight, ... and no txt_enc.embed"):
        read_vsrn(tmp_path / "x.pth")
    write_own(tmp_path / "vse.safetensors", {"a": torch.ones(1)}, {"model": "vse", "config": {}})
    with pytest.raises(DataError, match="is a vse, no vsrn"):
        read_vsrn(tmp_path / "vse.safetensors")
    model = build(COCO)
    state = {name: tensor for name, tensor in model.state_dict().items() if "relations.2" not in name}
    write_own(tmp_path / "part.safetensors", state, describe(model))
    with pytest.raises(DataError, match=r"keys do not fit: missing image.relations.2"):
        read_vsrn(tmp_path / "part.safetensors")


class Hostile:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("/tmp/vltk-was-here-too"), "x"))


def test_a_hostile_option_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path = published(build(COCO), tmp_path / "x.pth.tar", opt=Hostile())
    with pytest.raises(DataError, match=r"cannot be read .* vltk runs no code of a file"):
        read_vsrn(path)
    assert not Path("/tmp/vltk-was-here-too").exists()


def test_a_published_model_begins_one_that_also_generates(tmp_path: Path) -> None:
    model = build(COCO)
    path = published(model, tmp_path / "model_best.pth.tar")
    wanted = replace(SMALL, hidden=999, region_order="size", caption_updates="official")
    started, fresh = start_from(wanted, path)
    assert fresh == ["the branch that generates captions freshly initialised"]
    assert (started.config.hidden, started.config.region_order, started.config.relation_layers) == (8, "size", 4)
    assert started.config.caption_updates == "official"
    assert started.captions is not None
    assert torch.equal(started.image.gru.weight_hh_l0, model.image.gru.weight_hh_l0)
    with pytest.raises(DataError, match="vocabulary 30 instead of 31, region_dim 6 instead of 7"):
        start_from(replace(wanted, vocabulary=31, region_dim=7), path)
    alone, fresh = start_from(replace(wanted, generation=False), path)
    assert (fresh, alone.captions) == ([], None)


def test_a_run_keeps_its_branch_when_it_begins_another(tmp_path: Path) -> None:
    model = build()
    write_own(tmp_path / "own.safetensors", model.state_dict(), describe(model))
    started, fresh = start_from(replace(SMALL, caption_hidden=99), tmp_path / "own.safetensors")
    assert fresh == []
    assert torch.equal(started.captions.out.weight, model.captions.out.weight)


def test_what_the_authors_code_does_not_know_is_not_written_for_it(tmp_path: Path) -> None:
    model = build(replace(SMALL, memory="mean"))
    write_own(tmp_path / "own.safetensors", model.state_dict(), describe(model))
    out = tmp_path / "x.pth"
    assert main(["convert", "vsrn", str(tmp_path / "own.safetensors"), str(out)]) == 3
    assert not out.exists()
