"""Declarations become options; values come from flag, file, recipe, default; every misfit is one sentence."""

from __future__ import annotations

import dataclasses
import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vltk import config as configuration
from vltk.config import (
    MISSING,
    RESERVED,
    CommonConfig,
    DeviceConfig,
    HubConfig,
    Option,
    RecipeConfig,
    Settings,
    argument,
    chosen_by,
    config_hash,
    field_help,
    from_dict,
    hub_environment,
    layers,
    listed_in,
    option,
    options,
    resolve,
    to_dict,
)
from vltk.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SchedulePart:
    """A nested group."""

    rate: float = 0.1
    """Peak of the learning rate."""
    warmup: int = 10
    """Steps until then."""


@dataclass(frozen=True, kw_only=True)
class EveryTypeConfig:
    """All that an option may be."""

    out: Path
    """Folder
    to write."""
    text: str = "a"
    number: int = option(3, least=-10)
    """How many."""
    rate: float = 0.5
    on: bool = True
    """Whether."""
    kind: Literal["fast", "slow"] = "fast"
    """Which kind."""
    level: Literal[1, 2] = 1
    limit: int | None = None
    cache: Path | None = None
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] | None = None
    paths: tuple[Path, ...] = ()
    either: int | Literal["auto"] = "auto"
    part: SchedulePart = field(default_factory=SchedulePart)


@dataclass(frozen=True, kw_only=True)
class RecipeUserConfig(RecipeConfig):
    """A command with recipes."""

    images: int = 1
    """How many."""
    part: SchedulePart = field(default_factory=SchedulePart)


def build(**flags: Any) -> EveryTypeConfig:
    config: EveryTypeConfig = resolve(EveryTypeConfig, {"out": "o", **flags}).config
    return config


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


# -- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("out", "~/x", Path.home() / "x"),
        ("text", "5", "5"),
        ("number", "-7", -7),
        ("rate", "1e-4", 1e-4),
        ("rate", "inf", float("inf")),
        ("on", False, False),
        ("kind", "slow", "slow"),
        ("level", "2", 2),
        ("limit", "4", 4),
        ("cache", "c", Path("c")),
        ("names", ["a", "b"], ("a", "b")),
        ("sizes", ["1", "2"], (1, 2)),
        ("paths", ["p"], (Path("p"),)),
        ("either", "auto", "auto"),
        ("either", "12", 12),
        ("warmup", "20", 20),
    ],
)
def test_a_flag_becomes_its_type(name: str, given: Any, expected: Any) -> None:
    config = build(**{name: given})
    found = getattr(config.part if name == "warmup" else config, name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("number", "3.5", r"^--number: got '3\.5', expected a whole number$"),
        ("rate", "fast", r"^--rate: got 'fast', expected a number$"),
        ("rate", "nan", r"^--rate: got 'nan', expected a number$"),
        ("kind", "slwo", r"^--kind: got 'slwo', expected one of fast, slow; did you mean slow\?$"),
        ("level", "3", r"^--level: got '3', expected one of 1, 2$"),
        ("limit", "none", r"^--limit: got 'none', expected a whole number$"),
        ("sizes", ["1", "x"], r"^--sizes: got 'x', expected a whole number$"),
        ("either", "aut", r"^--either: got 'aut', expected a whole number or one of auto$"),
        ("out", "", r"^--out: got '', expected a path$"),
    ],
)
def test_a_flag_that_does_not_fit_is_one_sentence(name: str, given: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build(**{name: given})


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('number = "5"', r"file .*c\.toml, key number: got '5', expected a whole number$"),
        ("number = true", r"key number: got True, expected a whole number$"),
        ("number = 5.0", r"key number: got 5\.0, expected a whole number$"),
        ("text = 5", r"key text: got 5, expected a text$"),
        ("on = 1", r"key on: got 1, expected true or false$"),
        ("rate = true", r"key rate: got True, expected a number$"),
        ('rate = "0.1"', r"key rate: got '0\.1', expected a number$"),
        ("cache = 1", r"key cache: got 1, expected a path$"),
        ('names = "a"', r"key names: got 'a', expected a list of values, each a text$"),
        ("sizes = [1, 'b']", r"key sizes: got 'b', expected a whole number$"),
        ('kind = "fats"', r"key kind: got 'fats', expected one of fast, slow; did you mean fast\?$"),
        ("level = true", r"key level: got True, expected one of 1, 2"),
        ('[part]\nrate = "x"', r"key part\.rate: got 'x', expected a number$"),
        ("part = 3", r"unknown key 'part'"),
    ],
)
def test_a_file_value_that_does_not_fit_names_file_key_and_value(
    write: Callable[[str, str], Path], line: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        build(config=str(write("c.toml", line)))


def test_a_file_gives_every_type(write: Callable[[str, str], Path]) -> None:
    path = write(
        "c.toml",
        'text="b"\nnumber=1\nrate=2\non=false\nkind="slow"\nlevel=2\nlimit=9\ncache="c"\nnames=["x"]\nsizes=[1]\n'
        'paths=["p"]\neither=3\nwarmup=4\n[part]\nrate=0.25\n',
    )
    with pytest.raises(UsageError, match=r"^missing --out; --help lists all options$"):
        resolve(EveryTypeConfig, {"config": str(path)})
    assert build(config=str(path), rate=None) == EveryTypeConfig(
        out=Path("o"), text="b", number=1, rate=2.0, on=False, kind="slow", level=2, limit=9, cache=Path("c"),
        names=("x",), sizes=(1,), paths=(Path("p"),), either=3, part=SchedulePart(rate=0.25, warmup=4),
    )  # fmt: skip


def test_null_unsets_an_optional_value_and_nothing_else(write: Callable[[str, str], Path]) -> None:
    assert build(config=str(write("a.json", '{"limit": null}'))).limit is None
    with pytest.raises(UsageError, match="key number: got None, expected a whole number"):
        build(config=str(write("b.json", '{"number": null}')))


@pytest.mark.parametrize("hint", [dict[str, int], list[str], tuple[int, int], int | list[str], complex])
def test_a_type_that_cannot_be_an_option_is_named(hint: Any) -> None:
    kind = dataclasses.make_dataclass("OddConfig", [("odd", hint)])
    with pytest.raises(TypeError, match=r"^OddConfig\.odd: "):
        options(kind)


# -- precedence -----------------------------------------------------------------------------------------------------

PLACES = ["flag", "file", "recipe"]


@pytest.mark.parametrize("given_in", [[p for i, p in enumerate(PLACES) if bits >> i & 1] for bits in range(8)])
def test_flag_beats_file_beats_recipe_beats_default(write: Callable[[str, str], Path], given_in: list[str]) -> None:
    values = {"flag": 11, "file": 12, "recipe": 13}
    line = {place: f"images = {values[place]}" if place in given_in else "" for place in PLACES}
    recipe, file = write("r.toml", line["recipe"]), write("f.toml", line["file"])
    flags = {"recipe": str(recipe), "config": str(file), "images": "11" if "flag" in given_in else None}
    found = resolve(RecipeUserConfig, flags)
    origins = {"flag": "flag", "file": f"file {file}", "recipe": f"recipe {recipe}"}
    winner = given_in[0] if given_in else None
    assert found.config.images == (values[winner] if winner else 1)
    assert found.origins[("images",)] == (origins[winner] if winner else "default")


def test_a_file_may_name_the_recipe_and_a_flag_another(write: Callable[[str, str], Path]) -> None:
    one, two = write("one.json", '{"images": 5, "description": "One."}'), write("two.toml", "[part]\nwarmup = 7")
    file = write("f.json", json.dumps({"recipe": str(one)}))
    assert resolve(RecipeUserConfig, {"config": str(file)}).config.images == 5
    config = resolve(RecipeUserConfig, {"config": str(file), "recipe": str(two)}).config
    assert (config.images, config.part.warmup) == (1, 7)


def test_recipes_are_found_by_name_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uniter").mkdir()
    (tmp_path / "uniter" / "flickr30k.toml").write_text("images = 8", "utf-8")
    monkeypatch.setattr("vltk.config.settings.RECIPES", tmp_path)
    assert list(configuration.recipes()) == ["uniter/flickr30k"]
    assert resolve(RecipeUserConfig, {"recipe": "uniter/flickr30k"}).config.images == 8
    sentence = r"^--recipe: there is no recipe 'uniter/flickr30'; did you mean uniter/flickr30k\?$"
    with pytest.raises(UsageError, match=sentence):
        resolve(RecipeUserConfig, {"recipe": "uniter/flickr30"})


def test_no_recipes_is_no_error() -> None:
    with pytest.raises(UsageError, match="there is no recipe 'nothing-there'; "):
        resolve(RecipeUserConfig, {"recipe": "nothing-there"})


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", "number = 8\nrate = 1e-4\n[part]\nwarmup = 2"),
        ("c.json", '{"number": 8, "rate": 1e-4, "part": {"warmup": 2}}'),
        ("c.yaml", "number: 8\nrate: 1e-4\npart:\n  warmup: 2\n"),
        ("c.YML", "number: 8\nrate: 1e-4\nwarmup: 2\n"),
    ],
)
def test_toml_json_and_yaml_say_the_same(write: Callable[[str, str], Path], name: str, text: str) -> None:
    config = build(config=str(write(name, text)))
    assert (config.number, config.rate, config.part.warmup) == (8, 1e-4, 2)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("c.toml", "nummer = 1", r"^file .*c\.toml: unknown key 'nummer'; did you mean number\?$"),
        ("c.toml", "[part]\nrat = 1", r"unknown key 'part\.rat'; did you mean part\.rate\?$"),
        ("c.toml", "[prat]\nrate = 1", r"unknown key 'prat\.rate'; did you mean part\.rate\?$"),
        ("c.json", '{"parts": {}}', r"unknown key 'parts'; did you mean part\?$"),
        ("c.toml", "json = true", r"unknown key 'json'"),
        ("c.toml", "warmup = 1\n[part]\nwarmup = 2", r"^file .*: warmup is given twice; keep one of them$"),
        ("c.toml", "number = ", r"c\.toml: is not valid TOML: .*; correct it$"),
        ("c.json", "{", r"c\.json: is not valid JSON: .*; correct it$"),
        ("c.json", "[1]", r"c\.json: holds a list, expected keys with values; correct it$"),
        ("c.yaml", "a: [", r"c\.yaml: is not valid YAML: .*; correct it$"),
        ("c.ini", "", r"c\.ini: has the suffix '\.ini'; write options as \.toml, \.json or \.yaml$"),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence(
    write: Callable[[str, str], Path], name: str, text: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        build(config=str(write(name, text)))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: No such file or directory; name another file"):
        build(config=str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b'text = "\xe9"')
    with pytest.raises(UsageError, match=r"latin\.toml: is not UTF-8 text; name another file"):
        build(config=str(tmp_path / "latin.toml"))


def test_yaml_builds_no_objects(write: Callable[[str, str], Path]) -> None:
    path = write("c.yaml", "text: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UsageError, match="is not valid YAML: could not determine a constructor"):
        build(config=str(path))


def test_keys_may_have_hyphens_and_groups_may_be_empty(write: Callable[[str, str], Path]) -> None:
    config = resolve(HubUserConfig, {"config": str(write("c.json", '{"cache-dir": "c", "hub": {}}'))}).config
    assert config.hub.cache_dir == Path("c")


# -- declarations ---------------------------------------------------------------------------------------------------


def by_name(kind: type[Any], **more: Any) -> dict[str, Option]:
    return {one.name: one for one in options(kind, **more)}


def test_options_follow_the_declaration() -> None:
    found = options(EveryTypeConfig)
    assert [one.path for one in found[:4]] == [("out",), ("text",), ("number",), ("rate",)]
    assert [one.path for one in found[-2:]] == [("part", "rate"), ("part", "warmup")]
    assert [one.panel for one in found[-3:]] == ["", "Part", "Part"]
    assert found[0].default is MISSING


def test_a_name_of_two_groups_gets_its_group_before_it() -> None:
    names = [one.flag for one in options(EveryTypeConfig) if one.path[-1] == "rate"]
    assert names == ["--rate", "--part-rate"]


@dataclass(frozen=True, kw_only=True)
class LeftPart:
    """One side."""

    size: int = 1


@dataclass(frozen=True, kw_only=True)
class TwinConfig:
    """Two groups of one kind."""

    left: LeftPart = field(default_factory=LeftPart)
    right: LeftPart = field(default_factory=LeftPart)


def test_twins_are_told_apart_on_the_command_line_and_in_files(write: Callable[[str, str], Path]) -> None:
    assert [one.flag for one in options(TwinConfig)] == ["--left-size", "--right-size"]
    config = resolve(TwinConfig, {"left_size": "2", "config": str(write("c.toml", "[right]\nsize = 3"))}).config
    assert config == TwinConfig(left=LeftPart(size=2), right=LeftPart(size=3))


@dataclass(frozen=True, kw_only=True)
class PresetConfig:
    """Changes the default of a group."""

    common: CommonConfig = field(default_factory=lambda: CommonConfig(seed=7, limit=3))


def test_a_group_keeps_the_defaults_that_its_field_gives() -> None:
    assert {one.name: one.default for one in options(PresetConfig)}["seed"] == 7
    assert resolve(PresetConfig, {"limit": "5"}).config == PresetConfig(common=CommonConfig(seed=7, limit=5))


@dataclass(frozen=True, kw_only=True)
class TakenConfig:
    """Declares a name that every command has."""

    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class NestedTakenConfig:
    """Nests a name that every command has."""

    inner: TakenConfig = field(default_factory=TakenConfig)


def test_a_reserved_name_is_refused_at_the_top_and_prefixed_below() -> None:
    with pytest.raises(TypeError, match=r"^TakenConfig: the option name 'quiet' is taken already$"):
        options(TakenConfig, reserved=RESERVED)
    assert [one.flag for one in options(NestedTakenConfig, reserved=RESERVED)] == ["--inner-quiet"]


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Base."""

    one: int = 1
    """First, [R, 4]
    boxes."""
    two: int = 2
    """Second of the base."""
    three: int = 3


@dataclass(frozen=True, kw_only=True)
class DerivedConfig(BaseConfig):
    """Derived."""

    two: int = 22
    """Second of the derived."""
    four: int = 4

    """A string after a blank line belongs to the field as well."""
    five: int = 5
    text = "not a field"
    """Not the help of a field."""


def test_the_string_under_a_field_is_its_help_through_inheritance() -> None:
    assert field_help(DerivedConfig) == {
        "one": "First, [R, 4] boxes.",
        "two": "Second of the derived.",
        "four": "A string after a blank line belongs to the field as well.",
    }


def test_help_of_classes_inside_functions_and_classes() -> None:
    @dataclass
    class Local:
        inner: int = 1
        """Inside a function."""

    assert field_help(Local) == {"inner": "Inside a function."}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("number", "-11", "--number: -11 is too small; use -10 or more"),
        ("rate", "-0.5", "--rate: -0.5 is too small; use 0 or more"),
        ("limit", "-3", "--limit: -3 is too small; use 0 or more"),
        ("either", "-1", "--either: -1 is too small; use 0 or more"),
    ],
)
def test_numbers_are_not_negative_unless_their_option_says_so(name: str, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}$"):
        build(**{name: text})


def test_items_of_a_list_and_numbers_of_files_have_the_same_bounds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--sizes: -2 is too small; use 0 or more"):
        build(sizes=["1", "-2"])
    (tmp_path / "c.toml").write_text("rate = -1\n")
    with pytest.raises(UsageError, match=r"rate: -1\.0 is too small"):
        resolve(EveryTypeConfig, {"out": "o", "config": str(tmp_path / "c.toml")})


def test_a_class_without_source_has_no_help() -> None:
    kind = dataclasses.make_dataclass("MadeConfig", [("number", int)])
    kind.__module__ = "nowhere"
    assert field_help(kind) == {}


@dataclass(frozen=True, kw_only=True)
class MarkedConfig:
    """Marks."""

    store: Path = argument()
    """The store."""
    more: tuple[Path, ...] = argument(())
    number: int = option(2, short="-n")
    format: str = listed_in("vltk.stores.formats", "lxmert_tsv")


def test_marks() -> None:
    found = by_name(MarkedConfig)
    assert (found["store"].flag, found["number"].flag) == ("STORE", "--number")
    assert "lxmert_tsv" in (found["format"].choices or ())
    with pytest.raises(UsageError, match=r"^missing STORE; "):
        resolve(MarkedConfig, {})
    assert resolve(MarkedConfig, {"store": "s", "format": "lxmert-tsv"}).config.format == "lxmert_tsv"
    with pytest.raises(UsageError, match=r"^--format: there is no format 'lxmert_tvs'; did you mean lxmert_tsv\?$"):
        resolve(MarkedConfig, {"store": "s", "format": "lxmert_tvs"})


def test_listings_are_sorted_and_pass_over_private_modules() -> None:
    found = configuration.listing("vltk.commands")
    assert "ls" in found
    assert found == sorted(name for name in found if not name.startswith("_"))


# -- options that another option chooses ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TaskUserConfig:
    """Takes a task."""

    task: str
    """Which task."""
    out: Path = Path("o")
    source: Any = chosen_by("task", package="toytasks")


@pytest.fixture
def toytasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "toytasks"
    package.mkdir()
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
    declared = "@dataclass(frozen=True, kw_only=True)\nclass Source:\n    '''Files.'''\n\n    "
    body = "questions: Path\n    '''The questions.'''\n    out: int = 1\n    '''Another out.'''\n"
    (package / "__init__.py").write_text("", "utf-8")
    (package / "toy_vqa.py").write_text(head + declared + body, "utf-8")
    (package / "other.py").write_text("raise RuntimeError('imported without being chosen')\n", "utf-8")
    (package / "_shared.py").write_text("", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "toytasks"
    for name in [name for name in sys.modules if name.split(".")[0] == "toytasks"]:
        del sys.modules[name]


@pytest.mark.usefixtures("toytasks")
class TestChosenOptions:
    def test_without_a_choice_the_names_are_known_and_nothing_is_imported(self) -> None:
        settings = Settings(TaskUserConfig, layers(TaskUserConfig, {}))
        assert [one.name for one in settings.options] == ["task", "out"]
        assert settings.options[0].choices == ("other", "toy_vqa")
        assert "toytasks.other" not in sys.modules

    @pytest.mark.parametrize("spelled", ["toy_vqa", "toy-vqa"])
    def test_a_choice_brings_its_options(self, spelled: str) -> None:
        settings = Settings(TaskUserConfig, layers(TaskUserConfig, {"task": spelled}))
        assert [one.flag for one in settings.options] == ["--task", "--out", "--questions", "--source-out"]
        assert settings.options[2].panel == "Options of --task toy_vqa"
        assert settings.options[2].help == "The questions."

    def test_the_chosen_class_is_built_and_survives_the_record(self) -> None:
        flags = {"task": "toy_vqa", "questions": "q.json", "source_out": "3"}
        config = resolve(TaskUserConfig, flags).config
        assert (config.source.questions, config.source.out) == (Path("q.json"), 3)
        assert from_dict(TaskUserConfig, to_dict(config)) == config

    def test_a_file_may_choose(self, write: Callable[[str, str], Path]) -> None:
        file = write("c.toml", 'task = "toy_vqa"\n[source]\nquestions = "q"')
        assert resolve(TaskUserConfig, {"config": str(file)}).config.source.questions == Path("q")
        with pytest.raises(UsageError, match=r"unknown key 'source\.question'; did you mean source\.questions\?"):
            resolve(TaskUserConfig, {"config": str(write("d.toml", 'task="toy_vqa"\n[source]\nquestion="q"'))})

    def test_what_the_choice_requires_is_missed(self) -> None:
        with pytest.raises(UsageError, match=r"^missing --questions; "):
            resolve(TaskUserConfig, {"task": "toy_vqa"})

    def test_a_module_without_the_attribute_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "toytasks" / "bare.py").touch()
        with pytest.raises(UsageError, match=r"^--task: bare has no Source, which this command needs; choose another$"):
            resolve(TaskUserConfig, {"task": "bare"})

    def test_a_typo_is_answered_with_a_suggestion(self) -> None:
        with pytest.raises(UsageError, match=r"^--task: there is no task 'toy_vaq'; did you mean toy_vqa\?$"):
            resolve(TaskUserConfig, {"task": "toy_vaq"})


# -- the record -----------------------------------------------------------------------------------------------------

CONFIGS = st.builds(
    EveryTypeConfig,
    out=st.text("abc/", min_size=1).map(Path),
    text=st.text(),
    number=st.integers(-10),
    rate=st.floats(0, allow_nan=False),
    on=st.booleans(),
    kind=st.sampled_from(["fast", "slow"]),
    limit=st.none() | st.integers(0),
    names=st.lists(st.text()).map(tuple),
    sizes=st.none() | st.lists(st.integers(0)).map(tuple),
    either=st.just("auto") | st.integers(0),
    part=st.builds(SchedulePart, rate=st.floats(0, allow_nan=False, allow_infinity=False)),
)


@given(CONFIGS)
def test_a_record_reads_back_equal(config: EveryTypeConfig) -> None:
    assert from_dict(EveryTypeConfig, json.loads(json.dumps(to_dict(config)))) == config


@given(CONFIGS)
def test_the_printed_settings_are_a_file_that_gives_the_same(config: EveryTypeConfig) -> None:
    settings = Settings(EveryTypeConfig, [configuration.settings.Layer(origin="x", values=flat(config))])
    assert from_dict(EveryTypeConfig, tomllib.loads(settings.as_toml())) == config


def flat(config: EveryTypeConfig) -> dict[tuple[str, ...], Any]:
    values = to_dict(config)
    part = values.pop("part")
    return {(k,): v for k, v in values.items()} | {("part", k): v for k, v in part.items()}


def test_the_printed_settings_name_origins_and_what_is_required(write: Callable[[str, str], Path]) -> None:
    file = write("c.toml", "warmup = 3")
    text = Settings(EveryTypeConfig, layers(EveryTypeConfig, {"number": "4", "config": str(file)})).as_toml()
    lines = text.splitlines()
    assert lines[0] == "# out =  # required"
    assert "number = 4  # flag" in lines
    assert "# limit =  # default" in lines
    assert lines[lines.index("[part]") + 2] == f"warmup = 3  # file {file}"


def parsed(words: list[str], kind: type[Any]) -> Any:
    """What a plain reading of a command line gives."""
    by_flag = {one.flag: one for one in options(kind)} | {f"--no-{one.flag[2:]}": one for one in options(kind)}
    flags: dict[str, Any] = {}
    while words:
        word, *words = words
        target = by_flag[word]
        if target.hint is bool:
            flags[target.name] = not word.startswith("--no-")
            continue
        value, *words = words
        many = str(target.hint).startswith("tuple")
        flags[target.name] = [*flags.get(target.name, []), value] if many else value
    return resolve(kind, flags).config


@given(CONFIGS.filter(lambda config: config.sizes != ()))
def test_the_arguments_of_a_configuration_give_it_again(config: EveryTypeConfig) -> None:
    assert parsed(configuration.arguments(config), EveryTypeConfig) == config


def test_arguments_name_positional_and_chosen_values(toytasks: str) -> None:
    assert configuration.arguments(MarkedConfig(store=Path("s"), more=(Path("a"), Path("b")))) == ["s", "a", "b"]
    config = resolve(TaskUserConfig, {"task": "toy_vqa", "questions": "q"}).config
    assert configuration.arguments(config) == ["--task", "toy_vqa", "--questions", "q"]


def test_a_record_with_an_unknown_key_names_its_place() -> None:
    with pytest.raises(UsageError, match=r"^run a: unknown key 'numbr'; did you mean number\?$"):
        from_dict(EveryTypeConfig, {"out": "o", "numbr": 1}, where="run a")


@dataclass(frozen=True, kw_only=True)
class HubUserConfig:
    """Uses the groups."""

    images: int = 1
    common: CommonConfig = field(default_factory=CommonConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    hub: HubConfig = field(default_factory=HubConfig)


def test_the_hash_sees_what_can_change_a_result_and_only_that() -> None:
    base = config_hash(HubUserConfig())
    same = [{"common": CommonConfig(dry_run=True, overwrite=True)}, {"device": DeviceConfig(num_workers=4)},
            {"hub": HubConfig(offline=True)}]  # fmt: skip
    other = [{"images": 2}, {"common": CommonConfig(seed=1)}, {"common": CommonConfig(limit=1)},
             {"device": DeviceConfig(precision="bf16")}]  # fmt: skip
    assert {config_hash(HubUserConfig(**change)) for change in same} == {base}
    hashes = {config_hash(HubUserConfig(**change)) for change in other}
    assert len(hashes | {base}) == len(other) + 1
    assert len(base) == 64


def test_the_hub_is_told_by_environment_variables(write: Callable[[str, str], Path]) -> None:
    def variables(flags: dict[str, Any]) -> dict[str, str]:
        return hub_environment(HubUserConfig, layers(HubUserConfig, flags))

    assert variables({}) == {}
    assert variables({"offline": True, "cache_dir": "c"}) == {"HF_HUB_OFFLINE": "1", "HF_HOME": "c"}
    assert variables({"config": str(write("c.toml", "offline = true"))}) == {"HF_HUB_OFFLINE": "1"}
    assert hub_environment(EveryTypeConfig, layers(EveryTypeConfig, {"offline": True})) == {}
