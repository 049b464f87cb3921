"""Groups of options that commands share: a command has those that its configuration nests."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vltk.config.declaration import option


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What a command prints; every command has these."""

    json: bool = option(False, incidental=True, switch=True)
    """Print the result as JSON on stdout."""
    quiet: bool = option(False, short="-q", incidental=True, switch=True)
    """Print nothing but errors (and the JSON of --json)."""
    verbose: bool = option(False, short="-v", incidental=True, switch=True)
    """Say more about what is going on."""
    debug: bool = option(False, incidental=True, switch=True)
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class SettingsConfig:
    """Where settings come from; every command has these."""

    config: Path | None = option(None, incidental=True)  # noqa: RUF009 -- it is dataclasses.field
    """Read options from a TOML, JSON or YAML file; flags win over it."""
    print_config: bool = option(False, incidental=True, switch=True)
    """Print every option with its origin, as a file for --config, and stop."""


AUTOMATIC: dict[str, type[Any]] = {"Output": OutputConfig, "Settings": SettingsConfig}
"""What every command has, by the title of its help panel."""

RESERVED = frozenset(item.name for group in AUTOMATIC.values() for item in fields(group))
"""The names of those options."""


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Published settings to start from."""

    recipe: str | None = None
    """Name of a recipe (vltk ls recipes) or path of one; flags and --config win over it."""


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    """How a command treats what it writes."""

    dry_run: bool = option(False, incidental=True)
    """Show the plan and its cost, write nothing."""
    overwrite: bool = option(False, incidental=True)
    """Replace what is already there."""


@dataclass(frozen=True, kw_only=True)
class CommonConfig(WriteConfig):
    """What commands that make something share."""

    seed: int = 0
    """Seed of everything random."""
    limit: int | None = option(None, least=1)
    """Treat only the first N items."""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Where and how precisely to compute."""

    device: str = option("auto", incidental=True)
    """auto, cpu, cuda or cuda:N; auto never fails on a machine without GPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; master weights stay fp32."""
    num_workers: int = option(0, incidental=True)
    """Processes that load data; 0 loads in the main process."""


@dataclass(frozen=True, kw_only=True)
class RunningConfig:
    """How a run is begun, and by how many processes."""

    resume: Literal["auto", "must", "never"] = option("auto", incidental=True)
    """Whether a run in --out goes on."""
    nproc: int = option(1, incidental=True, least=1)
    """Processes on this machine, one for each GPU; they share the micro-batches of a step."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """What an encoder that is looked into reads, and how it computes."""

    missing_images: Literal["refuse", "skip"] = "refuse"
    """What to do with examples whose picture is not in --features."""
    other_features: Literal["refuse", "allow"] = "refuse"
    """What to do with features of another detector than that of the features that the run was trained on."""
    limit: int | None = option(None, least=1)
    """Look at the first N examples of a store only."""
    batch_tokens: int = 4096
    """Longest pair times number of pairs of a batch stays within this."""
    attention_heads: int | None = None
    """Number of attention heads, where a weights file does not tell it."""
    device: str = option("auto", incidental=True)
    """auto, cpu, cuda or cuda:N; auto never fails on a machine without GPU."""


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Where weights and tokenizers come from."""

    offline: bool = option(False, incidental=True)
    """Download nothing; exit with 4 where something is missing."""
    cache_dir: Path | None = option(None, incidental=True)  # noqa: RUF009 -- it is dataclasses.field
    """Folder of downloaded models (sets HF_HOME)."""
