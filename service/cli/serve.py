"""Serve until stopped: says where, from what, and when it is ready."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn

from model.memory import one_arena
from service import logs, tracing
from service.app import create_app
from service.database import Records, RecordsAway, records
from service.deps import Parts
from service.errors import PortInUse
from service.keys import Key, Keys
from service.settings import ServiceSettings, check_bind

#: How long a thread that computes in Python may keep the others waiting; 5 ms is Python's own, and a request
#: may have to wait for several turns.
SWITCH_S = 0.0005


def run(settings: ServiceSettings, home: Path) -> NoReturn:
    """Serve; ends the process with status 0 when stopped by SIGINT or SIGTERM.

    Raises:
        UnsafeBind: the address is not loopback, and there is no key.
        BadKeyFile: the key cannot be read.
        PortInUse: somebody else listens there.
        RecordsUnavailable: keys cannot be read. A database that only does not answer yet is waited for while
            serving: requests get 503 until it does.
    """
    started = time.monotonic()
    kept = records(settings.database, home)
    keys = _listed(kept)
    valid = keys is None or any(
        key.revoked_at is None for key in keys
    )  # away: nobody gets in until it is back
    check_bind(settings, keys=valid)
    kept.close()
    one_arena()
    sys.setswitchinterval(SWITCH_S)
    logs.configure(settings.log_format, settings.log_level)
    tracing.configure()
    app = create_app(settings, home)
    config = uvicorn.Config(
        app,
        host=settings.host.strip("[]"),
        port=settings.port,
        log_config=None,
        access_log=False,  # it would write paths and queries; `service.observing` writes routes
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )
    server = uvicorn.Server(config)
    listening = _listen(config, settings)
    port = listening.getsockname()[1]
    address = f"http://{settings.host}:{port}"
    print(f"Lorebase  {address}")
    print(
        f"          data folder {home}, collection {settings.collection}, model {settings.model}", flush=True
    )
    if settings.api_key_file is not None:
        print(f"          every request needs a key, such as the one in {settings.api_key_file}", flush=True)
    elif keys:
        print("          every request needs a key: python -m service keys list", flush=True)
    parts: Parts = app.state.parts
    threading.Thread(target=_announce, args=(parts, started), daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)  # uvicorn raises the signal again when it has shut down
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    _leave()


def _listed(kept: Records) -> list[Key] | None:
    """The keys there are; None, and a word on standard error, where their database does not answer now."""
    try:
        return Keys(kept).all()
    except RecordsAway as error:
        print(f"warning: {error}", file=sys.stderr)
        return None


def _stop(_: int, __: FrameType | None) -> None:
    _leave()


def _leave() -> NoReturn:
    """End now: other threads may be in the midst of computing, on which the interpreter's end aborts."""
    tracing.flush()
    print("stopped", flush=True)
    logging.shutdown()
    os._exit(0)


def _listen(config: uvicorn.Config, settings: ServiceSettings) -> socket.socket:
    log = logging.getLogger("uvicorn.error")
    log.disabled = True
    try:
        listening = config.bind_socket()
        # Connections inherit it. asyncio would set it, but only where the socket was made as IPPROTO_TCP,
        # which uvicorn's is not: head and body go out apart, and the body waited 40 ms for the head's
        # acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except SystemExit as error:
        raise PortInUse(
            f"cannot listen on {settings.host}:{settings.port}: the port is in use. Start with --port "
            f"{settings.port + 1}, or set LOREBASE_SERVICE_PORT."
        ) from error
    finally:
        log.disabled = False


def _announce(parts: Parts, started: float) -> None:
    """Say when everything is loaded, and before that what is missing."""
    parts.readiness.wait()
    for name, state in parts.readiness.parts().items():
        if state != "ready":
            print(f"          {name} is missing: {state}", flush=True)
    while parts.readiness.state != "ready":  # a server that was away may come back
        time.sleep(1.0)
    own = parts.models.own
    described = getattr(own, "describe", lambda: "")() if own else f"answers come from {parts.models.default}"
    print(f"          ready after {time.monotonic() - started:.1f} s. {described}", flush=True)
    print("          Ctrl-C stops it.", flush=True)
