"""What `GET /metrics` reads when somebody asks: queues, slots, jobs, indexes, caches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ingest.errors import IngestError
from service.deps import Parts
from service.metrics import Reading


def read(parts: Parts) -> Iterator[Reading]:
    """Everything that has a level; indexes only once they are loaded, because asking would load them."""
    runners = parts.runners
    yield "lorebase_slots", "Jobs that may run at once.", "queue", {r.name: r.slots for r in runners}
    yield "lorebase_slots_busy", "Jobs at work.", "queue", {r.name: r.running for r in runners}
    yield "lorebase_queue_limit", "Jobs that may wait.", "queue", {r.name: r.queue_length for r in runners}
    yield "lorebase_queue_waiting", "Jobs in the queue.", "queue", {r.name: r.waiting for r in runners}
    yield "lorebase_jobs", "Uploads that are remembered.", "status", _jobs(parts)
    states = parts.readiness.parts()
    yield (
        "lorebase_ready",
        "Whether it is loaded.",
        "part",
        {k: float(v == "ready") for k, v in states.items()},
    )
    cached = {"passages": float(parts.models.cache_bytes())}
    yield "lorebase_cache_bytes", "Memory of what is kept for later.", "cache", cached
    if states.get("index") == "ready":
        yield from _indexes(parts)


def _jobs(parts: Parts) -> dict[str, float]:
    found = Counter(job.status for job in parts.jobs.jobs())
    return {status: float(count) for status, count in found.items()}


def _indexes(parts: Parts) -> Iterator[Reading]:
    try:
        found = parts.library.collections()
    except IngestError:  # a damaged one: /readyz and whoever asks it will say so
        return
    for name, told, value in (
        ("generation", "Generation of the index: it grows with every change.", "generation"),
        ("documents", "Documents in the collection.", "documents"),
        ("chunks", "Passages in the collection.", "chunks"),
        ("bytes", "What the collection takes on the disk.", "bytes_on_disk"),
    ):
        yield f"lorebase_index_{name}", told, "collection", {c.name: float(getattr(c, value)) for c in found}
