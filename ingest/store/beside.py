"""What is kept beside a collection's database, by the hash of the document that it belongs to.

    originals/SHA256         the bytes of an upload
    pages/SHA256-PAGE.png    pictures of its pages

They belong to their documents, whoever kept them: what no document has any more goes when one is forgotten,
also what a process that was killed has left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

#: After so many seconds a file that was never finished belongs to nobody.
_ABANDONED_S = 3600


def sweep(folder: Path, hashes: Iterable[str]) -> None:
    """Remove the files of documents that are gone; the caller holds the collection.

    Args:
        folder: the collection's.
        hashes: `content_hash` of all documents that there are.
    """
    known = {name.removeprefix("sha256:") for name in hashes}
    for kind in ("originals", "pages"):
        for file in (folder / kind).glob("*"):
            name = file.name.partition("-")[0]
            with contextlib.suppress(OSError):
                if file.name.startswith("."):
                    if time.time() - file.stat().st_mtime > _ABANDONED_S:
                        file.unlink()
                elif len(name) == 64 and name not in known:
                    file.unlink()
