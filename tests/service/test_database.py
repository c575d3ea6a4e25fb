"""Keys and conversations keep the same promises in the embedded file and in a real PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service import database
from service import sessions as sessions_module
from service.__main__ import main
from service.app import create_app
from service.cli.serve import _listed
from service.database import Records, RecordsAway, records, without_password
from service.errors import InvalidKey, RecordsUnavailable, UnknownKey, UnknownSession
from service.events import Final
from service.keys import Keys
from service.sessions import Exchange, Sessions
from service.settings import ServiceSettings
from tests.postgres import ENCODED, PASSWORD, PostgresServer
from tests.service.conftest import TOWER, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

ANSWER = Final(id="x", mode="rag", answer="yes")
QUESTION = {"question": "How tall is the Eiffel Tower?", "session_id": "s1"}


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Records]]:
    """Opens the same records anew, as another process would."""
    setting = "sqlite" if request.param == "sqlite" else request.getfixturevalue("server").database()
    made: list[Records] = []

    def another() -> Records:
        made.append(records(setting, tmp_path))
        return made[-1]

    yield another
    for one in made:
        one.close()


# --- the contract ---------------------------------------------------------------------------------------------------


def test_keys_are_seen_and_void_at_once_for_every_process(opened: Callable[[], Records]) -> None:
    one, other = Keys(opened()), Keys(opened())
    assert (
        one.all() == other.all() == []
        and not other.any
        and other.find("lb_" + "0" * 16 + "_" + "x" * 43) is None
    )
    key, text = one.create("ann", "editor", ["b", "a", "a"])
    assert other.find(text) == key and key.collections == ("a", "b") and other.any
    assert other.find(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    with pytest.raises(InvalidKey, match="already"):
        other.create("ann", "reader")
    assert other.revoke("ann").revoked_at and one.find(text) is None
    again, _ = other.create("ann", "admin")
    assert [(k.id, k.revoked_at is None) for k in one.all()] == [(key.id, False), (again.id, True)]
    with pytest.raises(UnknownKey):
        one.forget(again.id)
    Sessions(opened()).add(key.id, "s", Exchange.of("q", "default", ANSWER))
    assert one.forget("ann") == 1 and Sessions(opened()).all(key.id) == []


def test_conversations_are_bounded_ordered_and_survive_odd_text(
    opened: Callable[[], Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 3)
    monkeypatch.setattr(sessions_module, "MOST_TURNS", 4)
    one, other = Sessions(opened()), Sessions(opened())
    for name in ("1", "2", "3", "1", "4"):
        one.add("a", name, Exchange.of("q", "default", ANSWER))
    one.add("b", "1", Exchange.of("q", "default", ANSWER))
    assert [s.id for s in other.all("a")] == ["4", "1", "3"] and len(other.all("b")) == 1
    odd = "zero \0 byte, 100% of ? and %s, ' \\ 🗼 中文"
    for n in range(9):
        one.add("a", "1", Exchange.of(f"{odd}{n}", "default", ANSWER))
    session, turns = other.one("a", "1")
    assert [t.question for t in turns] == [f"{odd}{n}" for n in (5, 6, 7, 8)] and session.turns == 4
    one.add("a", odd.replace("\0", ""), Exchange.of(odd, "default", ANSWER))
    assert other.all("a")[0].title == " ".join(odd.replace("\0", " ").split())
    for name in ("no such", "\0"):
        with pytest.raises(UnknownSession):
            one.delete("a", name)
    other.delete("a", "1")
    assert "1" not in {s.id for s in one.all("a")} and one.history("a", "1") == ()


def test_a_clock_that_goes_back_makes_nobody_forget_what_was_said_last(
    opened: Callable[[], Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back, or that of another service that is slow."""
    monkeypatch.setattr(sessions_module, "MOST_SESSIONS", 2)
    now = [3 * 10**18]
    monkeypatch.setattr(sessions_module.time, "time_ns", lambda: now[0])
    one, other = Sessions(opened()), Sessions(opened())
    for name in ("1", "2"):
        one.add("a", name, Exchange.of("q", "default", ANSWER))
    now[0] = 10**18
    for name in ("3", "1", "4", "4"):
        other.add("a", name, Exchange.of("q", "default", ANSWER))
        assert one.all("a")[0].id == name
    assert [s.id for s in one.all("a")] == ["4", "1"] and one.all("a")[0].turns == 2


def test_an_exception_takes_the_whole_write_back(opened: Callable[[], Records]) -> None:
    kept = opened()
    row = ("a", "s", "t", "now", "now", 1)
    with pytest.raises(ZeroDivisionError), kept.writing() as db:
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
        raise ZeroDivisionError
    assert Sessions(opened()).all("a") == []
    with pytest.raises(RecordsUnavailable), kept.writing() as db:
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO turns VALUES (?, ?, ?, ?)", ("a", "nobody", 1, "{}"))
    assert Sessions(opened()).all("a") == []


def test_writers_of_several_processes_lose_nothing(opened: Callable[[], Records]) -> None:
    """The same new session and the same new name from everywhere at once, in a database that has no tables yet."""
    writers = [(Sessions(opened()), Keys(opened())) for _ in range(4)]
    made: list[str] = []
    begin = threading.Barrier(len(writers))
    failed: list[Exception] = []

    def write(sessions: Sessions, keys: Keys) -> None:
        begin.wait()
        try:
            for _ in range(5):
                sessions.add("a", "s", Exchange.of("q", "default", ANSWER))
            made.append(keys.create("one name", "reader")[1])
        except InvalidKey:
            pass
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=writer) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(made) == 1
    assert Sessions(opened()).all("a")[0].turns == 20


def test_a_process_that_leaves_does_not_take_the_log_of_one_that_stays(tmp_path: Path) -> None:
    """Else the one that stays lets a revoked key in for ever after, and writes where nobody reads.

    Two connections of one process to one file, as a service has; the locks of a process on a file end when it
    closes any descriptor of it.
    """
    keys, sessions = Keys(records("sqlite", tmp_path)), Sessions(records("sqlite", tmp_path))
    texts = [keys.create(name, "reader")[1] for name in ("ann", "bob")]
    assert sessions.all("a") == []
    code = (
        "import sys\nfrom pathlib import Path\nfrom service.database import records\n"
        "from service.keys import Keys\n"
        "for name in ('ann', 'bob'):\n"
        "    keys = Keys(records('sqlite', Path(sys.argv[1])))\n    keys.revoke(name)\n    keys.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert [keys.find(text) for text in texts] == [None, None]
    sessions.add("a", "s", Exchange.of("q", "default", ANSWER))
    assert [s.id for s in Sessions(records("sqlite", tmp_path)).all("a")] == ["s"]


# --- older and newer schemas ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def a_later_lorebase(kept: Records, folder: Path, statement: str) -> Iterator[None]:
    """As if the program had one revision more, which runs this statement."""
    with pytest.MonkeyPatch.context() as patch:
        if not kept.remote:
            patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, f"{statement};\n"))
        else:
            from service.postgres import schema

            shutil.copytree(schema.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
            (folder / "versions" / "r9998_later.py").write_text(
                "from alembic import op\nrevision, down_revision = 'r9998', 'r0001'\n"
                f"def upgrade():\n    op.execute({statement!r})\n"
            )
            patch.setattr(schema, "FOLDER", folder)
        yield


def test_an_older_schema_is_brought_up_to_date_and_a_newer_one_left_alone(
    opened: Callable[[], Records], tmp_path: Path
) -> None:
    older = opened()
    key, text = Keys(older).create("ann", "editor", ["合同"])
    Sessions(older).add(key.id, "s", Exchange.of("q", "default", ANSWER))
    older.close()
    # One whose upgrade breaks off changes nothing.
    with a_later_lorebase(older, tmp_path / "broken", "CREATE TABLE notes (note no_such_type(("):
        with pytest.raises(RecordsUnavailable):
            Keys(opened()).all()
        with pytest.raises(RecordsUnavailable):
            Keys(opened()).create("bob", "reader")
    assert Keys(opened()).find(text) == key and [k.name for k in Keys(opened()).all()] == ["ann"]
    with a_later_lorebase(older, tmp_path / "later", "CREATE TABLE notes (note TEXT)"):
        services = [opened() for _ in range(3)]
        threads = [threading.Thread(target=lambda s=s: Keys(s).all()) for s in services]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        later = opened()
        assert Keys(later).find(text) == key
        assert [t.question for t in Sessions(later).one(key.id, "s")[1]] == ["q"]
        with later.writing() as db:
            db.execute("INSERT INTO notes VALUES (?)", ("made once",))
    with pytest.raises(RecordsUnavailable, match="newer Lorebase"):
        Keys(opened()).all()
    with a_later_lorebase(older, tmp_path / "again", "CREATE TABLE notes (note TEXT)"):
        assert Keys(opened()).find(text) == key


# --- services -------------------------------------------------------------------------------------------------------


def service(home: Path, database: str) -> TestClient:
    settings = ServiceSettings(model="scripted", shutdown_grace_s=0.5, database=database)
    app = create_app(settings, home, MemoryLibrary({"tower.md": TOWER}), ScriptedGenerator())
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_two_services_share_keys_and_conversations_and_outlive_its_absence(
    server: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at = server.database()
    keys = Keys(records(at, tmp_path))
    with service(tmp_path / "one", at) as one, service(tmp_path / "other", at) as other:
        for client in (one, other):
            assert client.app.state.parts.readiness.wait(10)  # type: ignore[attr-defined]
        bearer = {"Authorization": f"Bearer {keys.create('ann', 'reader')[1]}"}
        first = one.post("/ask", json=QUESTION, headers=bearer).json()
        follow_up = {"question": "And when was it finished?", "session_id": "s1"}
        told = other.post("/ask", json=follow_up, headers=bearer).json()
        assert first["answered"] and "Eiffel Tower" in told["standalone_question"]
        assert one.get("/sessions/s1", headers=bearer).json()["turns"] == 2
        server.stop()
        try:
            for path in ("/ask", "/ask"):  # the second is told at once
                away = one.post(path, json=QUESTION, headers=bearer)
                assert away.status_code == 503 and away.headers["retry-after"]
                error = away.json()["error"]
                assert error["code"] == "records_unavailable" and "does not answer" in error["message"]
                assert not any(
                    w in away.text for w in (PASSWORD, ENCODED, "lore_", "127.0.0.1", str(server.port))
                )
            assert one.get("/healthz").status_code == 200
            with service(tmp_path / "late", at) as late:  # away at the start
                assert _listed(records(at, tmp_path)) is None
                assert late.get("/documents", headers=bearer).status_code == 503
                server.start()
                until(lambda: late.get("/documents", headers=bearer).status_code == 200)
        finally:
            if not (server.data / "postmaster.pid").exists():
                server.start()
        until(lambda: one.get("/sessions", headers=bearer).status_code == 200)
        assert (
            other.get("/sessions/s1", headers=bearer).json() == one.get("/sessions/s1", headers=bearer).json()
        )
        assert [s["turns"] for s in one.get("/sessions", headers=bearer).json()["sessions"]] == [2]
        other.delete("/sessions/s1", headers=bearer).raise_for_status()
        assert one.get("/sessions/s1", headers=bearer).status_code == 404
        keys.revoke("ann")
        assert {c.get("/sessions", headers=bearer).status_code for c in (one, other)} == {401}
    keys.close()
    assert "127.0.0.1" in caplog.text and PASSWORD not in caplog.text and ENCODED not in caplog.text


def test_a_database_that_goes_in_mid_question_costs_no_answer_unsaid(
    server: PostgresServer, tmp_path: Path
) -> None:
    """The turn cannot be kept: the reply is the 503, and nothing of it is stored."""
    settings = ServiceSettings(model="scripted", shutdown_grace_s=0.5, database=server.database())
    generator = ScriptedGenerator()
    generator.gate = threading.Event()
    app = create_app(settings, tmp_path, MemoryLibrary({"tower.md": TOWER}), generator)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        replies = []
        asking = threading.Thread(target=lambda: replies.append(client.post("/ask", json=QUESTION)))
        asking.start()
        until(lambda: len(generator.asked) > 0)
        server.stop()
        try:
            generator.gate.set()
            asking.join()
        finally:
            server.start()
        generator.gate = None
        assert replies[0].status_code == 503 and replies[0].json()["error"]["code"] == "records_unavailable"
        until(lambda: client.get("/sessions").status_code == 200)
        assert client.get("/sessions").json() == {"sessions": []}
        assert client.post("/ask", json=QUESTION).status_code == 200


# --- what cannot be used --------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_without_the_password(
    server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(setting: str, *command: str) -> tuple[int, str]:
        monkeypatch.setenv("LOREBASE_SERVICE_DATABASE", setting)
        status = main([*command, "--home", str(tmp_path)])
        said = capsys.readouterr()
        return status, said.out + said.err

    newer = server.database()
    assert run(newer, "keys", "create", "ann")[0] == 0
    assert "ann" in run(newer, "keys", "list")[1] and "ann" not in run("sqlite", "keys", "list")[1]
    server.sql(newer, "UPDATE lorebase_version SET version_num = 'r9999'")
    for setting, words in (
        (newer, "newer Lorebase"),
        (server.address(password="wrong-Wort"), "password authentication failed"),
        (server.address("nowhere"), "does not exist"),
        (f"postgresql://lore:{ENCODED}@127.0.0.1:1/lore", "refused"),
        (f"mysql://lore:{ENCODED}@h/x", "neither sqlite nor"),
        (f"postgresql://lore:{ENCODED}@h:port/x", "neither sqlite nor"),
        (f"postgresql://lore:{ENCODED}@/x", "neither sqlite nor"),
    ):
        status, said = run(setting, "keys", "list")
        assert status == 2 and "error:" in said and words in said, said
        assert not any(word in said for word in (PASSWORD, ENCODED, "wrong-Wort", "Traceback"))
    for command in (["settings"], ["settings", "--json"]):
        status, said = run(newer, *command)
        assert status == 0 and f"***@127.0.0.1:{server.port}" in said
        assert PASSWORD not in said and ENCODED not in said


def test_the_serving_command_refuses_a_wrong_password_at_once(server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(RecordsUnavailable, match="refuses") as refused:
        _listed(records(server.address(password="wrong"), tmp_path))
    assert not isinstance(refused.value, RecordsAway)


def test_a_writer_that_holds_on_is_told_of(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.postgres.BUSY_MS", 50)
    at = server.database()
    one, other = records(at, tmp_path), records(at, tmp_path)
    with one.writing(), pytest.raises(RecordsAway, match="another service"), other.writing():
        pass
    Keys(other).create("ann", "reader")  # and it is over
    one.close()
    other.close()


@pytest.mark.parametrize(
    "setting",
    [
        "postgresql://u:pw9@h:5432/db", "postgresql://u:a@pw9@h/db", "postgresql://u:a?pw9@h/db",
        "postgresql://u@h/db?password=pw9", "postgresql://h/db?user=u&password=x@pw9", "postgresql://u:a/pw9@h/db",
    ],
)  # fmt: skip
def test_no_password_is_shown(setting: str) -> None:
    assert "pw9" not in without_password(setting) and without_password(setting).startswith("postgresql://")
    assert without_password("sqlite") == "sqlite"


def test_the_embedded_file_needs_none_of_it(tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom service.database import records\n"
        "from service.keys import Keys\nKeys(records('sqlite', Path(sys.argv[1]))).create('a', 'reader')\n"
        "print(json.dumps([m for m in ('sqlalchemy', 'alembic', 'psycopg') if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [] and (tmp_path / "service.sqlite").is_file()
