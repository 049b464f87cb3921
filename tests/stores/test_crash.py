"""``kill -9`` at any moment of a write: nothing is lost but the open transaction, and the same command resumes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vltk.errors import DataError
from vltk.stores import record_store
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.stores.lmdb_env import open_read
from vltk.stores.maintenance import verify
from vltk.types import Example, RegionFeatures

RECORDS = 5000
TRANSACTION = record_store.TRANSACTION_RECORDS

# The child does what the parent does, and is killed by the parent, or kills itself at the named step.
CHILD = """
import os, signal, sys
from pathlib import Path
import lmdb, numpy as np
from vltk.stores import lmdb_env
from vltk.stores.features import FeatureMetadata, FeatureStore
from vltk.types import RegionFeatures

path, step, countdown = sys.argv[1], sys.argv[2], [int(sys.argv[3])]

def die():
    countdown[0] -= 1
    if countdown[0] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)

def dying(function, *, after):
    def wrapped(*args, **kwargs):
        if not after:
            die()
        result = function(*args, **kwargs)
        if after:
            die()
        return result
    return wrapped

if step != "asked":
    owner, name, moment = step.split(":")
    owner = {"environment": lmdb_env.WriteEnvironment, "path": Path, "os": os, "module": lmdb_env}[owner]
    setattr(owner, name, dying(getattr(owner, name), after=moment == "after"))
features = np.zeros((2, 8), np.float16)
boxes = np.array([[0, 0, 1, 1], [1, 1, 2, 2]], np.float32)
with FeatureStore.create(path, FeatureMetadata(detector="drawn")) as writer:
    for number in range(5000):
        features[:] = number
        writer.put(RegionFeatures(image_id=f"{number:05d}", features=features, boxes=boxes, size=(9, 9)))
        os.write(1, b".")
"""


def records() -> Iterator[RegionFeatures]:
    for number in range(RECORDS):
        yield RegionFeatures(
            image_id=f"{number:05d}",
            features=np.full((2, 8), number, np.float16),
            boxes=np.array([[0, 0, 1, 1], [1, 1, 2, 2]], np.float32),
            size=(9, 9),
        )


def write(path: Path) -> int:
    """Write or resume, and return how many records were there before."""
    with FeatureStore.create(path, FeatureMetadata(detector="drawn")) as writer:
        before = len(writer)
        for regions in records():
            if regions.image_id not in writer:
                writer.put(regions)
    return before


def content(path: Path) -> dict[bytes, bytes]:
    return dict(open_read(path).items())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    path = tmp_path_factory.mktemp("undisturbed") / "a.lmdb"
    assert write(path) == 0
    return content(path)


def killed(path: Path, step: str, countdown: int) -> int:
    """Return how many records the child had put when it was killed, or one fewer."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, path, step, str(countdown)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    done = 0
    while (step != "asked" or done < countdown) and (read := child.stdout.read(1)):
        done += len(read)
    child.kill()
    done += len(child.stdout.read())
    assert child.wait() == -9
    child.stdout.close()
    return done


def check_and_resume(path: Path, done: int, undisturbed: dict[bytes, bytes]) -> None:
    if (path / "data.mdb").exists():
        found = verify(path)
        assert found.problems == ()
        assert found.records in {done // TRANSACTION * TRANSACTION, (done + 1) // TRANSACTION * TRANSACTION, RECORDS}
    else:
        assert done < TRANSACTION
    assert write(path) >= done // TRANSACTION * TRANSACTION
    assert content(path) == undisturbed
    assert [file.name for file in path.iterdir()] == ["data.mdb"]


MOMENTS = sorted(np.random.default_rng(2).integers(1, RECORDS, 13).tolist())


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_from_outside(tmp_path: Path, moment: int, undisturbed: dict[bytes, bytes]) -> None:
    path = tmp_path / "a.lmdb"
    done = killed(path, "asked", moment)
    assert moment <= done < RECORDS or done == RECORDS
    check_and_resume(path, done, undisturbed)


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("environment:commit:before", 7),
        ("environment:commit:after", 11),
        ("environment:_copy_compact:before", 1),
        ("environment:_copy_compact:after", 1),
        ("environment:_put_in_place:before", 1),
        ("os:fsync:after", 1),
        ("path:replace:before", 1),
        ("path:replace:after", 1),
        ("module:sync:after", 1),
    ],
)
def test_killed_at_the_steps_of_commit_and_finish(
    tmp_path: Path, step: str, count: int, undisturbed: dict[bytes, bytes]
) -> None:
    path = tmp_path / "a.lmdb"
    check_and_resume(path, killed(path, step, count), undisturbed)


def test_a_killed_write_is_not_taken_for_a_store(tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    killed(path, "environment:commit:after", 3)
    with pytest.raises(DataError, match=r"a\.lmdb: is unfinished \(768 records so far\); run the command that"):
        FeatureStore.open(path)
    assert len(FeatureStore.open(path, unfinished=True)) == 768


def test_the_finish_of_a_killed_finish_leaves_a_compact_file(tmp_path: Path, undisturbed: dict[bytes, bytes]) -> None:
    path, other = tmp_path / "a.lmdb", tmp_path / "b.lmdb"
    killed(path, "path:replace:before", 1)
    before = (path / "data.mdb").stat().st_size
    write(path)
    write(other)
    assert (path / "data.mdb").stat().st_size == (other / "data.mdb").stat().st_size < before


KILLED_EXAMPLES = """
import os, signal, sys
from vltk.stores.examples import ExampleMetadata, ExampleStore
from vltk.types import Example
with ExampleStore.create(sys.argv[1], ExampleMetadata(task="t")) as writer:
    for number in range(int(sys.argv[2])):
        writer.put(Example(id=f"e{number * 7919 % 10007}", image_ids=("1",), texts=(f"text {number}",)))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", [0, 1, 777, 1000])
def test_examples_come_back_in_their_order(
    tmp_path: Path, moment: int, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = tmp_path / "a.lmdb"
    assert python(KILLED_EXAMPLES, path, moment).returncode == -9
    examples = [
        Example(id=f"e{number * 7919 % 10007}", image_ids=("1",), texts=(f"text {number}",)) for number in range(1000)
    ]
    with ExampleStore.create(path, ExampleMetadata(task="t")) as writer:
        assert len(writer) == moment // TRANSACTION * TRANSACTION
        for example in examples:
            writer.put(example)
    assert list(ExampleStore.open(path)) == examples
    assert verify(path).ok
