"""A JSONL file that grows by whole records: what was written before a kill is there after it, and no more.

Each record has a `key`; whoever goes on asks which keys are there. A last line that was cut off by a kill is
taken off before the next one is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import DataError


class Lines:
    """The records of one file, by key."""

    def __init__(self, file: Path) -> None:
        """Read what is there.

        Raises:
            DataError: a line in the middle that is no record: the file is something else.
        """
        self.file, self.records = file, dict[str, dict[str, Any]]()
        if not file.exists():
            return
        text = file.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                record = json.loads(line)
                self.records[record["key"]] = record
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{file}, line {number} is no record of an earlier run: name another file, or remove it"
                ) from error
        if len(whole) < len(text):
            tail, begins = text[len(whole) :], b'{"key": '
            if not (tail.startswith(begins) or begins.startswith(tail)):
                raise DataError(f"{file} is no file of an earlier run: name another file, or remove it")
            with file.open("r+b") as opened:
                opened.truncate(len(whole))

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record, flushed to the disk.

        Raises:
            DataError: the disk refused.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(record, ensure_ascii=False) + "\n")
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise DataError(f"{self.file} cannot be written: {error}. Check the free space") from error
        self.records[record["key"]] = dict(record)
