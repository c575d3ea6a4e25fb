"""One writer a collection among all machines, by claims that stand in the records.

Milvus has no lock and no compare-and-swap; it has writes that all see once they are acknowledged. That is
what Lamport's bakery needs (CACM 17 (8), 1974): a writer says that it is choosing, takes a ticket above all
others, and waits for every claim with a lower one. A claim is renewed all the time; one that stands still for
`LEASE_S` is of a writer that is gone, and whoever waits for it removes it. Clocks are never compared.

On one machine the operating system's lock comes first (`ingest.store.lock`). It proves that a claim which
names the same lock file is of a dead process, so a killed ingest is not waited for.

A writer that was stopped for longer than `LEASE_S` and goes on is told so before it commits. Between that
look and the commit there is a moment in which two could commit; it is as long as one answer of Milvus.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from ingest.errors import CollectionLocked, IngestError
from ingest.store.milvus.server import Row
from ingest.store.milvus.tables import RECORD_FIELDS, KnowledgeBase, record

LEASE_S = 15.0
_POLL_S = 0.1
_KIND = "claim"


class Lease:
    """The right to write, as long as it is renewed. Used by one thread at a time."""

    def __init__(self, kb: KnowledgeBase, lock_file: Path, lease_s: float = LEASE_S) -> None:
        self._server = kb.server
        self._records = kb.records
        self._lock_file = lock_file
        self._lease_s = lease_s
        self._key = ""
        self._place = ""
        self._doing = ""
        self._ticket = 0
        self._renewed = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, doing: str, deadline: float) -> None:
        """Wait for the right to write.

        Raises:
            CollectionLocked: another writer still has it at `deadline` (of `time.monotonic`).
        """
        self._key, self._doing, self._ticket = f"w{uuid4().hex}", doing, 0
        self._place = _place(self._lock_file)
        self._say(0)
        try:
            self._ticket = 1 + max((claim["ticket"] for claim in self._others()), default=0)
            self._say(0)
            self._wait(deadline)
        except BaseException:
            with suppress(IngestError):
                self._withdraw(self._key)
            raise
        self._ended.clear()
        self._thread = threading.Thread(target=self._renew, name="lorebase-lease", daemon=True)
        self._thread.start()

    def give_back(self) -> None:
        """Let the next one write. Where Milvus is away, the claim stands still and is removed by another."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with suppress(IngestError):
            self._withdraw(self._key)

    def check(self) -> None:
        """Raise CollectionLocked where the right may have gone to another meanwhile."""
        if time.monotonic() - self._renewed > self._lease_s:
            raise CollectionLocked(
                f"The right to write was lost: Milvus was silent for {self._lease_s:.0f} s, and another "
                "writer may have begun. What was committed stays; the same command goes on from there."
            )

    def holder(self) -> str | None:
        """Who has the right to write, in words; None where nobody does."""
        claims = [claim for claim in self._others() if claim["ticket"]]
        return min(claims, key=_order)["who"] if claims else None

    def _wait(self, deadline: float) -> None:
        still: dict[str, tuple[int, float]] = {}
        last_beat = time.monotonic()
        while True:
            now = time.monotonic()
            before = []
            for claim in self._others():
                beat, since = still.get(claim["key"], (-1, now))
                still[claim["key"]] = (claim["beat"], since if beat == claim["beat"] else now)
                dead = now - still[claim["key"]][1] > self._lease_s or claim["place"] == self._place
                if dead:
                    self._withdraw(claim["key"])
                elif not claim["ticket"] or _order(claim) < (self._ticket, self._key):
                    before.append(claim)
            if not before:
                return
            if now >= deadline:
                raise CollectionLocked(
                    f"The collection is being written ({min(before, key=_order)['who']}). Wait until that is "
                    "done, or end it, and repeat."
                )
            if now - last_beat > self._lease_s / 5:
                self._say(int(now))
                last_beat = now
            time.sleep(_POLL_S)

    def _say(self, beat: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = f"{self._doing}: process {os.getpid()} on {platform.node()}, since {since}"
        claim = {"ticket": self._ticket, "beat": beat, "place": self._place, "who": who}
        sent = time.monotonic()
        self._server.upsert(self._records, [record(self._key, _KIND, json.dumps(claim))])
        self._renewed = sent

    def _renew(self) -> None:
        beat = 0
        while not self._ended.wait(self._lease_s / 5):
            beat += 1
            with suppress(IngestError):
                self._say(beat)

    def _others(self) -> list[Row]:
        rows = self._server.rows(self._records, f'kind == "{_KIND}"', RECORD_FIELDS)
        return [{"key": row["key"]} | json.loads(row["body"]) for row in rows if row["key"] != self._key]

    def _withdraw(self, key: str) -> None:
        self._server.call("delete", self._records, filter=f'key == "{key}"')


def _order(claim: Row) -> tuple[int, str]:
    return claim["ticket"], claim["key"]


def _boot() -> str:
    """Which running kernel this is (Linux): cloned machines may have the same name and inodes."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _place(lock_file: Path) -> str:
    """What names this lock file among those of all machines."""
    found = lock_file.stat()
    return f"{platform.node()}:{_boot()}:{found.st_dev}:{found.st_ino}"
