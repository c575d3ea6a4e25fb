"""Who calls: a key, brought as `Authorization: Bearer KEY` (RFC 6750), in front of every route.

Open without a key are only `/healthz` and `/readyz`, which tell nothing of the documents, and the page's own
files, which have to be there to ask for the key. What is not named open is closed, a new route included. What
a caller may do is decided behind the router, in `service.access`.

- Keys are those of `service.keys`, each with a role, and one that a file may hold, which is an admin's.
- No key is asked for as long as there is none, and only on a loopback address.
- The file's key is never in a variable or a flag, which other programs on a machine can read; only its
  SHA-256 is kept, and compared in constant time. No key is ever logged and no error repeats one.
- A refused request's body is not read; neither is one that comes too fast (`service.rates`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import LOCAL, SCOPE_KEY, Access
from service.errors import BadKeyFile, RateLimited, RecordsUnavailable, Unauthorized
from service.keys import Keys
from service.problems import error_response
from service.rates import Rates

#: The characters of RFC 6750's b64token; 24 of them can hold more than 128 random bits.
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{24,512}")
_FOR_ALL = {"/", "/healthz"}
_OPEN = {"/readyz"}
_OPEN_UNDER = "/web/"
#: Keys that are looked up in a database at the same time.
LOOKUPS = 8
_CHALLENGE = 'Bearer realm="lorebase"'
#: Who calls what is open, when nothing says who it is.
NOBODY = Access("", "nobody", "reader", frozenset())
_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class SharedKey:
    """The one key that a file holds."""

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


class Doorman:
    """Tells callers by their keys."""

    def __init__(
        self, keys: Keys, shared: SharedKey | None = None, *, open_without_keys: bool = False
    ) -> None:
        """Set where keys are.

        Args:
            keys: those of the data folder.
            shared: the one of the key file.
            open_without_keys: whether everybody is let in as long as there is no key at all.
        """
        self._keys, self._shared, self._open = keys, shared, open_without_keys

    @property
    def remote(self) -> bool:
        """Whether telling callers crosses a network."""
        return self._keys.remote

    def asks_for_key(self) -> bool:
        """Whether a request needs a key now. Raises RecordsUnavailable."""
        return not self._open or self._shared is not None or self._keys.any

    def shows_all(self, caller: Access) -> bool:
        """Whether somebody who called what is open may hear of every collection."""
        if caller is not NOBODY:
            return caller.collections is None
        try:
            return not self.asks_for_key()
        except RecordsUnavailable:
            return False

    def tell(self, presented: str) -> Access | None:
        """Whose key this is; None: nobody's. Raises RecordsUnavailable."""
        if self._shared is not None and self._shared.admits(presented):
            return Access("key-file", "the key file's", "admin")
        if (key := self._keys.find(presented)) is not None:
            only = None if key.collections is None else frozenset(key.collections)
            return Access(key.id, key.name, key.role, only)
        return None


class Gate:
    """ASGI middleware: no key, no entry, and everybody behind it is known by name."""

    def __init__(self, app: ASGIApp, doorman: Doorman, rates: Rates | None = None) -> None:
        self.app = app
        self.doorman = doorman
        self.rates = rates
        self._lookups = anyio.CapacityLimiter(LOOKUPS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what brings a key or needs none; 401 with a challenge to the rest."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                if self.doorman.remote:  # other requests go on meanwhile
                    caller = await anyio.to_thread.run_sync(self._caller, scope, limiter=self._lookups)
                else:
                    caller = self._caller(scope)
            except RecordsUnavailable as error:  # nobody can be told from anybody: closed
                await error_response(error, path=scope["path"])(scope, receive, send)
                return
            if caller is not None:
                scope[SCOPE_KEY] = caller
            if caller is not NOBODY and (wait_s := self._wait_s(scope, caller)):
                late = RateLimited(f"too many requests from this caller. Try again in {wait_s} s.", wait_s)
                await error_response(late, path=scope["path"])(scope, receive, send)
            elif caller is None:
                await self._refuse(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    def _caller(self, scope: Scope) -> Access | None:
        path: str = scope["path"]
        if path in _FOR_ALL or path.startswith(_OPEN_UNDER):
            return NOBODY  # whatever key is brought: whether we live, and the page, are told to everybody
        brought = Headers(scope=scope).getlist("authorization")
        scheme, _, key = brought[0].partition(" ") if len(brought) == 1 else ("", "", "")
        caller = self.doorman.tell(key.strip()) if scheme.lower() == "bearer" else None
        if caller is not None:
            return caller
        if path in _OPEN:
            return NOBODY
        return None if self.doorman.asks_for_key() else LOCAL

    def _wait_s(self, scope: Scope, caller: Access | None) -> int:
        """Seconds until this key, or this address where there is none, may send the next request."""
        address = (scope.get("client") or ("",))[0]
        name = f"key {caller.id}" if caller is not None and caller.id else f"address {address}"
        return 0 if self.rates is None else self.rates.take(name)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        brought = "authorization" in Headers(scope=scope)
        refused = Unauthorized(
            "this is not a key of this service"
            if brought
            else "this service asks for a key: send it as the header 'Authorization: Bearer KEY'"
        )
        refusal = error_response(refused, path=scope["path"])
        # RFC 6750, 3.1: no error code for a request that brought no credentials
        refusal.headers["WWW-Authenticate"] = _CHALLENGE + (', error="invalid_token"' if brought else "")
        await refusal(scope, receive, send)


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
