"""What is found by listing a package keeps the contract of that package: one file is enough to add something."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import tomllib
from types import ModuleType
from typing import Any

import pytest

from vltk.cli import main
from vltk.config import field_help, listing, options, recipes


def modules(package: str) -> list[ModuleType]:
    return [importlib.import_module(f"{package}.{name}") for name in listing(package)]


def named(found: list[ModuleType]) -> list[str]:
    return [module.__name__.rsplit(".", 1)[1] for module in found]


TASKS, FORMATS, COMMANDS, MODELS = (modules(f"vltk.{p}") for p in ("tasks", "stores.formats", "commands", "models"))


@pytest.mark.parametrize("module", TASKS + FORMATS + COMMANDS + MODELS, ids=lambda module: module.__name__)
def test_a_module_says_in_one_line_what_it_is(module: ModuleType) -> None:
    first = (module.__doc__ or "").split("\n", 1)[0]
    assert first.endswith((".", "?"))
    assert len(first) <= 140


@pytest.mark.parametrize("task", TASKS, ids=named(TASKS))
def test_a_task_brings_its_annotation_files(task: ModuleType) -> None:
    assert dataclasses.is_dataclass(task.Source)
    assert task.Source.__dataclass_params__.frozen
    helps = field_help(task.Source)
    assert {item.name for item in dataclasses.fields(task.Source)} == helps.keys()
    assert "Iterator" in str(inspect.signature(task.Source.examples).return_annotation)


@pytest.mark.parametrize("task", TASKS, ids=named(TASKS))
def test_a_task_brings_its_options(task: ModuleType) -> None:
    kind = task.Config
    assert kind.__dataclass_params__.frozen
    assert {item.name for item in dataclasses.fields(kind)} >= field_help(kind).keys()
    assert [one.name for one in options(kind) if not one.help] == []
    sizes = kind().model_sizes()
    assert all(isinstance(size, int) for size in sizes.values())
    assert list(inspect.signature(kind.build).parameters) == ["self", "model", "split", "kept"]


@pytest.mark.parametrize("model", MODELS, ids=named(MODELS))
def test_a_model_brings_its_options(model: ModuleType) -> None:
    kind = model.Config
    assert kind.__dataclass_params__.frozen
    assert [one.name for one in options(kind) if not one.help] == []
    assert list(inspect.signature(kind.build).parameters) == ["self"]


@pytest.mark.parametrize("task", named(TASKS))
def test_help_of_finetune_shows_the_options_of_the_task(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--task", task, "--help"]) == 0
    shown = capsys.readouterr().out
    kind = importlib.import_module(f"vltk.tasks.{task}").Config
    assert all(f"--{one.name.replace('_', '-')}" in shown for one in options(kind))


@pytest.mark.parametrize("task", named(TASKS))
def test_help_of_prepare_shows_the_options_of_the_task(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--task", task, "--help"]) == 0
    shown = capsys.readouterr().out
    source = importlib.import_module(f"vltk.tasks.{task}").Source
    assert all(f"--{item.name.replace('_', '-')}" in shown for item in dataclasses.fields(source))


@pytest.mark.parametrize("task", named(TASKS))
def test_a_task_without_files_is_one_sentence(task: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["prepare", "--task", task, "--out", str(tmp_path / "out.lmdb"), "--tokenizer", "vocab.txt"])
    error = capsys.readouterr().err
    assert code in (2, 3)
    assert error.startswith("vltk: error: ")
    assert not (tmp_path / "out.lmdb").exists()


@pytest.mark.parametrize(
    "task", [task for task in TASKS if hasattr(task, "SUBMISSION")], ids=lambda task: task.__name__
)
def test_a_test_server_says_what_it_takes(task: ModuleType) -> None:
    wanted = task.SUBMISSION
    assert wanted.name.format(split="test", method="vltk").endswith((".json", ".csv"))
    assert wanted.server
    assert all(count > 0 for count in wanted.sizes.values())


@pytest.mark.parametrize("form", FORMATS, ids=named(FORMATS))
def test_a_format_reads_and_writes_with_options_of_its_own(form: ModuleType) -> None:
    assert list(inspect.signature(form.read).parameters)[:2] == ["path", "options"]
    assert list(inspect.signature(form.write).parameters)[:3] == ["store", "path", "options"]
    for kind in (form.ReadOptions, form.WriteOptions):
        assert {item.name for item in dataclasses.fields(kind)} == field_help(kind).keys()


@pytest.mark.parametrize("form", named(FORMATS))
def test_a_format_refuses_a_path_that_is_not_there(
    form: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["store", "import", str(tmp_path / "absent"), "--format", form, "--out", str(tmp_path / "out.lmdb")])
    error = capsys.readouterr().err
    assert code in (2, 3)
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out.lmdb").exists()


def configurations() -> list[Any]:
    """Every command and sub-command as (words on the command line, configuration class)."""
    found: list[Any] = []
    for module in COMMANDS:
        name = module.__name__.rsplit(".", 1)[1].replace("_", "-")
        jobs = getattr(module, "COMMANDS", None)
        if jobs is None:
            kind = inspect.signature(module.run, eval_str=False).parameters["config"].annotation
            found.append(pytest.param([name], getattr(module, kind), id=name))
        else:
            found += [pytest.param([name, sub], kind, id=f"{name} {sub}") for sub, (kind, _) in jobs.items()]
    return found


@pytest.mark.parametrize(("words", "kind"), configurations())
def test_a_command_teaches_with_every_option_and_an_example(
    words: list[str], kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert f"$ vltk {' '.join(words)}" in shown
    assert kind.__dataclass_params__.frozen
    silent = [one.name for one in options(kind) if not one.help]
    assert silent == []


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_resolves_and_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipes"][name].endswith(".")
    given = ["--examples", "e.lmdb", "--features", "f.lmdb", "--out", "run"]
    command = "finetune" if "task" in tomllib.loads(recipes()[name].read_text("utf-8")) else "pretrain"
    assert main([command, "--recipe", name, *given, "--print-config"]) == 0
    assert f"recipe {name}" in capsys.readouterr().out
