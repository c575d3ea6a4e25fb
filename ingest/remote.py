"""Folders that are not on this machine: `s3://bucket/docs` and its like, through fsspec.

A file there is known by its whole address. It is listed with its size and, where the store tells it, its
time, and fetched into a temporary file only when it is looked at; beyond the size limit it is not fetched,
or where its store told no size, not to its end.
Accounts and endpoints are fsspec's own settings (for S3 `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on, or
`~/.config/fsspec`), never part of an address. `http` and `https` are pages (`ingest.fetch`), and `file://` is
a path like any other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.fetch import FetchError

#: Where documents lie in folders: object stores, and the file system of a cluster.
SCHEMES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "hdfs", "webhdfs", "memory"}
#: Exists only within the process that filled it, so no other process can be sent there.
MEMORY = "memory://"


_PIECE = 1 << 20


class RemoteError(FetchError):
    """A remote folder or file cannot be reached, or is too large."""


def is_remote(path: str) -> bool:
    """Whether a path is the address of a folder or file that fsspec has to reach."""
    return "://" in path and path.split("://", 1)[0].lower() in SCHEMES


def plain(path: str) -> str:
    """A `file://` address as the path that it is; anything else as it stands."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


def system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the address as that system writes it.

    Raises:
        RemoteError: fsspec knows no such address, its package is not installed, or it refuses.
    """
    import fsspec  # not needed where all is on this machine

    scheme = urlsplit(address).scheme
    try:
        files, root = fsspec.url_to_fs(address)
    except ImportError as error:
        package = "s3fs" if scheme in ("s3", "s3a") else f"what fsspec needs for {scheme}"
        raise RemoteError(
            f"{address} needs a package that is not installed ({error}). "
            f"Install {package} (for S3: pip install s3fs), on the machines that read the files too."
        ) from error
    except Exception as error:  # each file system raises its own
        raise RemoteError(
            f"{address} cannot be opened: {error}. Folders are paths of this machine, or addresses that "
            "fsspec knows, such as s3://BUCKET/FOLDER."
        ) from error
    return files, str(root)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file below an address."""

    below: str  #: its path from there, without a slash in front; empty where the address is the file
    size: int
    mtime_ns: int  #: 0 where its store does not say, so that the content decides


def listing(address: str) -> list[Listed]:
    """The files at or below an address, by name.

    Raises:
        RemoteError: see `system`, or it cannot be listed.
    """
    files, root = system(address)
    try:
        if not files.exists(root):
            raise FileNotFoundError("there is nothing at this address; check its spelling and the account")
        found: dict[str, dict[str, Any]] = files.find(root, detail=True)
    except Exception as error:
        raise RemoteError(f"{address} cannot be listed: {str(error) or repr(error)}.") from error
    return [
        Listed(name.removeprefix(root).strip("/"), int(found[name].get("size") or 0), _time(found[name]))
        for name in sorted(found)
        if not name.endswith("/")  # what stands for a folder in some object stores
    ]


def _time(info: dict[str, Any]) -> int:
    """When it was changed, in ns, or 0."""
    for key in ("LastModified", "mtime", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return int(value.timestamp() * 1e9)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value * 1e9)
    return 0


@contextmanager
def fetched(address: str, most_bytes: int) -> Iterator[Path]:
    """The file at an address as a temporary file of this machine.

    Raises:
        RemoteError: it is gone, cannot be read, or is longer than `most_bytes`.
    """
    with tempfile.TemporaryDirectory(prefix="lorebase-") as folder:
        file = Path(folder, "file")
        files, path = system(address)
        try:
            with files.open(path, "rb") as content, file.open("wb") as out:
                left = most_bytes
                while left >= 0 and (piece := content.read(_PIECE)):
                    left -= len(piece)
                    out.write(piece)
        except Exception as error:
            raise RemoteError(f"{address} cannot be read: {str(error) or repr(error)}.") from error
        if left < 0:
            raise RemoteError(
                f"{address}: over the limit of {most_bytes >> 20:,} MiB (setting max_file_mb); its store did "
                "not tell its size, so it was fetched up to there."
            )
        yield file
