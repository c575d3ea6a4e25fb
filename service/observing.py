"""The outermost middleware, by which every request is named, counted and noted; and the innermost.

A caller's own `X-Request-ID` is kept where it is harmless, so that a request can be followed through several
programs; every reply carries the id. What is written names the route and the key's id, never path, query or
body. The innermost one makes a reply of what nobody foresaw.
"""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, tracing
from service.access import SCOPE_KEY, Access
from service.metrics import Metrics
from service.problems import error_response

HEADER = "X-Request-ID"
_HARMLESS = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
#: The client had gone before a reply began (as nginx calls it).
GONE = 499


class Observer:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and take note."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        brought = Headers(scope=scope).get(HEADER, "")
        said = brought if _HARMLESS.fullmatch(brought) else uuid.uuid4().hex
        status = GONE
        started = time.perf_counter()
        token = logs.request_id.set(said)

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = said
            await send(message)

        self.metrics.began()
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        try:
            with tracing.span(method, kind="server", carrier=Headers(scope=scope)) as span:
                try:
                    await self.app(scope, receive, send_named)
                except Exception:
                    status = 500 if status == GONE else status
                    raise
                finally:
                    span.rename(f"{method} {_route(scope)}", failed=status >= 500)
                    span.set(
                        http__request__method=method,
                        http__route=_route(scope),
                        http__response__status_code=status,
                        lorebase__request_id=said,
                    )
        finally:
            seconds = time.perf_counter() - started
            route = _route(scope)
            self.metrics.ended(method, route, status, seconds)
            caller: Access | None = scope.get(SCOPE_KEY)
            fields = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
            if caller is not None and caller.id:
                fields["key"] = caller.id
            logs.requests.info("request", extra={"fields": fields})
            logs.request_id.reset(token)


class Mender:
    """ASGI middleware, the innermost: what nobody foresaw becomes a reply that the others can still dress.

    Without it the framework's own outermost layer would answer, past every header and the log's request id.
    """

    def __init__(self, app: ASGIApp, home: Path) -> None:
        self.app = app
        self.home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; a failure before the reply began is a 500 that tells nothing of the inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception as error:
            if begun:
                raise
            await error_response(error, self.home, scope["path"])(scope, receive, send)


def _route(scope: Scope) -> str:
    """The route as it is declared; what led to none is one name, whatever its path."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str) and route:
        return route
    path: str = scope["path"]
    return "/web" if path.startswith("/web/") else path if path == "/openapi.json" else "none"
