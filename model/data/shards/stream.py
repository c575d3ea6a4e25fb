"""Shards of one side as one row of ids, mapped into memory: nothing is read before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.shards.build import MANIFEST, SIDES, read_manifest
from model.errors import DataError
from model.folder import sha256_file


class Stream:
    """The ids of a side, in order; where a shard ends cannot be told from outside."""

    def __init__(self, shards: list[NDArray[Any]], described: dict[str, Any], fingerprint: str) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self.texts, self.bytes, self.fingerprint = described["texts"], described["bytes"], fingerprint

    def __len__(self) -> int:
        """How many ids there are."""
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """The ids from `start` to before `stop`, at most to the end."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for number in range(first, len(self._shards)):
            at = int(self._starts[number])
            if at >= stop:
                break
            parts.append(self._shards[number][max(start - at, 0) : stop - at])
        return np.concatenate(parts).astype(np.int64)


def open_streams(folder: Path) -> tuple[Stream, Stream | None]:
    """Training and validation ids of a folder of shards, every byte compared with the manifest first.

    Raises:
        DataError: a manifest that is missing or not whole, or a shard that is missing or damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest["complete"]:
        raise DataError(
            f"{folder / MANIFEST} is missing, unreadable or not finished; remove {folder} to build it anew"
        )
    streams = [_open(folder, manifest, side) for side in SIDES]
    assert streams[0] is not None, "a finished manifest has something to train on"
    return streams[0], streams[1]


def _open(folder: Path, manifest: dict[str, Any], side: str) -> Stream | None:
    dtype = np.dtype(manifest["dtype"])
    shards = []
    for entry in manifest[side]["shards"]:
        file = folder / entry["file"]
        if not file.is_file():
            raise DataError(f"{file} is missing; remove {folder} to build it anew")
        if file.stat().st_size != entry["tokens"] * dtype.itemsize or sha256_file(file) != entry["sha256"]:
            raise DataError(
                f"{file} is damaged: not what its manifest says; remove {folder} to build it anew"
            )
        shards.append(np.memmap(file, dtype, mode="r"))
    fingerprint = " ".join(entry["sha256"] for entry in manifest[side]["shards"])
    return Stream(list(shards), manifest[side], fingerprint) if shards else None
