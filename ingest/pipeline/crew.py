"""Ray workers that read files and embed texts; jobs that outlive the worker they were given to.

Each worker is a Ray actor with one core, a parser process and the embedder, which it loads once. Ray starts
them, puts them on machines, carries what they are given and starts them again when they die. This module only
hands out jobs: two to a worker at most, so that a dead one holds up little and a slow one takes less.

A job of a worker that died goes to another; the one that it was working on is counted, and after
`MOST_DEATHS` of them the job is given up with `WorkerDied`, so that one murderous file does not kill workers
for ever. Jobs have no effects but what they return: one that is done twice is the same as one done once. A
worker that is gone is waited for in the background; where none has come back for `AWAY_S` the run ends.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import ActorUnschedulableError, GetTimeoutError, RayActorError, RayError

from ingest.embed import Embedder, Vectors
from ingest.errors import EmbedderError, IngestError
from ingest.pipeline.ahead import Failed, Item, Lookout, Read
from ingest.pipeline.run import cut

MOST_DEATHS = 4  #: workers that may die over one job
JOBS_A_WORKER = 2  #: one at work, one that waits for it
AWAY_S = 120.0  #: how long a run goes on without any worker
#: How long a run goes on without the cluster's head, which is looked for so often; Ray itself ends the whole
#: process after a minute, without a word of ours.
GONE_S, LOOK_S = 20.0, 5.0
START_S = 300.0  #: how long the first worker may take to start: it loads the embedder
OBJECT_STORE_BYTES = 512 << 20  #: of a cluster that is started here; what does not fit goes to the disk

MakeEmbedder = Callable[[], Embedder]


class ClusterError(IngestError):
    """The Ray cluster cannot be reached or has no worker for us."""


class WorkerDied(IngestError):
    """Every worker that had the job died of it."""


class _Worker:
    """What runs on the cluster: one core, one parser process, one embedder."""

    def __init__(self, make_embedder: MakeEmbedder) -> None:
        self._make = make_embedder
        self._embedder: Embedder | None = None
        self._parsers: Any = None
        self._open = ExitStack()

    def ready(self) -> str | EmbedderError:
        """The fingerprint of its embedder, or why it has none."""
        try:
            return self._loaded().id
        except EmbedderError as error:
            return error

    def read(self, lookout: Lookout, item: Item) -> Read | Failed | IngestError:
        """The file hashed, parsed and cut; an error is what would stop every file."""
        from ingest.sandbox import ParserPool

        if self._parsers is None:
            settings = lookout.settings
            pool = ParserPool(1, settings.parse_timeout_s, settings.parse_memory_mb)
            self._parsers = self._open.enter_context(pool)
        outcome = lookout.read(item, self._parsers.parse)
        if isinstance(outcome, Failed) or outcome.document is None:
            return outcome
        try:
            return replace(outcome, chunks=cut(outcome.document, self._loaded(), lookout.settings))
        except IngestError as error:
            return error

    def embed(self, texts: Sequence[str]) -> Vectors | EmbedderError:
        """(n, d) float32, unit length."""
        try:
            return self._loaded().encode_passages(texts)
        except EmbedderError as error:
            return error

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._make()
        return self._embedder


@dataclass(slots=True, eq=False)
class Job:
    """Something that a worker does; `result` once it is `done`."""

    method: str
    arguments: tuple[Any, ...]
    done: bool = False
    result: Any = None
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Member:
    """A worker as seen from here."""

    actor: Any
    at_work: dict[Any, Job] = field(default_factory=dict)  #: by Ray's reference, oldest first
    waking: Any = None  #: resolves when the worker is there again


class Crew:
    """Workers on a Ray cluster, started when the first job is given."""

    def __init__(self, make_embedder: MakeEmbedder, *, address: str | None = None, workers: int = 0) -> None:
        """Nothing is started yet.

        Args:
            make_embedder: called once in each worker, on its machine; must be picklable.
            address: of a running cluster (`auto` finds the one of this machine); None starts one here, which
                ends with the crew.
            workers: how many; 0 means one for each core of the cluster.
        """
        self._make = make_embedder
        self._address = address
        self._wanted = workers
        self._members: list[_Member] = []
        self._urgent: deque[Job] = deque()  #: vectors, which documents wait for
        self._queue: deque[Job] = deque()
        self._connected = False
        self._away_since: float | None = None
        self._head: tuple[str, int] | None = None
        self._looked_at = 0.0
        self._silent_since: float | None = None
        self._gone = False
        self._embedder_id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in [] if self._gone else self._members:
            ray.kill(member.actor)
        self._members.clear()
        if self._connected:
            ray.shutdown()
            self._connected = False

    @property
    def workers(self) -> int:
        """How many there are, dead ones that Ray starts again included; 0 before `start`."""
        return len(self._members)

    @property
    def awake(self) -> int:
        """How many of them can be given work now."""
        return sum(member.waking is None for member in self._members)

    def start(self, embedder_id: str) -> None:
        """Connect, start the workers and wait until one has loaded the embedder of that fingerprint.

        Raises:
            ClusterError: no cluster, or no worker on it.
            EmbedderError: a worker has no such embedder, or another one.
        """
        if self._members:
            return
        self._connect()
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call, unused-ignore]
        count = self._wanted or int(resources.get("CPU", 1)) or 1
        kind: Any = ray.remote(_Worker)
        options = kind.options(num_cpus=1, max_restarts=-1, max_task_retries=0)
        self._members = [_Member(options.remote(self._make)) for _ in range(count)]
        for member in self._members:
            member.waking = _call(member.actor)
        self._embedder_id = embedder_id
        first, _ = ray.wait([m.waking for m in self._members], num_returns=1, timeout=START_S)
        if not first:
            raise ClusterError(
                f"No worker started on the Ray cluster within {START_S:.0f} s. Has it a free core? "
                "`ray status` shows what is in use."
            )
        for member in self._members:
            if member.waking in first:
                self._wake(member)

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        own: dict[str, Any] = {}
        if self._address is None:
            count = self._wanted or os.cpu_count() or 1
            own = {
                "num_cpus": count,
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        host, _, port = (self._address or "").rpartition(":")
        try:
            if host and "/" not in host and port.isdigit():  # Ray itself asks for minutes before it says no
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            # "local" starts a cluster even where RAY_ADDRESS names one that nobody asked for here.
            ray.init(self._address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
        except Exception as error:  # ConnectionError, ValueError, RuntimeError, by what is wrong
            if self._address is None:
                raise ClusterError(f"No Ray cluster can be started on this machine: {error}.") from error
            raise ClusterError(
                f"No Ray cluster at {self._address}: {error}. Start one with `ray start --head`, or leave "
                "out --address. Where the cluster asks for a token, set RAY_AUTH_MODE=token here, with the "
                "token in RAY_AUTH_TOKEN or ~/.ray/auth_token."
            ) from error
        self._connected = True
        host, _, port = str(ray.get_runtime_context().gcs_address).rpartition(":")
        self._head = host.strip("[]"), int(port)

    def read(self, lookout: Lookout, item: Item) -> Job:
        """A file to be hashed, parsed and cut."""
        return self._give(self._queue, Job("read", (lookout, item)))

    def embed(self, texts: Sequence[str]) -> Job:
        """Texts to be embedded; goes before files that wait."""
        return self._give(self._urgent, Job("embed", (list(texts),)))

    def _give(self, queue: deque[Job], job: Job) -> Job:
        queue.append(job)
        self._hand_out()
        return job

    def wait(self, job: Job, timeout_s: float = 1.0) -> bool:
        """Whether the job is done, after waiting for it so long; other jobs go on meanwhile.

        Raises:
            ClusterError: no worker has been there for `AWAY_S`.
        """
        until = time.monotonic() + timeout_s
        while not job.done and (left := until - time.monotonic()) > 0:
            self._collect(left)
        return job.done

    def _hand_out(self) -> None:
        for member in sorted(self._members, key=lambda m: len(m.at_work)):
            while member.waking is None and len(member.at_work) < JOBS_A_WORKER:
                if not (self._urgent or self._queue):
                    return
                job = (self._urgent or self._queue).popleft()
                member.at_work[getattr(member.actor, job.method).remote(*job.arguments)] = job

    def _collect(self, timeout_s: float) -> None:
        """Wait for anything to happen and take it in."""
        waiting = {m.waking: m for m in self._members if m.waking is not None}
        waiting |= {reference: m for m in self._members for reference in m.at_work}
        ended, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
        for reference in ended:
            member = waiting[reference]
            if reference is member.waking:
                self._wake(member)
            elif reference in member.at_work:  # else it was taken back with a dead worker's jobs
                self._take(member, reference)
        self._watch()
        self._hand_out()

    def _take(self, member: _Member, reference: Any) -> None:
        try:
            result = ray.get(reference)
        except RayActorError:
            self._bury(member)
            return
        except RayError as error:  # what came back was lost with its machine, or our own code failed there
            job = member.at_work.pop(reference)
            self._again(job, str(error))
            return
        job = member.at_work.pop(reference)
        job.done, job.result, job.arguments = True, result, ()

    def _bury(self, member: _Member) -> None:
        """A worker died: others get its jobs, and it gets none before it is back."""
        jobs = list(member.at_work.values())
        member.at_work.clear()
        for place, job in reversed(list(enumerate(jobs))):
            if place == 0:  # the others had not begun
                self._again(job, "it ended without a word; its machine may have no memory left")
            else:
                (self._urgent if job.method == "embed" else self._queue).appendleft(job)
        member.waking = _call(member.actor)

    def _again(self, job: Job, reason: str) -> None:
        job.deaths += 1
        if job.deaths < MOST_DEATHS:
            (self._urgent if job.method == "embed" else self._queue).appendleft(job)
            return
        why = (reason.splitlines() or ["no reason told"])[0][:300]
        died = WorkerDied(f"the Ray worker failed on this {job.deaths} times: {why}")
        job.done, job.result, job.arguments = True, died, ()

    def _wake(self, member: _Member) -> None:
        """A worker has started, here or again, and says which embedder it has."""
        try:
            found = ray.get(member.waking, timeout=0.1)
        except (RayActorError, ActorUnschedulableError, GetTimeoutError):
            member.waking = _call(member.actor)
            time.sleep(0.05)  # an actor that Ray gave up answers at once
            return
        except RayError as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
            raise ClusterError(
                f"A Ray worker cannot start: {why}. "
                "Lorebase and its packages have to be installed on every machine of the cluster."
            ) from error
        if isinstance(found, EmbedderError):
            raise EmbedderError(f"A Ray worker has no embedder: {found}") from found
        if found != self._embedder_id:
            raise EmbedderError(
                "A Ray worker has another embedder of the same name than this machine. "
                "Bring the same weights to every machine of the cluster."
            )
        member.waking = None

    def _watch(self) -> None:
        self._look_for_head()
        if any(member.waking is None for member in self._members):
            self._away_since = None
            return
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > AWAY_S:
            raise ClusterError(
                f"No worker of the Ray cluster has been there for {AWAY_S:.0f} s. What was written stays; "
                "look at `ray status`, then run the same command again."
            )

    def _look_for_head(self) -> None:
        now = time.monotonic()
        if self._head is None or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        try:
            socket.create_connection(self._head, timeout=2).close()
        except OSError as error:
            self._silent_since = self._silent_since or now
            if now - self._silent_since > GONE_S:
                self._gone = True
                raise ClusterError(
                    f"The head of the Ray cluster at {self._head[0]}:{self._head[1]} has not answered for "
                    f"{GONE_S:.0f} s ({error}). What was written stays; run the same command again when it "
                    "is back."
                ) from error
        else:
            self._silent_since = None


def _call(actor: Any) -> Any:
    """A reference that resolves when the actor is there, however often it dies before."""
    return actor.ready.options(max_task_retries=-1).remote()
