"""Videos with sentences: HGR's encoders, loss, frames and evaluation, where VSE-infinity plugs its pooling in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tests.golden.case import Case
from tests.golden.checks_figures import ORDER, close
from tests.golden.checks_uniter import compare, tensors, under
from tests.golden.checks_vse import batch_of
from vltk.metrics.retrieval import best_ranks, recall_figures
from vltk.models.vse import VSE, VSEConfig
from vltk.objectives.hinge import hinge_loss_of
from vltk.stores.formats.hgr_frames import kept_frames


def check_loss(case: Case) -> None:
    values = tensors(case)
    settings = {
        "sum": {"hardest": False},
        "hard1": {"hardest": True, "largest": 1},
        "hard3": {"hardest": True, "largest": 3},
    }
    for name, how in settings.items():
        scores = values["in.scores"].clone().requires_grad_()
        loss = hinge_loss_of(scores, margin=case.entry["config"]["margin"], average=True, **how).mean()
        compare(case, loss, values[f"out.loss_{name}"])
        loss.backward()
        compare(case, scores.grad, values[f"grad.{name}.scores"])


def video_model(case: Case, state: dict[str, torch.Tensor], *, pooling: str, frames: dict[str, torch.Tensor]) -> VSE:
    config = case.entry["config"]
    model = VSEConfig(
        image="frame",
        text="bigru",
        image_pooling=pooling,
        text_pooling="average",
        hidden=config["hidden"],
        region_dim=config["dim_fts"],
        vocabulary=config["num_words"],
        word_dim=config["dim_word"],
        normalise=False,
        input_dropout=0.2,
    ).build()
    words = under("text.", state)
    model.text.word.weight.data.copy_(words.pop("embedding.we.weight"))
    model.text.gru.load_state_dict(under("rnn.", words))
    model.image.load_state_dict(frames)
    return model.eval()


def check_encoders(case: Case) -> None:
    values = tensors(case)
    state = under("state.", values)
    mean = {f"project.{name}": value for name, value in under("video_mean.ft_embed.", state).items()}
    model = video_model(case, state, pooling="average", frames=mean)
    texts = batch_of(ids=values["in.ids"], lengths=values["in.lengths"])
    dense = torch.where(texts.text_mask.unsqueeze(-1), values["out.text_dense"], 0)
    compare(case, model.text.states(texts).masked_fill(~texts.text_mask.unsqueeze(-1), 0), dense)
    text = model.embed_texts(texts)
    compare(case, text, values["out.text"])
    videos = batch_of(regions=values["in.video_mean"].unsqueeze(1), region_lengths=torch.ones(len(text)))
    video = model.embed_images(videos)
    compare(case, video, values["out.video_mean"])
    model.image.normalise = model.text.normalise = True
    compare(case, model.embed_images(videos) @ model.embed_texts(texts).t(), values["out.scores"])
    # HGR's highest level of a video pools its frames by attention; its two lower levels are left to HGR.
    levels = under("video_frames.", state)
    frames = {f"project.{name}": value for name, value in under("level_embeds.0.", levels).items()}
    frames |= {f"pooling.score.{name}": value for name, value in under("ft_attn.", levels).items()}
    attended = video_model(case, state, pooling="attention", frames=frames)
    batch = batch_of(regions=values["in.video_frames"], region_lengths=values["in.video_lengths"])
    compare(case, attended.embed_images(batch), values["out.video_attended"])


def check_evaluation(case: Case) -> None:
    expected, config = case.entry["expected"], case.entry["config"]
    for video in expected["frames"]:
        kept = kept_frames(video["frames"], config["max_frames"])
        assert len(kept) == video["kept"]
        assert kept.tolist() == [frame for frame in video["selected"] if frame >= 0]
    pairs = [(query, item) for query, items in enumerate(expected["positives"]) for item in items]
    queries, items = np.array(pairs).T
    figures = recall_figures(best_ranks(case.tensors()["in.scores"], queries, items), whole_median=False)
    close(case, [figures[name] for name in ORDER], expected["result"])


CHECKS: dict[str, Callable[[Case], None]] = {
    "vse/video_triplet_loss": check_loss,
    "vse/video_text_encoders": check_encoders,
    "vse/video_eval_and_frames": check_evaluation,
}
