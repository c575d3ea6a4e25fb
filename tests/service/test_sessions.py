"""Conversations that the service remembers: a name is all that a follow-up needs, and each key has its own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service import sessions as sessions_module
from service.database import FILE_NAME, Database
from service.events import Final
from service.keys import Keys
from service.sessions import Exchange, Sessions
from tests.service.conftest import leave, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

FIRST = "How tall is the Eiffel Tower?"
FOLLOW_UP = "And when was it finished?"


def ask(client: TestClient, question: str, session: str | None = "s1", **more: Any) -> dict[str, Any]:
    headers = more.pop("headers", {})
    body = {"question": question} | ({} if session is None else {"session_id": session}) | more
    reply = client.post("/ask", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_a_follow_up_means_what_it_would_with_all_the_messages(client: TestClient) -> None:
    first = ask(client, FIRST)
    by_name = ask(client, FOLLOW_UP)
    turns = [
        {"role": "user", "content": FIRST},
        {"role": "assistant", "content": first["answer"]},
        {"role": "user", "content": FOLLOW_UP},
    ]
    by_messages = client.post("/ask", json={"messages": turns}).json()
    assert by_name["standalone_question"] == by_messages["standalone_question"] is not None
    assert "Eiffel Tower" in by_name["standalone_question"]
    assert by_name["answer"] == by_messages["answer"]
    assert [s["chunk_id"] for s in by_name["sources"]] == [s["chunk_id"] for s in by_messages["sources"]]
    assert ask(client, FOLLOW_UP, None)["standalone_question"] is None
    assert ask(client, FOLLOW_UP, "another")["standalone_question"] is None


def test_history_is_listed_read_and_forgotten(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/sessions").json() == {"sessions": []}
    assert not (tmp_path / FILE_NAME).exists()  # nothing to keep, no file
    reply = ask(client, FIRST)
    refused = ask(client, "Who painted the Mona Lisa?")
    ask(client, "Where is the bridge of Mostar?", "s2")
    listed = client.get("/sessions").json()["sessions"]
    assert [(s["id"], s["title"], s["turns"]) for s in listed] == [
        ("s2", "Where is the bridge of Mostar?", 1),
        ("s1", FIRST, 2),
    ]
    kept = client.get("/sessions/s1").json()
    first, second = kept["history"]
    assert (first["question"], first["answer"], first["id"]) == (FIRST, reply["answer"], reply["id"])
    (place,), (citation,) = first["citations"], reply["citations"]
    assert place == {name: citation[name] for name in place} and "text" not in place
    assert second["answered"] is refused["answered"] is False and second["refusal_reason"]
    assert client.delete("/sessions/s1").status_code == 204
    assert client.get("/sessions/s1").status_code == client.delete("/sessions/s1").status_code == 404
    assert [s["id"] for s in client.get("/sessions").json()["sessions"]] == ["s2"]
    stored = b"".join(f.read_bytes() for f in tmp_path.glob(f"{FILE_NAME}*"))  # the log is emptied, too
    assert FIRST.encode() not in stored


def test_it_outlives_the_service(client: TestClient, tmp_path: Path) -> None:
    ask(client, FIRST)
    database = Database(tmp_path)
    (turn,) = Sessions(database).one("", "s1")[1]
    assert turn.question == FIRST and turn.citations
    database.close()


def test_a_session_belongs_to_the_key_that_asked(client: TestClient, tmp_path: Path) -> None:
    keys = Keys(Database(tmp_path))
    ann, bob = ({"Authorization": f"Bearer {keys.create(n, 'reader')[1]}"} for n in ("ann", "bob"))
    ask(client, FIRST, headers=ann)
    assert client.get("/sessions", headers=bob).json() == {"sessions": []}
    assert client.get("/sessions/s1", headers=bob).status_code == 404
    assert client.delete("/sessions/s1", headers=bob).status_code == 404
    assert (
        ask(client, FOLLOW_UP, headers=bob)["standalone_question"] is None
    )  # the same name, another session
    assert client.get("/sessions/s1", headers=ann).json()["turns"] == 1
    keys.revoke("bob")
    keys.forget("bob")
    assert client.get("/sessions/s1", headers=ann).status_code == 200
    assert [row[0] for row in Database(tmp_path)._opened().execute("SELECT DISTINCT owner FROM turns")] == [
        client_id(keys, "ann")
    ]


def client_id(keys: Keys, name: str) -> str:
    return next(key.id for key in keys.all() if key.name == name)


def test_streamed_answers_are_kept_and_abandoned_ones_are_not(
    address: str, app: FastAPI, generator: ScriptedGenerator
) -> None:
    import httpx

    with httpx.Client(base_url=address, timeout=30) as client:
        client.post("/ask", json={"question": FIRST, "session_id": "s", "stream": True}).raise_for_status()
        assert client.get("/sessions/s").json()["turns"] == 1
        generator.gate = threading.Event()
        asked = len(generator.asked)
        body = {"question": "How many steps has the tower?", "session_id": "s"}
        leave(address, "/ask", body, lambda: len(generator.asked) > asked)
        until(lambda: generator.cancelled == 1)  # the service has seen that nobody listens any more
        generator.gate.set()
        generator.gate = None
        client.post("/ask", json={"question": FIRST}).raise_for_status()  # one slot: the other has ended
        assert client.get("/sessions/s").json()["turns"] == 1


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 3)
    monkeypatch.setattr(sessions_module, "MOST_TURNS", 4)
    sessions = Sessions(Database(tmp_path))
    final = Final(id="x", mode="rag", answer="yes")
    for owner in ("a", "b"):
        for name in ("1", "2", "3", "1", "4"):  # the least recently used goes
            sessions.add(owner, name, Exchange.of("q", "default", final))
        assert [s.id for s in sessions.all(owner)] == ["4", "1", "3"]
    for n in range(9):
        sessions.add("a", "1", Exchange.of(f"q{n}", "default", final))
    session, turns = sessions.one("a", "1")
    assert [t.question for t in turns] == ["q5", "q6", "q7", "q8"] and session.turns == 4
    monkeypatch.setattr(sessions_module, "HISTORY_TURNS", 2)
    assert [s.text for s in sessions.history("a", "1")] == ["q7", "yes", "q8", "yes"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../x", "é", "a\n", None, 3])
def test_names_are_plain(client: TestClient, name: object) -> None:
    reply = client.post("/ask", json={"question": FIRST, "session_id": name})
    assert reply.status_code == (200 if name is None else 422)


def test_a_session_and_messages_exclude_each_other(client: TestClient) -> None:
    turns = [{"role": "user", "content": FIRST}]
    reply = client.post("/ask", json={"messages": turns, "session_id": "s"})
    assert reply.status_code == 422 and "session_id" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_programs_that_send_all_turns_are_understood_too(
    client: TestClient, path: str, library: MemoryLibrary
) -> None:
    turns = [
        {"role": "user", "content": FIRST},
        {"role": "assistant", "content": "The tower is 330 metres tall. [1]"},
        {"role": "user", "content": FOLLOW_UP},
    ]
    body = {"model": "lorebase:default", "messages": turns, "stream": False}
    assert client.post(path, json=body).status_code == 200
    assert FOLLOW_UP in library.searched
    assert any("Eiffel Tower" in query for query in library.searched)
    library.searched.clear()
    client.post(path, json=body | {"messages": turns[-1:]}).raise_for_status()
    assert library.searched == [FOLLOW_UP]
