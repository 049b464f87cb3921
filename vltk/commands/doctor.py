"""Look whether this machine and environment are fit for work, and whether stores are sound."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vltk.config import HubConfig, argument, option
from vltk.errors import DataError, VltkError

if TYPE_CHECKING:
    from vltk.commands._terminal import Terminal

DISTRIBUTION, FOREIGN = "vltk-toolkit", "vltk"
LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 10.0, 4.0, 1.0
"""GiB below which long work is likely to end early: of disk, of memory, of memory that processes share."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Look at environment, Python, torch, devices, memory, disk, the hub, and the stores that are named.

    Nothing is changed and nothing is downloaded. Each line says what was found; "warning" is worth knowing, "problem"
    will bite. With a problem the exit code is 1, with a damaged store 3. Paste the output of --json into a bug report.

    Examples:
        $ vltk doctor
        $ vltk doctor features.lmdb train.lmdb --folder /scratch
        $ vltk doctor --offline --json
    """

    store: tuple[Path, ...] = argument(())
    """Stores to verify, record by record."""
    folder: Path = option(Path(), incidental=True)
    """Where work will be written; its free disk is looked at."""
    hub_timeout: float = option(3.0, incidental=True)
    """Seconds to wait for the Hugging Face hub."""
    hub: HubConfig = field(default_factory=HubConfig)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: it is.
        state: whether it is as it should be.
        found: what was found.
        remedy: what to do about it.
    """

    what: str
    state: Literal["ok", "warning", "problem"]
    found: str
    remedy: str | None = None

    @classmethod
    def of(cls, what: str, found: str, *, worse: Literal["warning", "problem"] | None, remedy: str) -> Check:
        """Return a check whose remedy counts only where something is worse than it should be."""
        return cls(what=what, state=worse or "ok", found=found, remedy=remedy if worse else None)


def run(config: DoctorConfig, terminal: Terminal) -> dict[str, object]:
    """Look at everything, and return what was found."""
    checks = [*_environment(), *_torch(), *_machine(config.folder), _hub(config)]
    stores = [_store(path, terminal) for path in config.store]
    checks += stores
    damaged = next((one for one in stores if one.state == "problem"), None)
    wrong = next((one for one in checks if one.state == "problem"), None)
    if damaged is not None:
        terminal.fail_after(DataError(damaged.found, where=damaged.what, remedy=damaged.remedy))
    elif wrong is not None:
        terminal.fail_after(VltkError(wrong.found, where=wrong.what, remedy=wrong.remedy))
    counted = {state: sum(one.state == state for one in checks) for state in ("ok", "warning", "problem")}
    return {**counted, "checks": [vars(one) for one in checks]}


# -- the environment ------------------------------------------------------------------------------------------------


def _environment() -> Iterator[Check]:
    import vltk

    yield Check(what="vltk", state="ok", found=f"{vltk.__version__} in {Path(vltk.__file__).parent}")
    yield _foreign()
    yield _command()
    yield Check(what="Python", state="ok", found=f"{platform.python_version()} in {sys.prefix}")
    yield from _libraries()


def _foreign() -> Check:
    """Look for the other project of this name, whose package and command have the same names."""
    from importlib import metadata

    names = {one.metadata["Name"] for one in metadata.distributions()}
    there = FOREIGN in names
    found = f"{FOREIGN} {metadata.version(FOREIGN)}, another project" if there else "none"
    remedy = f"its files and ours have the same names: pip uninstall {FOREIGN}, then install {DISTRIBUTION} again"
    return Check.of(f"foreign distribution {FOREIGN!r}", found, worse="problem" if there else None, remedy=remedy)


def _command() -> Check:
    """Look which program the shell runs for ``vltk``."""
    there = shutil.which("vltk")
    own = there is not None and Path(there).parent.resolve() == Path(sys.executable).parent.resolve()
    remedy = f"use {Path(sys.executable).parent / 'vltk'}, or activate this environment"
    return Check.of("vltk on PATH", there or "none", worse=None if own else "warning", remedy=remedy)


def _libraries() -> Iterator[Check]:
    """Compare the installed libraries with what the distribution asks for; of extras name those that are missing."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        asked = [Requirement(one) for one in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        remedy = "install it: pip install -c constraints.txt ."
        yield Check(what="libraries", state="warning", found=f"{DISTRIBUTION} is not installed", remedy=remedy)
        return
    unfit: list[str] = []
    fitting: list[str] = []
    for one in asked:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        version = _version(one.name)
        fits = version is not None and one.specifier.contains(version, prereleases=True)
        (fitting if fits else unfit).append(f"{one.name} {version or 'missing'}" + ("" if fits else f" ({one})"))
    remedy = "install with: pip install -c constraints.txt ."
    worse: Literal["problem"] | None = "problem" if unfit else None
    yield Check.of("libraries", ", ".join(unfit or fitting), worse=worse, remedy=remedy)
    yield _extras(asked)


def _extras(asked: Sequence[object]) -> Check:
    from packaging.requirements import Requirement

    missing: dict[str, list[str]] = {}
    for one in asked:
        if not isinstance(one, Requirement) or one.marker is None:
            continue
        for extra in ("train", "translate", "parse"):
            needed = one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
            if needed and _version(one.name) is None:
                missing.setdefault(extra, []).append(one.name)
    found = "; ".join(f"{extra} needs {', '.join(names)}" for extra, names in missing.items())
    return Check(what="extras", state="ok", found=found or "train, translate and parse are complete")


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# -- the machine ----------------------------------------------------------------------------------------------------


def _torch() -> Iterator[Check]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Check(what="torch", state="ok", found=f"{torch.__version__}, built for {build}")
    yield Check(what="processor", state="ok", found=f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}")
    count = torch.cuda.device_count()
    for number in range(count):
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(number))
        name = torch.cuda.get_device_name(number)
        yield Check(what=f"cuda:{number}", state="ok", found=f"{name}, {free:.1f} of {total:.1f} GiB free")
    if not count:
        unused = torch.version.cuda is None and Path("/proc/driver/nvidia").exists()
        found = "a GPU is there, and torch cannot use it" if unused else "none; --device auto computes on the CPU"
        remedy = "install a torch that is built for CUDA (pytorch.org)"
        yield Check.of("GPU", found, worse="warning" if unused else None, remedy=remedy)


def _machine(folder: Path) -> Iterator[Check]:
    total, free = _memory()
    yield Check.of(
        "memory",
        f"{free:.1f} of {total:.1f} GiB free" if total else "unknown",
        worse="warning" if total and free < LEAST_MEMORY else None,
        remedy="lower --batch-tokens and --num-workers, or free some",
    )
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    yield Check.of(
        f"disk of {there}",
        f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free",
        worse="warning" if usage.free / 2**30 < LEAST_DISK else None,
        remedy="36 regions of 2048 dimensions of 100,000 pictures take 15 GiB",
    )
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / 2**30
        yield Check.of(
            "shared memory",
            f"{size:.1f} GiB",
            worse="warning" if size < LEAST_SHARED else None,
            remedy="start the container with --shm-size 2g, or use --num-workers 0",
        )


def _memory() -> tuple[float, float]:
    """Return GiB of memory, in all and free; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return 0.0, 0.0
    told = {name: int(rest.split()[0]) / 2**20 for name, rest in (line.split(":") for line in lines)}
    return told.get("MemTotal", 0.0), told.get("MemAvailable", 0.0)


def _hub(config: DoctorConfig) -> Check:
    """Ask the hub for its head, and for nothing else."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    remedy = "weights and tokenizers can be given as folders; --offline says so at once"
    if config.hub.offline or os.environ.get("HF_HUB_OFFLINE") == "1":
        return Check(what="hub", state="ok", found="not asked, work is offline")
    if not address.startswith(("https://", "http://")):
        return Check(what="hub", state="warning", found=f"{address!r} is no address", remedy="correct HF_ENDPOINT")
    try:
        with urlopen(Request(address, method="HEAD"), timeout=config.hub_timeout):
            return Check(what="hub", state="ok", found=f"{address} answers")
    except HTTPError as error:
        return Check(what="hub", state="ok", found=f"{address} answers with {error.code}")
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return Check(what="hub", state="warning", found=f"{address} is out of reach ({reason})", remedy=remedy)


def _store(path: Path, terminal: Terminal) -> Check:
    """Verify a store."""
    from vltk.stores.maintenance import info, verify

    what = f"store {path}"
    try:
        told = info(path)
        with terminal.progress(told["records"], f"verify {path.name}") as progress:
            found = verify(path, progress=progress)
    except VltkError as error:
        return Check(what=what, state="problem", found=error.problem, remedy=error.remedy)
    kind = f"{told['schema']}, {found.good} of {found.records} records are good"
    if not found.ok:
        remedy = "save the good ones with vltk store repair"
        return Check(what=what, state="problem", found=f"{kind}; {found.problems[0]}", remedy=remedy)
    unfinished: Literal["warning"] | None = None if found.complete else "warning"
    remedy = "run the command that wrote it again; it goes on"
    return Check.of(what, kind if found.complete else f"{kind}, unfinished", worse=unfinished, remedy=remedy)
