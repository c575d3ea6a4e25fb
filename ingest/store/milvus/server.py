"""The connection to a Milvus: one a process and address, its errors in our words, retries with back-off.

Every call has a deadline (`Address.timeout_s`). Until it has passed, a server that is away is tried again
with a growing pause, over a new connection; so a restart of Milvus costs a wait and no error where it is
short, and where it is long a `StoreUnavailable`, after which the next call tries anew. Repeating is harmless:
reads change nothing, writes are upserts and deletions.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from ingest.errors import IngestError, StoreUnavailable
from ingest.store.milvus.address import Address

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_PAGE = 1000  #: rows that are asked for at once
#: What an error means to us: by the status of the call, by Milvus's own code, by words where neither tells.
Meaning = Literal["away", "refused", "full", "other"]
_STATUSES: dict[str, Meaning] = {
    "UNAVAILABLE": "away",
    "DEADLINE_EXCEEDED": "away",
    "CANCELLED": "away",  # another thread has dropped the connection that this one was using
    "UNAUTHENTICATED": "refused",
    "PERMISSION_DENIED": "refused",
}
#: Service unavailable, rate limit; privileges; memory, disk and quota (`merr` in Milvus's sources).
_CODES: dict[int, Meaning] = {
    2: "away", 8: "away", 1400: "refused", 1401: "refused", 3: "full", 7: "full", 9: "full",
}  # fmt: skip
#: From here on a code names the thing that is wrong, but for the last one, which says nothing.
_FIRST_EXACT, _UNKNOWN = 100, 65535
_WORDS: tuple[tuple[Meaning, tuple[str, ...]], ...] = (
    ("refused", ("auth check failure", "unauthenticated", "permission deny")),
    ("full", ("quota exceeded", "no space", "disk full")),
    ("away", ("unavailable", "fail connecting", "deadline exceeded", "not ready")),
    ("away", ("retry timeout", "retry run out", "closed channel", "channel closed")),
)
_RELEASED = 101  #: a Lite file that was closed, or a collection that nobody loaded since Milvus started

Row = dict[str, Any]


class Server:
    """One Milvus; thread-safe, opened by the first call."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._client: Any = None

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of `pymilvus.MilvusClient`.

        Raises:
            StoreUnavailable: it does not answer in time, or does not let us in.
            IngestError: it answers with another error.
        """
        collection = str(args[0]) if args else ""
        return self._repeated(
            lambda client, left: getattr(client, method)(*args, timeout=left, **kwargs), collection
        )

    def rows(self, collection: str, where: str, fields: Sequence[str]) -> Iterator[Row]:
        """All rows that pass, in no order, page by page; a connection that breaks at the third ends it."""

        def begin(client: Any, left: float) -> tuple[Any, list[list[Row]]]:
            pages = client.query_iterator(
                collection, batch_size=_PAGE, filter=where, output_fields=list(fields), timeout=left
            )
            page = pages.next()
            return pages, [page, pages.next()] if page else [page]  # most have one page and an empty one

        pages, read = self._repeated(begin, collection)
        try:
            for page in read:
                yield from page
            while read[-1] and (page := pages.next()):
                yield from page
        except _errors() as error:
            raise self._translated(error) from error
        finally:
            pages.close()

    def _repeated(self, work: Callable[[Any, float], Any], collection: str) -> Any:
        """What `work` does with a connection and the seconds that are left, until it succeeds or is late."""
        deadline = time.monotonic() + self.address.timeout_s
        pause = _FIRST_PAUSE_S
        while True:
            left = max(0.1, deadline - time.monotonic())
            client: Any = None
            try:
                client = self._connected(left)
                return work(client, left)
            except _errors() as error:
                late = time.monotonic() + pause >= deadline
                if getattr(error, "code", None) == _RELEASED and not late:
                    self._load(collection, left)
                elif not late and _meaning(error) == "away":
                    self._drop(client)
                    time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that many do not come at once
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                else:
                    raise self._translated(error) from error

    def count(self, collection: str, where: str) -> int:
        """How many rows pass."""
        return int(self.call("query", collection, filter=where, output_fields=["count(*)"])[0]["count(*)"])

    def upsert(self, collection: str, rows: Sequence[Row], most: int = 500) -> None:
        """Write rows in batches; what has the same key is replaced."""
        for start in range(0, len(rows), most):
            self.call("upsert", collection, list(rows[start : start + most]))

    def disconnect(self) -> None:
        """Drop the connection; the next call makes another."""
        self._drop(self._client)

    def _drop(self, client: Any) -> None:
        """Drop a connection that failed, unless another thread has done so and made a new one."""
        with self._lock:
            if client is not self._client:
                return
            self._client = None
        if client is not None:
            with contextlib.suppress(
                Exception
            ):  # it is gone already; nothing is lost by failing to say goodbye
                client.close()

    def _connected(self, timeout_s: float) -> Any:
        with self._lock:
            if self._client is None:
                milvus = _pymilvus()
                self._client = milvus.MilvusClient(
                    self.address.uri,
                    token=self.address.token,
                    db_name=self.address.database,
                    timeout=timeout_s,
                    dedicated=True,
                )
            return self._client

    def _load(self, collection: str, timeout_s: float) -> None:
        try:
            self._connected(timeout_s).load_collection(collection, timeout=timeout_s)
        except _errors() as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> IngestError:
        told = " ".join(str(getattr(error, "message", "") or error).split())[:400]
        where = f"The Milvus at {self.address}"
        meaning = _meaning(error)
        if meaning == "refused":
            return StoreUnavailable(
                f"{where} refuses this account ({told}). Check the user and password in the setting `store`."
            )
        if "open local milvus failed" in told.lower():
            return StoreUnavailable(
                f"The Milvus Lite file {self.address} cannot be opened: its folder is missing, or another "
                "process has it open. One process at a time can use a file; for several, run a Milvus server."
            )
        if meaning == "away":
            return StoreUnavailable(
                f"{where} does not answer ({told}). Nothing was lost; repeat when it is back."
            )
        if meaning == "full":
            return StoreUnavailable(f"{where} has no room left ({told}). Nothing of this step was kept.")
        return IngestError(f"{where} answered with an error: {told}.")


def _meaning(error: BaseException) -> Meaning:
    for status in _statuses(error):
        if status in _STATUSES:
            return _STATUSES[status]
    code = getattr(error, "code", None)
    if isinstance(code, int):
        if code in _CODES:
            return _CODES[code]
        if code >= _FIRST_EXACT and code != _UNKNOWN:
            return "other"
    elif isinstance(error, ConnectionError | TimeoutError):
        return "away"
    told = str(getattr(error, "message", "") or error).lower()
    return next((meaning for meaning, signs in _WORDS if any(sign in told for sign in signs)), "other")


def _statuses(error: BaseException) -> Iterator[str]:
    """Statuses of gRPC in the chain of causes; the client says of some only that it could not connect."""
    import grpc

    seen: set[int] = set()
    cause: BaseException | None = error
    # The client raises errors from themselves; what we raised is of an earlier call.
    while cause is not None and id(cause) not in seen and not isinstance(cause, IngestError):
        seen.add(id(cause))
        if isinstance(cause, grpc.RpcError) and callable(code := getattr(cause, "code", None)):
            yield str(getattr(code(), "name", ""))
        cause = cause.__context__ if cause.__cause__ in (None, cause) else cause.__cause__


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise StoreUnavailable(
            "The setting `store` names a Milvus, and its client is not installed: "
            "pip install 'lorebase[milvus]'."
        ) from error
    # Every failed try would be logged with its traceback; what matters is raised.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)  # a Lite file lacks calls that it is asked
    return pymilvus


def _errors() -> tuple[type[Exception], ...]:
    import grpc
    from pymilvus.exceptions import MilvusException

    return (MilvusException, grpc.RpcError, ConnectionError, TimeoutError)


_open: dict[Address, tuple[Server, int]] = {}
_opening = threading.Lock()


def borrow(address: Address) -> Server:
    """The connection to this address, shared by all stores of the process; to be given back."""
    _pymilvus()
    with _opening:
        server, users = _open.get(address) or (Server(address), 0)
        _open[address] = (server, users + 1)
        return server


def give_back(server: Server) -> None:
    """The last one to give it back closes it; of a Lite file, so that another process can open it."""
    with _opening:
        _, users = _open.pop(server.address, (server, 1))
        if users > 1:
            _open[server.address] = (server, users - 1)
            return
        server.disconnect()
        if server.address.is_file and not any(a.uri == server.address.uri for a in _open):
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(server.address.uri)
