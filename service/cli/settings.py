"""`python -m service settings`: every setting, its value, and where the value came from."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ingest.settings import IngestSettings, find_file, read_table
from ingest.store.milvus import address as store_address
from service import database
from service.cli.printed import print_json
from service.settings import ServiceSettings, ollama_host

#: What would be a secret. No setting is one: keys are in files, and settings only name these.
SECRET = ("key", "token", "secret", "password")
HIDDEN = "(hidden)"
#: Addresses may hold a password.
WITHOUT_PASSWORD: dict[str, Callable[[str], str]] = {
    "store": store_address.without_password,
    "database": database.without_password,
}


def execute(given: argparse.Namespace, home: Path) -> int:
    """Print them; returns 0.

    Raises:
        SettingsError: a setting is unknown or does not fit.
    """
    flags = {name: getattr(given, name, None) for name in ("host", "port", "model", "collection")}
    tables: list[tuple[str, type[BaseModel], dict[str, Any]]] = [
        ("service", ServiceSettings, flags),
        ("ingest", IngestSettings, {}),
    ]
    rows = [
        {"table": "", "key": "LOREBASE_HOME", "value": str(home), "from": _home_from(given)},
        {
            "table": "",
            "key": "OLLAMA_HOST",
            "value": ollama_host(),
            "from": "environment" if os.environ.get("OLLAMA_HOST") else "default",
        },
    ]
    for table, model, told in tables:
        settings = read_table(table, model, told)
        for key, field in model.model_fields.items():
            value = HIDDEN if key.endswith(SECRET) else getattr(settings, key)
            if key in WITHOUT_PASSWORD:
                value = WITHOUT_PASSWORD[key](value)
            rows.append(
                {
                    "table": table,
                    "key": key,
                    "value": value,
                    "from": source(table, key, told),
                    "about": field.description or "",
                }
            )
    if given.json:
        print_json(rows)
        return 0
    for row in rows:
        name = f"{row['table']}.{row['key']}" if row["table"] else str(row["key"])
        print(f"{name:32} {_shown(row['value']):40} {row['from']}")
        if row.get("about") and given.explain:
            print(f"{'':32} {row['about']}")
    return 0


def source(
    table: str,
    key: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    start: Path | None = None,
) -> str:
    """Where the value of a setting comes from: a flag, a variable, a file, or the program itself."""
    if flags.get(key) is not None:
        return "--" + key.replace("_", "-")
    prefix = f"LOREBASE_{table.upper()}_"
    for name in environ:
        if name.startswith(prefix) and name[len(prefix) :].lower() == key:
            return name
    if (file := find_file(start)) and key in tomllib.loads(file.read_text(encoding="utf-8")).get(table, {}):
        return str(file)
    return "default"


def _home_from(given: argparse.Namespace) -> str:
    if getattr(given, "home", None):
        return "--home"
    return "environment" if os.environ.get("LOREBASE_HOME") else "nearest .lorebase"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "(none)"
    return "(none)" if value is None else str(value)
