"""The JSON files that stand beside weights and say what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import ModelError


def read_json(
    file: Path, error: type[ModelError], kind: str, absent: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The object in a JSON file; `absent` where there is no such file.

    Raises:
        `error`: it is missing and `absent` is None (its folder is then no folder of that `kind`), cannot be
            read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        if absent is not None:
            return absent
        raise error(f"{file} is missing: {file.parent} is not {kind}.") from missing
    except (OSError, ValueError, RecursionError) as unreadable:
        raise error(f"{file} cannot be read: {unreadable}.") from unreadable
    if not isinstance(content, dict):
        raise error(f"{file} should hold a JSON object.")
    return content
