"""Files to passages: find, skip what is unchanged, parse, chunk, embed, write.

Parsing runs ahead in worker processes while this thread embeds what is ready. Texts are embedded in batches
filled across files, each distinct text once; a document is written in one transaction as soon as all its
vectors are there. So a kill at any instant leaves every document old or new, and the next run goes on with
what is missing.

One bad file never stops a run: it is reported with its reason and its last good version stays. What does stop
a run is what the next file would meet too: no space, another writer, a damaged index, an embedder that cannot
be loaded.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ingest import parse
from ingest.embed import Embedder
from ingest.errors import IngestError
from ingest.fetch import normal
from ingest.pipeline.ahead import Item
from ingest.pipeline.pages import ingest_pages
from ingest.pipeline.rebuild import rebuild
from ingest.pipeline.run import Cancelled, OnProgress, Progress, Run
from ingest.settings import IngestSettings
from ingest.store import Store
from ingest.types import IngestReport, Value
from ingest.walk import chosen, find_files

if TYPE_CHECKING:
    from ingest.pipeline.crew import Crew

__all__ = [
    "InvalidPath",
    "Progress",
    "Upload",
    "ingest_file",
    "ingest_files",
    "ingest_pages",
    "ingest_path",
    "ingest_text",
    "rebuild",
    "upload_path",
]


class InvalidPath(IngestError):
    """Not a path that a document can be known by."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to take in under a path of the caller's choosing."""

    file: Path
    path: str  #: cleaned by `upload_path`
    own: Mapping[str, Value | None] | None = None  #: the user's fields that come with it
    url: str | None = None  #: a page that was fetched: it is known by this, and `path` names its file


def _kept(character: str) -> str:
    """A character of a path: any space as a plain one, joiners of letters, and what can be seen."""
    if unicodedata.category(character) == "Zs":
        return " "
    return character if character.isprintable() or character in "\u200c\u200d" else ""


def upload_path(name: str) -> str:
    """The path of an upload: the name it came with, without what could lead to a place on this machine.

    Raises:
        InvalidPath: nothing is left, or it is too long.
    """
    parts = ["".join(map(_kept, part)).strip() for part in name.replace("\\", "/").split("/")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts = parts[1:]
    path = "/".join(part for part in parts if part not in ("", ".", ".."))
    path = path.encode("utf-8", "ignore").decode()
    if not path or len(path.encode()) > 1024:
        raise InvalidPath(
            f"{name[:80]!r} cannot name a document: give a file name such as report.pdf, at most 1024 bytes."
        )
    return path


def ingest_path(
    paths: Sequence[Path | str],
    store: Store,
    embedder: Embedder,
    settings: IngestSettings,
    *,
    base: Path | None = None,
    sync: bool = False,
    allow_empty: bool = False,
    own: Mapping[str, Value | None] | None = None,
    retry: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    password: str | None = None,
    progress: OnProgress | None = None,
    cancel: Cancelled | None = None,
    wait_s: float | None = None,
    crew: Crew | None = None,
) -> IngestReport:
    """Take in files and folders; what is unchanged is not read.

    Args:
        paths: files and folders, also addresses that fsspec knows (`s3://bucket/docs`).
        store: the collection.
        embedder: the collection's; asked for nothing where nothing has changed.
        settings: chunk sizes, limits, workers.
        base: what identities are relative to; by default the folder that holds the store's data folder.
        sync: forget documents below the folders whose files are gone.
        allow_empty: with `sync`, also where a folder has become empty, which else is taken for a disk that
            is not mounted.
        own: fields to set (None: to take away) on every document of these paths.
        retry: try also files that were given up after `ahead.MOST_TRIES` tries.
        include: globs of which one must fit, see `ingest.walk.matches`.
        exclude: globs of which none may fit.
        password: tried on encrypted files.
        progress: called after each file and each batch, in this thread.
        cancel: asked often; once it is true the run ends and says so.
        wait_s: how long to wait for another writer.
        crew: workers on a Ray cluster that read and embed; without it, this machine does.

    Raises:
        CollectionLocked, StorageFull, IndexDamaged, IndexMismatch, EmbedderError: what would stop every file.
        ClusterError: the Ray cluster of the crew cannot be reached, or has lost all its workers.
    """
    home = store.folder.parent.parent
    base = base or home.parent
    run = _run_of(crew)(store, embedder, settings, password, progress, cancel, retry)
    with store.writing("ingest", wait_s):
        walk = find_files(paths, base, include=include, exclude=exclude, without=home)
        run.total = len(walk.reports) + len(walk.files)
        for report in walk.reports:
            run.done(report)
        run.process(
            [Item(f.path, f.file, f.size, f.mtime_ns, "file", own, remote=f.remote) for f in walk.files]
        )
        if sync and not run.cancelled:
            for root in walk.roots:
                run.forget_missing(root, base, walk, lambda p: chosen(p, include, exclude), all_=allow_empty)
    store.compact()
    return run.report()


def _run_of(crew: Crew | None) -> Callable[..., Run]:
    if crew is None:
        return Run
    from ingest.pipeline.spread import SpreadRun  # Ray is an extra

    return partial(SpreadRun, crew)


def ingest_files(
    uploads: Sequence[Upload],
    store: Store,
    embedder: Embedder,
    settings: IngestSettings,
    *,
    password: str | None = None,
    progress: OnProgress | None = None,
    cancel: Cancelled | None = None,
    wait_s: float | None = None,
) -> IngestReport:
    """Take in files under paths of the caller's choosing (an upload); each replaces the document of its path.

    Raises:
        InvalidPath: a path is no path; nothing was done.
        CollectionLocked, StorageFull, IndexDamaged, IndexMismatch, EmbedderError: what would stop every file.
    """
    items = [_item(upload) for upload in uploads]
    run = Run(store, embedder, settings, password, progress, cancel)
    run.total = len(items)
    with store.writing("upload", wait_s):
        run.process(items)
    store.compact()
    return run.report()


def _item(upload: Upload) -> Item:
    path, name = (upload_path(upload.path), "") if upload.url is None else (normal(upload.url), upload.path)
    return Item(path, upload.file, upload.file.stat().st_size, 0, "upload", upload.own, name)


def ingest_file(
    file: Path,
    store: Store,
    embedder: Embedder,
    settings: IngestSettings,
    *,
    path: str,
    password: str | None = None,
) -> IngestReport:
    """Take in one file under a path of the caller's choosing; see `ingest_files`."""
    return ingest_files([Upload(file, path)], store, embedder, settings, password=password)


def ingest_text(
    text: str, store: Store, embedder: Embedder, settings: IngestSettings, *, path: str
) -> IngestReport:
    """Take in a text; the suffix of `path` says what it is (`.md`, `.html` ...), plain text by default."""
    suffix = PurePosixPath(upload_path(path)).suffix
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "text" + (suffix if parse.supported(path) else ".txt"))
        file.write_text(text, encoding="utf-8", errors="replace")
        return ingest_files([Upload(file, path)], store, embedder, settings)
