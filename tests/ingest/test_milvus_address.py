"""Where a Milvus is, under which names, and what it says in our words; none runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.collections import open_collection
from ingest.errors import (
    IngestError,
    StoreUnavailable,
)
from ingest.store.milvus import server as servers
from ingest.store.milvus import tables
from ingest.store.milvus.address import InvalidStore, is_milvus, parse, without_password

pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")


@pytest.mark.parametrize(
    "store",
    [
        "milvus",
        "postgres://x",
        "milvus+http://",
        "milvus+file://relative.db",
        "milvus+file:///x.sqlite",
        "milvus+http://me:geheim@h:port/db",
        "milvus+http://me:geheim@h/db?index=magic",
        "milvus+http://me:geheim@h/db?colour=red",
        "milvus+http://me:geheim@h/db?timeout_s=-1",
        "milvux+http://me:geheim@h/db",
    ],
)
def test_what_is_no_address_is_refused_and_tells_no_password(store: str) -> None:
    with pytest.raises(InvalidStore) as told:
        parse(store)
    assert "geheim" not in str(told.value)


def test_an_address_is_read_and_shows_no_password() -> None:
    address = parse("milvus+https://me:ge%40heim@[::1]/base?index=hnsw&timeout_s=3")
    assert (address.uri, address.token, address.database) == ("https://[::1]:19530", "me:ge@heim", "base")
    assert (address.index, address.timeout_s) == ("hnsw", 3.0)
    assert "heim" not in f"{address} {address!r}"
    assert without_password("milvus+http://me:ge@heim@h/x") == "milvus+http://***@h/x"
    assert without_password("sqlite") == "sqlite"
    assert not is_milvus("sqlite") and parse("milvus+file:///a%20b/c.db").uri == "/a b/c.db"


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        ((16, "auth check failure, please check api key is correct"), StoreUnavailable, "password"),
        ((65535, "quota exceeded[reason=disk quota exceeded]"), StoreUnavailable, "room"),
        ((1100, "field x is strange"), IngestError, "strange"),
        ((1100, "field 'password' is unavailable, deadline exceeded"), IngestError, "answered with an error"),
        ((1401, "privilege not permitted"), StoreUnavailable, "password"),
        ((9, "deny to write the message"), StoreUnavailable, "room"),
    ],
)
def test_errors_of_milvus_in_our_words(
    monkeypatch: pytest.MonkeyPatch, raised: tuple[int, str], kind: type[Exception], told: str
) -> None:
    from pymilvus.exceptions import MilvusException

    def fail(_: object, timeout_s: float) -> object:
        raise MilvusException(*raised)

    monkeypatch.setattr(servers.Server, "_connected", fail)
    with pytest.raises(kind, match=told):
        servers.Server(parse("milvus+http://me:geheim@h:1")).call("list_collections")


def test_an_account_that_is_refused_is_not_taken_for_a_server_that_is_away() -> None:
    """As a Milvus with accounts answers on the wire: the client itself says only that it cannot connect."""
    grpc = pytest.importorskip("grpc")
    from concurrent import futures

    class Refusing(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, _: object, __: object) -> object:
            def refuse(_: bytes, context: Any) -> None:
                context.abort(
                    grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check username [me]"
                )

            return grpc.unary_unary_rpc_method_handler(refuse)

    running = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[Refusing()])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        server = servers.Server(parse(f"milvus+http://me:geheim@127.0.0.1:{port}?timeout_s=2"))
        with pytest.raises(StoreUnavailable, match="refuses this account") as told:
            server.call("list_collections")
        assert "geheim" not in str(told.value)
    finally:
        running.stop(0)


def test_away_at_the_start_is_said_soon_and_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"127.0.0.1:9 does not answer") as told:
        open_collection(tmp_path, "x", create=True, at="milvus+http://me:geheim@127.0.0.1:9?timeout_s=0.5")
    assert "geheim" not in str(told.value)
    with pytest.raises(StoreUnavailable, match="Milvus Lite file"):
        open_collection(tmp_path, "x", at=f"milvus+file://{tmp_path}/no/such/folder\0/b.db?timeout_s=0.5")


def test_names_in_milvus_are_plain() -> None:
    assert tables.stem("合同 2026").isascii() and tables.stem("合同 2026").replace("_", "").isalnum()
