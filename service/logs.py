"""What the service writes about itself: one line an event, as text or JSON, with the request's id.

Never a question, an answer, a document's text or a key. Requests are named by their route, not their path;
of an exception its kind and the places it passed are written, not its message, because a library's message
may repeat what it was given.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning"]

#: The request that is being served, in the event loop and in the thread of its slot; empty outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")

#: One line a request; `extra={"fields": {...}}` holds what it says.
requests = logging.getLogger("service.requests")


class Lines(logging.Formatter):
    """One record, one line, whatever is in it."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if said := request_id.get():
            fields["request_id"] = said
        fields |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = passed(record.exc_info[1])
        if self._form == "json":
            return json.dumps(fields, ensure_ascii=False, default=str)
        shown = [str(fields.pop(name)) for name in ("time", "level", "logger", "message")]
        line = " ".join([*shown, *(f"{name}={value}" for name, value in fields.items())])
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def passed(error: BaseException) -> list[str]:
    """An exception's kinds and the places it passed, causes first, without any message."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    told: list[str] = []
    for link in reversed(chain):
        told += [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(link.__traceback__)
        ]
        told.append(type(link).__qualname__)
    return told


def configure(form: LogFormat, level: LogLevel) -> None:
    """Write every log record of this process to standard error, in this form, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # other libraries speak up only when something is wrong
    for wing in ("service", "ingest", "model"):
        logging.getLogger(wing).setLevel(level.upper())
