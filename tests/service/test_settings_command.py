"""`python -m service settings` tells what would be used, and why."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from ingest.settings import IngestSettings
from service.__main__ import main
from service.cli import settings as command
from service.settings import ServiceSettings


def test_every_setting_its_value_and_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOREBASE_SERVICE_PORT", "8123")
    monkeypatch.setenv("LOREBASE_SERVICE_HOST", "::1")
    (tmp_path / "lorebase.toml").write_text("[service]\nk = 7\nport = 1\n[ingest]\nworkers = 3\n")
    assert main(["settings", "--json", "--host", "127.0.0.1"]) == 0
    rows = {f"{r['table']}.{r['key']}": r for r in json.loads(capsys.readouterr().out)}
    expected = {f"service.{k}" for k in ServiceSettings.model_fields}
    expected |= {f"ingest.{k}" for k in IngestSettings.model_fields}
    assert set(rows) == expected | {".LOREBASE_HOME", ".OLLAMA_HOST"}
    told = {name: (rows[name]["value"], rows[name]["from"]) for name in rows}
    assert told["service.host"] == ("127.0.0.1", "--host")
    assert told["service.port"] == (8123, "LOREBASE_SERVICE_PORT")
    assert told["service.k"] == (7, str(tmp_path / "lorebase.toml"))
    assert told["ingest.workers"][0] == 3 and told["service.max_tokens"][1] == "default"
    assert main(["settings", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "service.port" in shown and "port to listen on" in shown


def test_a_wrong_setting_is_said_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOREBASE_SERVICE_PROT", "1")
    assert main(["settings"]) == 2 and "prot" in capsys.readouterr().err


def test_a_character_that_the_terminal_lacks_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOREBASE_SERVICE_COLLECTION", "笔记")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["settings"]) == 0
    stdout.flush()
    assert "\\u7b14\\u8bb0" in stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


def test_what_would_be_a_secret_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithSecret(BaseModel):
        api_key: str = Field("hunter2", description="x")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "ServiceSettings", WithSecret)
    monkeypatch.setattr("service.__main__.find_home", lambda: tmp_path)
    assert main(["settings", "--json"]) == 0
    assert "hunter2" not in capsys.readouterr().out
