"""Who may ask: one shared key, brought as `Authorization: Bearer KEY` (RFC 6750), in front of every route.

Open without a key are only `/healthz` and `/readyz`, which tell nothing of the documents, and the page's own
files, which have to be there to ask for the key. What is not named open is closed, a new route included.

- The key comes from a file, never from a variable or a flag, which other programs on a machine can read.
- Only its SHA-256 is kept, and compared in constant time. It is never logged and no error repeats it.
- A refused request's body is not read.

`Gate` needs no more of a key than `Keys` says, so that keys with a name, a role and collections of their own
can take the shared one's place.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import BadKeyFile, Unauthorized, error_response

#: The characters of RFC 6750's b64token; 24 of them can hold more than 128 random bits.
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{24,512}")
_OPEN = {"/", "/healthz", "/readyz"}
_OPEN_UNDER = "/web/"
_CHALLENGE = 'Bearer realm="lorebase"'
_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Keys(Protocol):
    """The keys that open the service."""

    def admits(self, presented: str) -> bool:
        """Whether this is a key."""
        ...


class SharedKey:
    """One key for everybody."""

    def __init__(self, key: str) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()

    @classmethod
    def read(cls, file: Path) -> SharedKey:
        """The key in a file; white space around it does not count.

        Raises:
            BadKeyFile: the file cannot be read, or holds anything but one key of 24 to 512 characters.
        """
        try:
            with file.open("rb") as opened:
                key = opened.read(4096).decode("utf-8", "replace").strip()
        except OSError as error:
            raise BadKeyFile(
                f"the key file {file} cannot be read: {error.strerror}. LOREBASE_SERVICE_API_KEY_FILE names "
                "it; the service's user must be allowed to read it."
            ) from error
        if not _KEY.fullmatch(key):
            raise BadKeyFile(
                f"the key file {file} must hold one key of 24 to 512 letters, digits or any of ._~+/=- and "
                f"nothing else. This makes one: {_MAKE_ONE}"
            )
        return cls(key)

    def admits(self, presented: str) -> bool:
        """Whether this is the key; takes as long whatever the first wrong character is."""
        return hmac.compare_digest(hashlib.sha256(presented.encode()).digest(), self._digest)


class Gate:
    """ASGI middleware: no key, no entry."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what brings the key or needs none; 401 with a challenge to the rest."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._enters(scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            brought = "authorization" in Headers(scope=scope)
            refused = Unauthorized(
                "this is not the service's key"
                if brought
                else "this service asks for a key: send it as the header 'Authorization: Bearer KEY'"
            )
            refusal = error_response(refused, path=scope["path"])
            # RFC 6750, 3.1: no error code for a request that brought no credentials
            refusal.headers["WWW-Authenticate"] = _CHALLENGE + (', error="invalid_token"' if brought else "")
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _enters(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in _OPEN or path.startswith(_OPEN_UNDER):
            return True
        brought = Headers(scope=scope).getlist("authorization")
        scheme, _, key = brought[0].partition(" ") if len(brought) == 1 else ("", "", "")
        return scheme.lower() == "bearer" and self.keys.admits(key.strip())


def describe(app: FastAPI) -> None:
    """Say in the OpenAPI document how a key is brought; its second choice is that none is needed."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer"}
        document["security"] = [{"key": []}, {}]
        return document

    app.openapi = described  # type: ignore[method-assign]
