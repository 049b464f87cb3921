"""One declaration an option: frozen dataclasses become flags, help, file keys and the record of a run.

A field is an option, the string literal under it is its help, a nested dataclass is a help panel::

    @dataclass(frozen=True, kw_only=True)
    class ScenesConfig:
        '''Draw the built-in world.'''

        out: Path
        '''Folder to write.'''
        images: int = 1000
        '''How many scenes to draw.'''
        common: CommonConfig = field(default_factory=CommonConfig)

A field without default is a required option. Types are str, int, float, bool (``--x/--no-x``), Path,
``Literal``, ``X | None``, ``tuple[X, ...]`` (repeatable) and nested dataclasses. A value comes from the
flag, else from the file of ``--config``, else from the recipe, else from the default.
:func:`argument`, :func:`option`, :func:`listed_in` and :func:`chosen_by` say what a type cannot.
"""

from vltk.config.command_line import markup, parameters
from vltk.config.declaration import (
    MISSING,
    Option,
    argument,
    chosen_by,
    field_help,
    listed_in,
    listing,
    option,
    options,
)
from vltk.config.groups import (
    AUTOMATIC,
    RESERVED,
    CommonConfig,
    DeviceConfig,
    EncodingConfig,
    HubConfig,
    OutputConfig,
    RecipeConfig,
    RunningConfig,
    SettingsConfig,
    WriteConfig,
)
from vltk.config.record import arguments, config_hash, spelled, telling, to_dict
from vltk.config.settings import (
    Resolved,
    Settings,
    from_dict,
    hub_environment,
    layers,
    recipes,
    resolve,
)

__all__ = [
    "AUTOMATIC",
    "MISSING",
    "RESERVED",
    "CommonConfig",
    "DeviceConfig",
    "EncodingConfig",
    "HubConfig",
    "Option",
    "OutputConfig",
    "RecipeConfig",
    "Resolved",
    "RunningConfig",
    "Settings",
    "SettingsConfig",
    "WriteConfig",
    "argument",
    "arguments",
    "chosen_by",
    "config_hash",
    "field_help",
    "from_dict",
    "hub_environment",
    "layers",
    "listed_in",
    "listing",
    "markup",
    "option",
    "options",
    "parameters",
    "recipes",
    "resolve",
    "spelled",
    "telling",
    "to_dict",
]
