"""A Milvus Lite that answers as a server does, in a process of its own that can be killed and started again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.loopback import lasting_port

SERVE = """
import sys, time
from milvus_lite.adapter.grpc.server import start_server_in_thread
running = start_server_in_thread(sys.argv[1], port=int(sys.argv[2]))
print(running[2], flush=True)
time.sleep(600)
"""


class Milvus:
    """A Milvus Lite behind a port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = lasting_port()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def at(self, timeout_s: float = 15.0, grace_s: float = 0.2) -> str:
        return f"milvus+http://127.0.0.1:{self.port}?timeout_s={timeout_s}&grace_s={grace_s}"
