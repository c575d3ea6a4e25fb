"""Keys and conversations move from the embedded file to a real PostgreSQL, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.__main__ import main
from service.database import records
from service.events import Final
from service.keys import Keys
from service.sessions import Exchange, Sessions
from tests.postgres import ENCODED, PASSWORD, PostgresServer

ANSWER = Final(id="x", mode="rag", answer="yes")
QUESTION = {"question": "How tall is the Eiffel Tower?", "session_id": "s1"}


def test_keys_and_conversations_move_and_lose_nothing(
    server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()

    def copy(setting: str, *more: str) -> tuple[int, str]:
        monkeypatch.setenv("LOREBASE_SERVICE_DATABASE", setting)
        status = main(["database", "copy", "--home", str(home), *more])
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err and ENCODED not in said.out + said.err
        return status, said.out + said.err

    at = server.database()
    status, said = copy(at)
    assert status == 2 and "there is no service.sqlite" in said and not (home / "service.sqlite").exists()
    file, shared = records("sqlite", home), records(at, home)
    keys, sessions = Keys(file), Sessions(file)
    ann, text = keys.create("ann", "editor", ["合同", "b"])
    _, gone = keys.create("gone", "admin")
    keys.revoke("gone")
    odd = "zero \0 byte, 100% of ? and %s, ' \\ 🗼 中文"
    for owner in (ann.id, ""):
        for n in range(3):
            sessions.add(owner, "s1", Exchange.of(f"{odd}{n}", "default", ANSWER))
        sessions.add(owner, "s2", Exchange.of("q", "default", ANSWER))
    assert copy("sqlite")[0] == 2
    assert copy(f"postgresql://lore:{ENCODED}@127.0.0.1:1/lore")[0] == 2
    status, said = copy(at)
    assert (status, "2 keys and 4 conversations (8 turns) copied" in said) == (0, True), said
    there, talks = Keys(shared), Sessions(shared)
    assert there.all() == keys.all() and there.find(text) == ann and there.find(gone) is None
    for owner in (ann.id, ""):
        assert talks.all(owner) == sessions.all(owner)
        assert talks.one(owner, "s1") == sessions.one(owner, "s1")
    # Once more: nothing comes twice, what went on there stays, what was revoked here is void there.
    talks.add("", "s1", Exchange.of("asked there", "default", ANSWER))
    keys.revoke("ann")
    moved = json.loads(copy(at, "--json")[1])
    assert moved == {"keys": 0, "sessions": 0, "turns": 0, "known_keys": 2, "known_sessions": 4}
    assert there.find(text) is None and talks.all("")[0].turns == 4 and keys.all() == there.all()
    # Two valid keys of one name: none of it is copied.
    keys.create("bob", "reader")
    there.create("bob", "reader")
    sessions.add("", "s3", Exchange.of("q", "default", ANSWER))
    status, said = copy(at)
    assert status == 2 and "'bob'" in said and len(talks.all("")) == 2
    file.close()
    shared.close()
