"""`export`, `backup` and `import`: a collection as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ingest import transfer
from ingest.cli import terminal
from ingest.cli.opening import open_store
from ingest.collections import FOLDER
from ingest.errors import IngestError
from ingest.settings import IngestSettings


def export(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    """Write the collection into a ZIP file with a manifest."""
    target = _target(arguments.file, home)
    with open_store(arguments, home, settings) as store:
        manifest = transfer.export(store, target)
    if arguments.json:
        terminal.json_line({"file": str(target)} | manifest.model_dump(by_alias=True))
    else:
        print(f"{_held(manifest.documents, manifest.chunks)} written to {target}")
    return 0


def backup(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    """Copy the collection's database, while it is in use."""
    target = _target(arguments.file, home)
    with open_store(arguments, home, settings) as store:
        transfer.backup(store, target)
    size = target.stat().st_size
    if arguments.json:
        terminal.json_line({"file": str(target), "size": size})
    else:
        print(f"{size / 1e6:.1f} MB written to {target}")
    return 0


def import_(arguments: argparse.Namespace, home: Path, settings: IngestSettings) -> int:
    """Make a collection of an export or a backup."""
    file = Path(arguments.file).expanduser().absolute()
    status = transfer.import_(file, home, arguments.collection, settings.store)
    if arguments.json:
        terminal.json_line(
            {"collection": status.collection, "documents": status.documents, "chunks": status.chunks}
        )
    else:
        held, name = _held(status.documents, status.chunks), terminal.printable(status.collection)
        print(f"{held} are now collection {name}")
    return 0


def _target(file: str, home: Path) -> Path:
    """Where to write. Raises IngestError where something else stands there, which would be lost."""
    if file.strip() in ("", "-"):
        raise IngestError(f"{file!r} names no file: a collection is written into one, not to the terminal.")
    target = Path(file).expanduser().resolve()
    if target.is_relative_to((home / FOLDER).resolve()):
        raise IngestError(f"{target} lies among the collections themselves. Write it to another folder.")
    if target.exists() and not (target.is_file() and transfer.may_be_ours(target)):
        raise IngestError(
            f"{target} is there, and is no export and no backup: it is left as it is. Name another file."
        )
    return target


def _held(documents: int, passages: int) -> str:
    return f"{terminal.counted(documents, 'document')}, {terminal.counted(passages, 'passage')}"
