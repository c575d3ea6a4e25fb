"""Routes whose clients send JSON under any name, as `curl -d` does and as Ollama's own server reads it.

A page elsewhere may send a form, or text, to this service without asking first; that a body has to be called
JSON is what makes a browser ask (the Fetch standard, "CORS-safelisted request-header"). So only those are
taken at their word that show no sign of a browser. `service.guard` refuses a foreign Origin besides, which
browsers send with every POST; the two do not rest on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

#: Only browsers send these, and a page's script can neither set nor remove them.
_OF_BROWSERS = {b"origin", b"referer", b"sec-fetch-site"}
_KIND = b"content-type"


class JsonByAnyName(APIRoute):
    """Reads the body as JSON whatever its Content-Type says; a browser's only where it is called JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the request as it is meant."""
        handle = super().get_route_handler()

        async def meant(request: Request) -> Response:
            headers: list[tuple[bytes, bytes]] = request.scope["headers"]
            if not any(name in _OF_BROWSERS for name, _ in headers):
                others = [(name, value) for name, value in headers if name != _KIND]
                called_json = [*others, (_KIND, b"application/json")]
                request = Request({**request.scope, "headers": called_json}, request.receive)
            return await handle(request)

        return meant
