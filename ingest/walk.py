"""Which files a run looks at, and the path each of them is known by.

A document's identity is its path: relative to the folder that holds the data folder (`docs/a.md` beside
`.lorebase`) for files below it, absolute for all others. It does not depend on the folder that a command was
started in, it stays short where people read it, and a project folder can be moved together with its knowledge
base.

Left out without a word: hidden files and folders, virtual environments, `node_modules`, `__pycache__`, the
data folder itself, office lock files. Left out with a reason (`skipped`): files without a parser, links that
lead out of the folder, pipes and devices. A link to a file inside the folder is that file; links to folders
are never followed, so no loop can catch the walk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ingest.parse import supported
from ingest.remote import RemoteError, is_remote, listing, plain
from ingest.types import FileReport, FoundFile

SKIPPED_FOLDERS = {"node_modules", "__pycache__"}
_LOCK_PREFIXES = ("~$", ".~lock.")


@dataclass(slots=True)
class Walk:
    """What a walk found."""

    files: list[FoundFile] = field(default_factory=list)  #: each identity once, in order
    reports: list[FileReport] = field(default_factory=list)  #: skipped and failed ones
    roots: list[str] = field(default_factory=list)  #: identities of the folders that were walked
    blind: list[str] = field(default_factory=list)  #: identities of what could not be looked into


def identity(file: Path, base: Path) -> str:
    """The path that a file is known by; `file` and `base` are absolute and free of links."""
    path = file.relative_to(base) if file.is_relative_to(base) else file
    # A name that is no UTF-8 becomes `caf\xe9.txt`: it can be stored, shown and typed.
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a word."""
    return name.startswith((".", *_LOCK_PREFIXES))


def below(path: str, root: str) -> bool:
    """Whether the identity `path` is `root` or lies below it; root "." is everything that is not absolute."""
    if root == ".":
        return not PurePosixPath(path).is_absolute() and path[1:2] != ":"
    return path == root or path.startswith(root.rstrip("/") + "/")


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a glob fits: with a slash the whole path (`*` crosses slashes), without one the last part."""
    name = path.rsplit("/", 1)[-1]
    return any(
        fnmatchcase(path if "/" in pattern else name, pattern.removeprefix("./")) for pattern in patterns
    )


def chosen(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a path passes the filters: fits one of `include` where there are any, and none of `exclude`."""
    return (not include or matches(path, include)) and not matches(path, exclude)


def only_named(path: str, root: str) -> bool:
    """Whether a walk of `root` passes over a file below it of this path, so that it must have been named."""
    inside = path.removeprefix(root.rstrip("/") + "/").split("/")
    return not supported(path) or any(is_hidden(part) or part in SKIPPED_FOLDERS for part in inside)


def find_files(
    paths: Sequence[Path | str],
    base: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    without: Path | None = None,
) -> Walk:
    """Walk the paths in order, each folder sorted by name.

    Args:
        paths: files and folders. A file that is named is taken whatever its name, links followed.
        base: see `identity`.
        include: globs on identities, of which one must fit; files that are named themselves pass anyway.
        exclude: globs of which none may fit, likewise.
        without: a folder that is never entered (the data folder).
    """
    walk = Walk()
    seen: set[str] = set()
    base = base.resolve()
    for path in paths:
        if is_remote(str(path)):
            _find_remote(walk, str(path).rstrip("/"), seen, include, exclude)
            continue
        root = Path(plain(str(path))).expanduser()
        try:
            root = root.resolve(strict=True)
            is_folder = root.is_dir()
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            walk.reports.append(FileReport(str(path), "failed", _reason(error)))
            continue
        if not is_folder:
            _take(walk, root, base, seen, named=True)
            continue
        walk.roots.append(identity(root, base))
        before = len(walk.files)
        looked = len(walk.reports)
        for file in _files(walk, root, base, without.resolve() if without else None):
            if chosen(identity(file, base), include, exclude):
                _take(walk, file, base, seen, named=False)
        if len(walk.files) == before and not any(r.status == "failed" for r in walk.reports[looked:]):
            walk.reports.append(FileReport(str(path), "skipped", "no file in this folder that can be read"))
    return walk


def _find_remote(
    walk: Walk, address: str, seen: set[str], include: Sequence[str], exclude: Sequence[str]
) -> None:
    """Add what is at or below an address; every file there is known by its own."""
    walk.roots.append(address)
    try:
        found = listing(address)
    except RemoteError as error:
        walk.blind.append(address)
        walk.reports.append(FileReport(address, "failed", str(error)))
        return
    before = len(walk.files)
    for file in found:
        path = f"{address}/{file.below}" if file.below else address
        parts = file.below.split("/")
        if path in seen or any(is_hidden(part) or part in SKIPPED_FOLDERS for part in parts):
            continue
        if file.below and not chosen(path, include, exclude):
            continue
        seen.add(path)
        name = PurePosixPath(path).name
        if file.below and not supported(name):
            suffix = PurePosixPath(name).suffix.lower() or "names without a suffix"
            walk.reports.append(FileReport(path, "skipped", f"no parser for {suffix}"))
        else:
            walk.files.append(FoundFile(path, Path(name), file.size, file.mtime_ns, remote=True))
    if len(walk.files) == before:
        walk.reports.append(FileReport(address, "skipped", "no file in this folder that can be read"))


def _files(walk: Walk, root: Path, base: Path, without: Path | None) -> Iterator[Path]:
    """All files below a folder but the hidden ones; what cannot be entered is noted."""
    links: list[Path] = []
    real: set[Path] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            walk.blind.append(identity(folder, base))
            walk.reports.append(FileReport(identity(folder, base), "failed", _reason(error)))
            continue
        inside: list[Path] = []
        for entry in ordered:
            if is_hidden(entry.name):
                continue
            path = Path(entry.path)
            if entry.is_symlink():
                links.append(path)
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED_FOLDERS and path != without and not _is_environment(path):
                    inside.append(path)
            else:
                real.add(path)
                yield path
        folders += reversed(inside)
    for link in links:
        yield from _behind(walk, link, root, base, real)


def _is_environment(folder: Path) -> bool:
    """Whether a folder holds Python's packages. Where nobody may look, the walk into it says so."""
    try:
        return (folder / "pyvenv.cfg").exists()
    except OSError:
        return False


def _behind(walk: Walk, link: Path, root: Path, base: Path, real: set[Path]) -> Iterator[Path]:
    """The link, where it leads to a file inside the folder that the walk has not met by its own name."""
    try:
        target = link.resolve(strict=True)
        is_file = target.is_file()
    except (OSError, RuntimeError):
        walk.reports.append(
            FileReport(identity(link, base), "skipped", "a link that leads nowhere or in a circle")
        )
        return
    if not target.is_relative_to(root):
        walk.reports.append(
            FileReport(identity(link, base), "skipped", "a link that leads out of the folder")
        )
    elif is_file and target not in real:
        yield link


def _take(walk: Walk, file: Path, base: Path, seen: set[str], *, named: bool) -> None:
    path = identity(file, base)
    if path in seen:
        passed_over = next((r for r in walk.reports if r.path == path and r.status == "skipped"), None)
        if not named or passed_over is None:
            return
        walk.reports.remove(passed_over)  # by the walk of its folder: now it is named
    seen.add(path)
    try:
        status = file.stat()
    except OSError as error:
        walk.blind.append(path)
        walk.reports.append(FileReport(path, "failed", _reason(error)))
        return
    if not stat.S_ISREG(status.st_mode):
        walk.reports.append(FileReport(path, "skipped", "not a file: a pipe, socket or device"))
    elif not named and not supported(file):
        suffix = file.suffix.lower() or "names without a suffix"
        walk.reports.append(FileReport(path, "skipped", f"no parser for {suffix}"))
    else:
        walk.files.append(FoundFile(path, file, status.st_size, status.st_mtime_ns))


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder; check the spelling and the folder you are in"
    if isinstance(error, PermissionError):
        return "may not be read; check its permissions"
    return getattr(error, "strerror", None) or str(error)
