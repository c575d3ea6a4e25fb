"""A file of JSON objects, one a line, that is only ever appended to: what long commands keep as they go.

Invariants: a line is written whole or not counted (a torn last line is cut off); what `add` has returned from
is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def read(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank, after cutting off a torn last one; none without a file.

    Raises:
        OSError: it cannot be read or mended.
    """
    if not file.is_file():
        return
    with file.open("rb+") as stream:
        data = stream.read()
        whole, _, torn = data.rpartition(b"\n")
        if torn:  # a run was killed in the middle of a line
            stream.truncate(len(data) - len(torn))
    for number, line in enumerate(whole.decode("utf-8", "replace").split("\n"), 1):
        if line.strip():
            yield number, line


def add(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append, and hand over to the disk.

    Raises:
        OSError: the disk is full or gone.
    """
    with file.open("a", encoding="utf-8", errors="replace", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        stream.flush()
        os.fsync(stream.fileno())
