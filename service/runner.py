"""Slots, a bounded queue, deadlines and cancellation: who may work, and for how long.

A job is a blocking iterator of events that runs in one of a few worker threads, so the event loop is always
free. The conductor itself is the job: a request that finds the queue full is refused before anything was
embedded or searched.

Invariants:
- at most `slots` jobs run and at most `queue_length` wait; one more raises `Busy` at once;
- whoever stops listening (client gone, deadline passed, read or not) sets the job's `cancel`; a waiting job
  leaves the queue at once, a running one ends within one prefill slice or token;
- a job that ignores `cancel` for `grace_s` loses its slot: a new thread takes its place and its late events
  go nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Generic, TypeVar

from model.memory import give_back
from service import tracing
from service.errors import Busy, DeadlineExceeded, NotReady
from service.logs import request_id

logger = logging.getLogger(__name__)

#: Seconds behind its deadline in which a job that nobody listens to is ended.
UNREAD_S = 0.5

Event = TypeVar("Event")
Job = Callable[[threading.Event], Iterator[Event]]


class Ticket(Generic[Event]):
    """One accepted job, seen from the event loop."""

    def __init__(
        self, runner: Runner, job: Job[Event], deadline_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._runner = runner
        self._loop = loop
        self._inbox: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.job = job
        self.cancel = threading.Event()
        self.deadline_s = deadline_s
        self.deadline = loop.time() + deadline_s
        self.lost = False
        self.request_id = request_id.get()
        self.within = tracing.here()
        self.queued_at = time.monotonic()
        # Who listens learns of the deadline in `events`; a client that has stopped reading does not.
        self._end = loop.call_later(deadline_s + UNREAD_S, self.release)

    def post(self, kind: str, value: Any) -> None:
        """Called by the worker: hand something to the event loop (which may be gone)."""
        if not self.lost:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._inbox.put_nowait, (kind, value))

    async def events(self) -> AsyncGenerator[Event]:
        """What the job yields, as it comes. Leaving this iterator, for whatever reason, ends the job.

        Raises:
            DeadlineExceeded: nothing more came before the deadline.
            Exception: whatever the job raised.
        """
        try:
            while True:
                left = self.deadline - self._loop.time()
                try:
                    kind, value = await asyncio.wait_for(self._inbox.get(), max(left, 0.0))
                except TimeoutError as error:
                    raise DeadlineExceeded(
                        f"the answer was not finished after {self.deadline_s:g} s. Ask for fewer tokens, or "
                        "raise LOREBASE_SERVICE_DEADLINE_S."
                    ) from error
                if kind == "event":
                    yield value
                elif kind == "error":
                    raise value
                else:
                    return
        finally:
            self._end.cancel()
            self.release()

    def release(self) -> None:
        """Stop the job if it has not ended; take its slot away if it will not."""
        self.cancel.set()
        if self._runner.leave_queue(self) or self._loop.is_closed():
            return
        self._loop.call_later(self._runner.grace_s, self._runner.reclaim, self)


class Runner:
    """A few worker threads behind a bounded queue."""

    def __init__(
        self,
        name: str,
        slots: int = 1,
        queue_length: int = 4,
        grace_s: float = 1.0,
        heed: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Start the workers; each event of each job is shown to `heed` first."""
        self.name = name
        self.slots = slots
        self.queue_length = queue_length
        self.grace_s = grace_s
        self._heed = heed
        self._waiting: deque[Ticket[Any]] = deque()
        self._running: set[Ticket[Any]] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 2.0  # moving average of a job's duration, for Retry-After
        for _ in range(slots):
            self._start_worker()

    @property
    def running(self) -> int:
        """Jobs at work."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    def submit(self, job: Job[Event], deadline_s: float) -> Ticket[Event]:
        """Accept a job, or refuse it before any work is done. Called on the event loop.

        Raises:
            Busy: all slots are taken and the queue is full.
            NotReady: the service is shutting down.
        """
        ticket = Ticket(self, job, deadline_s, asyncio.get_running_loop())
        with self._changed:
            if self._closed:
                raise NotReady("the service is shutting down")
            if self.running + self.waiting >= self.slots + self.queue_length:
                wait_s = max(1, round(self._seconds * (self.waiting + 1) / self.slots))
                raise Busy(
                    f"the queue is full ({self.waiting} are waiting). Try again in {wait_s} s.",
                    wait_s,
                )
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def leave_queue(self, ticket: Ticket[Any]) -> bool:
        """Drop a job that has not begun; False if it is running or has ended."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return True
            return False

    def reclaim(self, ticket: Ticket[Any]) -> None:
        """Give the slot of a job that ignores its cancellation to a new thread."""
        with self._changed:
            if ticket not in self._running:
                return
            ticket.lost = True
            self._running.discard(ticket)
        logger.warning("%s: a job ignored its cancellation; its slot was given to a new thread", self.name)
        self._start_worker()

    def close(self, grace_s: float = 0.0) -> None:
        """Accept nothing more, end what runs after `grace_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running and not self._waiting, timeout=grace_s)
            for ticket in (*self._running, *self._waiting):
                ticket.cancel.set()

    def _start_worker(self) -> None:
        threading.Thread(target=self._work, name=f"lorebase-{self.name}", daemon=True).start()

    def _next(self) -> Ticket[Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            ticket = self._waiting.popleft()
            self._running.add(ticket)
            return ticket

    def _work(self) -> None:
        while ticket := self._next():
            started = time.monotonic()
            request_id.set(ticket.request_id)
            waited_ms = round(1000 * (started - ticket.queued_at), 1)
            try:
                with tracing.span(self.name, within=ticket.within, lorebase__queued_ms=waited_ms):
                    for event in ticket.job(ticket.cancel):
                        self._heed(event)
                        ticket.post("event", event)
                        if ticket.cancel.is_set():
                            break
                ticket.post("end", None)
            except BaseException as error:  # native libraries panic with one; it must not end the worker
                failure = (
                    error
                    if isinstance(error, Exception)
                    else RuntimeError(f"{type(error).__name__}: {error}")
                )
                ticket.post("error", failure)
            with self._changed:
                self._seconds += 0.2 * (time.monotonic() - started - self._seconds)
                self._running.discard(ticket)
                self._changed.notify_all()
            if ticket.lost:  # another thread has this slot
                return
            if not self._waiting:  # nobody is kept waiting by it
                give_back()
