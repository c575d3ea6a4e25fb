"""Several servers with the same models: the least busy of the healthy ones answers, another where it fails.

A server is healthy as long as it lists its models and answers. One that fails is left alone for a pause that
doubles from `_FIRST_PAUSE_S` to `_LONGEST_PAUSE_S`, then looked at again; that look, like every later one,
happens beside the questions, not in front of them. Where it lists its models it is asked again, but only an
answer shows that it can answer: one that lists models and fails at questions rests longer each time.

Invariants:
- a question that has got no word yet is asked of the next server, once of each; as soon as a word was shown,
  a failure is told, because another server would go on with other words;
- what a server finds wrong with a request, and what was withdrawn, is asked of nobody else;
- where all fail, the error names each of them and why.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from model.config import Sampling
from service.errors import ModelNotServed, UpstreamError, UpstreamRefused, UpstreamUnreachable
from service.generators import Capability, Generator, Message, Piece

logger = logging.getLogger(__name__)

CHECK_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Server(Protocol):
    """One of them."""

    @property
    def address(self) -> str:
        """Where it is."""
        ...

    def models(self) -> Sequence[str]:
        """Names of its models. Raises UpstreamError."""
        ...

    def generator(self, name: str) -> Generator:
        """One of its models."""
        ...


class _Health:
    """What is known of one server; changed under the pool's lock."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.models: frozenset[str] | None = None  #: None: never heard of
        self.looked_at = float("-inf")
        self.ill = False  #: failed, and was not well at a look since
        self.failures = 0  #: in a row, without an answer between them
        self.falls = 0  #: ever, so that an answer begun before the last one is told apart
        self.rests_until = float("-inf")
        self.busy = 0  #: questions that it is answering

    def rank(self, now: float) -> tuple[bool, bool, bool, int]:
        """The lowest is asked first."""
        return self.ill, now < self.rests_until, self.models is None, self.busy


class Failover:
    """The servers of one setting; safe from several threads."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._known = [_Health(server) for server in servers]
        self._lock = threading.Lock()
        self._looking = False

    def generator(self, name: str) -> Generator:
        """A model, answered by whichever server can; of the only server, its own generator."""
        if len(self._known) == 1:
            return self._known[0].server.generator(name)
        return FailoverGenerator(self, name, self._known[0].server.generator(name))

    def order(self, model: str) -> list[Server]:
        """Whom to ask for a model, in this order: all that may have it, healthy and idle ones first."""
        now = time.monotonic()
        with self._lock:
            stale = [h for h in self._known if now - h.looked_at > CHECK_S and now >= h.rests_until]
            blind = all(health.models is None for health in self._known)
        if stale and blind:
            self._look(stale)
        elif stale:
            threading.Thread(target=self._look, args=(stale,), name="upstream-health", daemon=True).start()
        with self._lock:
            having = [h for h in self._known if h.models is not None and model in h.models]
            may = [*having, *(h for h in self._known if h.models is None)] if having else self._known
            ranked = sorted(may, key=lambda h: h.rank(now))
            return [health.server for health in ranked]

    @contextlib.contextmanager
    def asking(self, server: Server) -> Iterator[None]:
        """Count a question that a server is answering, and heed how it ends."""
        health = self._of(server)
        with self._lock:
            health.busy += 1
            falls = health.falls
        try:
            yield
        except (UpstreamRefused, ModelNotServed):
            raise
        except UpstreamError as error:
            self._ill(health, error)
            raise
        else:
            self._answered(health, falls)
        finally:
            with self._lock:
                health.busy -= 1

    def _of(self, server: Server) -> _Health:
        return next(health for health in self._known if health.server is server)

    def _look(self, healths: Sequence[_Health]) -> None:
        with self._lock:
            if self._looking:
                return
            self._looking = True
        try:
            with ThreadPoolExecutor(len(healths)) as pool:
                list(pool.map(self._look_at, healths))
        finally:
            self._looking = False

    def _look_at(self, health: _Health) -> None:
        try:
            models = frozenset(health.server.models())
        except UpstreamError as error:
            self._ill(health, error)
        else:
            with self._lock:
                health.models = models
            self._well(health)

    def _answered(self, health: _Health, falls: int) -> None:
        """Heed an answer; one that began before the server failed says nothing about it since."""
        with self._lock:
            if health.falls != falls:
                return
            health.failures = 0
        self._well(health)

    def _well(self, health: _Health) -> None:
        """Ask it again."""
        with self._lock:
            if health.ill:
                logger.warning("the server at %s is there again", health.server.address)
            health.ill, health.rests_until, health.looked_at = False, float("-inf"), time.monotonic()

    def _ill(self, health: _Health, error: Exception) -> None:
        with self._lock:
            pause = min(_FIRST_PAUSE_S * 2**health.failures, _LONGEST_PAUSE_S)
            health.failures = min(health.failures + 1, 30)
            health.falls += 1
            health.ill = True
            health.rests_until = time.monotonic() + pause
            health.looked_at = float("-inf")  # looked at again as soon as it has rested
        logger.warning("the server at %s is left alone for %g s: %s", health.server.address, pause, error)


class FailoverGenerator:
    """One model of several servers; a `service.generators.Generator`."""

    def __init__(self, pool: Failover, model: str, like: Generator) -> None:
        self._pool, self._model, self._like = pool, model, like

    @property
    def name(self) -> str:
        """`openai/` and the model's name."""
        return self._like.name

    @property
    def context_tokens(self) -> int:
        """As the settings say, for all of them."""
        return self._like.context_tokens

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What each of them can."""
        return self._like.capabilities

    @property
    def writes_cjk(self) -> bool:
        """As each of them."""
        return self._like.writes_cjk

    @property
    def focus_sentences(self) -> int:
        """As each of them."""
        return self._like.focus_sentences

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """A cautious estimate."""
        return self._like.count_tokens(messages)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        """The reply of the first server that begins one.

        Raises:
            UpstreamUnreachable: none of them answers.
            UpstreamRefused, Cancelled: as one of them does.
            UpstreamError: the one that answered broke off.
        """
        failed: list[UpstreamError] = []
        for server in self._pool.order(self._model):
            began = False
            try:
                with self._pool.asking(server):
                    for piece in server.generator(self._model).stream(messages, sampling, cancel):
                        began = True
                        yield piece
                return
            except UpstreamRefused:
                raise
            except UpstreamError as error:
                if began:
                    raise
                failed.append(error)
        if missing := [error for error in failed if isinstance(error, ModelNotServed)]:
            raise missing[-1]  # those that are known to have it are asked alone: see `order`
        told = "; ".join(str(error) for error in failed)
        raise UpstreamUnreachable(f"none of {len(failed)} servers answers: {told}") from failed[-1]
