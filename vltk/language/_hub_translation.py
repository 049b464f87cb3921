"""Any seq2seq model of transformers as a translator: FSMT, Marian, NLLB and their like, under our search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vltk.errors import DataError, OfflineError, UsageError, VltkError
from vltk.language._translator import SearchTranslator

_REMEDY = "give a folder or hub id of a seq2seq model such as facebook/wmt19-en-de or Helsinki-NLP/opus-mt-en-de"


def load_hub_translator(
    weights: str, source: str, target: str, *, device: torch.device | None = None, offline: bool = False
) -> SearchTranslator:
    """Return the translator of a model folder or hub id.

    Args:
        weights: folder or hub id.
        source: language of the texts, as the model names it (NLLB: ``eng_Latn``).
        target: language of the translations.
        device: where to compute.
        offline: download nothing.

    Raises:
        DataError: no such folder, or not a seq2seq model with its tokenizer, or one of other languages.
        OfflineError: a hub id that is not on this machine.
        VltkError: its tokenizer needs a package that is not installed.
    """
    model, tokenizer = _load(weights, offline)
    langs = getattr(model.config, "langs", None)
    if langs and list(langs) != [source, target]:
        problem = f"translates {'-'.join(langs)}, asked for is {source}-{target}"
        raise DataError(problem, where=weights, remedy="give the model of that direction")
    target_id = None if langs else _choose_languages(tokenizer, source, target, weights)
    decoder = HubDecoder(model.to(device or torch.device("cpu")).eval(), target_id=target_id)
    described = {"kind": type(model).__name__, "weights": _described(weights, model)}
    return SearchTranslator(source, target, coding=HubCoding(tokenizer), decoder=decoder, description=described)


def _load(weights: str, offline: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    local = Path(weights).expanduser()
    is_folder = local.is_dir()
    if not is_folder and (weights.count("/") > 1 or local.is_absolute()):
        raise DataError("there is no such folder", where=weights, remedy=_REMEDY)
    where = str(local) if is_folder else weights
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=offline or is_folder)
        model = AutoModelForSeq2SeqLM.from_pretrained(where, local_files_only=offline or is_folder)
    except ImportError as error:
        reason = str(error).strip().split("\n")[0]
        remedy = 'pip install "vltk-toolkit[translate]"'
        raise VltkError(f"its tokenizer needs another package ({reason})", where=weights, remedy=remedy) from error
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        if is_folder:
            raise DataError(
                f"is no seq2seq model with its tokenizer ({reason})", where=weights, remedy=_REMEDY
            ) from None
        problem = f"the model {weights!r} is not on this machine and cannot be downloaded ({reason})"
        raise OfflineError(problem, remedy="download it once while online, or give a local folder") from None
    return model, tokenizer


def _choose_languages(tokenizer: Any, source: str, target: str, weights: str) -> int | None:
    """Tell a tokenizer of many languages which it reads; return the id that starts a translation into the other."""
    if not hasattr(tokenizer, "src_lang"):
        return None
    known = {name.strip("_"): name for name in tokenizer.all_special_tokens}
    for language in (source, target):
        if language not in known:
            problem = f"knows no language {language!r} (but {', '.join(sorted(known)[:6])}, ...)"
            raise UsageError(problem, where=weights, remedy="name languages as the model does, e.g. eng_Latn-deu_Latn")
    tokenizer.src_lang = source
    return int(tokenizer.convert_tokens_to_ids(known[target]))


def _described(weights: str, model: Any) -> str:
    revision = getattr(model.config, "_commit_hash", None)
    return f"{weights}@{revision}" if revision else weights


class HubCoding:
    """The pieces of a tokenizer of transformers.

    Args:
        tokenizer: the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's pieces, with their end."""
        return list(self._tokenizer(text)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the running text of target ids."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class _HubState:
    def __init__(self, encoded: Any, mask: Tensor) -> None:
        self.encoded, self.mask, self.cache = encoded, mask, None

    def reorder(self, rows: Tensor) -> None:
        from transformers.modeling_outputs import BaseModelOutput

        self.encoded = BaseModelOutput(last_hidden_state=self.encoded.last_hidden_state[rows])
        self.mask = self.mask[rows]
        cache: Any = self.cache
        cache.batch_select_indices(rows)

    def keep(self, sentences: Tensor) -> None:
        """Nothing: what belongs to the sentences went with the hypotheses."""


def _setting(model: Any, name: str) -> Any:
    for part in (model.generation_config, model.config):
        if (value := getattr(part, name, None)) is not None:
            return value
    raise DataError(f"names no {name}", where=type(model).__name__, remedy="give a translation model")


class HubDecoder:
    """A seq2seq model of transformers that says what comes next.

    Args:
        model: the model, on its device.
        target_id: id of the target language, which every translation starts with, or None.

    Raises:
        DataError: a model that names no start or end of its sentences.
    """

    def __init__(self, model: Any, *, target_id: int | None = None) -> None:
        self._model = model
        config, generation = model.config, model.generation_config
        self.first, end, self._pad = (_setting(model, f"{name}_token_id") for name in ("decoder_start", "eos", "pad"))
        self.end: int = end[0] if isinstance(end, list) else end
        unknown = getattr(config, "unk_token_id", None)
        self.unknown: int = self._pad if unknown is None else unknown
        single = [ids[0] for ids in generation.bad_words_ids or [] if len(ids) == 1]
        self.forbidden: tuple[int, ...] = tuple(dict.fromkeys([self._pad, *single]))
        forced = target_id if target_id is not None else generation.forced_bos_token_id
        self.forced: tuple[int, ...] = () if forced is None else (forced,)
        self.positions = int(getattr(config, "max_position_embeddings", None) or 1024)
        self.device: torch.device = model.device

    def start(self, sources: Sequence[Sequence[int]]) -> _HubState:
        """Encode sentences."""
        longest = max(map(len, sources))
        tokens = torch.tensor([[*row, *[self._pad] * (longest - len(row))] for row in sources], device=self.device)
        lengths = torch.tensor([len(row) for row in sources], device=self.device)
        mask = (torch.arange(longest, device=self.device) < lengths[:, None]).long()
        encoded = self._model.get_encoder()(input_ids=tokens, attention_mask=mask, return_dict=True)
        return _HubState(encoded, mask)

    def step(self, state: _HubState, tokens: Tensor) -> Tensor:
        """Return [S, W, C] log-probabilities of the next piece behind the [S, W] last ones."""
        made = self._model(
            encoder_outputs=state.encoded,
            attention_mask=state.mask,
            decoder_input_ids=tokens.reshape(-1, 1),
            past_key_values=state.cache,
            use_cache=True,
            return_dict=True,
        )
        state.cache = made.past_key_values
        logits: Tensor = made.logits
        return logits[:, -1].view(*tokens.shape, -1).float().log_softmax(-1)
