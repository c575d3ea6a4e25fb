"""Answer a client of the Model Context Protocol on standard input and output, until it leaves."""

from __future__ import annotations

from pathlib import Path

from service import logs
from service.app import assemble
from service.errors import ServiceError
from service.settings import ServiceSettings


def run(settings: ServiceSettings, home: Path) -> int:
    """Serve one client; nothing but the protocol is written to standard output.

    Raises:
        ServiceError: the package `mcp` is not installed.
    """
    try:
        from service.mcp import server
    except ModuleNotFoundError as error:
        raise ServiceError(f"{error.name} is not installed: pip install 'lorebase[mcp]'") from error
    logs.configure(settings.log_format, settings.log_level)
    parts = assemble(settings, home)
    parts.readiness.start()
    try:
        server(parts).run("stdio")
    finally:
        for runner in parts.runners:
            runner.close(settings.shutdown_grace_s)
        parts.library.close()
    return 0
