"""`python -m service keys`: make, list, revoke and forget keys; a running service knows at once."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ingest.collections import checked_name
from service.cli.printed import print_json
from service.database import records, without_password
from service.keys import Key, Keys
from service.settings import ServiceSettings


def execute(given: argparse.Namespace, settings: ServiceSettings, home: Path) -> int:
    """Do what was asked; returns 0.

    Raises:
        InvalidKey, UnknownKey, RecordsUnavailable: it could not be done.
    """
    kept = records(settings.database, home)
    keys = Keys(kept)
    place = without_password(settings.database) if kept.remote else f"data folder {home}"
    if given.action == "create":
        first = not keys.any
        only = (
            None
            if given.collections is None
            else [checked_name(c.strip()) for c in given.collections.split(",")]
        )
        key, text = keys.create(given.name, given.role, only)
        print(text)
        print(f"{_told(key)}; {place}", file=sys.stderr)
        print(
            "This is the only time that it is shown. Bring it as: Authorization: Bearer KEY", file=sys.stderr
        )
        if first:
            print("From now on every request to this service needs a key.", file=sys.stderr)
    elif given.action == "revoke":
        print(f"revoked {_told(keys.revoke(given.key))}")
        if all(key.revoked_at for key in keys.all()):
            print("No valid key is left: nobody gets in, unless a key file is named.", file=sys.stderr)
    elif given.action == "forget":
        count = keys.forget(given.key)
        print(f"forgot {count} revoked key{'s' * (count > 1)} named {given.key}, and what was kept for it")
        if not keys.any:
            print("No key is listed any more: on a loopback address none is asked for.", file=sys.stderr)
    elif given.json:
        print_json([asdict(key) for key in keys.all()])
    else:
        for key in keys.all():
            state = f"revoked {key.revoked_at}" if key.revoked_at else "valid"
            print(f"{_told(key):60}  made {key.created_at}  {state}")
        if not keys.any:
            print(f"no keys in {place}; make one: python -m service keys create NAME")
    return 0


def _told(key: Key) -> str:
    where = "all collections" if key.collections is None else ", ".join(key.collections)
    return f"{key.name} ({key.id}), {key.role}, {where}"
