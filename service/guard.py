"""What stands before every route: who may call by which name, from which page, and what every reply carries.

- Host header: only the names in `trusted_hosts`, or a page elsewhere could reach a loopback service by
  rebinding its name.
- Origin: a browser says which page sent a request; only our own page may change anything. There is no CORS.
- A body is read only as far as it may be long.
- Replies carry a strict content-security policy: nothing is loaded but our own files, no inline script or
  style runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import dialects
from service.errors import ForeignOrigin
from service.problems import error_response

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::\d{1,5})?", re.IGNORECASE)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SAFE = {"GET", "HEAD", "OPTIONS"}
#: Routes whose bodies may be as large as an upload.
UPLOADS = {"/documents", "/documents/sync", "/datasets"}


class Guard:
    """ASGI middleware, the outermost one."""

    def __init__(
        self, app: ASGIApp, trusted_hosts: Sequence[str], body_bytes: int, upload_bytes: int
    ) -> None:
        self.app = app
        self.trusted = {host.lower() for host in trusted_hosts}
        self.body_bytes = body_bytes
        self.upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse strangers, pass on the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(Headers(scope=scope), scope["method"], scope["path"])
        most = self.upload_bytes if scope["path"] in UPLOADS else self.body_bytes
        await (refused or self.app)(scope, _at_most(most, receive), send_guarded)

    def _refusal(self, headers: Headers, method: str, path: str) -> JSONResponse | None:
        hosts = headers.getlist("host")
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None or match[1].lower() not in self.trusted:
            body = {
                "code": "untrusted_host",
                "message": "this service does not answer to that Host header; names are added with "
                "LOREBASE_SERVICE_TRUSTED_HOSTS",
                "detail": None,
            }
            status, shown = dialects.shaped(dialects.spoken_at(path), 400, {"error": body})
            return JSONResponse(shown, status)
        origin = headers.get("origin")
        if origin is not None and method not in _SAFE and _place(origin) != hosts[0].lower():
            return error_response(ForeignOrigin("requests from pages of other sites are refused"), path=path)
        return None


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that hold no address
        return None


def _at_most(most: int, receive: Receive) -> Receive:
    """`receive` that stops reading a body past `most` bytes, whatever its Content-Length claims."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise HTTPException(413)
        return message

    return counted
