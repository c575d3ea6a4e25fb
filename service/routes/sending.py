"""Files over HTTP that may be removed while they are sent.

Starlette's FileResponse opens its file after the status has gone out: one that was removed since it was found
ends in a 500, or in a reply that breaks off. Here the file is opened first. Who has it open reads it to its
end, whatever becomes of its name (unlink(2)).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class OpenedFile(FileResponse):
    """A file, whole, or `gone` before the first byte."""

    def __init__(
        self, file: Path, gone: Exception, *, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(file, media_type=media_type, headers=headers)
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises what `gone` says where it is not there."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)  # here, as a thread's would be lost on a cancel
        except FileNotFoundError:
            raise self._gone from None
        try:
            self.path = f"/dev/fd/{descriptor}"
            await super().__call__(scope, receive, send)
        finally:
            os.close(descriptor)
