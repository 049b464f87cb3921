"""Reading a dataclass as options: what a field says by its type, its mark and the string under it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import sys
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING as MISSING
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

FieldPath = tuple[str, ...]

_MARK = "vltk"


def option(
    default: Any = MISSING,
    *,
    short: str = "",
    incidental: bool = False,
    switch: bool = False,
    least: float = 0,
) -> Any:
    """Declare a flag with more than its type.

    Args:
        default: the value where nothing is given; required without.
        short: a one-letter spelling such as "-n".
        incidental: the value cannot change a result, so ``config_hash`` passes over it.
        switch: a bool that has no ``--no-x``.
        least: the smallest number that is taken; no other option of a number takes one below 0.
    """
    mark = {"short": short, "incidental": incidental, "switch": switch, "least": least}
    return field(default=default, metadata={_MARK: mark})


def argument(default: Any = MISSING) -> Any:
    """Declare a value that stands on the command line without a flag: ``vltk store info PATH``.

    A ``tuple[X, ...]`` takes all that are left.
    """
    return field(default=default, metadata={_MARK: {"positional": True}})


def listed_in(package: str, default: Any = MISSING, *, having: str = "") -> Any:
    """Declare a flag whose choices are the modules of a package.

    Args:
        package: where the modules are.
        default: the value where nothing is given; required without.
        having: take those alone that give a name with this end, e.g. "ForPretraining".
    """
    return field(default=default, metadata={_MARK: {"package": package, "having": having}})


def chosen_by(selector: str, *, package: str, attribute: str = "Source") -> Any:
    """Declare options that another option chooses: those of ``attribute`` in the module that it names.

    ``source: Any = chosen_by("task", package="vltk.tasks")`` beside ``task: str`` makes ``--task vqa``
    bring the options of ``vltk.tasks.vqa.Source``; the module is found by listing and imported when chosen. Where the
    other option may be left out (``task: str | None``), the value is then None.
    """
    return field(default=None, metadata={_MARK: {"selector": selector, "package": package, "attribute": attribute}})


def mark_of(item: dataclasses.Field[Any]) -> Mapping[str, Any]:
    """Return what :func:`option` and its siblings said about a field."""
    mark: Mapping[str, Any] = item.metadata.get(_MARK, {})
    return mark


@dataclass(frozen=True, kw_only=True)
class Option:
    """One leaf of a configuration.

    Attributes:
        path: field names from the outermost dataclass inwards.
        name: how it is spelled in Python and in files; the flag has hyphens for underscores.
        hint: the type.
        default: the value, or MISSING where it is required.
        help: the string under the field.
        panel: title of the help panel, "" for the command's own.
        owner: the dataclass that declares it.
        mark: what :func:`option` and its siblings added.
        choices: the allowed spellings where the type or a package lists them.
    """

    path: FieldPath
    name: str
    hint: Any
    default: Any
    help: str
    panel: str
    owner: type[Any]
    mark: Mapping[str, Any]
    choices: tuple[str, ...] | None

    @property
    def flag(self) -> str:
        """The spelling on the command line."""
        return self.name.upper() if self.mark.get("positional") else f"--{self.name.replace('_', '-')}"


def listing(package: str, *, having: str = "") -> list[str]:
    """Return the names of a package's modules without importing them; leading underscores are passed over.

    Args:
        package: where the modules are.
        having: take those alone that give a name with this end.
    """
    folders = importlib.import_module(package).__path__
    found = sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))
    return [name for name in found if _gives(f"{package}.{name}", having)] if having else found


@cache
def _gives(module: str, end: str) -> bool:
    """Say whether a module imports or declares a class whose name ends so, from its text."""
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text("utf-8") if spec and spec.origin else "")
    declared = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return any(name.endswith(end) for name in declared + imported)


def field_help(kind: type[Any]) -> dict[str, str]:
    """Return the string literal under each field of a dataclass, those of its bases included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        qualname = base.__qualname__.replace("<locals>.", "")
        found.update(_module_strings(base.__module__).get(qualname, {}))
    return found


@cache
def _module_strings(name: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (KeyError, OSError, TypeError):  # a frozen program, the interactive prompt
        return {}
    return dict(_class_strings(tree.body, ""))


def _class_strings(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            qualname = f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield qualname, dict(_strings_under_fields(node.body))
            yield from _class_strings(node.body, f"{qualname}.")


def _strings_under_fields(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for declared, below in itertools.pairwise(body):
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name):
            value = below.value if isinstance(below, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield declared.target.id, " ".join(value.value.split())


def options(
    kind: type[Any], chosen: Mapping[FieldPath, type[Any]] | None = None, *, reserved: frozenset[str] = frozenset()
) -> list[Option]:
    """Return the options of a configuration, in the order of the declaration.

    A name that two nested dataclasses have, or that is reserved, gets the name of its group before it.

    Args:
        kind: a dataclass.
        chosen: the classes that selectors chose, by the path of the field that they fill.
        reserved: names that stand for something else on every command.

    Raises:
        TypeError: a field has a type that cannot be an option, or two fields have one name.
    """
    leaves = list(_leaves(kind, (), "", chosen or {}, None))
    count = Counter(leaf.path[-1] for leaf in leaves)
    ambiguous = {name for name, times in count.items() if times > 1} | reserved
    named = [
        dataclasses.replace(leaf, name="_".join(leaf.path[-2:])) if leaf.path[-1] in ambiguous else leaf
        for leaf in leaves
    ]
    twice = [name for name, times in Counter(leaf.name for leaf in named).items() if times > 1 or name in reserved]
    if twice:
        raise TypeError(f"{kind.__qualname__}: the option name {twice[0]!r} is taken already")
    return named


def _leaves(
    kind: type[Any], path: FieldPath, panel: str, chosen: Mapping[FieldPath, type[Any]], preset: Any
) -> Iterator[Option]:
    """Yield the options of a dataclass; ``preset`` is the instance that a field around it has as default."""
    hints, strings = get_type_hints(kind), field_help(kind)
    marks = {item.name: mark_of(item) for item in dataclasses.fields(kind)}
    packages = {mark["selector"]: mark["package"] for mark in marks.values() if "selector" in mark}
    for item in dataclasses.fields(kind):
        here, hint, mark = (*path, item.name), hints[item.name], marks[item.name]
        default = _default(item) if preset is None else getattr(preset, item.name)
        if "selector" in mark:
            if here in chosen:
                module = chosen[here].__module__.rpartition(".")[2]
                yield from _leaves(chosen[here], here, f"Options of --{mark['selector']} {module}", chosen, None)
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            title = item.name.replace("_", " ").capitalize()
            yield from _leaves(hint, here, title, chosen, None if default is MISSING else default)
        elif item.init:
            package = mark.get("package") or packages.get(item.name)
            yield Option(
                path=here,
                name=item.name,
                hint=_checked(hint, f"{kind.__qualname__}.{item.name}"),
                default=default,
                help=strings.get(item.name, ""),
                panel=panel,
                owner=kind,
                mark={**mark, "package": package},
                choices=tuple(listing(package, having=mark.get("having", ""))) if package else _literal_choices(hint),
            )


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, None left out; another type stands alone."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for member in get_args(hint) if member is not type(None))
    return (hint,)


def item_type(hint: Any) -> Any:
    """Return X of ``tuple[X, ...]``, or None for another type."""
    (member, *others) = members(hint)
    return get_args(member)[0] if not others and get_origin(member) is tuple else None


def _literal_choices(hint: Any) -> tuple[str, ...] | None:
    kinds = members(item_type(hint) or hint)
    if all(get_origin(kind) is Literal for kind in kinds):
        return tuple(str(choice) for kind in kinds for choice in get_args(kind))
    return None


def _checked(hint: Any, where: str) -> Any:
    item = item_type(hint)
    if item is not None and get_args(members(hint)[0])[1:] != (...,):
        raise TypeError(f"{where}: write tuple[X, ...] for a repeatable option, not {hint}")
    for member in members(item or hint):
        if member not in (str, int, float, bool, Path) and get_origin(member) is not Literal:
            raise TypeError(f"{where}: {member} cannot be an option")
    return hint
