"""The service that `benchmarks.load` loads, in a process of its own: a known pace in place of a model, or the real ones.

python -m benchmarks.load_service HOME    serve; prints the port
python -m benchmarks.load_service         its process for large uploads, with the same embedder
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]


class Service:
    """The service in a process of its own."""

    def __init__(self, home: Path, models: Path | None = None) -> None:
        self.home = home
        self.models = models
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Service:
        command = [sys.executable, "-m", "benchmarks.load_service", str(self.home)]
        environ = os.environ | {"LOREBASE_HOME": str(self.home)}
        if self.models is None:
            environ["OMP_NUM_THREADS"] = "1"
        else:
            (self.home / "models").symlink_to(self.models.resolve())
            command = [sys.executable, "-m", "service", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def client(self, **more: Any) -> httpx.AsyncClient:
        """A client of it."""
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", timeout=900, limits=limits, trust_env=False, **more
        )

    def measured(self) -> tuple[float, float, int, int]:
        """Resident megabytes of the service and of its children, its descriptors and threads (Linux)."""
        assert self.process is not None
        pid = self.process.pid
        below, parents = 0.0, {pid}
        for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
            with contextlib.suppress(OSError, KeyError):  # it has ended
                found = status(int(process.name))
                if int(found["PPid"]) in parents:
                    parents.add(int(process.name))
                    below += int(found["VmRSS"].split()[0]) / 1024
        own = status(pid)
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return int(own["VmRSS"].split()[0]) / 1024, below, files, int(own["Threads"])


def status(pid: int) -> dict[str, str]:
    """What the kernel tells of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def serve(home: Path) -> None:
    """The service's process: prints its port, then serves until it is stopped."""
    import socket

    import uvicorn

    from ingest.settings import IngestSettings
    from model.memory import one_arena
    from service.app import create_app
    from service.cli.serve import SWITCH_S
    from service.ingesting import IngestProcess
    from service.settings import ServiceSettings
    from service.shelves import Shelves
    from tests.fakes import HashEmbedder
    from tests.service.fakes import ScriptedGenerator

    one_arena()
    sys.setswitchinterval(SWITCH_S)
    embedder = HashEmbedder()
    bulk = IngestProcess((sys.executable, "-m", "benchmarks.load_service"))
    shelves = Shelves(home, "default", IngestSettings(workers=1, embedder="hash"), lambda _: embedder, bulk)
    generator = ScriptedGenerator("The tower is 330 metres tall. " * 3, delay_s=0.02)
    app = create_app(ServiceSettings(refuse_below=0.0, queue_length=4), home, shelves, generator)
    listening = socket.socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `service.cli.serve` does
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listening])


def ingest() -> None:
    """The process of large uploads, with the same embedder."""
    from service import ingesting
    from tests.fakes import HashEmbedder

    ingesting.serve(lambda _, __: HashEmbedder())


if __name__ == "__main__":
    serve(Path(sys.argv[1])) if len(sys.argv) > 1 else ingest()
