"""No block of more than six lines stands twice where one function could serve."""

from __future__ import annotations

import ast
import keyword
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("vltk", "benchmarks", "examples", "tests")
LONGEST_COPY, LONGEST_RENAMED_COPY = 6, 4
"""Lines of any code, and statements of functions of vltk."""
# (file, file): why no function serves both. Empty is how it should be.
ALLOWED: dict[tuple[str, str], str] = {}

Line = tuple[int, str]
_WORD = re.compile(r'"[^"]*"|(?<![\w.])[A-Za-z_]\w*|\b\d[\d._e-]*\b')


def passed_over(tree: ast.Module) -> Iterator[range]:
    """Yield what no function could serve: imports, signatures, documentation, options that come as a group."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield range(node.lineno, (node.end_lineno or 0) + 1)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield range(node.lineno, node.body[0].lineno)
        elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or (
            isinstance(node, ast.AnnAssign) and "default_factory" in ast.unparse(node.value or node.target)
        ):
            yield range(node.lineno, (node.end_lineno or 0) + 1)


def code(source: str) -> list[Line]:
    """Return the lines that count, with their numbers, without indentation and comments."""
    passed = {number for lines in passed_over(ast.parse(source)) for number in lines}
    lines = ((number, line.split("  # ")[0].strip()) for number, line in enumerate(source.splitlines(), 1))
    return [
        (number, line)
        for number, line in lines
        if number not in passed and re.search(r"\w", line) and not line.startswith("#")
    ]


def statements(source: str) -> list[Line]:
    """Return what stands in functions a statement a line, of a compound one its head."""
    tree = ast.parse(source)
    passed = {lines.start for lines in passed_over(tree)}
    inside = (node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in function.body)
    found = {
        (node.lineno, ast.unparse(node).split("\n")[0].replace("'", '"'))
        for root in inside
        for node in ast.walk(root)
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef) and node.lineno not in passed
    }
    return sorted(found)


def shape(block: str) -> str:
    """Return a block with names, numbers and strings numbered as they come: renamed copies have one shape."""
    numbers: dict[str, str] = {}
    return _WORD.sub(
        lambda word: word[0] if keyword.iskeyword(word[0]) else numbers.setdefault(word[0], f"${len(numbers)}"), block
    )


def repetitions(files: dict[str, list[Line]], longest: int, key: Callable[[str], str] = str) -> list[str]:
    """Return each pair of files that are alike for more than so many lines, with the first places where they are.

    Args:
        files: the lines of each file.
        longest: so many lines may be alike.
        key: what of a block is compared.
    """
    size = longest + 1
    places: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for name, lines in files.items():
        for start in range(len(lines) - size + 1):
            block = lines[start : start + size]
            places[key("\n".join(line for _, line in block))].append((name, block[0][0], block[-1][0]))
    found: dict[tuple[str, str], str] = {}
    for same in places.values():
        first, *others = same
        for other in others:
            overlap = other[0] == first[0] and other[1] <= first[2]
            if not overlap:
                pair = (first[0], other[0])
                found.setdefault(pair, f"{first[0]}:{first[1]}-{first[2]} ~ {other[0]}:{other[1]}-{other[2]}")
    return [said for pair, said in found.items() if pair not in ALLOWED]


def sources(rooms: Iterable[str]) -> Iterator[tuple[str, str]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def test_no_block_stands_twice() -> None:
    assert repetitions({name: code(text) for name, text in sources(ROOMS)}, LONGEST_COPY) == []


def test_no_function_does_what_another_does_under_other_names() -> None:
    files = {name: statements(text) for name, text in sources(["vltk"])}
    assert repetitions(files, LONGEST_RENAMED_COPY, shape) == []


BLOCK = """
def first(rows):
    '''Rows.'''
    total = 0
    for row in rows:  # each
        total += row.count
        if row.last:
            break
    mean = total / len(rows)
    return round(mean, 2)
"""


def test_copies_are_reported_with_both_places() -> None:
    copied = {"a.py": code(BLOCK), "b.py": code("import re\n" + BLOCK.replace("first", "second"))}
    assert repetitions(copied, 6) == ["a.py:4-10 ~ b.py:5-11"]
    assert repetitions(copied, 7) == []


def test_renamed_copies_are_reported_and_what_computes_otherwise_is_not() -> None:
    other = BLOCK.replace("total", "sum_").replace("row", "line")
    assert repetitions({"a.py": code(BLOCK), "b.py": code(other)}, 6) == []
    assert repetitions({"a.py": statements(BLOCK), "b.py": statements(other)}, 6, shape) == ["a.py:4-10 ~ b.py:4-10"]
    changed = {"a.py": statements(BLOCK), "b.py": statements(other.replace("+=", "-="))}
    assert repetitions(changed, 4, shape) == []
