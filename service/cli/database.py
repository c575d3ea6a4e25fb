"""`python -m service database copy`: keys and conversations of `service.sqlite` into the shared database."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from service import moving
from service.database import FILE_NAME, Database, records, without_password
from service.errors import InvalidRequest
from service.settings import ServiceSettings


def execute(settings: ServiceSettings, home: Path, given: argparse.Namespace) -> int:
    """Copy them; returns 0.

    Raises:
        InvalidRequest: there is nothing to copy, or no other database to copy it into.
        InvalidKey, RecordsUnavailable: see `moving.copy`.
    """
    source, target = Database(home), records(settings.database, home)
    if not target.remote:
        raise InvalidRequest(
            "the setting database is sqlite, the file itself: name the PostgreSQL that shall have its keys "
            "and conversations (database in lorebase.toml, or LOREBASE_SERVICE_DATABASE)"
        )
    if not source.file.is_file():
        raise InvalidRequest(f"there is no {FILE_NAME} in {home}; --home names another data folder")
    try:
        moved = moving.copy(source, target)
    finally:
        source.close()
        target.close()
    if given.json:
        print(json.dumps(asdict(moved)))
        return 0
    print(
        f"{moved.keys} keys and {moved.sessions} conversations ({moved.turns} turns) copied into "
        f"{without_password(settings.database)}"
    )
    if moved.known_keys or moved.known_sessions:
        known = f"{moved.known_keys} keys and {moved.known_sessions} conversations"
        print(f"{known} were there already and stay as they are")
    print(f"{FILE_NAME} in {home} was only read; a service with the new setting does not look at it")
    return 0
