"""Serve until stopped: says where, from what, and when it is ready."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import uvicorn

from model.memory import one_arena
from service import logs
from service.app import create_app
from service.database import Database
from service.deps import Parts
from service.errors import PortInUse
from service.keys import Keys
from service.settings import ServiceSettings, check_bind


def run(settings: ServiceSettings, home: Path) -> int:
    """Serve; returns 0 when stopped by SIGINT or SIGTERM.

    Raises:
        UnsafeBind: the address is not loopback, and there is no key.
        BadKeyFile: the key cannot be read.
        PortInUse: somebody else listens there.
    """
    started = time.monotonic()
    keys = Keys(Database(home))
    check_bind(settings, keys=any(key.revoked_at is None for key in keys.all()))
    one_arena()
    logs.configure(settings.log_format, settings.log_level)
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
    elif keys.any:
        print("          every request needs a key: python -m service keys list", flush=True)
    parts: Parts = app.state.parts
    threading.Thread(target=_announce, args=(parts, started), daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)  # uvicorn raises the signal again when it has shut down
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    print("stopped")
    return 0


def _stop(_: int, __: FrameType | None) -> None:
    print("stopped")
    sys.exit(0)


def _listen(config: uvicorn.Config, settings: ServiceSettings):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a socket
    log = logging.getLogger("uvicorn.error")
    log.disabled = True
    try:
        return config.bind_socket()
    except SystemExit as error:
        raise PortInUse(
            f"cannot listen on {settings.host}:{settings.port}: the port is in use. Start with --port "
            f"{settings.port + 1}, or set LOREBASE_SERVICE_PORT."
        ) from error
    finally:
        log.disabled = False


def _announce(parts: Parts, started: float) -> None:
    """Say when everything is loaded, or what is missing."""
    parts.readiness.wait()
    for name, state in parts.readiness.parts().items():
        if state != "ready":
            print(f"          {name} is missing: {state}", flush=True)
    if parts.readiness.state == "ready":
        own = parts.models.own
        described = (
            getattr(own, "describe", lambda: "")() if own else f"answers come from {parts.models.default}"
        )
        print(f"          ready after {time.monotonic() - started:.1f} s. {described}", flush=True)
        print("          Ctrl-C stops it.", flush=True)
