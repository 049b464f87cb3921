"""The encoder that is probed, from wherever it comes, and whether it brings probes of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vltk.config import from_dict
from vltk.errors import DataError, VltkError
from vltk.isd.encoder import LoadedEncoder, load_encoder
from vltk.models._checkpoints import weights_file
from vltk.models._ssrp import SSRPConfig
from vltk.models.uniter import UNITER
from vltk.pretraining import OBJECTIVES
from vltk.run_folder import file_sha256, read_about
from vltk.training_run import TRAINED_ON

_SSRP = "ssrp"
_PROBING = "probing"
"""The objective of SSRP's second stage; weights that were trained for other objectives alone have probes of chance."""


def load_probed(
    source: str, *, heads: int | None = None, offline: bool = False, cache_dir: Path | None = None
) -> LoadedEncoder:
    """Load an encoder: what ``vltk isd`` takes, or an SSRP.

    Args:
        source: a run of vltk, one of its checkpoints, a weights file, or a model of transformers.
        heads: number of attention heads, where a weights file does not tell it.
        offline: download nothing.
        cache_dir: where downloads are kept.

    Raises:
        UsageError: a model without states of words beside regions.
        DataError: its files are damaged.
    """
    try:
        file = weights_file(Path(source))
    except VltkError:
        return load_encoder(source, heads=heads, offline=offline, cache_dir=cache_dir)
    about = read_about(file) if file.suffix == ".safetensors" else {}
    if about.get("model") == _SSRP:
        return _ssrp(file, about)
    loaded = load_encoder(source, heads=heads, offline=offline, cache_dir=cache_dir)
    told = about.get("config", {}).get("initial_deviation")
    if isinstance(loaded.module, UNITER) and isinstance(told, float) and told > 0:
        # Shapes do not tell it, and the untrained encoder must begin as this one did.
        loaded.module.config = replace(loaded.module.config, initial_deviation=told)
    return loaded


def _ssrp(file: Path, about: dict[str, object]) -> LoadedEncoder:
    try:
        config: SSRPConfig = from_dict(SSRPConfig, about["config"])  # type: ignore[arg-type]
    except (VltkError, KeyError, TypeError) as error:
        raise DataError(f"was written by another version ({error})", where=file, remedy="train it again") from error
    encoder, _ = config.build_from(file)
    trained_on, trained_for = about.get(TRAINED_ON, {}), about.get(OBJECTIVES)
    return LoadedEncoder(
        module=encoder.eval(),
        name=f"ssrp-{config.variant}",
        weights=file_sha256(file),
        vocabulary=config.vocabulary,
        region_dim=config.region_dim,
        positions=config.positions,
        trained_on=trained_on if isinstance(trained_on, dict) else {},
        # A fine-tuned run does not say what its probes went through.
        own_probes=not isinstance(trained_for, list) or _PROBING in trained_for,
    )
