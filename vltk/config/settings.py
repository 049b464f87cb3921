"""Where values come from (flag, file, recipe, default), whether they fit, and the record of what was used."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from vltk.config.declaration import FieldPath, Option, item_type, mark_of, members, options
from vltk.config.groups import RESERVED, HubConfig, RecipeConfig
from vltk.config.record import plain
from vltk.errors import UsageError, did_you_mean

C = TypeVar("C")

RECIPES = Path(__file__).parents[1] / "recipes"


# -- values ---------------------------------------------------------------------------------------------------------


def convert(value: Any, target: Option, *, where: str, text: bool) -> Any:
    """Return ``value`` as the type of an option.

    Args:
        value: a string of the command line, or a value of a file.
        target: the option that it is for.
        where: the flag or the file and key, for the error sentence.
        text: numbers may be spelled as strings, as on a command line.

    Raises:
        UsageError: the value does not fit.
    """
    if value is None and type(None) in get_args(target.hint):
        return None
    item = item_type(target.hint)
    if item is None:
        return _scalar(value, target.hint, target, where, text)
    if not isinstance(value, list | tuple):
        raise UsageError(f"got {value!r}, expected a list of values, each {_expected(item)}", where=where)
    return tuple(_scalar(one, item, target, where, text) for one in value)


def _scalar(value: Any, hint: Any, target: Option, where: str, text: bool) -> Any:
    if target.mark.get("package") and isinstance(value, str):
        name, known = value.replace("-", "_"), target.choices or ()
        if name not in known:
            raise UsageError(f"there is no {target.name} {value!r}", where=where, remedy=did_you_mean(name, known))
        return name
    for member in members(hint):
        found = _fit(value, member, text)
        if found is not MISSING:
            return _large_enough(found, target, where)
    near = did_you_mean(str(value), target.choices or ())
    remedy = near if near.startswith("did you mean") else None  # all that are known are told already
    raise UsageError(f"got {value!r}, expected {_expected(hint)}", where=where, remedy=remedy)


def _large_enough(value: Any, target: Option, where: str) -> Any:
    least = target.mark.get("least", 0)
    if isinstance(value, int | float) and value < least:
        raise UsageError(f"{value} is too small", where=where, remedy=f"use {least:g} or more")
    return value


def _fit(value: Any, kind: Any, text: bool) -> Any:
    """Return the value as one plain type, or MISSING where it does not fit."""
    if get_origin(kind) is Literal:
        return next(
            (c for c in get_args(kind) if (type(c), c) == (type(value), value) or (text and str(c) == value)), MISSING
        )
    if kind is Path:
        return Path(value).expanduser() if isinstance(value, str | Path) and str(value) else MISSING
    if kind in (int, float) and text and isinstance(value, str):
        return _number(value, kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else MISSING


def _number(text: str, kind: type[int] | type[float]) -> Any:
    try:
        value = kind(text)
    except ValueError:
        return MISSING
    return value if value == value else MISSING


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def _expected(hint: Any) -> str:
    return " or ".join(
        f"one of {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else _WORDS[kind]
        for kind in members(hint)
    )


# -- layers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Values from one place.

    Attributes:
        origin: "flag", "file F" or "recipe R".
        values: raw values by path of the option, or by its name alone.
        text: strings are still to be read as numbers.
    """

    origin: str
    values: Mapping[FieldPath, Any]
    text: bool = False

    def get(self, target: Option) -> Any:
        """Return the raw value of an option, or MISSING."""
        found = [self.values[key] for key in {target.path, (target.name,)} if key in self.values]
        if len(found) > 1:
            raise UsageError(f"{target.name} is given twice", where=self.origin, remedy="keep one of them")
        return found[0] if found else MISSING

    def where(self, target: Option) -> str:
        """Name the place of an option's value for an error sentence."""
        return target.flag if self.origin == "flag" else f"{self.origin}, key {'.'.join(target.path)}"

    def refuse_unknown(self, known: Sequence[Option]) -> None:
        """Raise UsageError for a key that no option has."""
        paths = {target.path for target in known} | {(target.name,) for target in known}
        groups = {path[:length] for path in paths for length in range(1, len(path))}
        for key, value in self.values.items():
            if key not in paths and not (key in groups and value == {}):
                spelled = ".".join(key)
                near = {".".join(path) for path in paths if len(path) == len(key)} | {".".join(g) for g in groups}
                raise UsageError(f"unknown key {spelled!r}", where=self.origin, remedy=did_you_mean(spelled, near))


def _flat(data: Mapping[str, Any], prefix: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    for key, value in data.items():
        here = (*prefix, str(key).replace("-", "_"))
        if isinstance(value, Mapping) and value:
            yield from _flat(value, here)
        else:
            yield here, value


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML, JSON or YAML file of options.

    Raises:
        UsageError: it is missing, has another suffix, or is not what its suffix says.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, remedy="name another file") from error
    except UnicodeDecodeError as error:
        raise UsageError("is not UTF-8 text", where=path, remedy="name another file") from error
    kind = path.suffix.lower()
    try:
        data = _parse(kind, text, path)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"is not valid {kind[1:].upper()}: {reason}", where=path, remedy="correct it") from error
    if not isinstance(data, dict):
        raise UsageError(f"holds a {type(data).__name__}, expected keys with values", where=path, remedy="correct it")
    return data


def _parse(kind: str, text: str, path: Path) -> Any:
    if kind == ".toml":
        import tomllib

        return tomllib.loads(text)
    if kind == ".json":
        return json.loads(text)
    if kind in (".yaml", ".yml"):
        import yaml  # type: ignore[import-untyped]

        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    raise UsageError(f"has the suffix {kind!r}", where=path, remedy="write options as .toml, .json or .yaml")


def recipes() -> dict[str, Path]:
    """Return the recipes that come with vltk, by name."""
    found = (path for path in RECIPES.rglob("*") if path.suffix in (".toml", ".json"))
    return dict(sorted((path.relative_to(RECIPES).with_suffix("").as_posix(), path) for path in found))


def _file_layer(path: Path, origin: str) -> Layer:
    values = dict(_flat(read_settings(path)))
    # YAML reads 1e-4 as a text, so texts may be numbers there.
    return Layer(origin=origin, values=values, text=path.suffix.lower() in (".yaml", ".yml"))


def _recipe_layer(name: str) -> Layer:
    known = recipes()
    path = known.get(name, Path(name))
    if name not in known and not path.is_file():
        raise UsageError(f"there is no recipe {name!r}", where="--recipe", remedy=did_you_mean(name, known))
    layer = _file_layer(path, f"recipe {name}")
    return dataclasses.replace(layer, values={key: v for key, v in layer.values.items() if key != ("description",)})


def layers(kind: type[Any], flags: Mapping[str, Any]) -> list[Layer]:
    """Return the places that settings come from, the strongest first.

    Args:
        kind: the configuration of a command.
        flags: what the command line gives, by the name of the option; absent or None is not given.
    """
    given: dict[FieldPath, Any] = {
        (name,): value for name, value in flags.items() if value is not None and name not in RESERVED
    }
    found = [Layer(origin="flag", values=given, text=True)]
    if flags.get("config") is not None:
        path = Path(flags["config"]).expanduser()
        found.append(_file_layer(path, f"file {path}"))
    for target in options(kind, reserved=RESERVED):
        if _of_group(target, RecipeConfig) and (name := first(target, found).value):
            found.append(_recipe_layer(name))
    return found


def _of_group(target: Option, group: type[Any]) -> bool:
    """Whether an option is one of a shared group, nested or inherited."""
    return issubclass(target.owner, group) and target.path[-1] in {item.name for item in dataclasses.fields(group)}


def hub_environment(kind: type[Any], found: Sequence[Layer]) -> dict[str, str]:
    """Return the variables that huggingface_hub reads once, when it is imported, for --offline and --cache-dir."""
    own = [target for target in options(kind, reserved=RESERVED) if _of_group(target, HubConfig)]
    given = {target.path[-1]: first(target, found).value for target in own}
    variables = {"HF_HUB_OFFLINE": "1"} if given.get("offline") else {}
    return variables | ({"HF_HOME": str(given["cache_dir"])} if given.get("cache_dir") else {})


# -- what holds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A value and where it comes from; MISSING where nothing gives one."""

    value: Any
    origin: str


def first(target: Option, found: Sequence[Layer]) -> Found:
    """Return the value of an option from the strongest layer that has it, else its default."""
    for layer in found:
        value = layer.get(target)
        if value is not MISSING:
            return Found(convert(value, target, where=layer.where(target), text=layer.text), layer.origin)
    return Found(target.default, "required" if target.default is MISSING else "default")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A configuration and the origin of every value, by the path of the option."""

    config: Any
    origins: dict[FieldPath, str]


class Settings:
    """The options of a command, those of the chosen task included, with the values found for them.

    Args:
        kind: the configuration, a dataclass.
        found: the layers, the strongest first.

    Raises:
        UsageError: a selector names a module that is not there.
    """

    def __init__(self, kind: type[Any], found: Sequence[Layer]) -> None:
        self.kind, self._layers = kind, found
        self._static = {target.path: target for target in options(kind, reserved=RESERVED)}
        self._chosen = dict(self._choose())
        self.options = options(kind, self._chosen, reserved=RESERVED) if self._chosen else [*self._static.values()]

    def _choose(self) -> Iterator[tuple[FieldPath, type[Any]]]:
        """Import what the selectors name and yield the chosen classes with the field that each fills."""
        for item in dataclasses.fields(self.kind):
            mark = mark_of(item)
            if "selector" in mark:
                name = first(self._static[(mark["selector"],)], self._layers).value
                if name not in (MISSING, None):
                    yield (item.name,), _attribute(mark, name)

    def found(self) -> dict[FieldPath, Found]:
        """Return every option's value and origin.

        Raises:
            UsageError: an unknown key in a file or recipe, a value that does not fit.
        """
        for layer in self._layers:
            if layer.origin != "flag":
                layer.refuse_unknown(self.options)
        return {target.path: first(target, self._layers) for target in self.options}

    def resolve(self) -> Resolved:
        """Build the configuration.

        Raises:
            UsageError: what :meth:`found` refuses, and a required option that nothing gives.
        """
        found = self.found()
        missing = [target.flag for target in self.options if found[target.path].value is MISSING]
        if missing:
            raise UsageError(f"missing {', '.join(missing)}", remedy="--help lists all options")
        return Resolved(config=self._build(self.kind, (), found), origins={p: one.origin for p, one in found.items()})

    def _build(self, kind: type[Any], path: FieldPath, found: Mapping[FieldPath, Found]) -> Any:
        hints, made = get_type_hints(kind), {}
        for item in dataclasses.fields(kind):
            here = (*path, item.name)
            nested = self._chosen.get(here, hints[item.name])
            if here in found:
                made[item.name] = found[here].value
            elif isinstance(nested, type) and dataclasses.is_dataclass(nested):
                made[item.name] = self._build(nested, here, found)
        return kind(**made)

    def as_toml(self) -> str:
        """Return the settings as a file for ``--config``, each value with its origin in a comment."""
        found, sections = self.found(), {"": [""]}
        for target in self.options:
            one, name = found[target.path], target.path[-1]
            value = None if one.value is MISSING else plain(one.value)
            assigned = f"# {name} =" if value is None else f"{name} = {_toml(value)}"
            sections.setdefault(".".join(target.path[:-1]), []).append(f"{assigned}  # {one.origin}")
        blocks = ("\n".join([f"[{title}]", *lines] if title else lines[1:]) for title, lines in sections.items())
        return "\n\n".join(block for block in blocks if block) + "\n"


def _attribute(mark: Mapping[str, Any], name: str) -> Any:
    module = importlib.import_module(f"{mark['package']}.{name}")
    if not hasattr(module, mark["attribute"]):
        problem = f"{name} has no {mark['attribute']}, which this command needs"
        raise UsageError(problem, where=f"--{mark['selector']}", remedy="choose another")
    return getattr(module, mark["attribute"])


def resolve(kind: type[Any], flags: Mapping[str, Any]) -> Resolved:
    """Build a configuration: flag before file before recipe before default.

    Args:
        kind: a dataclass.
        flags: what the command line gives, by the name of the option; ``config`` names a file.

    Raises:
        UsageError: an unknown key, a value that does not fit, a required option that nothing gives.
    """
    return Settings(kind, layers(kind, flags)).resolve()


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's and TOML's strings differ in one character.
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def from_dict(kind: type[C], data: Mapping[str, Any], *, where: str = "configuration") -> C:
    """Build a configuration from what :func:`to_dict` returned, with the checks of a file.

    Raises:
        UsageError: an unknown key, a value that does not fit, a required option that is missing.
    """
    config: C = Settings(kind, [Layer(origin=where, values=dict(_flat(data)))]).resolve().config
    return config
