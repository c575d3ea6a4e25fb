"""Reading a job's events for as long as somebody listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.runner import Ticket

Event = TypeVar("Event")


async def _gone(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)


async def listen(request: Request, ticket: Ticket[Event]) -> AsyncGenerator[Event]:
    """The events of a job. When the client goes away the job is cancelled, streaming or not.

    Raises:
        ClientDisconnect: nobody listens any more.
        DeadlineExceeded, Exception: as `Ticket.events`.
    """
    gone = asyncio.create_task(_gone(request))
    async with contextlib.aclosing(ticket.events()) as events:
        coming: asyncio.Task[Event] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(events))
                await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise ClientDisconnect
                try:
                    event = coming.result()
                except StopAsyncIteration:
                    return
                yield event
        finally:
            gone.cancel()
            if coming is not None and not coming.done():
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
            elif coming is not None and not coming.cancelled():
                coming.exception()  # it came as the request was being given up: nobody is to be told
