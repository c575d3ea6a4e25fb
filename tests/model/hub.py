"""A model hub on loopback, in the hub's API form, that breaks connections off in the middle when told to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, and a log of what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.drops: dict[str, int] = {}  #: file name -> bytes after which its next download breaks off, once
        self.log: list[tuple[str, str, str]] = []  #: (method, path, Range header or "")
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        asked = request.headers.get("Range", "")
        self.log.append((request.command, path, asked))
        parts = path.split("/")
        if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in self.repositories:
            name = "/".join(parts[2:4])
            files = self.repositories[name]
            if parts[4:5] == ["tree"]:
                listed: object = [
                    {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for file, data in files.items()
                ]
            else:
                siblings = [{"rfilename": file} for file in files]
                listed = {
                    "id": name,
                    "modelId": name,
                    "sha": COMMIT,
                    "private": False,
                    "tags": [],
                    "siblings": siblings,
                }
            self._send(request, 200, json.dumps(listed).encode(), body, {"Content-Type": "application/json"})
        elif len(parts) > 4 and parts[2] == "resolve" and "/".join(parts[:2]) in self.repositories:
            data = self.repositories["/".join(parts[:2])].get("/".join(parts[4:]))
            if data is None:
                self._send(
                    request, 404, b"", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
                )
            else:
                self._file(request, "/".join(parts[4:]), data, body, asked)
        else:
            self._send(request, 404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _file(self, request: BaseHTTPRequestHandler, name: str, data: bytes, body: bool, asked: str) -> None:
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if not asked:
            self._send(request, 200, data, body, headers, self.drops.pop(name, None) if body else None)
            return
        start = int(asked.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(request, 206, data[start:], body, headers)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        body: bool,
        headers: dict[str, str],
        drop_after: int | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data if drop_after is None else data[:drop_after])
        if drop_after is not None:
            request.wfile.flush()
            request.close_connection = True


@contextmanager
def hub() -> Iterator[Hub]:
    """A running hub; `hub.url` is what `HF_ENDPOINT` takes."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.answer(self, body=True)

        def do_HEAD(self) -> None:
            state.answer(self, body=False)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
