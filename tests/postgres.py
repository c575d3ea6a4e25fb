"""A real PostgreSQL (Debian's) on a free loopback port, with databases of their own for tests."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.loopback import lasting_port

USER, PASSWORD = "lore", "p@ss/w?rd"
ENCODED = "p%40ss%2Fw%3Frd"


@functools.cache
def programs() -> Path | None:
    """The folder of the newest PostgreSQL that is installed; None: there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    named = shutil.which("postgres")
    return None if named is None else Path(named).resolve().parent


class PostgresServer:
    """One server; it refuses to run as root, so root starts it as `nobody`, in a folder that `nobody` reaches."""

    def __init__(self, folder: Path) -> None:
        bin_ = programs()
        assert bin_ is not None
        self.bin = bin_
        self.own = os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="lorebase-postgres-")) if self.own else folder
        self.who: dict[str, Any] = (
            {"user": "nobody", "group": "nogroup", "extra_groups": []} if self.own else {}
        )
        if self.own:
            shutil.chown(self.folder, "nobody", "nogroup")
        word = self.folder / "word"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        self.data = self.folder / "data"
        self._run("initdb", "-D", self.data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={word}", "-N", "-E", "UTF8", "--locale=C")  # fmt: skip
        self.port = lasting_port()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """As a crash would: connections break."""
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        if self.own:
            shutil.rmtree(self.folder)

    def address(self, database: str = "postgres", password: str = ENCODED) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"lore_{secrets.token_hex(4)}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.address(name)

    def sql(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        import psycopg

        at = self.address(database) if "://" not in database else database
        with psycopg.connect(at, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.bin / program), *map(str, arguments)]
        with (self.folder / "said").open("a") as said:  # a pipe would stay open in the server
            done = subprocess.run(command, cwd="/", stdout=said, stderr=said, check=False, **self.who)
        assert done.returncode == 0, (self.folder / "said").read_text()
