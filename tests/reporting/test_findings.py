"""The findings of a walk on a page: claims first, every figure, nothing hostile taken for HTML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vltk.errors import DataError
from vltk.reporting.findings import findings


def row(**more: Any) -> dict[str, Any]:
    told = {"figure": "rsum", "value": 526.25, "95 %": "520 to 532", "n": 200, "proves": "sum of six recalls"}
    return {**told, "claim": None, "outcome": None, **more}


def written(folder: Path, content: Any) -> Path:
    (folder / "findings.json").write_text(json.dumps(content), "utf-8")
    return folder / "findings.json"


def test_claims_stand_apart_with_their_outcome(tmp_path: Path) -> None:
    claim = row(value=-2.4, claim="A <b>lowers</b> B", outcome="not decided: the interval holds 0, 1 seed")
    section = findings(written(tmp_path, [row(), claim, row(figure="scenes", value=1000, n=None)]))
    page = "".join(part for part in section.parts if isinstance(part, str))
    first, second = page.split("<h3>")
    assert "A &lt;b&gt;lowers&lt;/b&gt; B" in first
    assert "not decided: the interval holds 0, 1 seed" in first
    assert "\N{MINUS SIGN}2.4" in first
    assert "1,000" in second
    assert "526.2" in second
    assert "None" not in page
    assert len(findings(written(tmp_path, [row()])).parts) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"figure": 1}, "row 0 is no finding"),
        ([row(), {"figure": 1}], "row 1 is no finding"),
        ([row(value="many")], "row 0 has the value 'many'"),
    ],
)
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=f"{sentence}; give the findings.json of vltk demo"):
        findings(written(tmp_path, content))
    (tmp_path / "broken.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        findings(tmp_path / "broken.json")
    with pytest.raises(DataError, match="cannot be read"):
        findings(tmp_path / "absent.json")


def test_values_are_told_in_their_unit_and_differences_in_theirs(tmp_path: Path) -> None:
    share = row(figure="UUAS", value=0.93306, unit="fraction", n=1718, **{"95 %": "0.9194 to 0.9472"})
    gain = row(figure="UUAS, gain", value=0.0454, unit="fraction", claim="A", **{"95 %": "0.02899 to 0.0611"})
    total = row(figure="rsum, a", value=532.5, unit="percent", **{"95 %": "516.2 to 547.5"})
    bare = row(figure="pictures", value=1680, n=None, **{"95 %": "-"})
    section = findings(written(tmp_path, [share, gain, total, bare]))
    page = "".join(part for part in section.parts if isinstance(part, str))
    cells = [part.split("</td>")[0].rpartition(">")[2] for part in page.split("<td")[1:]]
    tried, rest = cells[:6], [cells[6 + 6 * k : 12 + 6 * k] for k in range(3)]
    assert tried[2:5] == ["+4.5", "points", "2.9 to 6.1"]
    assert rest[0][:5] == ["UUAS", "93.3", "%", "91.9 to 94.7", "1,718"]
    assert rest[1][:4] == ["rsum, a", "532.5", "of 600", "516.2 to 547.5"]
    assert rest[2][:5] == ["pictures", "1,680", "", "", ""]
