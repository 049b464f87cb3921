"""Object detectors of transformers as sources of region features (RT-DETR, D-FINE, YOLOS, DETR and their kin).

They have queries instead of proposals: each query has a hidden state, which becomes the feature, class scores and a
box. There is no non-maximum suppression. Any architecture of ``AutoModelForObjectDetection`` works that runs
without torchvision and timm.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vltk.detection.extractor import Picture, PreparedImage, Provenance
from vltk.detection.faster_rcnn import Precision
from vltk.errors import DataError, OfflineError, UsageError, VltkError
from vltk.types import RegionFeatures

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySelection:
    """Which queries are kept: by the score of their best class, best first.

    Attributes:
        score_threshold: queries at or above it are kept,
        min_boxes: but at least this many,
        max_boxes: and at most this many.

    Raises:
        UsageError: min_boxes is negative or larger than max_boxes.
    """

    score_threshold: float = 0.2
    min_boxes: int = 10
    max_boxes: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.min_boxes <= self.max_boxes or self.max_boxes == 0:
            problem = f"min_boxes {self.min_boxes} and max_boxes {self.max_boxes}"
            raise UsageError(problem, remedy="give 0 <= min_boxes <= max_boxes and max_boxes >= 1")

    def rows(self, scores: Tensor) -> Tensor:
        """Return the kept rows of scores [Q], by descending score; equal scores keep their order."""
        order = torch.argsort(scores, descending=True, stable=True)
        enough = int((scores >= self.score_threshold).sum())
        return order[: min(max(enough, self.min_boxes), self.max_boxes)]


class HubDetector:
    """An object detector of transformers with the pre-processing that its authors published for it.

    ``class_probs`` is the distribution over the C classes given that the query is an object, and sums to 1: the
    softmax without the no-object class (DETR, YOLOS), or the sigmoid scores divided by their sum (RT-DETR, D-FINE,
    Deformable and Conditional DETR). ``scores`` is what the detector itself reports: the largest probability of a
    class, with the no-object class in the softmax, or the largest sigmoid.

    Args:
        model: a network of ``AutoModelForObjectDetection``.
        processor: its image processor.
        selection: which queries are kept.
        class_probs: whether the class distribution is kept.
        device: where to run it.
        precision: "bf16" and "fp16" run the network under autocast; scores and boxes are computed in fp32.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        selection: QuerySelection | None = None,
        class_probs: bool = True,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self.model = model.to(device).eval()
        self.processor = processor
        self.selection, self.class_probs = selection or QuerySelection(), class_probs
        self.device, self.precision = torch.device(device), precision
        self.provenance = self._provenance()

    @classmethod
    def load(
        cls,
        source: str,
        *,
        offline: bool = False,
        cache_dir: Path | None = None,
        selection: QuerySelection | None = None,
        class_probs: bool = True,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
    ) -> HubDetector:
        """Load a detector from a folder or from the Hugging Face hub.

        Args:
            source: a folder with config.json, weights and preprocessor_config.json, or a hub id such as
                "PekingU/rtdetr_r50vd".
            offline: download nothing.
            cache_dir: where downloads are kept.
            selection: which queries are kept.
            class_probs: whether the class distribution is kept.
            device: where to run it.
            precision: arithmetic of the network.

        Raises:
            UsageError: the source is neither, or is no object detector.
            OfflineError: it is not in the cache and cannot be downloaded.
            DataError: a weight is missing or has another shape than the configuration says.
            VltkError: the architecture needs a package that is not installed.
        """
        local = Path(source).is_dir()
        if not local and not _HUB_ID.fullmatch(source):
            raise UsageError(f"{source!r} is neither a folder nor a hub id", remedy="give hf:OWNER/NAME or hf:FOLDER")
        if local and not (Path(source) / "config.json").is_file():
            raise DataError("holds no config.json", where=source, remedy="give the folder that save_pretrained wrote")
        where: dict[str, Any] = {"local_files_only": offline or local, "cache_dir": cache_dir}
        model, processor = _load(source, where, local=local)
        return cls(model, processor, selection=selection, class_probs=class_probs, device=device, precision=precision)

    def _provenance(self) -> Provenance:
        config = self.model.config
        settings = {
            "processor": json.loads(self.processor.to_json_string()),
            "selection": asdict(self.selection),
        }
        labels = tuple(str(config.id2label.get(i, i)) for i in range(config.num_labels))
        return Provenance(
            detector=f"hf:{config.model_type}",
            preset="hub",
            preset_hash=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            weights_hash=hash_of_weights(self.model.state_dict()),
            classes=config.num_labels,
            labels=labels,
        )

    def prepare(self, picture: Picture) -> PreparedImage:
        """Resize and normalise as the detector's authors do."""
        try:
            pixels = self.processor(images=picture.pixels, input_data_format="channels_last", return_tensors="pt")
        except (ValueError, ZeroDivisionError, RuntimeError) as error:
            problem = (
                f"a picture of {picture.size[0]} x {picture.size[1]} cannot be resized for this detector ({error})"
            )
            raise DataError(problem, where=f"image {picture.image_id}", remedy="leave it out") from None
        return PreparedImage(image_id=picture.image_id, size=picture.size, input=pixels["pixel_values"][0])

    @torch.inference_mode()
    def extract(self, images: Sequence[PreparedImage]) -> list[RegionFeatures]:
        """Describe the best queries of pictures whose inputs have one shape."""
        inputs = torch.stack([image.input for image in images]).to(self.device)
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        with torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32"):
            output = self.model(pixel_values=inputs)
        scores, distribution = _class_scores(output.logits.float(), self.model.config.num_labels)
        # YOLOS keeps the tokens of the patches before those of its queries.
        hidden = output.last_hidden_state[:, -output.logits.shape[1] :].float()
        centres = output.pred_boxes.float()
        return [
            self._regions(image, scores[i].cpu(), distribution[i].cpu(), hidden[i].cpu(), centres[i].cpu())
            for i, image in enumerate(images)
        ]

    def _regions(
        self, image: PreparedImage, scores: Tensor, distribution: Tensor, hidden: Tensor, centres: Tensor
    ) -> RegionFeatures:
        rows = self.selection.rows(scores)
        return RegionFeatures(
            image_id=image.image_id,
            features=hidden[rows].numpy(),
            boxes=_corners(centres[rows], image.size),
            size=image.size,
            scores=scores[rows].numpy(),
            class_ids=distribution[rows].argmax(dim=1).numpy(),
            class_probs=distribution[rows].numpy() if self.class_probs else None,
        )


def _class_scores(logits: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the confidence [B, Q] and the class distribution [B, Q, C] of logits [B, Q, C or C + 1]."""
    if logits.shape[-1] == classes + 1:
        confidence = logits.softmax(dim=-1)[..., :classes].amax(dim=-1)
        return confidence, logits[..., :classes].softmax(dim=-1)
    scores = logits.sigmoid()
    # Far below zero every sigmoid is 0 in fp32; the difference of the logits still tells the classes apart.
    log_scores = torch.nn.functional.logsigmoid(logits)
    return scores.amax(dim=-1), log_scores.softmax(dim=-1)


def _corners(centres: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Turn [R, 4] centre x, centre y, width, height in 0..1 into corners in pixels, cut at the border."""
    limit = torch.tensor(size, dtype=torch.float32)
    low = ((centres[:, :2] - centres[:, 2:] / 2) * limit).clamp(min=0).minimum(limit)
    high = ((centres[:, :2] + centres[:, 2:] / 2) * limit).clamp(min=0).minimum(limit)
    corners: NDArray[np.float32] = torch.cat([low, high], dim=1).numpy()
    return corners


def _load(source: str, where: dict[str, Any], *, local: bool) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    # A weight of another shape stands in the report then, which names it; without, the library names none.
    weights = {"output_loading_info": True, "ignore_mismatched_sizes": True, "weights_only": True}
    name, files = f"hf:{source}", "config.json, model.safetensors and preprocessor_config.json"
    give = "a detector of transformers' AutoModelForObjectDetection"
    with loading_from_hub(source if local else name, local=local, files=files, what="object detector", give=give):
        # The torchvision backend resizes differently; one picture must not depend on what else is installed.
        processors: Any = AutoImageProcessor
        processor = processors.from_pretrained(source, backend="pil", **where)
        with quiet():
            model, report = AutoModelForObjectDetection.from_pretrained(source, **weights, **where)
    for kind in ("missing_keys", "mismatched_keys"):
        if wrong := sorted(str(key[0] if isinstance(key, tuple) else key) for key in report[kind]):
            problem = f"has {len(wrong)} {kind.replace('_', ' ')}, first {wrong[0]}"
            raise DataError(problem, where=f"hf:{source}", remedy="take weights and config.json of one model")
    return model, processor


@contextmanager
def loading_from_hub(where: str, *, local: bool, files: str, what: str, give: str) -> Iterator[None]:
    """Say in a sentence why a model of transformers cannot be had.

    Args:
        where: how it was named.
        local: it is a folder.
        files: that the folder must hold.
        what: it should be.
        give: what to give instead.

    Raises:
        VltkError: a package is missing.
        DataError: the folder is incomplete.
        OfflineError: it would have to be downloaded and cannot be.
        UsageError: it is another kind of model.
    """
    try:
        yield
    except ImportError as error:
        raise VltkError(f"needs a package that is not installed ({first_line(error)})", where=where) from None
    except OSError as error:
        if local:
            remedy = f"it must hold {files}"
            raise DataError(f"is incomplete ({first_line(error)})", where=where, remedy=remedy) from None
        remedy = "download it once where there is a network, or give a folder"
        raise OfflineError(f"cannot be had ({first_line(error)})", where=where, remedy=remedy) from None
    except (ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"is no {what} ({first_line(error)})", where=where, remedy=f"give {give}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging and from drawing bars while it loads."""
    from transformers.utils import logging

    log: Any = logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()


def first_line(error: Exception) -> str:
    """Return what the first line of a library's error says, without its full stop."""
    return next((line.strip().rstrip(".:") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def hash_of_weights(state: dict[str, Tensor]) -> str:
    """Return a hash of weights with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
