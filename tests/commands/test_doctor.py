"""``vltk doctor`` finds what is wrong with an environment and with stores, and says what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.small_pairs import write_pairs
from vltk.cli import main
from vltk.commands import doctor


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    # The command line hands --offline on to libraries through the environment; a test must not inherit another's.
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def looked_at(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[dict[str, Any], str]:
    assert main(["doctor", *args, "--json"]) == code
    out, err = capsys.readouterr()
    found = json.loads(out)
    counted = {state: sum(one["state"] == state for one in found["checks"]) for state in ("ok", "warning", "problem")}
    assert {state: found[state] for state in counted} == counted
    return {one["what"]: one for one in found["checks"]}, err


def test_a_healthy_environment_has_no_problem(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found, _ = looked_at(capsys, "--offline", "--folder", str(tmp_path / "not" / "there"))
    names = {"vltk", "Python", "libraries", "extras", "torch", "processor", "memory", f"disk of {tmp_path}"}
    assert names <= set(found)
    assert found["hub"]["found"] == "not asked, work is offline"
    assert found["foreign distribution 'vltk'"]["found"] == "none"
    assert found["torch"]["found"].startswith(metadata.version("torch"))
    assert "lmdb" in found["libraries"]["found"]


def test_the_other_project_of_this_name_is_a_problem(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vltk-1.0.4.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: vltk\nVersion: 1.0.4\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found, err = looked_at(capsys, "--offline", code=1)
    foreign = found["foreign distribution 'vltk'"]
    assert (foreign["state"], foreign["found"]) == ("problem", "vltk 1.0.4, another project")
    assert "pip uninstall vltk, then install vltk-toolkit again" in err


def test_a_library_that_does_not_fit_is_named_with_what_is_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["torch>=99", "no-such-library>=1", "numpy>=1", "nor-this>=1; extra == 'parse'"]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    found, _ = looked_at(capsys, "--offline", code=1)
    torch = metadata.version("torch")
    assert found["libraries"]["found"] == f"torch {torch} (torch>=99), no-such-library missing (no-such-library>=1)"
    assert found["extras"]["found"] == "parse needs nor-this"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "said"), [(200, "answers"), (503, "answers with 503")])
def test_a_hub_that_answers_is_in_reach(
    hub: HTTPServer, capsys: pytest.CaptureFixture[str], status: int, said: str
) -> None:
    hub.status = status  # type: ignore[attr-defined]
    found, _ = looked_at(capsys)
    assert (found["hub"]["state"], found["hub"]["found"].endswith(said)) == ("ok", True)


def test_a_hub_out_of_reach_is_a_warning(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found, _ = looked_at(capsys, "--hub-timeout", "1")
    assert found["hub"]["state"] == "warning"
    assert "is out of reach" in found["hub"]["found"]
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert looked_at(capsys)[0]["hub"]["found"] == "'file:///etc' is no address"


def test_little_disk_and_little_shared_memory_are_warnings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK", 1e9)
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 1e9)
    found, _ = looked_at(capsys, "--offline", "--folder", str(tmp_path))
    assert [found[name]["state"] for name in (f"disk of {tmp_path}", "memory")] == ["warning", "warning"]


def test_a_sound_store_is_ok_and_a_damaged_one_ends_with_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    examples, features = write_pairs(tmp_path)
    found, _ = looked_at(capsys, str(examples), str(features), "--offline")
    assert found[f"store {examples}"]["state"] == found[f"store {features}"]["state"] == "ok"
    file = examples / "data.mdb"
    content = bytearray(file.read_bytes())
    content[content.index(b" w") + 1] ^= 1
    file.write_bytes(content)
    (tmp_path / "empty").mkdir()
    found, err = looked_at(capsys, str(examples), str(tmp_path / "empty"), "--offline", code=3)
    assert [found[f"store {path}"]["state"] for path in (examples, tmp_path / "empty")] == ["problem", "problem"]
    assert err.splitlines()[-1].startswith(f"vltk: error: store {examples}")
