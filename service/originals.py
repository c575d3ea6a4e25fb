"""The files that documents were made of: uploads are kept, files in folders are found again.

    LOREBASE_HOME/collections/NAME/originals/SHA256        bytes of an upload
    LOREBASE_HOME/collections/NAME/pages/SHA256-PAGE.png   pictures of pages, as many as fit

A file is handed out only if its hash is the one that the document was made of: so a path in the index cannot
be turned into a way to read anything else, and a citation never stands beside a page that has changed since.
What nobody's document has any more is removed with the last document that had it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from ingest.types import StoredDocument
from service.errors import Busy, NoOriginal, UnreadablePage
from service.page_picture import draw

logger = logging.getLogger(__name__)

#: Pictures that a collection keeps.
MOST_PICTURES = 400
#: Pages that are drawn, or wait to be, at a time.
MOST_DRAWN = 8


class Originals:
    """The originals of one data folder's collections."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._drawing = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_DRAWN)

    def keep(self, collection: str, file: Path) -> None:
        """Keep an upload's bytes; those that are kept already are not kept twice.

        A disk that is full fails no upload: the document is in the index, its file is not at hand.
        """
        folder = self._home / "collections" / collection / "originals"
        beside = folder / f".{os.getpid()}-{threading.get_ident()}"
        try:
            name = _hash(file)
            if self._hash_of(folder / name) == name:
                return
            folder.mkdir(exist_ok=True)  # not its parents: a deleted collection must not come back with it
            with file.open("rb") as content, beside.open("wb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())  # else a power cut leaves the name of a hash on an empty file
            beside.replace(folder / name)
        except OSError as error:
            logger.warning("an upload to %s was not kept: %s", collection, error)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    def forget(self, collection: str, document: StoredDocument, others: Iterable[StoredDocument]) -> None:
        """Remove a document's bytes and pictures, unless another one was made of the same."""
        if any(other.content_hash == document.content_hash for other in others):
            return
        name = document.content_hash.removeprefix("sha256:")
        if len(name) != 64 or not name.isalnum():
            return
        folder = self._home / "collections" / collection
        (folder / "originals" / name).unlink(missing_ok=True)
        for picture in (folder / "pages").glob(f"{name}-*.png"):
            picture.unlink(missing_ok=True)

    def find(self, collection: str, document: StoredDocument) -> Path:
        """The file that a document was made of.

        Raises:
            NoOriginal: it is no longer where it was, or has changed since.
        """
        wanted = document.content_hash.removeprefix("sha256:")
        kept = [self._home / "collections" / collection / "originals" / wanted] if wanted.isalnum() else []
        read = Path(document.path), self._home.parent / document.path, Path.cwd() / document.path
        there = False
        for place in (*kept, *(place for place in read if place.is_absolute())):
            found = self._hash_of(place)
            if found == wanted:
                return place
            there = there or found is not None
        why = "has changed since it was read" if there else "is no longer where it was read"
        raise NoOriginal(f"the file {document.path} {why}; ingest it again to have it here")

    def picture(self, collection: str, document: StoredDocument, page: int) -> Path:
        """A page of a PDF as a PNG.

        Raises:
            NoOriginal: the file is gone, or went while it was drawn.
            UnknownName, UnreadablePage: there is no such page, or it cannot be drawn.
            Busy: too many are being drawn.
        """
        file = self.find(collection, document)
        folder = self._home / "collections" / collection / "pages"
        target = folder / f"{document.content_hash.removeprefix('sha256:')}-{page}.png"
        if not _touched(target):
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError as error:  # it must not come back as a folder with a picture in it
                raise NoOriginal(f"the collection {collection!r} has been deleted") from error
            if not self._waiting.acquire(blocking=False):  # each holds a thread that others need
                raise Busy(f"{MOST_DRAWN} pages are being drawn already. Try again in 5 s.", 5)
            try:
                self._draw_once(collection, document, file, page, target)
            finally:
                self._waiting.release()
        return target

    def _draw_once(
        self, collection: str, document: StoredDocument, file: Path, page: int, target: Path
    ) -> None:
        with self._drawing:  # one at a time: each may take a gigabyte
            if not _touched(target):
                self._draw(collection, document, file, page, target)
            pictures = sorted(target.parent.glob("*.png"), key=_seen_at)
            for old in pictures[: max(0, len(pictures) - MOST_PICTURES)]:
                old.unlink(missing_ok=True)

    def _draw(self, collection: str, document: StoredDocument, file: Path, page: int, target: Path) -> None:
        try:
            draw(file, page, target)
        except (UnreadablePage, FileNotFoundError) as error:
            self.find(collection, document)  # if it has gone meanwhile, that is what is told
            if target.parent.is_dir():
                raise
            raise NoOriginal(f"the collection {collection!r} has been deleted") from error

    def _hash_of(self, file: Path) -> str | None:
        """The hash, computed again only where the file has changed; None where there is none to be read."""
        try:
            if not file.is_file():
                return None
            state = file.stat()
            key = str(file), state.st_mtime_ns, state.st_size
            found = self._hashes.get(key)
            if found is None:
                found = _hash(file)
                if len(self._hashes) > 1000:
                    self._hashes.clear()
                self._hashes[key] = found
        except OSError:  # gone meanwhile, not for us, or a name that is longer than the disk's may be
            return None
        return found


def _touched(picture: Path) -> bool:
    """Whether it is there; if so it is the last one to be removed now."""
    try:
        os.utime(picture)
    except OSError:  # not there, or on a disk that is only read
        return picture.is_file()
    return True


def _seen_at(picture: Path) -> float:
    try:
        return picture.stat().st_mtime
    except OSError:  # it went with its document meanwhile
        return 0.0


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
