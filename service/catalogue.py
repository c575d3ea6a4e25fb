"""What our own side offers to programs of Ollama's family: models, adapters, collections and the embedder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model import install
from model.errors import ModelError
from model.folder import read_manifest
from service.models import ModelInfo

#: When a thing was made, where nothing on the disk says so.
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that can be asked by that name."""

    name: str
    family: str
    size: int = 0  #: bytes on the disk
    digest: str = ""  #: SHA-256 over the files' own; of the name where there are no files
    modified: datetime = EPOCH
    context_tokens: int | None = None
    capabilities: tuple[str, ...] = ("completion",)


def of_model(info: ModelInfo, home: Path) -> Offer:
    """An own model."""
    size, digest, modified = _files(info.name, install.models_folder(home) / info.name)
    return Offer(info.name, "lorebase", size, digest, modified, info.context_tokens)


def of_embedder(name: str, home: Path) -> Offer:
    """The embedder."""
    size, digest, modified = _files(name, install.models_folder(home) / name)
    return Offer(name, "lorebase", size, digest, modified, capabilities=("embedding",))


def of_name(name: str, family: str, size: int = 0) -> Offer:
    """Something without files of its own: an adapter by its base, a collection."""
    return Offer(name, family, size, hashlib.sha256(name.encode()).hexdigest())


def _files(name: str, folder: Path) -> tuple[int, str, datetime]:
    try:
        manifest = read_manifest(folder)
    except ModelError:  # damaged: whoever asks it will hear so
        manifest = None
    if manifest is None:
        return 0, hashlib.sha256(name.encode()).hexdigest(), EPOCH
    entries = sorted(_entries(manifest["files"]))
    told = "\n".join(f"{file} {sha256}" for file, sha256, _ in entries)
    size = sum(size for _, _, size in entries)
    modified = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    return size, hashlib.sha256(told.encode()).hexdigest(), modified


def _entries(files: dict[str, dict[str, object]]) -> Iterator[tuple[str, str, int]]:
    for file, entry in files.items():
        size = entry.get("bytes")
        yield file, str(entry.get("sha256")), size if isinstance(size, int) else 0
