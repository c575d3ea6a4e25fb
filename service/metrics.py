"""Figures about the running service for Prometheus, in its text format, at `GET /metrics`.

Counters grow as things happen; queues, slots, jobs and indexes are read when somebody asks. Labels are routes
as they are declared, never paths, so that their number is bounded and no name of a document is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.conversation import Ended
from service.embedding import Embedded
from service.events import Final, Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

#: Name of a gauge -> its help, its label, and what it shows by label.
Reading = tuple[str, str, str, Mapping[str, float]]


class Metrics:
    """One service's figures; safe from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "lorebase_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "lorebase_request_seconds",
            "Until the last byte of the reply was sent.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._open = Gauge(
            "lorebase_requests_in_progress", "Requests that are being served.", registry=self.registry
        )
        self._tokens = Counter(
            "lorebase_tokens",
            "Tokens of prompts, of which cached, of replies, and of texts made to vectors.",
            ["kind"],
            registry=self.registry,
        )
        self._answers = Counter(
            "lorebase_answers",
            "Answers from documents: answered, or why they were refused.",
            ["outcome"],
            registry=self.registry,
        )

    def began(self) -> None:
        """A request came in."""
        self._open.inc()

    def ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """Its reply has been sent, or its client has gone (499)."""
        self._open.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def heed(self, event: Any) -> None:
        """What a slot yields passes here; ends tell what was spent."""
        match event:
            case Final() | Ended(final=Final()):
                final = event if isinstance(event, Final) else event.final
                assert final is not None
                self._spend(final.usage)
                outcome = "answered" if final.answered else (final.refusal_reason or "closed_book")
                self._answers.labels(outcome).inc()
            case Ended(prompt_tokens=prompt, completion_tokens=completion):
                self._spend(Usage(prompt_tokens=prompt, completion_tokens=completion))
            case Embedded(tokens=tokens):
                self._tokens.labels("embedded").inc(tokens)
            case _:
                pass

    def _spend(self, usage: Usage) -> None:
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            self._tokens.labels(kind).inc(count)

    def watch(self, read: Callable[[], Iterator[Reading]]) -> None:
        """Read these gauges whenever somebody asks."""
        self.registry.register(_Read(read))

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self.registry)


class _Read(Collector):
    def __init__(self, read: Callable[[], Iterator[Reading]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []  # else registering would read

    def collect(self) -> Iterator[Metric]:
        for name, told, label, values in self._read():
            family = GaugeMetricFamily(name, told, labels=[label])
            for value in values:
                family.add_metric([value], values[value])
            yield family
