"""Checks of the catalogue that need a process of its own to stop, or hundreds of idle sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.service.conftest import TOWER, ready, serving, until

QUESTION = {"question": "How tall is the Eiffel Tower?"}
ROOT = Path(__file__).resolve().parents[3]


def test_sigterm_lets_running_answers_finish_and_ends_clean(tmp_path: Path) -> None:
    script = f"""
import sys, threading
from pathlib import Path
from service import app, cli
from service.cli import serve
from service.settings import ServiceSettings
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
generator = ScriptedGenerator("The tower is 330 metres tall.", delay_s=0.15)
library = MemoryLibrary({{"tower.md": {TOWER!r}}})
make = app.create_app
serve.create_app = lambda settings, home: make(settings, home, library, generator)
sys.exit(serve.run(ServiceSettings(model="scripted", port=0), Path({str(tmp_path)!r})))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        until(lambda: ready(address), 60)
        replies: list[int] = []
        asking = [
            threading.Thread(
                target=lambda: replies.append(
                    httpx.post(f"{address}/ask", json=QUESTION, timeout=60).status_code
                )
            )
            for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        until(lambda: busy(address) == 3, 30)
        process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join(60)
        assert replies == [200, 200, 200]
        assert process.wait(30) == 0
        assert "stopped" in process.stdout.read()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/healthz", timeout=5)
    finally:
        process.kill()
        process.wait()


def busy(address: str) -> int:
    lines = httpx.get(f"{address}/metrics", timeout=10).text.splitlines()
    names = ("lorebase_slots_busy", "lorebase_queue_waiting")
    return int(
        sum(float(line.split()[-1]) for line in lines if line.startswith(names) and '"answers"' in line)
    )


def test_idle_sockets_keep_nobody_out(app: FastAPI) -> None:
    with serving(app) as address:
        assert app.state.parts.readiness.wait(10)
        host, port = address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(300)]
        try:
            for at, connection in enumerate(idle):
                if at % 3:  # some say nothing, some stop in the middle of a header or of a body
                    half = b"POST /ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
                    connection.sendall(half if at % 3 == 1 else half + b"\r\n{")
            began = time.monotonic()
            assert httpx.post(f"{address}/ask", json=QUESTION, timeout=60).status_code == 200
            assert time.monotonic() - began < 60
            runner = app.state.parts.runner
            until(lambda: runner.running == runner.waiting == 0)  # a slot is free a moment after its reply
        finally:
            for connection in idle:
                connection.close()
