"""Collections by name: one directory each, `LOREBASE_HOME/collections/NAME/`.

Where the setting `store` names a Milvus, documents and vectors are there, and the directory holds only what
this machine keeps beside them. `at` is that setting everywhere here.

A name is a directory's name and nothing else: letters and digits of any script, inner spaces, `.`, `_` and
`-`. So a collection can be called 合同 or `Tax 2026`, and no name leads out of the folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.errors import IngestError, StorageFull, UnknownCollection
from ingest.store import Store
from ingest.store.files import sync_folder
from ingest.store.indexes import APPROXIMATE_FROM
from ingest.store.lock import WriterLock
from ingest.store.milvus.address import EMBEDDED, is_milvus, parse
from ingest.store.schema import FILE_NAME
from ingest.store.sqlite_faiss import SqliteFaissStore

if TYPE_CHECKING:
    from ingest.store.milvus.store import MilvusStore

FOLDER = "collections"
_LONGEST_BYTES = 120  # file systems stop at 255, and a deletion adds to it
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE
)  # Windows opens these as devices


class InvalidName(IngestError):
    """Not a name for a collection."""


def checked_name(name: str) -> str:
    """The name in Unicode's composed form.

    Raises:
        InvalidName: it has other characters, is too long or is reserved.
    """
    name = unicodedata.normalize("NFC", name)
    inside = all(c.isalnum() or c in " ._-" or unicodedata.category(c).startswith("M") for c in name)
    ends = bool(name) and (name[0].isalnum() or name[0] == "_") and name[-1] not in " ."
    if (
        not (inside and ends)
        or len(name.encode("utf-8", "replace")) > _LONGEST_BYTES
        or _DEVICES.fullmatch(name)
    ):
        raise InvalidName(
            f"{name[:60]!r} cannot name a collection: letters and digits (of any script) first and last, "
            "between them also "
            f"'.', '_', '-' and spaces, at most {_LONGEST_BYTES} bytes."
        )
    return name


def collection_folder(home: Path, name: str) -> Path:
    """Where the collection is, or would be. Raises InvalidName."""
    return home / FOLDER / checked_name(name)


def open_collection(
    home: Path,
    name: str,
    create: bool = False,
    *,
    wait_s: float = 10.0,
    approximate_from: int = APPROXIMATE_FROM,
    at: str = EMBEDDED,
) -> Store:
    """Open a collection by name; with `create`, make it where there is none.

    Raises:
        UnknownCollection: no such collection, and `create` is false; the message names those there are.
        InvalidName, SchemaTooNew, IndexDamaged, StorageFull: as their names say.
        InvalidStore, StoreUnavailable: of a Milvus.
    """
    folder = collection_folder(home, name)
    if is_milvus(at):
        return _milvus(at, folder, create=create, wait_s=wait_s)
    if not create and not (folder / FILE_NAME).is_file():
        there = ", ".join(list_collections(home)) or "none yet"
        raise UnknownCollection(
            f"There is no collection {name!r} in {home} (there: {there}). "
            f"`python -m ingest PATH --collection {name}` makes it."
        )
    return SqliteFaissStore.open(folder, create=create, wait_s=wait_s, approximate_from=approximate_from)


def _milvus(at: str, folder: Path, *, create: bool, wait_s: float) -> MilvusStore:
    from ingest.store.milvus.store import MilvusStore

    return MilvusStore.open(parse(at), folder.name, folder, create=create, wait_s=wait_s)


def exists(home: Path, name: str, at: str = EMBEDDED) -> bool:
    """Whether there is a collection of that name. Raises InvalidName, StoreUnavailable."""
    return checked_name(name) in list_collections(home, at)


def list_collections(home: Path, at: str = EMBEDDED) -> list[str]:
    """Names of all collections, sorted. Raises StoreUnavailable."""
    if is_milvus(at):
        from ingest.store.milvus.store import names

        return names(parse(at))
    root = home / FOLDER
    if not root.is_dir():
        return []
    return sorted(f.name for f in root.iterdir() if _is_name(f.name) and (f / FILE_NAME).is_file())


def _is_name(name: str) -> bool:
    """Whether a folder's name can be a collection's: somebody's copy, "work (copy)", is none."""
    try:
        return checked_name(name) == unicodedata.normalize("NFC", name)
    except InvalidName:
        return False


def delete_collection(home: Path, name: str, *, wait_s: float = 10.0, at: str = EMBEDDED) -> None:
    """Remove a collection with everything in it; stores that are open on it find it gone at their next use.

    Raises:
        UnknownCollection: no such collection.
        CollectionLocked: somebody is writing to it.
        StorageFull: the folder cannot be removed.
    """
    folder = collection_folder(home, name)
    if is_milvus(at):
        with _milvus(at, folder, create=False, wait_s=wait_s) as milvus:
            milvus.drop()
        shutil.rmtree(folder, ignore_errors=True)
        return
    if not (folder / FILE_NAME).is_file():
        open_collection(home, name, wait_s=wait_s).close()  # says which there are
    # It is not opened: what is damaged, or of a newer Lorebase, can be deleted all the same.
    with WriterLock(folder).hold("delete the collection", wait_s):
        if not (folder / FILE_NAME).is_file():
            raise UnknownCollection(f"The collection {name!r} was deleted meanwhile.")
        # Away first, in one step: a kill in the middle of the removal must not leave half a collection.
        gone = folder.with_name(f".deleted-{os.getpid()}-{secrets.token_hex(4)}-{folder.name}")
        try:
            folder.rename(gone)
            sync_folder(folder.parent)  # or a power cut could bring it back
        except OSError as error:
            raise StorageFull(
                f"{folder} cannot be removed: {error.strerror}. Check its permissions."
            ) from error
    shutil.rmtree(gone, ignore_errors=True)
    for left in folder.parent.glob(f".deleted-*-{folder.name}"):
        shutil.rmtree(left, ignore_errors=True)
