"""The schema of keys and conversations in a PostgreSQL, upgraded by Alembic when it is first used.

A revision is a file in `versions/`, and is never changed once published. A database of a newer Lorebase
is refused; an older one is upgraded, by whichever service comes first.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.errors import RecordsUnavailable

FOLDER = Path(__file__).resolve().parent
VERSION_TABLE = "lorebase_version"
#: Which of a database's advisory locks is ours: "lore" in ASCII.
LOCK = 0x6C6F7265
#: A writer whose machine has vanished holds the others up for half a minute, not for TCP's two hours.
_LOCKED = text(
    "SELECT set_config('lock_timeout', :wait, true), "
    "set_config('idle_in_transaction_session_timeout', '30000', true), pg_advisory_xact_lock(:lock)"
)
#: Alembic's environment is one for the whole process.
_alembic = threading.Lock()


def lock(opened: Connection, wait_ms: int) -> None:
    """Wait until no other transaction writes, and keep others waiting until this one ends.

    Raises:
        sqlalchemy.exc.OperationalError: it took longer than that.
    """
    opened.execute(_LOCKED, {"wait": str(wait_ms), "lock": LOCK})


def upgrade(opened: Connection, wait_ms: int) -> None:
    """Make or upgrade the tables, within the transaction of `opened`.

    Raises:
        RecordsUnavailable: they are of a newer Lorebase.
    """
    with _alembic:
        lock(opened, wait_ms)
        config = Config()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = opened
        scripts = ScriptDirectory.from_config(config)
        options = {"version_table": VERSION_TABLE}
        found = MigrationContext.configure(opened, opts=options).get_current_heads()
        known = {script.revision for script in scripts.walk_revisions()}
        if strange := sorted(set(found) - known):
            raise RecordsUnavailable(
                f"the database of keys and conversations was written by a newer Lorebase (revision "
                f"{strange[0]}): install that one here too, or name another database."
            )
        if found != (scripts.get_current_head(),):
            command.upgrade(config, "head")
